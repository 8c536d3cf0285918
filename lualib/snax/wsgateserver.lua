-- snax.wsgateserver: the frame of a gate for browsers, a service that accepts WebSocket
-- connections (RFC 6455) and takes their messages as packages. snax.gateserver with
-- another wire format: the same commands, the same callbacks.
--
-- Owns the listener and all accepted connections; the kernel closes them when the
-- service ends, whatever ended it. A message belongs to the handler from the moment
-- `message` is called. It registers the protocol `socket`, so skynet.socket can't be used
-- in the same service.
--
-- Life of a connection: HANDSHAKE, then announced by `connect`; nothing is delivered
-- before openclient; messages of one connection come one after the other, also when
-- `message` yields; ended by exactly one `disconnect`. closeclient sends a close frame
-- and waits a moment for the peer's.

local skynet = require "skynet"
local driver = require "skynet.socketdriver"
local handshake = require "http.wshandshake"
local wscodec = require "wscodec"

local wsgateserver = {}

local TEXT, BINARY, CLOSE, PING, FAILED = 1, 2, 8, 9, -1
local KIND = { [TEXT] = "text", [BINARY] = "binary" }

local DEFAULT_MAXCLIENT = 1024
local DEFAULT_BACKLOG = 128
local DEFAULT_MAXPACKAGE = 65535
-- Limits of time, 1/100 s.
local DEFAULT_HANDSHAKE = 1000
local CLOSE_TIMEOUT = 200
-- The same after an error, and when a request was refused.
local FAILED_TIMEOUT = 50
-- How often the limits of time are looked at.
local SWEEP_PERIOD = 50
local MAX_HEADER = 8192
-- Bytes of a connection that may wait while `message` yields or before openclient.
local MAX_PENDING = 128 * 1024
-- Close codes: policy, and "the server is in trouble".
local POLICY, UNSUPPORTED, FAILURE = 1008, 1003, 1011

-- Of a connection. REFUSED: the request was answered with an error. CLOSING: our close
-- frame was sent. CLOSED: the close was requested, its event is still to come.
local HANDSHAKE, OPEN, REFUSED, CLOSING, CLOSED = 1, 2, 3, 4, 5

---@class wsgate.connection
---@field state integer
---@field addr string
---@field head string? what has arrived of the request
---@field codec userdata?
---@field is_announced boolean? `connect` was called
---@field is_started boolean? openclient was called
---@field is_pumping boolean? a task delivers messages
---@field is_paused boolean?
---@field is_failed boolean? it broke the protocol: nothing more is decoded
---@field tokens number? messages it may send at once
---@field refilled integer? when they were counted
---@field code integer? of the close frame, either side's
---@field reason string?

---@type table<integer, wsgate.connection>
local connections = {}
local client_number = 0
-- fd -> when its time is over.
local deadline = {}
-- Listener: { id, ip, port, err } and the settings of the last `open`.
local listener
local settings = {}
local handler

------------------------------------------------------------------ deadlines

local expire

local is_sweeping = false
local function sweep()
	local now = skynet.now()
	for fd, at in pairs(deadline) do
		if now >= at then
			deadline[fd] = nil
			expire(fd)
		end
	end
	is_sweeping = next(deadline) ~= nil
	if is_sweeping then
		skynet.timeout(SWEEP_PERIOD, sweep)
	end
end

local function set_deadline(fd, cs)
	deadline[fd] = skynet.now() + cs
	if not is_sweeping then
		is_sweeping = true
		skynet.timeout(math.min(SWEEP_PERIOD, cs), sweep)
	end
end

-------------------------------------------------------------------- closing

local function close_now(fd, c)
	c.state = CLOSED
	deadline[fd] = nil
	driver.close(fd)
end

-- Sends a close frame; the rest is dropped until the peer's arrives or time is over.
local function close_client(fd, c, code, reason, wait)
	c.state = CLOSING
	c.code, c.reason = c.code or code, c.reason or reason
	local payload = code and string.pack(">I2", code) .. (reason or "") or ""
	if wscodec.close(fd, payload) then
		set_deadline(fd, wait or CLOSE_TIMEOUT)
		if c.is_paused then
			c.is_paused = false
			driver.start(fd)
		end
	else
		close_now(fd, c)
	end
end

---Forget a connection: it gets a close frame and is closed when it answers, or after two
---seconds.
---@param fd integer unknown: no effect
---@param code integer? default 1000
---@param reason string? up to 123 bytes
function wsgateserver.closeclient(fd, code, reason)
	local c = connections[fd]
	if not c then
		return
	elseif c.state == OPEN then
		code = code or 1000
		if not wscodec.is_close_code(code) or #(reason or "") > 123 then
			error("wsgate: invalid close code or reason", 2)
		end
		close_client(fd, c, code, reason)
	elseif c.state == HANDSHAKE then
		close_now(fd, c)
	end
