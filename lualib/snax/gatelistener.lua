-- snax.gatelistener: what gates have in common, whatever their connections speak: one
-- listening socket at a time, and the commands `open` and `close`. The rest is the business
-- of snax.gateserver and snax.wsgateserver.
--
-- Owns the listener; one gate per service uses this.

local skynet = require "skynet"
local driver = require "skynet.socketdriver"
local notice = require "skynet.notice"
local options = require "skynet.options"
local gatesettings = require "snax.gatesettings"

local gatelistener = {}

-- What a handler may have.
local CALLBACKS = { open = true, connect = true, message = true, lost = true, disconnect = true, error = true,
	warning = true, command = true, embed = true, direct = true }

-- Lines of a kind in a second.
local MAX_LINES = 100

---@class snax.gatelistener.gate
---@field name string in log lines
---@field handler table of the user: open, command, embed
---@field prepare fun(conf: table): table, fun() raises when an option is wrong; options of the
---listening socket, and what makes the settings of `conf` hold, called once there is one
---@field opened fun(listener: snax.gatelistener.listener)? it accepts connections

---@class snax.gatelistener.listener
---@field id integer
---@field ip string|false once it is bound
---@field port integer|false
---@field err string|false why it cannot be

---@type snax.gatelistener.gate
local gate
---@type snax.gatelistener.listener?
local listener
-- Those that were closed and are still there: id -> token of the command.
local closing = {}

local command = {}

-- Wait until it is bound, and begin. Raises. Yields.
local function accept_at(this, conf, adopt)
	adopt()
	listener = this
	repeat
		skynet.wait(this)
	until this.port or this.err or listener ~= this
	if this.err then
		error("Listen error: " .. this.err, 0)
	elseif listener ~= this then
		error("the gate was closed while it opened", 0)
	end
	conf.address, conf.port = this.ip, this.port
	driver.start(this.id)
	if gate.opened then
		gate.opened(this)
	end
end

function command.open(source, conf)
	if listener then
		error("the gate is open already", 0)
	end
	local address, port = gatesettings.address(conf)
	local socket_options, adopt = gate.prepare(conf)
	skynet.error(string.format("Listen on %s %d", address, port))
	-- With room for all, and there before the socket that it has to close.
	local this = { id = false, ip = false, port = false, err = false }
	this.id = driver.listen(address, port, socket_options)
	local ok, err = pcall(accept_at, this, conf, adopt)
	if not ok then
		if listener == this then
			listener = nil
		end
		driver.close(this.id)
		error(err, 0)
	end
	if gate.handler.open then
		return gate.handler.open(source, conf)
	end
end

function command.close()
	local this = listener
	if not this then
		error("the gate is not open", 0)
	end
	local token = {}
	if not this.port then
		skynet.wakeup(this)
	end
	closing[this.id] = token
	driver.close(this.id)
	listener = nil
	if this.err then
		closing[this.id] = nil
		return
	end
	-- From then on the port is free, for the next `open`.
	repeat
		skynet.wait(token)
	until not closing[this.id]
end

local function dispatch_command(_, source, cmd, ...)
	local f = command[cmd]
	if f then
		skynet.retpack(f(source, ...))
	elseif gate.handler.command then
		skynet.retpack(gate.handler.command(cmd, source, ...))
	else
		error("Invalid gate command " .. tostring(cmd), 0)
	end
end

---Take commands from now on. Starts the service, unless handler.embed is set.
---@param g snax.gatelistener.gate
function gatelistener.start(g)
	gate = g
	options.warn(g.name .. " callback", g.handler, CALLBACKS)
	local function init()
		skynet.dispatch("lua", dispatch_command)
	end
	if g.handler.embed then
		init()
	else
		skynet.start(init)
	end
end

---A socket is bound; that of anything else (a start) is no news.
---@param id integer
---@param ip string
---@param port integer
function gatelistener.bound(id, ip, port)
	if listener and id == listener.id and not listener.port then
		listener.ip = ip
		skynet.wakeup(listener)
		-- Last: without it the event, if it comes once more, begins again.
		listener.port = port
	end
end

---A socket is closed; a listener's port is free now.
---@param id integer
function gatelistener.closed(id)
	local token = closing[id]
	if token then
		skynet.wakeup(token)
		closing[id] = nil
	end
end

---Take an error of a socket, if that is the listener.
---@param id integer
---@param text string
---@return boolean
function gatelistener.failed(id, text)
	if closing[id] then
		gatelistener.closed(id)
		return true
	elseif not listener or id ~= listener.id then
		return false
	end
	notice("accept", MAX_LINES, "%s accept error: %s", gate.name, text)
	if not listener.port then
		listener.err = text
		skynet.wakeup(listener)
	end
	return true
end

---Is the gate open, by this listener?
---@param this snax.gatelistener.listener
---@return boolean
function gatelistener.is_open(this)
	return listener == this
end

---@return integer? # id of the open listener
function gatelistener.id()
	return listener and listener.id
end

return gatelistener
