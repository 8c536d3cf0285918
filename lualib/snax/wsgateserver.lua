-- snax.wsgateserver: the frame of a gate for browsers, a service that accepts WebSocket
-- connections (RFC 6455) and takes their messages as packages. snax.gateserver with
-- another wire format: the same commands, the same callbacks.
--
-- Owns the listener and all accepted connections; the kernel closes them when the
-- service ends, whatever ended it. A message belongs to the handler from the moment
-- `message` is called. It registers the protocol `socket`, so skynet.socket can't be used
-- in the same service.
--
-- What needs no decision does not pass here: skynet.gateinbox takes in what connections
-- receive, and sends messages on to the services that they are routed to.
--
-- Life of a connection: HANDSHAKE, then announced by `connect`; nothing is delivered
-- before openclient; messages of one connection come one after the other, also when
-- `message` yields; ended by exactly one `disconnect`. closeclient sends a close frame
-- and waits a moment for the peer's.

local skynet = require "skynet"
local inbox = require "skynet.gateinbox"
local driver = require "skynet.socketdriver"
local netpack = require "skynet.netpack"
local handshake = require "http.wshandshake"
local gatelag = require "snax.gatelag"
local gatelistener = require "snax.gatelistener"
local gatetls = require "snax.gatetls"
local notice = require "skynet.notice"
local NO_MEMORY = require "skynet.nomemory"
local wsgatesettings = require "snax.wsgatesettings"
local wscodec = require "wscodec"

-- What every message needs.
local feed, next_block = wscodec.codec.feed, wscodec.codec.nextblock
local take = inbox.take
local traceback, xpcall = debug.traceback, xpcall

local wsgateserver = {}

local TEXT, BINARY, CLOSE, PING, PONG, FAILED = 1, 2, 8, 9, 10, -1
local KIND = { [TEXT] = "text", [BINARY] = "binary" }
local OPCODE = { text = TEXT, binary = BINARY }
-- What the inbox tells beside messages: another frame; a limit; that the agent is gone.
local OTHER, HELD, LOST = -1, -2, -3
-- The limits of rates as the inbox tells them.
local RATES = { "package_rate", "byte_rate", "address_package_rate", "address_byte_rate" }

-- How long the peer's close frame is awaited, 1/100 s.
local CLOSE_TIMEOUT = 200
-- The same after an error, and when a request was refused.
local FAILED_TIMEOUT = 50
-- How often the limits of time are looked at.
local SWEEP_PERIOD = 50
local MAX_HEADER = 8192
-- Bytes of a connection that may wait while `message` yields or before openclient.
local MAX_PENDING = 128 * 1024
-- Lines about a handler that raised, in a second.
local MAX_FAILURE_LINES = 100
-- Close codes: policy, and "the server is in trouble".
local POLICY, UNSUPPORTED, FAILURE = 1008, 1003, 1011

-- Of a connection. REFUSED: the request was answered with an error. CLOSING: our close
-- frame was sent. CLOSED: the close was requested, its event is still to come. GONE: that has
-- come, and `disconnect` is told.
local HANDSHAKE, OPEN, REFUSED, CLOSING, CLOSED, GONE = 1, 2, 3, 4, 5, 6
-- Of TLS: the handshake goes on, or is over.
local SHAKING, SECURE = 1, 2
-- Reasons not to deliver what a connection sends: its rate is over the limit, its agent
-- lags behind.
local SLOW, BEHIND = 1, 2

---@class wsgate.connection
---@field state integer
---@field addr string
---@field head string? what has arrived of the request
---@field tls integer|false SHAKING, SECURE; false = plain
---@field codec userdata?
---@field is_announced boolean? `connect` was called
---@field is_started boolean? openclient was called
---@field is_pumping boolean? a task delivers messages
---@field is_paused boolean?
---@field is_failed boolean? it broke the protocol: nothing more is decoded
---@field held integer reasons for which delivery waits
---@field line userdata? of the inbox, which delivers what it can
---@field code integer? of the close frame, either side's
---@field reason string?

---@type table<integer, wsgate.connection>
local connections = {}
local client_number = 0
-- fd -> when its time is over.
local deadline = {}
-- Of the last `open`.
local settings = {}
-- The one kind of messages that is allowed, if any.
local only_kind
local tls_context
local handler
local on_message

-------------------------------------------------------------------- notices