end

function expire(fd)
	local c = connections[fd]
	if not c then
		return
	elseif c.state == HANDSHAKE then
		skynet.error(string.format("wsgate: no upgrade from %s in time", c.addr))
		driver.send(fd, handshake.refusal(408))
		close_now(fd, c)
	elseif c.state == OPEN then
		skynet.error(string.format("wsgate: no message from %s in time", c.addr))
		close_client(fd, c, POLICY, "no message in time")
	else
		c.state = CLOSED
		driver.shutdown(fd)
	end
end

-- The socket is gone.
local function report_gone(fd, c)
	connections[fd] = nil
	deadline[fd] = nil
	client_number = client_number - 1
	if c.is_announced and handler.disconnect then
		handler.disconnect(fd, c.code, c.reason)
	end
end

------------------------------------------------------------------- messages

-- Whether the connection may send one more now (a bucket of tokens).
local function within_rate(c)
	local rate = settings.rate
	if not rate then
		return true
	end
	local now = skynet.now()
	c.tokens = math.min(settings.burst, c.tokens + (now - c.refilled) * rate / 100)
	c.refilled = now
	if c.tokens < 1 then
		return false
	end
	c.tokens = c.tokens - 1
	return true
end

-- Hands a message over. The block is the handler's, or freed here.
local function deliver(fd, c, kind, msg, sz)
	if settings.kind and settings.kind ~= KIND[kind] then
		driver.drop(msg, sz)
		close_client(fd, c, UNSUPPORTED, "only " .. settings.kind)
		return
	end
	if deadline[fd] then
		deadline[fd] = nil -- the first message
	end
	local ok, err = xpcall(handler.message, debug.traceback, fd, msg, sz, KIND[kind])
	if not ok then
		skynet.error(err)
	end
end

local function take_close(fd, c, code, reason)
	if c.state == OPEN then
		c.code, c.reason = code, code and reason
		wscodec.close(fd, code and string.pack(">I2", code) or "")
	end
	close_now(fd, c)
end

-- One frame of an open connection.
local function take_frame(fd, c, kind, a, b)
	if kind == FAILED then
		c.is_failed = true
		skynet.error(string.format("wsgate: %s: %s", c.addr, b))
		close_client(fd, c, a, b, FAILED_TIMEOUT)
	elseif kind == CLOSE then
		take_close(fd, c, a, b)
	elseif not within_rate(c) then
		if kind == TEXT or kind == BINARY then
			driver.drop(a, b)
		end
		skynet.error(string.format("wsgate: %s sends more than %s messages a second", c.addr, settings.rate))
		close_client(fd, c, POLICY, "too many messages", FAILED_TIMEOUT)
	elseif kind == TEXT or kind == BINARY then
		deliver(fd, c, kind, a, b)
	elseif kind == PING then
		wscodec.send(fd, 10, a)
	end
end

-- What arrives behind our close frame.
local function drop_frames(fd, c)
	while c.state == CLOSING and not c.is_failed do
		local kind, a, b = c.codec:nextblock()
		if kind == CLOSE then
			take_close(fd, c, a, b)
		elseif kind == FAILED then
			c.is_failed = true
		elseif kind == nil then
			return
		elseif kind == TEXT or kind == BINARY then
			driver.drop(a, b)
		end
	end
end

-- Delivers all that has arrived. May yield with the handler; what arrives meanwhile
-- waits in the codec.
local function pump(fd, c)
	c.is_pumping = true
	while c.state == OPEN do
		local kind, a, b = c.codec:nextblock()
		if not kind then
			break
		end
		take_frame(fd, c, kind, a, b)
	end
	c.is_pumping = false
	if c.state == CLOSING then
		drop_frames(fd, c)
	elseif c.state == OPEN and c.is_paused then
		c.is_paused = false
		driver.start(fd)
	end
end

---Deliver the messages of a connection that was announced by `connect`.
---@param fd integer unknown or closed: no effect
function wsgateserver.openclient(fd)
	local c = connections[fd]
	if not c or c.state ~= OPEN or c.is_started then
		return
	end
	c.is_started = true
	if settings.first_timeout then
		set_deadline(fd, settings.first_timeout)
	end
	if c.codec:pending() > 0 or c.is_paused then
		skynet.fork(pump, fd, c)
	end
end

------------------------------------------------------------------ handshake

