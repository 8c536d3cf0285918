-- http.websocket: WebSocket servers and clients (RFC 6455, RFC 7692) on skynet.socket.
--
-- Owns a record per open id: its codec (wscodec: framing, limits, UTF-8, compression),
-- its TLS session, its timers. The id itself is closed by whoever ends the connection:
-- `accept` on every return, `close` and a failing `read` for a client. A function that
-- may suspend the running task says "yields".
--
-- Closing is a handshake: after our close frame what still arrives is dropped, until
-- the peer's close frame came or `close_timeout` passed; then the socket is closed.
-- Without the wait, bytes that nobody read would make the system reset the connection
-- and the peer might lose the frame.

local skynet = require "skynet"
local socket = require "skynet.socket"
local internal = require "http.internal"
local sockethelper = require "http.sockethelper"
local handshake = require "http.wshandshake"
local notice = require "skynet.notice"
local wscodec = require "wscodec"
-- What every message needs.
local next_frame, send_message = socket.next, wscodec.codec.send

---@class http.websocket : http.wsclient
local websocket = {}

local TEXT, BINARY, CLOSE, PING, PONG, FAILED = 1, 2, 8, 9, 10, -1
local OPCODE = { text = TEXT, binary = BINARY }
local KIND = { [TEXT] = "text", [BINARY] = "binary" }

-- Largest message to a server, unless `max_message` says otherwise.
local SERVER_MESSAGE = 256 * 1024
-- How long an upgrade may take, 1/100 s.
local HANDSHAKE_TIMEOUT = 1000
-- How long the peer's close frame is awaited, 1/100 s.
local CLOSE_TIMEOUT = 200
-- The same when the peer broke the rules, so that its frames can't be told apart.
local FAILED_TIMEOUT = 50
-- Bytes that are read and dropped meanwhile.
local CLOSE_DRAIN = 4 * 1024 * 1024
-- Lines about what peers do in a second.
local MAX_LINES = 100
-- Status of a header over the limit: the rest of it is still coming.
local TOO_LARGE = 413

---@class websocket.options
---@field max_message integer? bytes of a message, after decompression
---@field deflate boolean|websocket.deflate? compression; default false
---@field ping_interval integer? 1/100 s between pings
---@field idle_timeout integer? 1/100 s without a byte of the peer, then it is dropped
---@field close_timeout integer? 1/100 s to wait for the peer's close frame; default 200
---@field send_limit integer? bytes that may wait to be sent, then the peer is dropped
---@field any_text boolean? no check that text is UTF-8
---@field protocols string[]? subprotocols: a server's to choose from, a client's to offer

---@class websocket.accept_options: websocket.options
---@field upgrade {method: string?, url: string, header: table, rest: string?, session: table?, interface: table?}?
---@field origins string[]? see http.wshandshake
---@field unmasked boolean? accept clients that do not mask, against the RFC
---@field handshake_timeout integer? 1/100 s for the upgrade; default 1000
---@field certfile string? of wss; default: config item certfile, ./server-cert.pem
---@field keyfile string? of wss; default: config item keyfile, ./server-key.pem
---@field tls userdata|skynet.tls.options|nil of wss instead of files: a context of
---http.tlshelper.newctx (better for many connections), or its options

---@class websocket.handle
---@field connect fun(id: integer)? before the upgrade
---@field handshake fun(id: integer, header: table, url: string)? after the upgrade
---@field message fun(id: integer, data: string, kind: "text"|"binary")?
---@field ping fun(id: integer)?
---@field pong fun(id: integer)?
---@field close fun(id: integer, code: integer?, reason: string?)?
---@field error fun(id: integer, err: any)? lost without a close frame
---@field warning fun(id: integer, kib: integer)?

---@class websocket.record
---@field id integer
---@field codec userdata
---@field read fun(): string raises socket_error
---@field is_plain boolean the socket feeds the codec
---@field write fun(data: string)? of TLS; nil = straight to the socket
---@field close_tls fun()?
---@field handle table<string, function>?
---@field options table
---@field addr string?
---@field real_ip string?
---@field protocol string?
---@field is_reading boolean a task of a client waits for frames, or will
---@field is_closing boolean our close frame was sent
---@field is_failed boolean? the peer broke the protocol

---@type table<integer, websocket.record>
local pool = {}

local function check_number(options, name)
	local v = options[name]
	if v ~= nil and (type(v) ~= "number" or v <= 0) then
		error(string.format("websocket option %s must be a positive number, not %s", name, tostring(v)), 0)
	end
end

