-- http.server: an HTTP/1.1 server in a few lines (RFC 9110, RFC 9112): connections that
-- stay open, pipelining, streaming both ways, limits on size, number and time of
-- everything that a peer sends.
--
-- Owns its connections, from the moment they are accepted or handed over until the
-- handler detaches them. One task serves one connection; a handler that waits holds up
-- its own connection only. What a connection may hold in memory is bounded by the
-- limits below. When one of them fires, a line with the peer's address is logged.

local skynet = require "skynet"
local socket = require "skynet.socket"
local check_options = require "skynet.options".check
local codec = require "http.codec"
local deadline = require "http.deadline"
local flow = require "http.flow"
local notice = require "skynet.notice"
local request = require "http.request"
local response = require "http.response"

---@class http.server
local server = {}

---@class http.server.options
---@field line_limit integer? bytes of a header line, default 8192
---@field header_limit integer? bytes of a header, default 16384
---@field header_lines integer? default 100, at most 256
---@field body_limit integer? bytes of a request body, default 1 MiB
---@field idle_timeout integer? 1/100 s between requests, default 60 s
---@field header_timeout integer? 1/100 s from the first byte of a header to its end, default 10 s
---@field body_timeout integer? 1/100 s for a whole request body, default 60 s
---@field send_timeout integer? 1/100 s in which a peer must take a backlog of 1 MiB, default 60 s
---@field linger_timeout integer? 1/100 s for which a peer whose request was refused may go on
---sending before its connection is closed, default 2 s
---@field max_connections integer? default 10000; beyond, idle ones give way
---@field gzip integer|false? smallest body that is compressed, default 1024; false: none
---@field tls skynet.tls.options? with `cert` and `key`; makes it https
---@field socket table? options of the listening socket, see skynet.socket
---@field on_error fun(err: any, req: table)? told about a handler that raised; the default logs
local defaults = {
	line_limit = 8192,
	header_limit = 16384,
	header_lines = 100,
	body_limit = 1024 * 1024,
	idle_timeout = 6000,
	header_timeout = 1000,
	body_timeout = 6000,
	send_timeout = 6000,
	linger_timeout = 200,
	max_connections = 10000,
	gzip = 1024,
}

local RULES = { gzip = "number|false", tls = "table", socket = "table|number", on_error = "function" }
for name in pairs(defaults) do
	RULES[name] = RULES[name] or "number"
end

-- A body that the handler did not read is read for it up to so many bytes, to keep
-- the connection; beyond, closing is cheaper.
local DRAIN_LIMIT = 64 * 1024
-- After an error a peer may still be sending. What it sends is thrown away for a
-- while and up to so many bytes, because closing at once could destroy the answer on
-- its way.
local LINGER_BYTES = 1024 * 1024
-- Idle connections are not asked to give way before so much time, 1/100 s, nor again sooner.
local GIVE_WAY = 100
-- Connections that may wait to be accepted.
local BACKLOG = 1024
-- Flags of requests that are not served.
local REFUSED = codec.NO_HOST | codec.EXPECT_OTHER
-- Requests of one connection that are served before others get a turn.
local TURN = 64
-- What every request needs.
local set_deadline, traceback = deadline.set, request.traceback
local parse = codec.methods.request
local socket_read = socket.read
-- Lines about what peers do in a second.
local MAX_LINES = 100

------------------------------------------------------------------ connections

---@class http.connection: http.watched, http.flowing
---@field peer string "ip:port"
---@field server table
---@field reader userdata
---@field res http.response? while the handler runs
---@field phase "idle"|"header"|"body"|"handler"|"send"|"linger" what it waits for
---@field expired string? the phase in which its time was over
---@field read fun(self: http.connection): string|false|nil
---@field write fun(self: http.connection, data: string|table): boolean without a session also a
---block of the allocator and its size, see socket.write
local connection = {}
connection.__index = connection

local function read_socket(conn)
	return (socket_read(conn.id))
end

local function write_socket(conn, data, size)
	return socket.write(conn.id, data, size)
end

---Log what the peer did.
---@param what string
function connection:log(what)
	notice("http", MAX_LINES, "http: %s: %s", self.peer, what)
end