local function refuse(fd, c, status, body, extra)
	c.state = REFUSED
	c.head = nil
	driver.send(fd, handshake.refusal(status, body, "connection: close\r\n" .. (extra or "")))
	if status == 413 then
		set_deadline(fd, FAILED_TIMEOUT) -- the rest is still coming
	else
		close_now(fd, c)
	end
end

local function info_of(request, agreed)
	local header = request.header
	return {
		url = request.url,
		header = header,
		origin = header.origin,
		protocol = agreed.protocol,
		real_ip = header["x-real-ip"],
	}
end

local function upgrade(fd, c, request, rest)
	local path = settings.path
	if path and request.url:match "^[^?#]*" ~= path then
		return refuse(fd, c, 404)
	end
	local response, agreed, body, extra = handshake.answer(request.header, settings)
	if not response then
		return refuse(fd, c, agreed, body, extra)
	end
	c.state = OPEN
	c.head = nil
	deadline[fd] = nil
	c.codec = wscodec.new {
		server = true,
		max_message = settings.maxpackage,
		unmasked = settings.unmasked,
		any_text = settings.any_text,
		inflate = agreed.inflate,
	}
	c.tokens, c.refilled = settings.burst, skynet.now()
	driver.send(fd, response)
	if rest ~= "" then
		c.codec:feed(rest)
	end
	c.is_announced = true
	local ok, err = xpcall(handler.connect, debug.traceback, fd, c.addr, info_of(request, agreed))
	if not ok then
		skynet.error(err)
		if c.state == OPEN then
			close_client(fd, c, FAILURE)
		end
	end
end

