-- skynet.kcp: reliable, ordered messages over UDP, quicker than TCP to repair a loss.
-- `connect` and `listen` give connections (skynet.kcp.connection) with the face of
-- skynet.socket. doc/reference/kcp.md has the options and the handshake.
--
-- Owns the UDP sockets and which conversation of which peer belongs to which connection.
-- All end with the service. A function that may suspend the running task says "yields".

local skynet = require "skynet"
local socket = require "skynet.socket"
local crypt = require "skynet.crypt"
local packet = require "skynet.kcp.packet"
local connection = require "skynet.kcp.connection"
local notice = require "skynet.notice"

local peer_of = packet.peer_of

local kcp = {}

-- What options are when not given. Times in 1/100 s.
local DEFAULT = {
	mtu = 1400,
	send_window = 128,
	receive_window = 128,
	interval = 10,
	nodelay = 1,
	resend = 2,
	no_congestion = true,
	dead_link = 20,
	send_limit = 1024 * 1024,
	stream = false,
	idle_timeout = 3000,
	keepalive = 1000,
	linger = 500,
	connect_timeout = 500,
	max_connections = 10000,
	max_per_address = 1000,
	plain = false,
	conv = 0,
	raw = false,
}
-- The least and the most of what has a range of its own; other numbers: 0 or more.
local RANGE = {
	mtu = { 64, 65507 },
	send_window = { 1, 32768 },
	receive_window = { 1, 32768 },
	interval = { 10, 5000 },
	nodelay = { 0, 2 },
	dead_link = { 1, math.maxinteger },
	conv = { 0, 0xffffffff },
}
-- How long a cookie is good for, 1/100 s: this period and the one before.
local COOKIE_PERIOD = 1500
-- A client asks again after so long.
local RETRY = 20
-- CLOSE is said so many times, for it may be lost.
local CLOSE_REPEATS = 3
local CLOSE_PAUSE = 10

---@param given table?
---@return table # complete, the caller's own
local function check_options(given)
	local options = {}
	if given ~= nil and type(given) ~= "table" then
		error("the options of kcp are a table, not a " .. type(given), 3)
	end
	for name, value in pairs(given or {}) do
		local default = DEFAULT[name]
		if default == nil then
			error(string.format("unknown kcp option '%s'%s", name, require "skynet.options".hint(name, DEFAULT)), 3)
		elseif type(value) ~= type(default) then
			error(string.format("kcp option '%s' must be a %s, got a %s", name, type(default),
				type(value)), 3)
		elseif type(value) == "number" then
			local least, most = table.unpack(RANGE[name] or { 0, math.maxinteger })
			if value < least or value > most then
				error(string.format("kcp option '%s' is out of range: %d to %d, got %s", name, least, most,
					value), 3)
			end
		end
		options[name] = value
	end
	for name, value in pairs(DEFAULT) do
		if options[name] == nil then
			options[name] = value
		end
	end
	return options
end

local function peer_text(from)
	local host, port = socket.udp_address(from)
	return string.format(host:find(":", 1, true) and "[%s]:%d" or "%s:%d", host, port)
end

-- A datagram's conversation and sender: the key of a connection.
local function key_of(datagram, from)
	return datagram:sub(1, 4) .. from
end

-- Says CLOSE some times, unless the peer said it first. Yields.
local function say_close(reason, say)
	if reason == "closed by the peer" then
		return
	end
	for _ = 1, CLOSE_REPEATS do
		say()
		skynet.sleep(CLOSE_PAUSE)
	end
end

----------------------------------------------------------------- server

---@class skynet.kcp.server
---@field address string bound
---@field port integer
local server = {}
server.__index = server

local function report(text, from)
	notice("kcp " .. text, 1, "kcp: %s: %s", peer_text(from), text)
end

local function cookie_of(self, from, nonce, period)
	local text = string.pack("<s1s1I8", from, nonce, period)
	return crypt.hmac_sha256(self.secret, text):sub(1, packet.COOKIE_SIZE)
