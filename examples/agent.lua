-- agent: serves one client. Gets the client's packages straight from the gate
-- (class `client`, session = fd) and writes to the connection itself.

local skynet = require "skynet"
local socket = require "skynet.socket"
local sprotoloader = require "sprotoloader"

-- Slots filled by protoloader: what the client asks, what we ask.
local C2S, S2C = 1, 2
-- Period of the heartbeat, cs.
local HEARTBEAT = 500

local host
local make_request
local watchdog
local client_fd

local request = {}

function request.get(args)
	print("get", args.what)
	return { result = skynet.call("SIMPLEDB", "lua", "get", args.what) }
end

function request.set(args)
	print("set", args.what, args.value)
	return skynet.call("SIMPLEDB", "lua", "set", args.what, args.value)
end

function request.handshake()
	return { msg = "Welcome to skynet, I will send heartbeat every 5 sec." }
end

function request.quit()
	skynet.call(watchdog, "lua", "close", client_fd)
end

local function send_package(package)
	socket.write(client_fd, string.pack(">s2", package))
end

local function handle_request(name, args, respond)
	local f = request[name] or error("Unknown request " .. name)
	local result = f(args)
	if respond then
		send_package(respond(type(result) == "table" and result or nil))
	end
end

skynet.register_protocol {
	name = "client",
	id = skynet.PTYPE_CLIENT,
	unpack = function(msg, sz)
		return pcall(host.dispatch, host, msg, sz)
	end,
	dispatch = function(fd, _, is_valid, kind, ...)
		assert(fd == client_fd)	-- the session carries the fd
		skynet.ignoreret()
		if not is_valid then
			skynet.error(string.format("bad package from fd (%d): %s", fd, kind))
			skynet.call(watchdog, "lua", "close", fd)
		elseif kind == "REQUEST" then
			handle_request(...)
		else
			error "This example doesn't support request client"
		end
	end,
}

local command = {}

function command.start(conf)
	client_fd = conf.client
	watchdog = conf.watchdog
	host = sprotoloader.load(C2S):host "package"
	make_request = host:attach(sprotoloader.load(S2C))
	skynet.fork(function()
		while true do
			skynet.sleep(HEARTBEAT)
			send_package(make_request "heartbeat")
		end
	end)
	skynet.call(conf.gate, "lua", "forward", client_fd)
end

function command.disconnect()
	skynet.exit()
end

skynet.start(function()
	skynet.dispatch("lua", function(_, _, cmd, ...)
		local f = command[cmd] or error("Unknown command " .. tostring(cmd))
		skynet.retpack(f(...))
	end)
end)