-- More of the request.
local function take_head(fd, c, data)
	local head = c.head .. data
	local from = math.max(1, #c.head - 2)
	c.head = head
	local _, last = head:find("\r\n\r\n", from, true)
	if (last or #head) > MAX_HEADER then
		return refuse(fd, c, 413)
	elseif not last then
		return
	end
	local lines = {}
	for line in head:sub(1, last - 2):gmatch "(.-)\r\n" do
		lines[#lines + 1] = line
	end
	local request, status, body = handshake.parse_request(lines)
	if not request then
		return refuse(fd, c, status, body)
	end
	upgrade(fd, c, request, head:sub(last + 1))
end

--------------------------------------------------------------------- events

local on = {}

local function take_data(fd, c, size, data)
	if c.is_failed then
		driver.drop(data, size)
		return
	end
	c.codec:feed(data, size)
	if c.state == CLOSING then
		drop_frames(fd, c)
	elseif c.is_started and not c.is_pumping then
		pump(fd, c)
	elseif not c.is_paused and c.codec:pending() > MAX_PENDING then
		c.is_paused = true
		driver.pause(fd)
	end
end

-- DATA
on[1] = function(fd, size, data)
	local c = connections[fd]
	if c and (c.state == OPEN or c.state == CLOSING) then
		take_data(fd, c, size, data)
		return
	end
	local text = c and c.state == HANDSHAKE and skynet.tostring(data, size)
	driver.drop(data, size)
	if text then
		take_head(fd, c, text)
	end
end

-- CONNECT: the listener is bound; that of anything else (a start) is no news.
on[2] = function(id, port, ip)
	if listener and id == listener.id and not listener.port then
		listener.ip, listener.port = ip, port
		skynet.wakeup(listener)
	end
end

-- CLOSE
on[3] = function(fd)
	local c = connections[fd]
	if not c then
		return
	end
	if c.state ~= CLOSED then
		close_now(fd, c)
	end
	report_gone(fd, c)
end

-- ACCEPT
on[4] = function(_, fd, addr)
	if client_number >= settings.maxclient then
		skynet.error(string.format("wsgate: refuse %s, %d clients are connected", addr, client_number))
		driver.shutdown(fd)
		return
	end
	client_number = client_number + 1
	connections[fd] = { state = HANDSHAKE, addr = addr, head = "" }
	set_deadline(fd, settings.handshake_timeout)
	driver.start(fd)
end

-- ERROR
on[5] = function(fd, _, text)
	if listener and fd == listener.id then
		skynet.error("wsgate accept error: " .. text)
		if not listener.port then
			listener.err = text
			skynet.wakeup(listener)
		end
		return
	end
	local c = connections[fd]
	driver.shutdown(fd)
	if not c then
		return
	end
	-- CLOSE will follow.
	c.state = CLOSED
	deadline[fd] = nil
	if c.is_announced and handler.error then
		handler.error(fd, text)
	end
end

-- UDP: none of ours
on[6] = function(_, size, data)
	driver.drop(data, size)
end

-- WARNING
on[7] = function(fd, kib)
	local c = connections[fd]
	if c and c.is_announced and handler.warning then
		handler.warning(fd, kib)
	end
end

------------------------------------------------------------------- commands

---@class wsgate.conf
---@field address string? default 0.0.0.0
---@field port integer
---@field watchdog integer? of the service wsgate
---@field maxclient integer? default 1024, handshakes included
---@field max_per_address integer? connections of one address; default none
---@field connect_rate integer? new connections a second of one address; default none
---@field connect_burst integer? as many at once
---@field backlog integer? default 128
---@field maxpackage integer? bytes of a message; default 65535
---@field kind "text"|"binary"|nil the only kind that is accepted
---@field rate number? messages a second of one connection; default none
---@field burst integer? as many at once after a pause; default twice the rate
---@field send_limit integer? bytes that may wait to be sent; default of the node
---@field handshake_timeout integer? 1/100 s; default 1000
---@field first_timeout integer? 1/100 s from openclient to the first message; default none
---@field idle_timeout integer? 1/100 s without a byte received; default none
---@field ping_interval integer? 1/100 s between pings to all; default none
---@field path string? the only path that is served; default any
---@field origins string[]? see http.wshandshake
---@field protocols string[]? subprotocols
---@field deflate boolean|websocket.deflate? accept compressed messages
---@field unmasked boolean? accept clients that do not mask
---@field any_text boolean? no check that text is UTF-8

local POSITIVE = { "maxclient", "max_per_address", "connect_rate", "connect_burst", "maxpackage", "rate", "burst",
	"send_limit", "handshake_timeout", "first_timeout", "idle_timeout", "ping_interval" }

local function checked(conf)
	local copy = {}
	for k, v in pairs(conf) do
		copy[k] = v
	end
	for _, name in ipairs(POSITIVE) do
		local v = copy[name]
		if v ~= nil and (type(v) ~= "number" or v <= 0) then
			error(string.format("wsgate: %s must be a positive number, not %s", name, tostring(v)), 0)
		end
	end
	if copy.kind and copy.kind ~= "text" and copy.kind ~= "binary" then
		error(string.format("wsgate: kind must be text or binary, not %s", tostring(copy.kind)), 0)
	end
	copy.maxclient = copy.maxclient or DEFAULT_MAXCLIENT
	copy.maxpackage = copy.maxpackage or DEFAULT_MAXPACKAGE
	copy.handshake_timeout = copy.handshake_timeout or DEFAULT_HANDSHAKE
	copy.burst = copy.rate and math.max(1, copy.burst or copy.rate * 2)
	return copy
end

local function keep_pinging(this)
	local interval = settings.ping_interval
	if not interval then
		return
	end
	local function run()
		if listener ~= this then
			return
		end
		for fd, c in pairs(connections) do
			if c.state == OPEN then
				wscodec.send(fd, PING)
			end
		end
		skynet.timeout(interval, run)
	end
	skynet.timeout(interval, run)
end

local command = {}

---@param conf wsgate.conf
function command.open(source, conf)
	if listener then
		error("the gate is open already", 0)
	end
	local address = conf.address or "0.0.0.0"
	local port = assert(conf.port, "the gate needs a port")
	local new = checked(conf)
	skynet.error(string.format("Listen on %s %d", address, port))
	local id = driver.listen(address, port, {
		backlog = conf.backlog or DEFAULT_BACKLOG,
		max_per_peer = conf.max_per_address,
		peer_rate = conf.connect_rate,
		peer_burst = conf.connect_burst,
		send_limit = conf.send_limit,
		idle = conf.idle_timeout,
	})
	settings = new
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
	keep_pinging(this)
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

---@class wsgate.handler
---@field connect fun(fd: integer, addr: string, info: table) after the upgrade
---@field message fun(fd: integer, msg: lightuserdata, sz: integer, kind: string) owns msg
---@field disconnect fun(fd: integer, code: integer?, reason: string?)?
---@field error fun(fd: integer, text: string)?
---@field warning fun(fd: integer, kib: integer)?
---@field open (fun(source: integer, conf: wsgate.conf): ...)?
---@field command (fun(cmd: string, source: integer, ...): ...)?
---@field embed boolean? the caller starts the service

---Turn the service into a gate. Starts it, unless handler.embed is set.
---@param h wsgate.handler
function wsgateserver.start(h)
	assert(h.connect, "wsgateserver needs handler.connect")
	assert(h.message, "wsgateserver needs handler.message")
	handler = h
	skynet.register_protocol {
		name = "socket",
		id = skynet.PTYPE_SOCKET,
		unpack = driver.unpack,
		dispatch = function(_, _, event, ...)
			on[event](...)
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

return wsgateserver