-- Say why a connection is refused, slowed down or ended.
local function report(kind, fmt, ...)
	notice(kind, 1, "wsgate: " .. fmt, ...)
end

-- A callback of the handler raised.
local function report_failure(fd, c, callback, err)
	notice(callback, MAX_FAILURE_LINES, "wsgate: %s of %d of %s: %s", callback, fd, c.addr, err)
end

------------------------------------------------------------------ deadlines

local expire, sweep

local is_sweeping = false

local function sweep_later(delay)
	if not is_sweeping and next(deadline) then
		skynet.timeout(delay, sweep)
		is_sweeping = true
	end
end

-- What there is no memory for comes next time.
function sweep()
	is_sweeping = false
	local now = skynet.now()
	for fd, at in pairs(deadline) do
		if now >= at then
			local ok, err = pcall(expire, fd)
			if not ok then
				pcall(skynet.error, err)
			end
		end
	end
	sweep_later(SWEEP_PERIOD)
end

local function set_deadline(fd, cs)
	deadline[fd] = skynet.now() + cs
	sweep_later(math.min(SWEEP_PERIOD, cs))
end

-------------------------------------------------------------------- closing

-- From now on nothing is delivered.
local function leave_open(c, state)
	c.state = state
	if c.line then
		inbox.halt(c.line)
	end
end

-- At once: nothing more comes or goes out, and the peer is not told that this is all. Needs no
-- memory.
local function cut_off(fd, c)
	driver.shutdown(fd)
	leave_open(c, CLOSED)
	deadline[fd] = nil
end

-- With TLS, what was sent up to now is still on its way through the mailbox, where a
-- timeout of 0 queues behind it. Whatever the farewell fails at, the socket is closed.
local function close_socket(fd)
	if not gatetls.has(fd) then
		return driver.close(fd)
	end
	skynet.timeout(0, function() gatetls.finish(fd) end)
	skynet.timeout(0, function() driver.close(fd) end)
end

local function close_now(fd, c)
	if pcall(close_socket, fd) then
		leave_open(c, CLOSED)
		deadline[fd] = nil
	else
		cut_off(fd, c)
	end
end

local function say_close(fd, c, code, reason, wait)
	c.code, c.reason = c.code or code, c.reason or reason
	set_deadline(fd, wait)
	local payload = code and string.pack(">I2", code) .. (reason or "") or ""
	return wscodec.close(fd, payload)
end

-- Sends a close frame; the rest is dropped until the peer's arrives or time is over. Without
-- memory for that the connection ends now.
local function close_client(fd, c, code, reason, wait)
	local ok, is_sent = pcall(say_close, fd, c, code, reason, wait or CLOSE_TIMEOUT)
	if not (ok and is_sent) then
		close_now(fd, c)
		return
	end
	leave_open(c, CLOSING)
	if c.is_paused then
		c.is_paused = false
		driver.start(fd)
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

-- Its deadline has passed, and passes again if this fails.
function expire(fd)
	local c = connections[fd]
	if not c then
		deadline[fd] = nil
	elseif c.state == HANDSHAKE then
		report("upgrade", "no upgrade from %s in time", c.addr)
		if c.tls ~= SHAKING then
			driver.send(fd, handshake.refusal(408))
		end
		close_now(fd, c)
	elseif c.state == OPEN then
		report("silent", "no message from %s in time", c.addr)
		close_client(fd, c, POLICY, "no message in time")
	else
		cut_off(fd, c)
	end
end

-- The socket is gone. Of an error for want of memory the event comes once more.
local function report_gone(fd, c)
	deadline[fd] = nil
	gatetls.forget(fd)
	if c.line then
		inbox.leave(c.line)
	end
	if c.state ~= GONE then
		c.state = GONE
		client_number = client_number - 1
	end
	if c.is_announced and handler.disconnect then
		local ok, err = xpcall(handler.disconnect, traceback, fd, c.code, c.reason)
		if not ok then
			if err ~= NO_MEMORY then
				connections[fd] = nil
			end
			error(err, 0)
		end
	end
	connections[fd] = nil
end

------------------------------------------------------------------- messages

local pump

local function hold(fd, c, reason)
	c.held = c.held | reason
	inbox.halt(c.line)
	if not c.is_paused then
		c.is_paused = true
		driver.pause(fd)
	end
end

local function release(fd, c, reason)
	c.held = c.held & ~reason
	if c.held == 0 and not c.is_pumping then
		pump(fd)
	end