end

local function current_period()
	return skynet.now() // COOKIE_PERIOD
end

local function is_our_cookie(self, from, nonce, cookie)
	local now = current_period()
	return crypt.equal(cookie, cookie_of(self, from, nonce, now))
		or crypt.equal(cookie, cookie_of(self, from, nonce, now - 1))
end

-- Why one more from there is not taken, or nil.
local function refusal(self, from)
	if self.count >= self.options.max_connections then
		return "max_connections is reached"
	elseif (self.per_peer[peer_of(from)] or 0) >= self.options.max_per_address then
		return "max_per_address is reached"
	end
end

local function remove(self, key, from)
	if not self.connections[key] then
		return
	end
	self.connections[key] = nil
	self.count = self.count - 1
	local peer = peer_of(from)
	local left = self.per_peer[peer] - 1
	self.per_peer[peer] = left > 0 and left or nil
end

local function enter(self, key, peer, c)
	self.per_peer[peer] = self.per_peer[peer] or 0
	self.connections[key] = c
	self.count = self.count + 1
	self.per_peer[peer] = self.per_peer[peer] + 1
	skynet.fork(self.on_connection, c)
end

-- Raises if there is no memory for it, and then there is none.
local function add(self, key, from, conv, on_end)
	local options = setmetatable({}, { __index = self.options })
	local c = connection.new(self.id, from, peer_text(from), conv, options, function(c, reason)
		remove(self, key, from)
		on_end(c, reason)
	end)
	local ok, err = pcall(enter, self, key, peer_of(from), c)
	if not ok then
		c:shutdown()
		error(err, 0)
	end
	return c
end

-- A conversation number that this peer does not use.
local function new_conv(self, from)
	while true do
		local conv = string.unpack("<I4", crypt.random(4))
		local key = string.pack("<I4", conv) .. from
		if conv ~= 0 and not self.connections[key] then
			return conv, key
		end
	end
end

local answer = {}

answer[packet.HELLO] = function(self, from, body)
	local nonce = body:sub(1, packet.NONCE_SIZE)
	local cookie = cookie_of(self, from, nonce, current_period())
	socket.sendto(self.id, from, packet.pack(packet.COOKIE, nonce .. cookie))
end

local function refuse(self, from, nonce, reason)
	socket.sendto(self.id, from, packet.pack(packet.REFUSED, nonce .. string.char(reason)))
end

answer[packet.OPEN] = function(self, from, body, stream)
	local nonce, cookie = body:sub(1, packet.NONCE_SIZE), body:sub(packet.NONCE_SIZE + 1)
	if not is_our_cookie(self, from, nonce, cookie) then
		report("a cookie that is not ours, or too old", from)
		return
	end
	-- The answer to an earlier one may be lost.
	local conv = self.opened[nonce .. from]
	if not conv then
		if stream ~= self.options.stream then
			return refuse(self, from, nonce, packet.MODE)
		end
		local why = refusal(self, from)
		if why then
			report("refused, " .. why, from)
			return refuse(self, from, nonce, packet.FULL)
		end
		local key
		conv, key = new_conv(self, from)
		local who = nonce .. from
		local close = packet.pack(packet.CLOSE, string.pack("<I4", conv) .. cookie)
		add(self, key, from, conv, function(_, reason)
			self.opened[who] = nil
			self.cookies[key] = nil
			skynet.fork(say_close, reason, function()
				if not self.is_closed then
					socket.sendto(self.id, from, close)
				end
			end)
		end)
		self.cookies[key] = cookie
		self.opened[who] = conv
	end
	socket.sendto(self.id, from, packet.pack(packet.OPENED, nonce .. string.pack("<I4", conv)))
end

answer[packet.CLOSE] = function(self, from, body)
	local key = body:sub(1, 4) .. from
	local cookie = self.cookies[key]
	if cookie and crypt.equal(cookie, body:sub(5)) then
		self.connections[key]:peer_closed()
	end
