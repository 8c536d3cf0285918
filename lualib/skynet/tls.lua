-- skynet.tls: connections as skynet.socket has them, encrypted (TLS 1.2 and 1.3).
-- connect and accept give an object whose methods behave as the functions of
-- skynet.socket do; `timeout` is in 1/100 s and bounds the whole call. A peer's end
-- that TLS does not vouch for is told apart: see `read`.
--
-- Owns the sockets of the connections it made. A function that may suspend the running
-- task says "yields".

local skynet = require "skynet"
local socket = require "skynet.socket"
local stream = require "skynet.tlsstream"
local tlscontext = require "skynet.tlscontext"
local ltls = require "ltls.c"

---@class skynet.tls
local tls = {}

-- How long a handshake may take unless the caller says otherwise, 1/100 s.
local HANDSHAKE_TIMEOUT = 1000
-- A line may not be longer than this, unless `limit` says otherwise.
local LINE_LIMIT = 16 * 1024 * 1024

----------------------------------------------------------------- contexts

---Make a context, see skynet.tlscontext.
tls.context = tlscontext.new

-- The context of a client without options of its own.
local default_context

-- Options of one connection.
local CONNECTION = { context = "userdata", timeout = "number", server_name = "string",
	session = "string" }

-- The context that the options of a connection name or describe.
local function context_of(opts)
	tlscontext.check(opts, CONNECTION)
	local own = {}
	for name, value in pairs(opts) do
		if not CONNECTION[name] then
			own[name] = value
		end
	end
	if opts.context then
		local name = next(own)
		if name then
			error(string.format("tls option '%s' belongs to the context that is given too", name), 0)
		end
		return opts.context
	elseif next(own) then
		return tls.context(own)
	end
	default_context = default_context or tls.context()
	return default_context
end

----------------------------------------------------------------- reading

---@class skynet.tls.connection
---@field id integer of the socket, for skynet.socket.warning and the like
---@field private stream skynet.tlsstream
---@field private tls userdata
local connection = {}
connection.__index = connection

local function deadline_of(timeout)
	return timeout and skynet.now() + timeout
end

-- What is left after the end: false, the rest, and why if it is not the proper end.
local function ended(s)
	return false, s:take(), s.reason
end

local function exceed(self, what)
	self.stream.reason = what
	self.stream.ended = true
	socket.shutdown(self.id)
	return ended(self.stream)
end

---Read exactly `n` bytes, or what there is without `n`. After the end: false, the
---rest, and the reason unless the peer has ended the stream properly. After
---`timeout`: nil, "timeout". Yields.
---@param n integer?
---@param timeout integer?
---@return string|false|nil
---@return string?
---@return string?
function connection:read(n, timeout)
	if n ~= nil and (math.type(n) ~= "integer" or n < 0) then
		error("Invalid read size " .. tostring(n), 2)
	end
	local s = self.stream
	local deadline = deadline_of(timeout)
	if n and self.max and n > self.max then
		return exceed(self, "limit")
	end
	repeat
		if n == 0 then
			return ""
		elseif n then
			local data = s:pop(n)
			if data then
				return data
			end
		else
			local data = s:take()
			if data ~= "" then
				return data
			end
		end
		if s.ended then
			return ended(s)
		end
	until not s:fill(deadline)
	return nil, "timeout"
end

---Read up to `sep`, which is not part of the result. Otherwise as read. Yields.
---@param sep string? default "\n"
---@param timeout integer?
---@return string|false|nil
---@return string?
---@return string?
function connection:readline(sep, timeout)
	sep = sep or "\n"
	local s = self.stream
	local deadline = deadline_of(timeout)
	repeat
		local line = s:line(sep)
		if line then
			return line
		elseif s.ended then
			return ended(s)
		elseif s:size() > (self.max or LINE_LIMIT) then
			return exceed(self, "limit")
		end
	until not s:fill(deadline)
	return nil, "timeout"
end

---Read everything until the peer ends the stream. If it did not end properly: nil,
---the reason, and what had arrived. Yields.
---@param timeout integer?
---@return string?
---@return string?
---@return string?
function connection:readall(timeout)
	local s = self.stream
	local deadline = deadline_of(timeout)
	while not s.ended do
		if self.max and s:size() > self.max then
			exceed(self, "limit")
		elseif not s:fill(deadline) then
			return nil, "timeout"
		end
	end
	if s.reason then
		return nil, s.reason, s:take()
	end
	return s:take()
end

---Wait until something can be read, or the end. Yields.
---@param timeout integer?
---@return boolean? # true if something can be read, false at the end, nil: timeout
---@return string?
function connection:block(timeout)
	local s = self.stream
	local deadline = deadline_of(timeout)
	repeat
		if s:size() > 0 then
			return true
		elseif s.ended then
			return false
		end
	until not s:fill(deadline)
	return nil, "timeout"
end

---Close the connection when more than `n` bytes are buffered or asked for. Does not
---yield.
---@param n integer
function connection:limit(n)
	self.max = n
end

----------------------------------------------------------------- writing

---Send. Never blocks. Does not yield.
---@param data string|string[]
---@return boolean # false if the connection takes nothing more
---@return string? # why
function connection:write(data)
	if type(data) == "table" then
		data = table.concat(data)
	end
	if self.closed then
		return false, "closed"
	end
	return self.stream:write(data)
end

---Tell the peer that nothing follows, send what was written, and close. A task that
---reads gets the rest first. Without memory it may raise, and can be called again. Yields.
function connection:close()
	if not self.closed then
		self.stream:finish()
		self.closed = true
		socket.close(self.id)
		self.tls:close()
	end
end

---Close at once; unsent bytes are lost. `close` is still to be called. Does not yield.
function connection:shutdown()
	socket.shutdown(self.id)