end

---See gateserver.rest.
---@param fd integer
---@param service integer|string
function wsgateserver.rest(fd, service)
	local c = connections[fd]
	if c and c.state == OPEN and c.held & BEHIND == 0 then
		report("behind", "stop reading %s while more than %d bytes wait for %s (agent_limit)", c.addr,
			settings.agent_limit, skynet.address(service))
		gatelag.wait(fd, service, function() release(fd, c, BEHIND) end)
		hold(fd, c, BEHIND)
	end
end

---See gateserver.route: messages of the connection go straight to a service, except for the
---first one, of which first_timeout has to know.
---@param fd integer unknown or closed: no effect
---@param service integer? its handle; nil = messages go to `message` again
---@param source integer? handle that the messages come from, default: this service
function wsgateserver.route(fd, service, source)
	local c = connections[fd]
	if c and c.state == OPEN then
		inbox.route(c.line, service, source)
	end
end

-- The connection has sent more than it may: it is closed, or not read for a while.
local function slow_down(fd, c, wait, why)
	local name = RATES[why]
	local closes = settings.rate_policy == "close"
	report("rate", "%s %s: it sends more than its %s of %d per second; raise it if that is meant",
		closes and "close" or "slow down", c.addr, name, settings[name])
	if closes then
		close_client(fd, c, POLICY, "too many messages", FAILED_TIMEOUT)
		return
	end
	skynet.timeout(wait, function() release(fd, c, SLOW) end)
	hold(fd, c, SLOW)
end

-- A message of the wrong kind, which is dropped.
local function refuse_kind(fd, c, msg, sz)
	driver.drop(msg, sz)
	close_client(fd, c, UNSUPPORTED, "only " .. only_kind)
end

local function take_close(fd, c, code, reason)
	if c.state == OPEN then
		c.code, c.reason = code, code and reason
		wscodec.close(fd, code and string.pack(">I2", code) or "")
	end
	close_now(fd, c)
end

-- One frame of an open connection that is no message.
local function take_frame(fd, c, kind, a, b)
	if kind == FAILED then
		c.is_failed = true
		report("protocol", "close %s: %s", c.addr, b)
		close_client(fd, c, a, b, FAILED_TIMEOUT)
	elseif kind == CLOSE then
		take_close(fd, c, a, b)
	elseif kind == PING then
		wscodec.send(fd, PONG, a)
	end
end

local function count(fd, c, size)
	local wait, why = inbox.count(c.line, size)
	if wait > 0 then
		slow_down(fd, c, wait, why)
	end
end

-- Why the inbox has stopped. `service`: the one that lags behind, or 0.
local function take_limit(fd, c, wait, why, service)
	if service and service ~= 0 then
		wsgateserver.rest(fd, service)
	end
	if wait > 0 then
		slow_down(fd, c, wait, why)
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

-- What the inbox leaves to Lua beside messages. What is to be counted, as a size.
local function take_found(fd, c, kind, a, b, service)
	if kind == OTHER then
		take_frame(fd, c, next_block(c.codec))
		return 0
	elseif kind == HELD then
		take_limit(fd, c, a, b, service)
	elseif kind == LOST and handler.lost then
		local ok, err = xpcall(handler.lost, traceback, fd, a)
		if not ok then
			report_failure(fd, c, "lost", err)
		end
	end
end

-- Nothing more is delivered for now.
local function after_pump(fd, c)
	if c.state == CLOSING then
		drop_frames(fd, c)
	elseif c.state == OPEN and c.held == 0 then
		c.is_paused = false
		driver.start(fd)
	end
end

-- Every message passes here: it is written out.
local function deliver(fd, c, kind, a, b, service)
	local line = c.line
	if not kind and c.state == OPEN and c.held == 0 then
		kind, a, b, service = take(line)
	end
	while kind do
		local name, size = KIND[kind], b
		if not name then
			size = take_found(fd, c, kind, a, b, service)
		elseif only_kind and only_kind ~= name then
			refuse_kind(fd, c, a, b)
		else
			if deadline[fd] then
				deadline[fd] = nil -- the first message
			end
			local ok, err = xpcall(on_message, traceback, fd, a, b, name)
			if not ok then
				if err == NO_MEMORY then
					-- The next ones may depend on it.
					cut_off(fd, c)
				end
				report_failure(fd, c, "message", err)
			end
		end
		if c.state ~= OPEN then
			break
		elseif c.held ~= 0 then
			if size then
				count(fd, c, size)
			end
			break
		end
		kind, a, b, service = take(line, size)
	end
	if c.state ~= OPEN or c.is_paused then
		after_pump(fd, c)
	end