end

-- With `plain` anybody's first segment opens a conversation.
local function open_plain(self, key, datagram, from)
	if #datagram < 24 or datagram:byte(5) ~= 81 then
		return
	end
	local why = refusal(self, from)
	if why then
		report("refused, " .. why, from)
		return
	end
	return add(self, key, from, string.unpack("<I4", datagram), function() end)
end

local function server_input(self, datagram, from)
	local kind, body, stream = packet.unpack(datagram)
	if kind and not self.options.plain then
		local f = answer[kind]
		if f then
			f(self, from, body, stream)
		end
		return
	end
	local key = key_of(datagram, from)
	local c = self.connections[key]
	if not c and self.options.plain then
		c = open_plain(self, key, datagram, from)
	end
	if c then
		c:input(datagram)
	end
end

-- Where a socket is bound: the system chooses a port for 0.
local function bound_port(id)
	for _, info in ipairs(socket.netstat()) do
		if info.id == id then
			return tonumber(info.sock:match(":(%d+)$"))
		end
	end
end

local function end_all(self, how)
	local all = {}
	for _, c in pairs(self.connections) do
		all[#all + 1] = c
	end
	self.is_closed = true
	for _, c in ipairs(all) do
		c[how](c)
	end
end

-- The system has ended its socket, or it was closed.
local function lost(self)
	if not self.is_closed then
		skynet.error(("kcp: the socket of %s:%d has ended, and with it %d connections"):format(self.address,
			self.port, self.count))
		end_all(self, "lost")
	end
end

local function note_socket(self)
	if self.port == 0 then
		self.port = bound_port(self.id)
	end
	socket.onclose(self.id, function() lost(self) end)
end

---Take connections. Raises "unknown kcp option" and the like, and when the port can't be
---bound. Yields for a host that is a name.
---@param host string address to bind
---@param port integer 0: any free one
---@param options table? see doc/reference/kcp.md
---@param on_connection fun(c: skynet.kcp.connection) called in a task of its own for each
---@return skynet.kcp.server
function kcp.listen(host, port, options, on_connection)
	options = check_options(options)
	assert(type(on_connection) == "function", "kcp.listen needs a function for connections")
	local self = setmetatable({
		address = host,
		port = port,
		options = options,
		on_connection = on_connection,
		secret = crypt.random(32),
		connections = {},
		opened = {},
		cookies = {},
		per_peer = {},
		count = 0,
	}, server)
	self.id = socket.udp(function(datagram, from)
		server_input(self, datagram, from)
	end, host, port)
	local ok, err = pcall(note_socket, self)
	if not ok then
		socket.close(self.id)
		error(err, 0)
	end
	return self
end

---How many connections there are.
---@return integer
function server:connection_count()
	return self.count
end

---Close the socket and, at once, all connections.
function server:close()
	if self.is_closed then
		return
	end
	for key, c in pairs(self.connections) do
		local cookie = self.cookies[key]
		if cookie then
			local body = key:sub(1, 4) .. cookie
			socket.sendto(self.id, key:sub(5), packet.pack(packet.CLOSE, body))
		end
	end
	end_all(self, "shutdown")
	socket.close(self.id)
end

----------------------------------------------------------------- client

-- Sends `question` until an answer `accept`s, or the time is over. Yields.
local function ask(state, deadline, question, accept)
	state.accept = accept
	while state.result == nil do
		local left = deadline - skynet.now()
		if state.is_lost then
			return nil, "socket closed"
		elseif left <= 0 then
			return nil, "connect timeout"
		end
		socket.write(state.id, question)
		state.co = coroutine.running()
		skynet.sleep(math.min(RETRY, left), state.co)
		state.co = nil
	end
	local result = state.result
	state.result = nil
	return result
end

local function connected_input(state, datagram, kind, body)
	if not kind then
		state.connection:input(datagram)
	elseif kind == packet.CLOSE and state.close_body and crypt.equal(body, state.close_body) then
		state.connection:peer_closed()
	end
end

local function handshake_input(state, kind, body)
	if not (kind and state.accept) or body:sub(1, packet.NONCE_SIZE) ~= state.nonce then
		return false
	end
	local result = state.accept(kind, body:sub(packet.NONCE_SIZE + 1))
	if result ~= nil and state.result == nil then
		state.result = result
		if state.co then
			skynet.wakeup(state.co)
		end
	end
	return true
end

-- The socket hears everybody; the peer is who gives the first sensible answer.
local function client_input(state, datagram, from)
	if state.from and state.from ~= from then
		return
	end
	local kind, body = packet.unpack(datagram)
	if state.connection then
		-- Without a handshake, nobody has proved anything yet: who knows the conversation.
		if not state.from and datagram:sub(1, 4) ~= state.conv then
			return
		end
		state.from = from
		connected_input(state, datagram, kind, body)
	elseif handshake_input(state, kind, body) then
		state.from = from
	end
end

-- The socket has ended, or was closed.
local function client_lost(state)
	state.is_lost = true
	if state.connection then
		state.connection:lost()
	elseif state.co then
		skynet.wakeup(state.co)
	end
end

-- HELLO to OPENED: the conversation and the cookie. Yields.
local function handshake(state, options)
	local deadline = skynet.now() + options.connect_timeout
	local cookie, err = ask(state, deadline, packet.pack(packet.HELLO, state.nonce, options.stream),
		function(kind, rest)
			return kind == packet.COOKIE and rest or nil
		end)
	if not cookie then
		return nil, err
	end
	local open = packet.pack(packet.OPEN, state.nonce .. cookie, options.stream)
	local opened
	opened, err = ask(state, deadline, open, function(kind, rest)
		if kind == packet.OPENED then
			return { conv = string.unpack("<I4", rest) }
		elseif kind == packet.REFUSED then
			return { refused = packet.REASON[rest:byte()] or "refused" }
		end
	end)
	if not opened then
		return nil, err
	elseif opened.refused then
		return nil, opened.refused
	end
	return opened.conv, cookie
end

local function start_client(state, peer, conv, cookie, options)
	state.conv = string.pack("<I4", conv)
	state.close_body = cookie and state.conv .. cookie
	state.connection = connection.new(state.id, nil, peer, conv, options, function(_, reason)
		skynet.fork(function()
			if state.close_body then
				say_close(reason, function()
					socket.write(state.id, packet.pack(packet.CLOSE, state.close_body))
				end)
			end
			socket.close(state.id)
		end)
	end)
	return state.connection
end

local function connect(state, host, port, options)
	socket.onclose(state.id, function() client_lost(state) end)
	local conv, cookie = options.conv, nil
	if not options.plain then
		conv, cookie = handshake(state, options)
		if not conv then
			return nil, cookie
		end
	end
	return start_client(state, string.format("%s:%d", host, port), conv, cookie, options)
end

---Connect. Yields.
---@param host string
---@param port integer
---@param options table? see doc/reference/kcp.md; `plain` needs `conv`
---@return skynet.kcp.connection?
---@return string? err
function kcp.connect(host, port, options)
	options = check_options(options)
	if options.plain and options.conv == 0 then
		error("kcp option 'plain' needs 'conv', the number of the conversation", 2)
	end
	local state = { nonce = crypt.random(packet.NONCE_SIZE) }
	local found
	found, state.id = pcall(socket.udp_dial, host, port, function(datagram, from)
		client_input(state, datagram, from)
	end)
	if not found then
		return nil, state.id
	end
	local ok, c, why = pcall(connect, state, host, port, options)
	if ok and c then
		return c
	end
	socket.close(state.id)
	return nil, ok and why or c
end

return kcp