-- Names of options.
local OPTIONS = {}
for name in ([[max_message deflate ping_interval idle_timeout close_timeout send_limit any_text protocols
	upgrade origins unmasked handshake_timeout certfile keyfile tls]]):gmatch "%S+" do
	OPTIONS[name] = true
end

-- A copy with what can be wrong checked.
local function checked_options(options)
	local copy = {}
	for k, v in pairs(options or {}) do
		if not OPTIONS[k] then
			error(string.format("unknown websocket option '%s'%s", tostring(k),
				require "skynet.options".hint(k, OPTIONS)), 0)
		end
		copy[k] = v
	end
	for _, name in ipairs { "max_message", "ping_interval", "idle_timeout", "close_timeout",
		"send_limit", "handshake_timeout" } do
		check_number(copy, name)
	end
	handshake.deflate(copy.deflate)
	return copy
end

-- The id does not belong to the record any more, or closing has begun.
local function is_open(ws)
	return pool[ws.id] == ws and not ws.is_closing
end

-- What has arrived; without the room for a rest that sockethelper.readfunc has. Yields.
local function plain_reader(id)
	local read, socket_error = socket.read, sockethelper.socket_error
	return function()
		return read(id) or error(socket_error, 0)
	end
end

--------------------------------------------------------------------- sending

local function send(ws, op, data, key)
	local ok
	if ws.write then
		ws.write(ws.codec:frame(op, data, key))
		ok = true
	else
		ok = send_message(ws.codec, ws.id, op, data, key)
	end
	if not ok then
		error(sockethelper.socket_error, 0)
	end
end

local function record(id)
	local ws = pool[id]
	if not ws or ws.is_closing then
		error("websocket is not open", 0)
	end
	return ws
end

---Send a message. Raises if the id is not open, or when the connection is gone. Does not
---yield.
---@param id integer
---@param data string
---@param fmt "text"|"binary"? default text, which must be valid UTF-8
---@param masking_key integer? 32 bits instead of random ones; only for clients
function websocket.write(id, data, fmt, masking_key)
	local ws = pool[id]
	if not ws or ws.is_closing then
		record(id)
	end
	local op = fmt and (OPCODE[fmt] or error("websocket: invalid format " .. tostring(fmt), 2)) or TEXT
	if not ws.is_plain then
		send(ws, op, data, masking_key)
	elseif not send_message(ws.codec, id, op, data, masking_key) then
		error(sockethelper.socket_error, 0)
	end
end

---Send a ping. Does not yield.
---@param id integer
---@param data string? up to 125 bytes
function websocket.ping(id, data)
	send(record(id), PING, data)
end

local function close_payload(code, reason)
	if code == nil then
		return ""
	end
	if not wscodec.is_close_code(code) then
		error("websocket: invalid close code " .. tostring(code), 0)
	end
	return string.pack(">I2", code) .. (reason or "")
end

---------------------------------------------------------------------- timers

-- Drops the connection if it is not over in that time.
local function limit_closing(ws, most)
	local wait = ws.options.close_timeout or CLOSE_TIMEOUT
	skynet.timeout(math.min(wait, most or wait), function()
		if pool[ws.id] == ws then
			socket.shutdown(ws.id)
		end
	end)
end

local function keep_pinging(ws)
	local function run()
		if is_open(ws) then
			pcall(send, ws, PING)
			skynet.timeout(ws.options.ping_interval, run)
		end
	end
	skynet.timeout(ws.options.ping_interval, run)
end

local function watch(ws)
	local options = ws.options
	if options.ping_interval then
		keep_pinging(ws)
	end
	if options.idle_timeout or options.send_limit then
		socket.option(ws.id, { idle = options.idle_timeout, send_limit = options.send_limit })
	end
	-- Without the callback, the warning is logged.
	local warning = ws.handle and rawget(ws.handle, "warning")
	if warning then
		socket.warning(ws.id, warning)
	end
end

--------------------------------------------------------------------- records

local function new_record(id, codec_options, options)
	codec_options.any_text = options.any_text
	codec_options.max_message = options.max_message or codec_options.max_message
	return {
		id = id,
		codec = wscodec.new(codec_options),
		options = options,
		is_reading = false,
		is_closing = false,
	}
end

-- The record ends, and the socket with it. Yields.
local function finish(ws)
	if pool[ws.id] == ws then
		pool[ws.id] = nil
	end
	if ws.close_tls then
		pcall(ws.close_tls)
		ws.close_tls = nil
	end
	socket.close(ws.id)
end