end

-- Delivers all that has arrived, beginning with what was found. May yield with the handler;
-- what arrives meanwhile waits in the codec.
function pump(fd, kind, a, b, service)
	local c = connections[fd]
	if not c then
		return
	end
	c.is_pumping = true
	local ok, err = pcall(deliver, fd, c, kind, a, b, service)
	c.is_pumping = false
	if not ok then
		-- Nothing may follow what is missing.
		cut_off(fd, c)
		error(err, 0)
	end
end

---Deliver the messages of a connection that was announced by `connect`.
---@param fd integer unknown or closed: no effect
function wsgateserver.openclient(fd)
	local c = connections[fd]
	if not c or c.state ~= OPEN or c.is_started then
		return
	end
	if settings.first_timeout > 0 then
		set_deadline(fd, settings.first_timeout)
	end
	if c.codec:pending() > 0 or c.is_paused then
		skynet.fork(pump, fd)
	end
	c.is_started = true
end

------------------------------------------------------------------ handshake

local function refuse(fd, c, status, body, extra)
	report("refuse", "refuse %s: its request gets %d %s", c.addr, status, body or "")
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
		origin = handshake.last(header.origin),
		protocol = agreed.protocol,
		real_ip = handshake.last(header["x-real-ip"]),
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
	local info = info_of(request, agreed)
	c.codec = wscodec.new {
		server = true,
		max_message = settings.maxpackage,
		unmasked = settings.unmasked,
		any_text = settings.any_text,
		inflate = agreed.inflate,
	}
	c.line = inbox.enter(fd, c.addr, c.codec, not c.tls)
	driver.send(fd, response)
	if rest ~= "" then
		c.codec:feed(rest)
	end
	c.state = OPEN
	c.head = nil
	deadline[fd] = nil
	c.is_announced = true
	local ok, err = xpcall(handler.connect, traceback, fd, c.addr, info)
	if not ok then
		report_failure(fd, c, "connect", err)
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

-- Plain bytes of a connection, in a block that is taken.
local function take_block(fd, c, size, data)
	local state = c.state
	if state == OPEN then
		feed(c.codec, data, size)
		if c.is_started and not c.is_pumping and c.held == 0 then
			pump(fd)
		elseif not c.is_paused and c.codec:pending() > MAX_PENDING then
			c.is_paused = true
			driver.pause(fd)
		end
	elseif state == CLOSING and not c.is_failed then
		feed(c.codec, data, size)
		drop_frames(fd, c)
	elseif state == HANDSHAKE then
		take_head(fd, c, netpack.tostring(data, size))
	else
		driver.drop(data, size)
	end
end

local function fail_tls(fd, c, why)
	if c.state ~= CLOSED then
		report("tls", "end %s: %s", c.addr, why)
		c.tls = SECURE
		close_now(fd, c)
	end
end

-- Plaintext, or what is wrong with it.
local function take_plaintext(fd, c, data, size, why)
	if data then
		take_block(fd, c, size, data)
	end
	if why then
		fail_tls(fd, c, why)
	end
end

local function shake(fd, c, data, size)
	local done, why = gatetls.shake(fd, data, size)
	if done then
		c.tls = SECURE
		take_plaintext(fd, c, gatetls.open(fd))
	elseif why then
		fail_tls(fd, c, "TLS handshake failed: " .. why)
	end
end

-- DATA
on[1] = function(fd, size, data)
	local c = connections[fd]
	if not c or c.state >= CLOSED then
		driver.drop(data, size)
	elseif not c.tls then
		take_block(fd, c, size, data)
	elseif c.tls == SHAKING then
		shake(fd, c, data, size)
	else
		take_plaintext(fd, c, gatetls.receive(fd, data, size))
	end
end

-- CONNECT
on[2] = function(id, port, ip)
	gatelistener.bound(id, ip, port)
end

-- The peer has ended the connection where it may not.
local function report_cut(c)
	if c.tls == SHAKING then
		report("tls", "end %s: TLS handshake failed: the peer closed the connection", c.addr)
	elseif c.state == HANDSHAKE and c.head ~= "" then
		report("cut", "%s ended within its request", c.addr)
	elseif c.state == OPEN and not c.is_failed and c.codec:within() then
		report("cut", "%s ended within a message", c.addr)
	end
