-- quota_target: a service with a memory quota, for test_quota.lua.

local skynet = require "skynet"
local core = require "skynet.core"
local memory = require "skynet.memory"
local socket = require "skynet.socket"

local KIB, MIB = 1024, 1024 * 1024
local command = {}
local hold = {}

function command.quota(...)
	return skynet.memquota(...)
end

-- Grows until that fails. Returns what pcall did, and how far it came.
local function grow(step)
	local n = 0
	local ok, err = pcall(function()
		while n < 4000 do
			step(n + 1)
			n = n + 1
		end
	end)
	return ok, tostring(err), n
end

function command.lua()
	local ok, err, n = grow(function(i) hold[i] = ("l"):rep(32 * KIB) .. i end)
	hold = {}
	collectgarbage()
	return ok, err, n
end

-- The C memory stays until `free`.
function command.c()
	local text = ("c"):rep(32 * KIB)
	return grow(function(i)
		hold[i] = table.pack(core.pack(text))
		return ("s"):rep(100) .. i
	end)
end

function command.free()
	for _, block in ipairs(hold) do
		core.trash(block[1], block[2])
	end
	hold = {}
	collectgarbage()
end

-- Written to a peer that does not read.
function command.socket(port)
	local fd = assert(socket.open("127.0.0.1", port))
	local text = ("u"):rep(32 * KIB)
	hold.fd = fd
	return grow(function(i) socket.write(fd, text .. i) end)
end

local connections = {}

-- Connections whose data nobody reads.
function command.listen()
	local listener, _, port = socket.listen("127.0.0.1", 0)
	connections[1] = listener
	socket.start(listener, function(fd)
		connections[#connections + 1] = fd
		socket.start(fd)
	end)
	return port
end

function command.unlisten()
	for _, fd in ipairs(connections) do
		socket.close(fd)
	end
	connections = {}
	collectgarbage()
end

-- Holds on until so many messages wait.
function command.wait(n)
	skynet.retpack(true)
	repeat
		local waiting = memory.services()[skynet.self()].messages
	until waiting >= n
	collectgarbage()
end

local handled = 0

function command.flood(text)
	-- More than the grace that one error gives.
	hold[1] = ("f"):rep(200 * KIB) .. #text
	handled = handled + 1
end

function command.handled()
	return handled
end

skynet.start(function()
	skynet.dispatch("lua", function(session, _, cmd, ...)
		if cmd == "wait" then
			command.wait(...)
		elseif session == 0 then
			command[cmd](...)
		else
			skynet.retpack(command[cmd](...))
		end
	end)
end)
