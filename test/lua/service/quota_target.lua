-- quota_target: a service with a memory quota, for test_quota.lua.

local skynet = require "skynet"
local core = require "skynet.core"
local memory = require "skynet.memory"
local socket = require "skynet.socket"
local driver = require "skynet.socketdriver"
local inbox = require "skynet.socketinbox"

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

-- The C memory stays until `free`; more of it is added to what there is.
function command.c()
	local text = ("c"):rep(32 * KIB)
	return grow(function(i)
		hold[#hold + 1] = table.pack(core.pack(text))
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

-- From now on, each call of a function of `module` leaves ever more memory, until the task
-- waits.
local function squeeze(module, name, call)
	local original = module[name]
	local slack = 0
	module[name] = function(...)
		local first = call == "before" or original(...)
		skynet.fork(skynet.memquota, 0)
		collectgarbage()
		local _, _, total = skynet.memquota()
		skynet.memquota(total + slack)
		slack = slack + 48
		return call == "before" and original(...) or first
	end
end

-- How often that failed, and how often not.
function command.squeeze_open(port, times)
	squeeze(driver, "connect", "after")
	local failed, opened = 0, 0
	for _ = 1, times do
		local ok, id = pcall(socket.open, "127.0.0.1", port)
		skynet.memquota(0)
		if ok then
			opened = opened + 1
			socket.close(assert(id))
		else
			failed = failed + 1
		end
	end
	return failed, opened
end

-- Those that are accepted get a line.
function command.squeeze_accept()
	local listener, _, port = socket.listen("127.0.0.1", 0)
	socket.accept(listener, function(id)
		skynet.memquota(0)
		socket.write(id, "accepted\n")
		socket.close(id)
	end)
	squeeze(inbox, "open", "before")
	return port
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