---Wait for something, no longer than `time`. Does not yield: the wait is the caller's.
---@param phase "idle"|"header"|"body"|"handler"|"send"|"linger"
---@param time integer? 1/100 s; nil: for ever
function connection:enter(phase, time)
	self.phase = phase
	deadline.set(self, time)
end

---The time for the current phase is over. Ends the wait of the connection's task.
function connection:expire()
	local phase = self.phase
	self.expired = phase
	if phase == "header" or phase == "body" then
		self:log("no complete " .. phase .. " in time")
		if not self.responding then
			self.responding = true
			self:write(response.bare(408, true))
		end
	elseif phase == "send" then
		self:log("peer does not take the response")
		socket.shutdown(self.id)
		flow.settle(self)
		return
	end
	skynet.fork(socket.close, self.id)
end

---Wait until the peer has taken what was written. False if it is gone. Yields.
function connection:flush()
	if self.congested and not self.closed then
		self:enter("send", self.server.send_timeout)
		flow.wait(self)
		self:enter "handler"
	end
	return not self.closed and not self.expired
end

-------------------------------------------------------------------------- TLS

-- Give the connection the reading and writing of a TLS session. False if the peer
-- cannot agree with us. Yields.
local function start_tls(conn)
	local tls = require "skynet.tls"
	local self = conn.server
	local session, why = tls.accept(conn.id, self.tls_context, { timeout = self.header_timeout })
	if not session then
		conn:log("TLS: " .. why)
		return false
	end
	conn.session = session
	function conn.read() return (session:read()) end
	function conn.write(_, data) return session:write(data) end
	return true
end

--------------------------------------------------------------------- requests

-- A request that cannot be served: say so, and end the connection.
local function refuse(conn, status, why)
	if conn.expired then
		return
	end
	conn:log(string.format("%s (%d)", why, status))
	if not conn.responding then
		conn.responding = true
		conn:write(response.bare(status, true))
	end
	conn.lingers = true
end

-- The next head in the reader: what codec's request gives. Yields.
local function next_head(conn)
	local reader = conn.reader
	local method, target, head, length, flags, minor
	if conn.phase then
		method, target, head, length, flags, minor = parse(reader)
	else
		-- A new connection has sent nothing yet.
		target = 0
	end
	while method == nil do
		-- So much of a head is there.
		if target == 0 then
			conn.phase = "idle"
			set_deadline(conn, conn.server.idle_timeout)
		elseif conn.phase ~= "header" then
			conn:enter("header", conn.server.header_timeout)
		end
		conn.served = 0
		local data = conn:read()
		if not data then
			if conn.phase == "header" and not conn.expired then
				conn:log("connection lost in a header")
			end
			return nil
		end
		method, target, head, length, flags, minor = parse(reader, data)
	end
	return method, target, head, length, flags, minor
end

-- The handler has returned. True if another request may follow. Yields.
local function end_request(conn, res)
	local req = res.req
	if not res.finished then
		if not res.status_sent and not conn.detached then
			notice("http no response", MAX_LINES, "http: %s: the handler gave no response to %s %s", conn.peer,
				req.method, req.url)
			res:send(500)
		end
		if conn.detached then
			return false
		end
		res:finish()
	elseif conn.detached then
		return false
	end
	conn.responding = false
	conn.lingers = not req.at_end
	if not res.keep_alive or conn.server.closing then
		return false
	end
	if conn.congested or conn.closed or conn.expired then
		if not conn:flush() then
			return false
		end
	end
	return req.at_end or request.drain(req, DRAIN_LIMIT)
end

-- The handler has raised. True if another request may follow. Yields.
local function fail_request(conn, res, err)
	if getmetatable(err) == request.failure then
		if err.status then
			refuse(conn, err.status, err.why)
		elseif not conn.expired then
			conn:log(err.why)
		end
		return false
	end
	conn.server.on_error(err, res.req)
	if res.status_sent or conn.detached then
		return false
	end
	res:send(500)
	return end_request(conn, res)
end

