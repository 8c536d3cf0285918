-- snax.gateagents: how the gate services (service/gate.lua, wsgate.lua, kcpgate.lua) hand
-- what clients send to an agent per connection, or to one watchdog. The watchdog is told
-- "socket" open, data, close, error, warning; an agent gets the payload itself as a
-- message of the class `client`, session = fd, without a copy.
--
-- Owns which agent serves which connection. Nothing here yields.

local skynet = require "skynet"
local netpack = require "skynet.netpack"
local notice = require "skynet.notice"
local gatelag = require "snax.gatelag"

-- Lines of a kind about what peers do, in a second.
local MAX_LINES = 100

---@class snax.gateagents.server
---@field openclient fun(fd: integer)
---@field closeclient fun(fd: integer, ...)
---@field route fun(fd: integer, service: integer?, source: integer?)? see snax.gateserver
---@field rest fun(fd: integer, service: integer|string)? the same

---A handler for snax.gateserver and its like.
---@param name string of the service, for log lines
---@param server snax.gateagents.server
---@param gone any second argument of closeclient when an agent is gone
---@return table handler open, connect, message, disconnect, error, warning, command
return function(name, server, gone)
	local watchdog
	-- fd -> { agent, client }; agent nil = the watchdog gets the data.
	local connections = {}
	local handler = {}

	function handler.open(source, conf)
		watchdog = conf.watchdog or source
		return conf.address, conf.port
	end

	function handler.message(fd, msg, sz)
		local c = connections[fd]
		local agent = c and c.agent
		if not agent then
			local text = netpack.tostring(msg, sz)
			skynet.send(watchdog, "lua", "socket", "data", fd, text)
		elseif not skynet.redirect(agent, c.client, "client", fd, msg, sz) then
			handler.lost(fd, agent)
		end
		if server.rest and gatelag.is_behind(agent or watchdog) then
			server.rest(fd, agent or watchdog)
		end
	end

	function handler.lost(fd, agent)
		notice("gone", MAX_LINES, "%s: agent %s of fd (%d) is gone", name, skynet.address(agent), fd)
		server.closeclient(fd, gone)
	end

	function handler.connect(fd, ...)
		connections[fd] = {}
		skynet.send(watchdog, "lua", "socket", "open", fd, ...)
	end

	function handler.disconnect(fd, ...)
		connections[fd] = nil
		skynet.send(watchdog, "lua", "socket", "close", fd, ...)
	end

	function handler.error(fd, text)
		skynet.send(watchdog, "lua", "socket", "error", fd, text)
	end

	function handler.warning(fd, kib)
		skynet.send(watchdog, "lua", "socket", "warning", fd, kib)
	end

	local command = {}

	local function connection_of(fd)
		return connections[fd] or error(name .. ": no connection " .. tostring(fd), 0)
	end

	-- A name may be given to another service one day: those are looked up each time.
	local function route(fd, agent, client)
		if server.route then
			server.route(fd, math.type(agent) == "integer" and agent or nil, client)
		end
	end

	-- Packages go to `address` (default: the sender) from now on, as if `client` had sent
	-- them.
	function command.forward(source, fd, client, address)
		local c = connection_of(fd)
		c.client = client or 0
		c.agent = address or source
		route(fd, c.agent, c.client)
		server.openclient(fd)
	end

	function command.accept(_, fd)
		local c = connection_of(fd)
		c.agent = nil
		route(fd)
		server.openclient(fd)
	end

	-- What follows fd is the gate's: a websocket has a code and a reason.
	function command.kick(_, fd, ...)
		server.closeclient(fd, ...)
	end

	function handler.command(cmd, source, ...)
		local f = command[cmd] or error("Invalid gate command " .. tostring(cmd), 0)
		return f(source, ...)
	end

	return handler
end