-- The next message or frame. Raises socket_error. Yields.
local function receive(ws)
	if ws.is_plain then
		local kind, a, b = next_frame(ws.id)
		if not kind then
			error(sockethelper.socket_error, 0)
		end
		return kind, a, b
	end
	local codec = ws.codec
	local kind, a, b = codec:next()
	while not kind do
		codec:feed(ws.read())
		kind, a, b = codec:next()
	end
	return kind, a, b
end

-- After our close frame: drops what arrives until the peer's, or the end. Yields.
local function drain(ws)
	if not ws.is_failed then
		pcall(function()
			local kind
			repeat
				kind = receive(ws)
			until kind == CLOSE or kind == FAILED
			ws.is_failed = kind == FAILED
		end)
	end
	if ws.is_failed then
		-- Frames can't be told apart any more: wait for the end.
		pcall(function()
			if ws.is_plain then
				socket.feed(ws.id, nil)
			end
			local size = 0
			repeat
				size = size + #ws.read()
			until size > CLOSE_DRAIN
		end)
	end
end

-- The peer broke the rules: tell it.
local function fail(ws, code, text)
	if not ws.is_closing then
		ws.is_closing = true
		pcall(send, ws, CLOSE, string.pack(">I2", code) .. text)
		limit_closing(ws, FAILED_TIMEOUT)
	end
	ws.is_failed = true
end

-- A line about a peer that is not served any more.
local function log_refusal(id, why)
	local ws = pool[id]
	notice("websocket", MAX_LINES, "websocket: close %d of %s: %s", id, ws and ws.addr or "a lost peer", why)
end

-- Sends a close frame; frames of the peer are dropped from now on.
local function begin_close(ws, code, reason)
	local payload = close_payload(code, reason)
	-- Whatever fails from here on, this ends it.
	limit_closing(ws)
	ws.is_closing = true
	local ok, err = pcall(send, ws, CLOSE, payload)
	if not ok then
		socket.shutdown(ws.id)
		log_refusal(ws.id, tostring(err))
	end
end

---Send a close frame and close. A task that reads or serves the id finishes the
---handshake; otherwise this waits for the peer's close frame, up to `close_timeout`.
---Unknown ids are ignored. Yields.
---@param id integer
---@param code integer? 1000 to 1014 or 3000 to 4999, as RFC 6455 7.4 has it
---@param reason string? up to 123 bytes
function websocket.close(id, code, reason)
	local ws = pool[id]
	-- One that was begun, and had no memory to go on, is ended now.
	if ws == nil or ws.is_closing and (ws.is_reading or ws.handle) then
		return
	elseif not ws.is_closing then
		begin_close(ws, code, reason)
	end
	if not ws.is_reading and not ws.handle then
		ws.is_reading = true
		pcall(drain, ws)
		finish(ws)
	end
end

---@param id integer
---@return boolean # true unless it is an open websocket
function websocket.is_close(id)
	local ws = pool[id]
	return ws == nil or ws.is_closing
end

---Of a server the address that was given to accept, or else the peer's, of a client
---`host[:port]`.
---@param id integer
---@return string?
function websocket.addrinfo(id)
	local ws = assert(pool[id], "websocket is not open")
	return ws.addr
end

---What a proxy in front said in the header x-real-ip.
---@param id integer
---@return string?
function websocket.real_ip(id)
	local ws = assert(pool[id], "websocket is not open")
	return ws.real_ip
end

---The subprotocol that was agreed on.
---@param id integer
---@return string?
function websocket.protocol(id)
	local ws = assert(pool[id], "websocket is not open")
	return ws.protocol
end

------------------------------------------------------------------------- TLS

-- certfile .. keyfile -> context
local contexts = {}

-- The context of a server: the one that is given, or of the certificate that the
-- options or the configuration name.
local function server_context(options)
	if type(options.tls) == "userdata" then
		return options.tls
	end
	local tlshelper = require "http.tlshelper"
	if options.tls then
		return tlshelper.newctx(options.tls)
	end
	local cert = options.certfile or skynet.getenv "certfile" or "./server-cert.pem"
	local key = options.keyfile or skynet.getenv "keyfile" or "./server-key.pem"
	local name = cert .. "\0" .. key
	contexts[name] = contexts[name] or tlshelper.newctx { cert = cert, key = key }
	return contexts[name]
end

-- How a connection is read, written and ended through TLS, after the handshake. Raises
-- when that fails. Yields.
local function open_tls(id, side, ctx, host)
	local tlshelper = require "http.tlshelper"
	local tls = tlshelper.newtls(side, ctx, host)
	local read, write, close = tlshelper.readfunc(id, tls), tlshelper.writefunc(id, tls), tlshelper.closefunc(tls)
	local init = side == "server" and tlshelper.init_responsefunc or tlshelper.init_requestfunc
	local ok, err = pcall(init(id, tls))
	if not ok then
		close()
		error(err, 0)
	end
	return read, write, close