-- Serve one request. True if another one may follow. Yields.
local function serve_request(conn)
	local self = conn.server
	if self.closing and conn.reader:size() == 0 then
		return false
	end
	local method, target, head, length, flags, minor = next_head(conn)
	if not method then
		if method == false then
			refuse(conn, target, head)
		end
		return false
	end
	if flags & REFUSED ~= 0 then
		if flags & codec.NO_HOST ~= 0 then
			refuse(conn, 400, "no Host")
		else
			refuse(conn, 417, "unknown expectation")
		end
		return false
	end
	conn.phase, conn.deadline = "handler", nil
	local req = request.new(conn, method, target, head, length, flags, minor)
	local res = response.new(conn, req)
	conn.res = res
	self.handler(req, res)
	conn.res = nil
	return end_request(conn, res)
end

-- Serve requests. After an error of a handler, which ends it, it is called again with that
-- error. Other connections get a turn while this one has requests in a row. Yields.
local function serve_requests(conn, err)
	local res = conn.res
	if res then
		conn.res = nil
		if not fail_request(conn, res, err) then
			return
		end
	elseif conn.server.tls and not start_tls(conn) then
		return
	end
	while serve_request(conn) do
		conn.lingers = false
		conn.served = conn.served + 1
		if conn.served >= TURN then
			conn.served = 0
			skynet.yield()
		end
	end
end

-- Throw away what a peer still sends, so that it can read the answer. Yields.
local function linger(conn)
	conn:enter("linger", conn.server.linger_timeout)
	local bytes = 0
	while bytes < LINGER_BYTES do
		local data = conn:read()
		if not data then
			return
		end
		bytes = bytes + #data
	end
end

-- Readers are used again: what the collector has to finalize is dear.
local READERS = 256

local function take_reader(self)
	local free = self.readers
	local n = #free
	if n == 0 then
		return codec.reader(self.line_limit, self.header_limit, self.header_lines)
	end
	local reader = free[n]
	free[n] = nil
	return reader
end

local function return_reader(self, conn)
	local reader, free = conn.reader, self.readers
	local n = #free
	conn.reader = nil
	reader:release()
	if n < READERS then
		free[n + 1] = reader
	end
end

local function close(conn)
	local self = conn.server
	if conn.lingers and not conn.closed and not conn.expired and not conn.detached then
		-- Whatever becomes of that, the connection ends.
		pcall(linger, conn)
	end
	self.connections[conn.id] = nil
	self.count = self.count - 1
	return_reader(self, conn)
	if conn.detached then
		return
	end
	if conn.session then
		pcall(conn.session.close, conn.session)
	end
	socket.drop(conn.id)
end

---------------------------------------------------------------------- servers

local methods = {}
methods.__index = methods

-- End those that have been idle for at least half as long as the one that has been for
-- longest: who only holds connections does not keep others out, and peers know that idle
-- ones may end (RFC 9112 9.3). Whether there was one.
local function make_room(self, why)
	local now = skynet.now()
	if now - self.made_room < GIVE_WAY then
		return false
	end
	self.made_room = now
	local idle, longest = {}, GIVE_WAY
	for _, conn in pairs(self.connections) do
		if conn.phase == "idle" and conn.deadline then
			local time = now - (conn.deadline - self.idle_timeout)
			idle[conn] = time
			longest = math.max(longest, time)
		end
	end
	local count = 0
	for conn, time in pairs(idle) do
		if time >= GIVE_WAY and time * 2 >= longest then
			count = count + 1
			conn:expire()
		end
	end
	if count > 0 then
		notice("http room", MAX_LINES, "http: %s, end %d idle connections", why, count)
	end
	return count > 0
end

local function has_room(self)
	return self.count + self.starting < self.max_connections
		or make_room(self, string.format("more than %d connections (max_connections)", self.max_connections))
end

local function refuse_connection(self, fd, peer)
	notice("http full", MAX_LINES, "http: %s: more than %d connections", peer, self.max_connections)
	if not self.tls then
		socket.write(fd, response.bare(503, true))
	end
end

