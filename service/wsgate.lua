-- wsgate: a wsgateserver that hands messages to an agent per connection, or to one
-- watchdog; what service/gate.lua is for TCP, with the same commands and notices. Owns
-- which agent serves which connection. An agent gets the payload itself as a message of
-- the class `client`, session = fd, without a copy, and answers with snax.wsgate.

local skynet = require "skynet"
local wsgateserver = require "snax.wsgateserver"
local driver = require "skynet.socketdriver"

local watchdog
-- fd -> { agent, client }; agent nil = the watchdog gets the data.
local connections = {}

skynet.register_protocol {
	name = "client",
	id = skynet.PTYPE_CLIENT,
}

local handler = {}

function handler.open(source, conf)
	watchdog = conf.watchdog or source
	return conf.address, conf.port
end

function handler.message(fd, msg, sz)
	local c = connections[fd]
	local agent = c and c.agent
	if not agent then
		local text = skynet.tostring(msg, sz)
		driver.drop(msg, sz)
		skynet.send(watchdog, "lua", "socket", "data", fd, text)
	elseif not skynet.redirect(agent, c.client, "client", fd, msg, sz) then
		skynet.error(string.format("wsgate: agent %s of fd (%d) is gone", skynet.address(agent), fd))
		wsgateserver.closeclient(fd, 1011)
	end
end

function handler.connect(fd, addr, info)
	connections[fd] = {}
	skynet.send(watchdog, "lua", "socket", "open", fd, addr, info)
end

function handler.disconnect(fd, code, reason)
	connections[fd] = nil
	skynet.send(watchdog, "lua", "socket", "close", fd, code, reason)
end

function handler.error(fd, text)
	skynet.send(watchdog, "lua", "socket", "error", fd, text)
end

function handler.warning(fd, kib)
	skynet.send(watchdog, "lua", "socket", "warning", fd, kib)
end

local command = {}

local function connection_of(fd)
	return connections[fd] or error("wsgate: no connection " .. tostring(fd), 0)
end

-- Messages go to `address` (default: the sender) from now on, as if `client` had sent
-- them.
function command.forward(source, fd, client, address)
	local c = connection_of(fd)
	c.client = client or 0
	c.agent = address or source
	wsgateserver.openclient(fd)
end

function command.accept(_, fd)
	local c = connection_of(fd)
	c.agent = nil
	wsgateserver.openclient(fd)
end

-- Close, with a code of RFC 6455 7.4 and a reason.
function command.kick(_, fd, code, reason)
	wsgateserver.closeclient(fd, code, reason)
end

function handler.command(cmd, source, ...)
	local f = command[cmd] or error("Invalid gate command " .. tostring(cmd), 0)
	return f(source, ...)
end

wsgateserver.start(handler)