end

------------------------------------------------------------- server: upgrade

-- Reads the request. A table, or nil, the status to refuse with, and a body. Yields.
local function read_request(id, read)
	local lines, has_begun = {}, false
	local ok, rest = pcall(internal.recvheader, function()
		local data = read()
		has_begun = true
		return data
	end, lines)
	if not ok then
		if has_begun then
			log_refusal(id, "its request has no end")
		end
		error(rest, 0)
	elseif not rest then
		return nil, TOO_LARGE
	end
	local request, status, body = handshake.parse_request(lines)
	if request then
		request.rest = rest
	end
	return request, status, body
end

-- Of a session of skynet.tls, as http.server hands it over.
local function session_functions(session)
	return function()
		return session:read() or error(sockethelper.socket_error, 0)
	end, function(data)
		return session:write(data) or error(sockethelper.socket_error, 0)
	end, function()
		session:close()
	end
end

-- Where the bytes of the connection come from and go to. Yields.
local function open_transport(id, protocol, options)
	local given = options.upgrade and options.upgrade.interface
	local session = options.upgrade and options.upgrade.session
	if given then
		return { read = given.read, write = given.write }
	end
	local transport = {}
	if session then
		transport.read, transport.write, transport.close = session_functions(session)
	elseif protocol == "wss" then
		transport.read, transport.write, transport.close = open_tls(id, "server", server_context(options))
	else
		transport.read, transport.is_plain = plain_reader(id), true
	end
	return transport
end

-- Takes in what is left of a request, so that its refusal is not lost in a reset. Yields.
local function let_go(id)
	local deadline = skynet.now() + FAILED_TIMEOUT
	local size = 0
	while size < CLOSE_DRAIN and skynet.now() < deadline do
		local data = socket.read(id, nil, math.max(1, deadline - skynet.now()))
		if not data then
			return
		end
		size = size + #data
	end
end

-- Upgrades; the record, or nil when the request was refused. Yields.
local function upgrade(id, transport, options)
	local write = transport.write or sockethelper.writefunc(id)
	local request, status, body = options.upgrade, nil, nil
	if not request then
		request, status, body = read_request(id, transport.read)
	end
	local response, agreed, extra
	if request then
		response, agreed, body, extra = handshake.answer(request.header, options)
		status = agreed
	end
	if not response then
		log_refusal(id, "refused with " .. status .. (body and ", " .. body or ""))
		write(handshake.refusal(status, body, extra))
		if status == TOO_LARGE then
			let_go(id)
		end
		return nil
	end
	local ws = new_record(id, {
		server = true,
		unmasked = options.unmasked,
		max_message = SERVER_MESSAGE,
		inflate = agreed.inflate,
		deflate = agreed.deflate,
	}, options)
	ws.protocol = agreed.protocol
	ws.real_ip = handshake.last(request.header["x-real-ip"])
	ws.read, ws.write, ws.close_tls = transport.read, transport.write, transport.close
	ws.is_plain = transport.is_plain
	if request.rest and request.rest ~= "" then
		ws.codec:feed(request.rest)
	end
	if ws.is_plain then
		socket.feed(id, ws.codec)
	end
	return ws, request, response
end

-------------------------------------------------------------- server: frames

local function none() end
local CALLBACKS = { connect = true, handshake = true, message = true, ping = true, pong = true, close = true,
	error = true, warning = true }
local NO_HANDLER = { __index = function() return none end }

-- One control frame of the peer, or its failure. True when the connection is over, and why if that was not in
-- order.
local function serve_frame(ws, kind, a, b)
	local handle, id = ws.handle, ws.id
	if kind == PING then
		send(ws, PONG, a)
		handle.ping(id)
	elseif kind == PONG then
		handle.pong(id)
	elseif kind == CLOSE then
		ws.is_closing = true
		pcall(send, ws, CLOSE, a and string.pack(">I2", a) or "")
		handle.close(id, a, a and b)
		return true
	else
		fail(ws, a, b)
		log_refusal(id, b)
		drain(ws)
		return true, b
	end
	return false
end

