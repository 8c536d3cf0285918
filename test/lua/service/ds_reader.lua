-- A reader of datasheets for test_datasheet.

local skynet = require "skynet"
local datasheet = require "skynet.datasheet"
local serve = require "serve"

local held = {}
local command = {}

function command.query(name)
	held[name] = datasheet.query(name)
end

local function walk(v, ...)
	for _, key in ipairs { ... } do
		v = v[key]
	end
	return v
end

function command.get(name, ...)
	return pcall(walk, held[name], ...)
end

function command.keep(as, name, ...)
	held[as] = walk(held[name], ...)
end

-- Read without yielding, then yield, again and again: count mixtures.
function command.watch(name, rounds)
	local root, mixtures = datasheet.query(name), 0
	for _ = 1, rounds do
		local n = root.version
		for _, item in ipairs(root.list) do
			if item.version ~= n or item.text ~= "text " .. n then
				mixtures = mixtures + 1
			end
		end
		if #root.list ~= 20 then
			mixtures = mixtures + 1
		end
		skynet.yield()
	end
	return mixtures
end

serve(command)
