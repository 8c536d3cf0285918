-- snax.gateserver: the frame of a gate, a service that accepts connections and
-- cuts what they send into packages of two length bytes plus payload.
--
-- Owns the listener, all accepted connections (closed when the service ends,
-- whatever ended it) and the queue of packages; a package belongs to the
-- handler from the moment `message` is called. It registers the protocol
-- `socket`, so skynet.socket can't be used in the same service.
--
-- Life of a connection: announced by `connect`, read after openclient, ended by
-- exactly one `disconnect`, which pairs with `connect`. When the peer ended it,
-- the socket stays writable until closeclient, or `linger` later.

local skynet = require "skynet"
local netpack = require "skynet.netpack"
local driver = require "skynet.socketdriver"

local gateserver = {}

-- Connections accepted at the same time unless `maxclient` says otherwise.
local DEFAULT_MAXCLIENT = 1024
local DEFAULT_BACKLOG = 32
-- How long a connection that the peer closed waits for closeclient, cs, unless
-- `linger` says otherwise.
local DEFAULT_LINGER = 1000
-- Packages of one connection that may wait in the ordered mode.
local MAX_PENDING = 1024
-- How often the time limits of connections are looked at, cs.
local SWEEP_PERIOD = 50

-- Packages cut but not yet dispatched; an object of netpack that frees itself.
local queue
-- Listener: { id, ip, port, err } and the settings of the last `open`.
local listener
local settings = { maxclient = 0 }

-- States of a connection. CLOSING: our close or shutdown was requested, its
-- CLOSE event is still to come. GONE: `disconnect` was reported; the socket is
-- still there to be written to.
local OPEN, CLOSING, GONE = 1, 2, 3
-- fd -> state. An fd is never used twice, so that a number is all there is to
-- know of most connections.
---@type table<integer, integer>
local state = {}
-- Connections accepted and not yet reported gone.
local client_number = 0
-- With time limits: fd -> time of its last package (or accept), and whether it
-- has sent any.
local last_seen, has_spoken = {}, {}
-- In the ordered mode: fd -> { first, last, [n] = package } while `message` runs.
local waiting = {}
local handler

-- Runs when the VM is closed, be it by exit or by kill.
local finaliser = setmetatable({}, { __gc = function()
	if listener then
		driver.close(listener.id)
	end
	for fd in pairs(state) do
		driver.close(fd)
	end
end })

---Start reading a connection that was announced by `connect`.
---@param fd integer unknown or closed: no effect
function gateserver.openclient(fd)
	if state[fd] == OPEN then
		driver.start(fd)
	end
end

local function forget(fd)
	state[fd] = nil
	last_seen[fd] = nil
	has_spoken[fd] = nil
end

---Forget a connection and close it once its output is sent.
---@param fd integer unknown: no effect
function gateserver.closeclient(fd)
	local s = state[fd]
	if s == GONE then
		forget(fd)
		driver.close(fd)
	elseif s == OPEN then
		state[fd] = CLOSING
		driver.close(fd)
	end
end

local function report_gone(fd)
	client_number = client_number - 1
	if state[fd] == CLOSING then
		forget(fd)
	else
		state[fd] = GONE
		skynet.timeout(settings.linger, function()
			gateserver.closeclient(fd)
		end)
	end
	if handler.disconnect then
		handler.disconnect(fd)
	end
end

-- Connections that were silent for too long are closed. Runs only while a time
-- limit is set, so that a gate without one never wakes up by itself.
local is_sweeping = false
local function sweep()
	local now = skynet.now()
	for fd, since in pairs(last_seen) do
		local limit = has_spoken[fd] and settings.idle_timeout or settings.first_timeout
		if limit and state[fd] == OPEN and now - since > limit then
			skynet.error(string.format("gateserver: close silent connection %d", fd))
			gateserver.closeclient(fd)
		end
	end
	is_sweeping = next(last_seen) ~= nil
	if is_sweeping then
		skynet.timeout(SWEEP_PERIOD, sweep)
	end
