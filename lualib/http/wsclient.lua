-- http.wsclient: the client's side of http.websocket, which loads this file when one of its
-- functions is first used there: the request and what a server may answer, and reading.
--
-- Owns nothing: the connections are records of http.websocket as those of a server are, and
-- closed as they are. A function that may suspend the running task says "yields".

local skynet = require "skynet"
local socket = require "skynet.socket"
local internal = require "http.internal"
local sockethelper = require "http.sockethelper"
local handshake = require "http.wshandshake"

---@class http.wsclient
local client = {}

local TEXT, BINARY, CLOSE, PING, PONG, FAILED = 1, 2, 8, 9, 10, -1

-- Largest message, unless `max_message` says otherwise.
local CLIENT_MESSAGE = 16 * 1024 * 1024

---What both sides need, see http.websocket.
---@class websocket.common
---@field pool table<integer, websocket.record>
---@field checked_options fun(options: table?): table
---@field plain_reader fun(id: integer): fun(): string
---@field open_tls fun(id: integer, side: "server"|"client", ctx: userdata, host: string?): function, function, function
---@field new_record fun(id: integer, codec_options: table, options: table): websocket.record
---@field watch fun(ws: websocket.record)
---@field send fun(ws: websocket.record, op: integer, data: string?)
---@field receive fun(ws: websocket.record): integer, any, any
---@field drain fun(ws: websocket.record)
---@field fail fun(ws: websocket.record, code: integer, text: string)
---@field finish fun(ws: websocket.record)

local pool, checked_options, plain_reader, open_tls, new_record, watch
local send, receive, drain, fail, finish

---@class websocket.connect_options: websocket.options
---@field tls userdata|skynet.tls.options|nil a context of http.tlshelper.newctx, or its
---options; by default the server must have a certificate that the system trusts

-- "ws://host:port/path" -> protocol, host, port, path, text of Host
local function parse_url(url)
	local protocol, rest = url:match "^(%a+)://(.*)$"
	protocol = protocol and protocol:lower()
	if protocol ~= "ws" and protocol ~= "wss" then
		error("websocket: invalid protocol in url " .. url, 0)
	end
	local authority, path = rest:match "^([^/?#]*)([^#]*)"
	local host, port = authority:match "^%[([%x:.]+)%]:?(%d*)$"
	if not host then
		host, port = authority:match "^([^:%[%]@%s]+):?(%d*)$"
	end
	if not host then
		error("websocket: invalid host in url " .. url, 0)
	end
	if path:sub(1, 1) ~= "/" then
		path = "/" .. path
	end
	port = port ~= "" and math.tointeger(tonumber(port)) or protocol == "ws" and 80 or 443
	return protocol, host, port, path, authority
end

-- Sends the request, reads the response; what was agreed on and the bytes that
-- follow. Raises. Yields.
local function client_upgrade(read, write, authority, path, header, options)
	local request, key = handshake.request(authority, path, header, options)
	write(request)
	local lines = {}
	local rest = internal.recvheader(read, lines)
	if not rest then
		error("websocket handshake error: header too long", 0)
	end
	local code, info = (lines[1] or ""):match "^HTTP/1%.1%s+(%d%d%d)%s*(.*)$"
	code = math.tointeger(tonumber(code))
	local recvheader = code and internal.parseheader(lines, 2, {})
	if not recvheader then
		error("websocket handshake error: invalid response", 0)
	end
	if code ~= 101 then
		error(string.format("websocket handshake error: code[%s] info:%s", code, info), 0)
	end
	local agreed, err = handshake.check_response(code, recvheader, key, header, options)
	if not agreed then
		error(err, 0)
	end
	return agreed, rest
end

local function open_client(id, protocol, host, authority, path, header, options)
	local read, write, close
	if protocol == "wss" then
		local ctx = type(options.tls) == "userdata" and options.tls or require "http.tlshelper".newctx(options.tls)
		read, write, close = open_tls(id, "client", ctx, host)
	else
		read = plain_reader(id)
	end
	local ok, agreed, rest = pcall(client_upgrade, read, write or sockethelper.writefunc(id),
		authority, path, header, options)
	if not ok then
		if close then
			close()
		end
		error(agreed, 0)
	end
	local ws = new_record(id, {
		max_message = CLIENT_MESSAGE,
		inflate = agreed.inflate,
		deflate = agreed.deflate,
	}, options)
	ws.read, ws.write, ws.close_tls = read, write, close
	ws.is_plain = protocol == "ws"
	ws.protocol = agreed.protocol
	ws.addr = authority
	if rest ~= "" then
		ws.codec:feed(rest)
	end
	if ws.is_plain then
		socket.feed(id, ws.codec)
	end
	return ws
end

-- Yields.
local function open_in_time(limit, timeout, id, ...)
	if timeout then
		skynet.timeout(timeout, function()
			if not limit.is_over then
				limit.is_late = true
				socket.shutdown(id)
			end
		end)
	end
	local ws = open_client(id, ...)
	pool[id] = ws
	watch(ws)
end

---Connect to a server. Raises on any failure. Yields.
---@param url string ws:// or wss://, host or [v6] with optional port, path
---@param header table<string, string|string[]>? more headers of the request
---@param timeout integer? 1/100 s for connecting and the upgrade
---@param options websocket.connect_options?
---@return integer id
function client.connect(url, header, timeout, options)
	options = checked_options(options)
	local protocol, host, port, path, authority = parse_url(url)
	local limit = { is_over = false, is_late = false }
	local id = sockethelper.connect(host, port, timeout)
	local ok, err = pcall(open_in_time, limit, timeout, id, protocol, host, authority, path, header, options)
	limit.is_over = true
	if not ok then
		pool[id] = nil
		socket.close(id)
		error(limit.is_late and "websocket handshake timeout" or err, 0)
	end
	return id
end

-- One frame for a client's read: true and the result, or false to go on.
local function client_frame(ws, kind, a, b)
	if kind == TEXT or kind == BINARY then
		return true, a
	elseif kind == CLOSE then
		local payload = a and string.pack(">I2", a) .. b or ""
		if not ws.is_closing then
			ws.is_closing = true
			pcall(send, ws, CLOSE, a and payload:sub(1, 2) or "")
		end
		return true, false, payload
	elseif kind == PING then
		if not ws.is_closing then
			send(ws, PONG, a)
		end
	elseif kind == FAILED then
		fail(ws, a, b)
		error(b, 0)
	end
	return false
end

---The next message of the server; one task at a time. After a close frame, false and its
---payload; the id is closed then. Raises when the connection drops. Yields.
---@param id integer of a client
---@return string|false
---@return string?
function client.read(id)
	local ws = assert(pool[id], "websocket is not open")
	assert(not ws.is_reading, "another task reads this websocket")
	ws.is_reading = true
	while true do
		local ok, done, data, payload = pcall(function()
			return client_frame(ws, receive(ws))
		end)
		if not ok then
			if ws.is_failed then
				drain(ws)
			end
			finish(ws)
			if ws.is_closing and done == sockethelper.socket_error then
				return false, ""
			end
			error(done, 0)
		elseif done and (data == false or not ws.is_closing) then
			ws.is_reading = false
			if data == false then
				finish(ws)
			end
			return data, payload
		end
	end
end

---The functions for one service.
---@param common websocket.common
---@return http.wsclient
return function(common)
	pool, checked_options = common.pool, common.checked_options
	plain_reader, open_tls = common.plain_reader, common.open_tls
	new_record, watch = common.new_record, common.watch
	send, receive, drain = common.send, common.receive, common.drain
	fail, finish = common.fail, common.finish
	return client
end
