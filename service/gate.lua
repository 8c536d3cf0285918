-- gate: a gateserver that hands packages to an agent per connection, or to one
-- watchdog. Owns which agent serves which connection. A watchdog is told
-- "socket" open, data, close, error, warning; an agent gets the payload itself
-- as a message of the class `client`, session = fd, without a copy.

local skynet = require "skynet"
local gateserver = require "snax.gateserver"
local netpack = require "skynet.netpack"

local watchdog
-- fd -> { agent, client }; agent nil = the watchdog gets the data.
local connections = {}

skynet.register_protocol {
	name = "client",
	id = skynet.PTYPE_CLIENT,
}

-- Nothing that `message` does yields or raises.
local handler = { direct = true }

function handler.open(source, conf)
	watchdog = conf.watchdog or source
	return conf.address, conf.port
end

function handler.message(fd, msg, sz)
	local c = connections[fd]
	local agent = c and c.agent
	if not agent then
		skynet.send(watchdog, "lua", "socket", "data", fd, netpack.tostring(msg, sz))
	elseif not skynet.redirect(agent, c.client, "client", fd, msg, sz) then
		skynet.error(string.format("gate: agent %s of fd (%d) is gone", skynet.address(agent), fd))
		gateserver.closeclient(fd)
	end
end

function handler.connect(fd, addr)
	connections[fd] = {}
	skynet.send(watchdog, "lua", "socket", "open", fd, addr)
end

function handler.disconnect(fd)
	connections[fd] = nil
	skynet.send(watchdog, "lua", "socket", "close", fd)
end

function handler.error(fd, text)
	skynet.send(watchdog, "lua", "socket", "error", fd, text)
end

function handler.warning(fd, kib)
	skynet.send(watchdog, "lua", "socket", "warning", fd, kib)
end

local command = {}

local function connection_of(fd)
	return connections[fd] or error("gate: no connection " .. tostring(fd), 0)
end

-- Packages go to `address` (default: the sender) from now on, as if `client`
-- had sent them.
function command.forward(source, fd, client, address)
	local c = connection_of(fd)
	c.client = client or 0
	c.agent = address or source
	gateserver.openclient(fd)
end

function command.accept(_, fd)
	local c = connection_of(fd)
	c.agent = nil
	gateserver.openclient(fd)
end

function command.kick(_, fd)
	gateserver.closeclient(fd)
end

function handler.command(cmd, source, ...)
	local f = command[cmd] or error("Invalid gate command " .. tostring(cmd), 0)
	return f(source, ...)
end

gateserver.start(handler)