end

-- CLOSE
on[3] = function(fd)
	local c = connections[fd]
	if not c then
		return gatelistener.closed(fd)
	end
	report_cut(c)
	if c.state < CLOSED then
		close_now(fd, c)
	end
	report_gone(fd, c)
end

-- ACCEPT
on[4] = function(_, fd, addr)
	if client_number >= settings.maxclient then
		report("full", "refuse %s, %d clients are connected; raise maxclient if that is meant", addr, client_number)
		driver.shutdown(fd)
		return
	end
	local c = { state = HANDSHAKE, addr = addr, head = "", held = 0, tls = tls_context and SHAKING or false }
	connections[fd] = c
	client_number = client_number + 1
	if settings.handshake_timeout > 0 then
		set_deadline(fd, settings.handshake_timeout)
	end
	if c.tls then
		gatetls.begin(fd, tls_context)
	else
		driver.start(fd)
	end
end

-- ERROR
on[5] = function(fd, _, text)
	if gatelistener.failed(fd, text) then
		return
	end
	local c = connections[fd]
	driver.shutdown(fd)
	if not c or c.state == GONE then
		return
	end
	if c.state <= OPEN then
		report("error", "%s: %s", c.addr, text)
	end
	-- CLOSE will follow.
	c.tls = c.tls and SECURE
	leave_open(c, CLOSED)
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

-- SEND: what somebody, or this gate, has sent to a connection with TLS
on[8] = function(fd, size, data)
	local why = gatetls.send(fd, data, size)
	local c = connections[fd]
	if why and c and c.state < CLOSED then
		-- The rest would make no sense without it.
		cut_off(fd, c)
		report("send", "end %s: %d bytes cannot be encrypted: %s", c.addr, size, why)
	end
end

-- FOUND: what the inbox leaves to Lua of an open connection's data
on[9] = pump

------------------------------------------------------------------- settings

local function keep_pinging(listener)
	local interval = settings.ping_interval
	if not interval then
		return
	end
	local function run()
		if not gatelistener.is_open(listener) then
			return
		end
		for fd, c in pairs(connections) do
			if c.state == OPEN then
				-- Without memory, another time.
				pcall(wscodec.send, fd, PING)
			end
		end
		skynet.timeout(interval, run)
	end
	skynet.timeout(interval, run)
end

-- See snax.gatelistener.
---@param conf wsgate.conf
local function prepare(conf)
	local new = wsgatesettings.new(conf)
	local ctx = conf.tls and gatetls.context(conf.tls)
	return wsgatesettings.of_listener(conf, new), function()
		settings, tls_context = new, ctx
		only_kind = new.kind
		inbox.limit(new.limits, new.near_limits, OPCODE[only_kind])
		gatelag.set_limit(new.agent_limit)
	end
end

---@class wsgate.handler
---@field connect fun(fd: integer, addr: string, info: table) after the upgrade
---@field message fun(fd: integer, msg: lightuserdata, sz: integer, kind: string) owns msg
---@field disconnect fun(fd: integer, code: integer?, reason: string?)?
---@field error fun(fd: integer, text: string)?
---@field warning fun(fd: integer, kib: integer)?
---@field lost (fun(fd: integer, service: integer))? messages were routed to it, and it is gone
---@field open (fun(source: integer, conf: wsgate.conf): ...)?
---@field command (fun(cmd: string, source: integer, ...): ...)?
---@field embed boolean? the caller starts the service

---Turn the service into a gate. Starts it, unless handler.embed is set.
---@param h wsgate.handler
function wsgateserver.start(h)
	assert(type(h) == "table", "wsgateserver.start needs a table of handlers")
	assert(h.connect, "wsgateserver needs handler.connect")
	assert(h.message, "wsgateserver needs handler.message")
	handler, on_message = h, h.message
	skynet.register_protocol {
		name = "socket",
		id = skynet.PTYPE_SOCKET,
		unpack = inbox.receiver(),
		dispatch = function(_, _, event, fd, a, b, c, d)
			on[event](fd, a, b, c, d)
		end,
	}
	gatelistener.start { name = "wsgate", handler = h, prepare = prepare, opened = keep_pinging }
end

return wsgateserver