-- Serves frames until the end; the rule that the peer broke, if any. Raises what
-- handlers raise. Yields.
local function serve(ws)
	local id, message, is_plain = ws.id, ws.handle.message, ws.is_plain
	while true do
		local kind, a, b
		if is_plain then
			kind, a, b = next_frame(id)
		end
		if not kind then
			kind, a, b = receive(ws)
		end
		if ws.is_closing then
			ws.is_done = kind == CLOSE
			break
		end
		local name = KIND[kind]
		if name then
			message(id, a, name)
		else
			local is_over, failure = serve_frame(ws, kind, a, b)
			if is_over then
				return failure
			end
		end
	end
	if not ws.is_done then
		drain(ws)
	end
	ws.handle.close(ws.id)
end

-- After an error in `serve`: whether it was an orderly end, or false and the error. Yields.
local function ended(ws, err)
	if err == sockethelper.socket_error then
		local handle = ws.handle
		if ws.is_closing then
			handle.close(ws.id)
		else
			if ws.codec:within() then
				log_refusal(ws.id, "it ended within a message")
			end
			handle.error(ws.id, err)
		end
		return true
	end
	if not ws.is_closing then
		-- A handler failed.
		begin_close(ws, 1011)
	end
	drain(ws)
	return false, err
end

local function trace(err)
	if err == sockethelper.socket_error then
		return err
	end
	return type(err) == "string" and debug.traceback(err, 2) or err
end

-- The whole life of a connection whose socket is started. Yields.
local function run(id, handle, protocol, addr, options)
	local transport = open_transport(id, protocol, options)
	addr = addr or socket.peer(id)
	local placeholder = { id = id, addr = addr, is_closing = true, close_tls = transport.close, options = options }
	pool[id] = placeholder
	handle.connect(id)
	local ws, request, response = upgrade(id, transport, options)
	if not ws then
		handle.close(id)
		return true
	end
	ws.addr, ws.handle = addr, handle
	pool[id] = ws
	watch(ws)
	local write = transport.write or sockethelper.writefunc(id)
	write(response)
	local ok, err = xpcall(function()
		handle.handshake(id, request.header, request.url)
		return serve(ws)
	end, trace)
	if ok then
		return err == nil, err
	end
	return ended(ws, err)
end

-- The upgrade must be over when the time is.
local function limit_upgrade(id, options)
	local state = { id = id }
	skynet.timeout(options.handshake_timeout or HANDSHAKE_TIMEOUT, function()
		if not state.is_over and (pool[id] == nil or pool[id].codec == nil) then
			notice("websocket", MAX_LINES, "websocket: no upgrade on %d in time from %s", id,
				tostring((socket.peer(id))))
			socket.shutdown(id)
		end
	end)
	return state
end

---Serve a connection: upgrade, then messages until its end. The connection is closed on
---return. Yields.
---@param id integer accepted by a listener, not started yet; started with options.upgrade
---@param handle websocket.handle?
---@param protocol "ws"|"wss"|nil
---@param addr string? for addrinfo
---@param options websocket.accept_options?
---@return boolean ok false after an error in a handler, of the protocol or of the start
---@return any err
function websocket.accept(id, handle, protocol, addr, options)
	protocol = protocol or "ws"
	assert(protocol == "ws" or protocol == "wss", "websocket: protocol must be ws or wss")
	if not math.tointeger(id) then
		require "skynet.misuse"("websocket.accept", 1, "id of a socket", id)
	end
	options = checked_options(options)
	if not options.upgrade then
		local started, why = socket.start(id)
		if not started then
			return false, why
		end
	end
	local limit = limit_upgrade(id, options)
	local callbacks = setmetatable({}, NO_HANDLER)
	for name, f in pairs(handle or {}) do
		if not CALLBACKS[name] then
			require "skynet.options".warn("websocket callback", handle, CALLBACKS)
		end
		callbacks[name] = f
	end
	local ok, result, err = xpcall(run, trace, id, callbacks, protocol, addr, options)
	limit.is_over = true
	local ws = pool[id]
	if not ok then
		result, err = false, result
		if err == sockethelper.socket_error then
			-- Lost during the upgrade.
			result, err = true, nil
			pcall(callbacks.error, id, sockethelper.socket_error)
		end
	end
	finish(ws or { id = id })
	return result, err
end

---------------------------------------------------------------------- client

-- It is loaded when a service first reads one of its names: most are servers only.
setmetatable(websocket, { __index = function(_, name)
	if name == "connect" or name == "read" then
		local client = require "http.wsclient" {
			pool = pool,
			checked_options = checked_options,
			plain_reader = plain_reader,
			open_tls = open_tls,
			new_record = new_record,
			watch = watch,
			send = send,
			receive = receive,
			drain = drain,
			fail = fail,
			finish = finish,
		}
		websocket.connect, websocket.read = client.connect, client.read
	end
	return rawget(websocket, name)
end })

return websocket