-- Serve a connection that is open until it ends. Yields.
local function serve_connection(self, fd, peer)
	-- With all the fields that are used soon, so that the table need not grow.
	local conn = setmetatable({
		id = fd,
		peer = peer,
		server = self,
		reader = take_reader(self),
		served = 0,
		phase = nil,
		deadline = nil,
		responding = nil,
		lingers = nil,
		res = nil,
		read = read_socket,
		write = write_socket,
	}, connection)
	self.connections[fd] = conn
	self.count = self.count + 1
	local ok, err = xpcall(serve_requests, traceback, conn)
	while not ok and conn.res do
		ok, err = xpcall(serve_requests, traceback, conn, err)
	end
	if not ok then
		pcall(notice, "http error", MAX_LINES, "http: %s: %s", peer, tostring(err))
	end
	close(conn)
end

---Serve a connection until it ends. Yields.
---@param fd integer accepted, and not started yet
---@param peer string "ip:port"
function methods:serve(fd, peer)
	if self.closing then
		return socket.close_fd(fd)
	elseif not has_room(self) then
		refuse_connection(self, fd, peer)
		return socket.close_fd(fd)
	end
	self.starting = self.starting + 1
	local ok, started = pcall(socket.start, fd)
	self.starting = self.starting - 1
	if not ok then
		error(started, 0)
	elseif started then
		socket.warning(fd, self.on_warning)
		serve_connection(self, fd, peer)
	end
end

---Stop listening and end the connections: idle ones at once, the others after their
---current request. Does not yield.
function methods:close()
	self.closing = true
	if self.listener then
		skynet.fork(socket.close, self.listener)
		self.listener = nil
	end
	for id, conn in pairs(self.connections) do
		if conn.phase == "idle" then
			skynet.fork(socket.close, id)
		end
	end
end

---Other certificates, authorities or revocation lists, for connections from now on. Raises
---when an option is wrong, and all is as before. Does not yield.
---@param options skynet.tls.options in place of those that the server was made with
function methods:reload_tls(options)
	if not self.tls_context then
		error("http.server: the server has no TLS, give it the option tls", 2)
	end
	self.tls_context = require "skynet.tls".context(options)
end

local function log_error(err, req)
	notice("http handler", MAX_LINES, "http: %s: %s %s: %s", req.peer, req.method, req.url, tostring(err))
end

---A server without a listener, for connections that another service accepts. See
---methods serve, close. Does not yield.
---@param handler fun(req: http.request, res: http.response)|table a function, or a router
---@param options http.server.options?
function server.new(handler, options)
	check_options("http.server", options, RULES)
	if type(handler) ~= "function" and type(handler) ~= "table" then
		error("http.server: the handler must be a function or a router, not " .. tostring(handler), 0)
	end
	-- What each request asks about is there, so that no metatable is.
	local self = setmetatable({
		connections = {},
		readers = {},
		count = 0,
		starting = 0,
		made_room = -GIVE_WAY,
		closing = false,
		tls = false,
	}, methods)
	self.on_warning = flow.warner(self.connections)
	deadline.watch_all(self.connections)
	for name, value in pairs(defaults) do
		self[name] = value
	end
	for name, value in pairs(options or {}) do
		self[name] = value
	end
	self.on_error = self.on_error or log_error
	if type(handler) == "table" then
		local router = handler
		handler = function(req, res) return router:handle(req, res) end
	end
	self.handler = handler
	self.tls_context = self.tls and require "skynet.tls".context(self.tls)
	-- Wrong limits are found now, not with the first connection.
	self.readers[1] = take_reader(self)
	return self
end

---Listen and serve. Raises when the port is taken. Yields.
---@param host string
---@param port integer 0: any free one
---@param handler fun(req: http.request, res: http.response)|table
---@param options http.server.options?
---@return table server with fields `host` and `port`
function server.listen(host, port, handler, options)
	local self = server.new(handler, options)
	local id, ip, bound = socket.listen(host, port, self.socket or { backlog = BACKLOG })
	if not id then
		error(string.format("http.server cannot listen on %s:%d: %s", host, port, ip), 2)
	end
	self.listener, self.host, self.port = id, ip, bound
	socket.accept(id, function(fd, peer)
		if self.closing then
			return socket.drop(fd)
		elseif not has_room(self) then
			refuse_connection(self, fd, peer)
			return socket.drop(fd)
		end
		return serve_connection(self, fd, peer)
	end, self.on_warning, function(text) make_room(self, text) end)
	return self
end

return server
