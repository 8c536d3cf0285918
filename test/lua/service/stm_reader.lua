-- A reader of cells and maps for test_stm and test_sharemap.

local skynet = require "skynet"
local stm = require "skynet.stm"
local sharemap = require "skynet.sharemap"
local serve = require "serve"

local reader, map
local command = {}

function command.open(copy)
	reader = stm.newcopy(copy)
end

function command.read()
	return reader(skynet.unpack)
end

function command.hand_on()
	return stm.copy(reader)
end

function command.map(typename, copy)
	map = sharemap.reader(typename, copy)
end

function command.update()
	return (map:update())
end

function command.field(name)
	return map[name]
end

-- Read until the number `last` has come: each version is one number repeated.
function command.watch(last)
	local seen, faults = 0, 0
	local function check(data, size)
		local n = skynet.tostring(data, size)
		local first = n:match "^(%d+),"
		if n ~= (first .. ","):rep(#n // (#first + 1)) or tonumber(first) < seen then
			faults = faults + 1
		end
		seen = tonumber(first)
	end
	while seen < last do
		if not reader(check) then
			skynet.yield()
		end
	end
	return faults
end

serve(command)