end

local function watch(fd)
	last_seen[fd] = skynet.now()
	if not is_sweeping then
		is_sweeping = true
		skynet.timeout(SWEEP_PERIOD, sweep)
	end
end

local function drop(fd, msg, sz)
	local text = netpack.tostring(msg, sz)
	skynet.error(string.format("Drop message from fd (%d) : %s", fd, text))
end

local function put_aside(fd, queued, msg, sz)
	queued.last = queued.last + 1
	queued[queued.last] = { msg, sz }
	if queued.last - queued.first >= MAX_PENDING then
		skynet.error(string.format("gateserver: too many packages wait on fd (%d)", fd))
		gateserver.closeclient(fd)
	end
end

-- One package after the other, although `message` may yield.
local function deliver_ordered(fd, msg, sz)
	local queued = waiting[fd]
	if queued then
		put_aside(fd, queued, msg, sz)
		return
	end
	queued = { first = 1, last = 0 }
	waiting[fd] = queued
	while msg do
		if state[fd] ~= OPEN then
			drop(fd, msg, sz)
		else
			local ok, err = xpcall(handler.message, debug.traceback, fd, msg, sz)
			if not ok then
				skynet.error(err)
			end
		end
		local package = queued[queued.first]
		queued[queued.first] = nil
		queued.first = queued.first + 1
		msg = package and package[1]
		sz = package and package[2]
	end
	waiting[fd] = nil
end

local event = {}

local function dispatch_package(fd, msg, sz)
	if state[fd] ~= OPEN then
		drop(fd, msg, sz)
		return
	end
	if sz > settings.maxpackage then
		skynet.error(string.format("gateserver: package of %d bytes from fd (%d) is too large",
			sz, fd))
		netpack.tostring(msg, sz) -- frees it
		gateserver.closeclient(fd)
		return
	end
	if settings.has_limit then
		has_spoken[fd] = true
		last_seen[fd] = skynet.now()
	end
	if settings.ordered then
		deliver_ordered(fd, msg, sz)
	else
		handler.message(fd, msg, sz)
	end
end

event.data = dispatch_package

-- Dispatch what is queued. Should `message` yield, or raise, the fork that was
-- made before it goes on with the rest.
local function dispatch_queue()
	local fd, msg, sz = netpack.pop(queue)
	if not fd then
		return
	end
	skynet.fork(dispatch_queue)
	repeat
		dispatch_package(fd, msg, sz)
		fd, msg, sz = netpack.pop(queue)
	until not fd
end

event.more = dispatch_queue

function event.open(fd, addr)
	if client_number >= settings.maxclient then
		skynet.error(string.format("gateserver: refuse %s, %d clients are connected",
			addr, client_number))
		driver.shutdown(fd)
		return
	end
	client_number = client_number + 1
	state[fd] = OPEN
	if settings.nodelay then
		driver.nodelay(fd)
	end
	if settings.has_limit then
		watch(fd)
	end
	local ok, err = xpcall(handler.connect, debug.traceback, fd, addr)
	if not ok then
		gateserver.closeclient(fd)
		error(err, 0)
	end
end

function event.close(fd)
	local s = state[fd]
	if s == OPEN or s == CLOSING then
		report_gone(fd)
	end
end

function event.error(fd, text)
	if listener and fd == listener.id then
		skynet.error("gateserver accept error: " .. text)
		if not listener.port then
			listener.err = text
			skynet.wakeup(listener)
		end
		return
	end
	local s = state[fd]
	driver.shutdown(fd)
	if not s then
		return
	elseif s == GONE then
		forget(fd) -- no CLOSE will follow
	else
		state[fd] = CLOSING
	end
	if handler.error then
		handler.error(fd, text)
	end
end