end

connection.__close = connection.close

----------------------------------------------------------------- facts

---True when nothing more will arrive. Does not yield.
---@return boolean
function connection:disconnected()
	return self.stream.ended == true or socket.disconnected(self.id) ~= false
end

-- Facts that outlive the session.
local function note_facts(self)
	local session = self.tls
	self.facts = {
		alpn = session:alpn(),
		version = session:version(),
		cipher = session:cipher(),
		server_name = session:server_name(),
		resumed = session:resumed(),
	}
end

---The application protocol that was agreed on, or nil.
---@return string?
function connection:alpn() return self.facts.alpn end
---"TLSv1.2" or "TLSv1.3".
---@return string
function connection:version() return self.facts.version end
---OpenSSL's name of the cipher.
---@return string
function connection:cipher() return self.facts.cipher end
---The host name that the client asked for, or nil.
---@return string?
function connection:server_name() return self.facts.server_name end
---Whether an earlier session was resumed.
---@return boolean
function connection:resumed() return self.facts.resumed end

---@class skynet.tls.certificate
---@field subject string RFC 2253
---@field issuer string
---@field serial string hexadecimal
---@field not_before integer seconds since 1970
---@field not_after integer
---@field sha256 string fingerprint, hexadecimal
---@field names string[] host names and addresses it is for
---@field pem string

---The certificate of the peer, or nil. Raises when the connection is closed.
---@return skynet.tls.certificate?
function connection:peer_certificate()
	return self.tls:peer_certificate()
end

---What `session` of a later connect to the same host takes, or nil. TLS 1.3 servers
---send it behind the handshake: it is there when something was read.
---@return string?
function connection:session()
	return not self.closed and self.tls:session() or nil
end

----------------------------------------------------------------- opening

-- Closes the socket and the session of a connection that did not come about.
local function give_up(id, session, reason)
	session:close()
	socket.close(id)
	return nil, reason
end

local function shake_hands(id, session, deadline)
	local s = stream.new(id, session)
	local ok, reason = s:handshake(deadline)
	if not ok then
		return nil, reason
	end
	-- With all its fields, so that it need not grow.
	local c = setmetatable({ id = id, stream = s, tls = session, facts = nil, max = nil, closed = false },
		connection)
	note_facts(c)
	return c
end

-- The handshake. Whatever it fails at, nothing is left open. Yields.
local function establish(id, session, deadline)
	local ok, c, reason = pcall(shake_hands, id, session, deadline)
	if not ok then
		return give_up(id, session, c)
	elseif not c then
		return give_up(id, session, reason)
	end
	return c
end

-- A session for a client. Raises when an option is wrong.
local function client_session(opts, host)
	local session = ltls.newtls("client", context_of(opts), opts.server_name or host)
	if opts.session then
		session:set_session(opts.session)
	end
	return session
end

---@class skynet.tls.client: skynet.tls.options
---@field context userdata? instead of options of a context
---@field timeout integer? for connecting and the handshake, 1/100 s, default 1000
---@field server_name string? whose certificate to expect, default the host
---@field session string? of an earlier connection, to resume

---Connect to a server. Its certificate must be valid for the host, unless `verify` is
---false. Raises when an option is wrong. Yields.
---@param host string
---@param port integer
---@param opts skynet.tls.client?
---@return skynet.tls.connection? # or nil
---@return string? # why not
function tls.connect(host, port, opts)
	if type(host) ~= "string" then
		require "skynet.misuse"("tls.connect", 1, "string", host)
	end
	opts = opts or {}
	local session = client_session(opts, host)
	local timeout = opts.timeout or HANDSHAKE_TIMEOUT
	local deadline = skynet.now() + timeout
	local id, reason = socket.open(host, port, timeout)
	if not id then
		session:close()
		return nil, reason
	end
	return establish(id, session, deadline)
end

---Begin TLS as the client on a socket that is connected and used by nobody else. The
---connection owns the socket from now on, also if it fails. Yields.
---@param id integer
---@param host string whose certificate to expect
---@param opts skynet.tls.client?
---@return skynet.tls.connection?
---@return string?
function tls.client(id, host, opts)
	if not math.tointeger(id) then
		require "skynet.misuse"("tls.client", 1, "id of a socket", id)
	end
	if type(host) ~= "string" then
		require "skynet.misuse"("tls.client", 2, "string", host)
	end
	opts = opts or {}
	local session = client_session(opts, host)
	return establish(id, session, skynet.now() + (opts.timeout or HANDSHAKE_TIMEOUT))
end

---@class skynet.tls.server
---@field timeout integer? for the handshake, 1/100 s, default 1000

---Begin TLS as the server on a connection that a listener of skynet.socket has
---accepted, started or not. The connection owns the socket from now on; on failure it is
---closed. Raises when an option is wrong. Yields.
---@param id integer
---@param ctx userdata|skynet.tls.options
---@param opts skynet.tls.server?
---@return skynet.tls.connection? # or nil
---@return string? # why not
function tls.accept(id, ctx, opts)
	if not math.tointeger(id) then
		require "skynet.misuse"("tls.accept", 1, "id of a socket", id)
	end
	if type(ctx) ~= "table" and type(ctx) ~= "userdata" then
		require "skynet.misuse"("tls.accept", 2, "context, or its options", ctx)
	end
	local session = ltls.newtls("server", type(ctx) == "table" and tls.context(ctx) or ctx)
	local deadline = skynet.now() + (opts and opts.timeout or HANDSHAKE_TIMEOUT)
	if socket.invalid(id) then
		local ok, reason = socket.start(id)
		if not ok then
			session:close()
			return nil, reason
		end
	end
	return establish(id, session, deadline)
end

return tls