function event.warning(fd, kib)
	if handler.warning then
		handler.warning(fd, kib)
	end
end

-- The listener is bound; CONNECT of anything else (a start) is no news.
function event.init(id, ip, port)
	if listener and id == listener.id and not listener.port then
		listener.ip, listener.port = ip, port
		skynet.wakeup(listener)
	end
end

local function apply(conf)
	settings = {
		maxclient = conf.maxclient or DEFAULT_MAXCLIENT,
		nodelay = conf.nodelay,
		maxpackage = conf.maxpackage or math.maxinteger,
		linger = conf.linger or DEFAULT_LINGER,
		ordered = conf.ordered,
		first_timeout = conf.first_timeout or conf.idle_timeout,
		idle_timeout = conf.idle_timeout,
		has_limit = conf.first_timeout or conf.idle_timeout,
	}
end

local command = {}

---@class gate.conf
---@field address string? default 0.0.0.0
---@field port integer
---@field maxclient integer? default 1024
---@field nodelay boolean?
---@field backlog integer? default 32
---@field maxpackage integer? bytes; a larger package closes its connection
---@field linger integer? cs until a connection that the peer closed is closed here
---@field ordered boolean? packages of a connection wait while `message` yields
---@field first_timeout integer? cs a connection may wait with its first package
---@field idle_timeout integer? cs between packages

---@param conf gate.conf
function command.open(source, conf)
	if listener then
		error("the gate is open already", 0)
	end
	local address = conf.address or "0.0.0.0"
	local port = assert(conf.port, "the gate needs a port")
	skynet.error(string.format("Listen on %s %d", address, port))
	local id = driver.listen(address, port, conf.backlog or DEFAULT_BACKLOG)
	apply(conf)
	local this = { id = id }
	listener = this
	if not this.port then
		skynet.wait(this)
	end
	if this.err then
		listener = nil
		driver.close(id)
		error("Listen error: " .. this.err, 0)
	elseif listener ~= this then
		error("the gate was closed while it opened", 0)
	end
	conf.address, conf.port = this.ip, this.port
	driver.start(id)
	if handler.open then
		return handler.open(source, conf)
	end
end

function command.close()
	local this = listener
	if not this then
		error("the gate is not open", 0)
	end
	listener = nil
	driver.close(this.id)
	if not this.port then
		skynet.wakeup(this)
	end
end

local function dispatch_command(_, source, cmd, ...)
	local f = command[cmd]
	if f then
		skynet.retpack(f(source, ...))
	elseif handler.command then
		skynet.retpack(handler.command(cmd, source, ...))
	else
		error("Invalid gate command " .. tostring(cmd), 0)
	end
end

---@class gate.handler
---@field connect fun(fd: integer, addr: string)
---@field message fun(fd: integer, msg: lightuserdata, sz: integer) owns msg
---@field disconnect fun(fd: integer)?
---@field error fun(fd: integer, text: string)?
---@field warning fun(fd: integer, kib: integer)?
---@field open (fun(source: integer, conf: gate.conf): ...)?
---@field command (fun(cmd: string, source: integer, ...): ...)?
---@field embed boolean? the caller starts the service

---Turn the service into a gate. Starts it, unless handler.embed is set.
---@param h gate.handler
function gateserver.start(h)
	assert(h.connect, "gateserver needs handler.connect")
	assert(h.message, "gateserver needs handler.message")
	handler = h
	gateserver._finaliser = finaliser
	skynet.register_protocol {
		name = "socket",
		id = skynet.PTYPE_SOCKET,
		unpack = function(msg, sz)
			return netpack.filter(queue, msg, sz)
		end,
		dispatch = function(_, _, q, kind, ...)
			queue = q
			if kind then
				event[kind](...)
			end
		end,
	}
	local function init()
		skynet.dispatch("lua", dispatch_command)
	end
	if h.embed then
		init()
	else
		skynet.start(init)
	end
end

return gateserver
