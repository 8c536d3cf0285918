-- http.request: what a handler of http.server knows about a request, and the reading
-- of its body as it arrives. A request belongs to its connection and is of no use
-- after the handler has returned.

local skynet = require "skynet"
local codec = require "http.codec"
local flow = require "http.flow"
local url = require "http.url"

---@class http.request
---@field method string as it came
---@field url string the target as it came
---@field path string the target's path, not decoded
---@field query string the target's query, not decoded, "" when there is none
---@field header table<string, string|string[]> names in lower case; trailers join it
---@field version string "1.0" or "1.1"
---@field peer string "ip:port"
---@field length integer? Content-Length
---@field limit integer most bytes of the body; may be set before it is read
---@field params table<string, string> what the router found in the path
---@field at_end boolean the body is read, or there is none
local methods = {}

local request = {}

-- Raised to end a handler: the peer is gone (no status), or has sent something that
-- is answered with this status.
request.failure = {
	__name = "http.failure",
	__tostring = function(self) return self.why end,
}

---Raise it.
---@param status integer?
---@param why string
function request.fail(status, why)
	error(setmetatable({ status = status, why = why }, request.failure), 0)
end

---Message handler that leaves such objects as they are.
---@param err any
---@return any
function request.traceback(err)
	if type(err) == "table" then
		return err
	end
	return debug.traceback(tostring(err), 2)
end

-- The path and the query of a target; absolute targets lose scheme and host.
local function split(target)
	local rest = target:match "^%a[%w+.-]*://[^/?]*(.*)$" or target
	local path, query = rest:match "^([^?#]*)%??([^#]*)"
	if path == "" then
		path = "/"
	end
	return path, query
end

-- Most requests need few of these.
local lazy = {
	peer = function(self) return self.conn.peer end,
	limit = function(self) return self.conn.server.body_limit end,
	time_left = function(self) return self.conn.server.body_timeout end,
	chunked = function(self) return self.flags & codec.CHUNKED ~= 0 end,
	-- Whether the peer waits for 100 Continue.
	expects = function(self) return self.flags & codec.EXPECT ~= 0 and self.version ~= "1.0" end,
	left = function(self) return self.length or 0 end,
	got = function() return 0 end,
	failed = function() return false end,
	path = function(self)
		local path, query = split(self.url)
		self.query = query
		return path
	end,
	query = function(self)
		local path, query = split(self.url)
		self.path = path
		return query
	end,
	params = function() return {} end,
	header = function(self) return codec.header(self.head) end,
}

local meta = {
	__index = function(self, key)
		local method = methods[key]
		if method then
			return method
		end
		local make = lazy[key]
		if make then
			local value = make(self)
			self[key] = value
			return value
		end
	end,
}

---@param conn http.connection
---@param method string
---@param target string
---@param head string what codec.header makes the header of
---@param length integer? of the body
---@param flags integer of the head, see the codec
---@param minor integer of the version
---@return http.request
function request.new(conn, method, target, head, length, flags, minor)
	return setmetatable({
		conn = conn,
		method = method,
		url = target,
		head = head,
		version = minor == 0 and "1.0" or "1.1",
		length = length,
		flags = flags,
		at_end = (length or 0) == 0 and flags & codec.CHUNKED == 0,
	}, meta)
end

-------------------------------------------------------------------- the body

-- More bytes of the peer; nothing when it is gone or late. Yields.
local function receive(self)
	local conn = self.conn
	if self.expects then
		self.expects = false
		conn:write "HTTP/1.1 100 Continue\r\n\r\n"
	end
	local before = skynet.now()
	conn:enter("body", math.max(0, self.time_left))
	local data = conn:read()
	conn:enter "handler"
	self.time_left = self.time_left - (skynet.now() - before)
	return data
end

local function lost(self)
	local late = self.conn.expired
	return false, nil, late and "request body too late" or "connection lost in a request body"
end

local function read_chunked(self)
	local reader = self.conn.reader
	while true do
		local data, status, why = reader:chunk(self.header, self.limit - self.got)
		if data == "" then
			self.at_end = true
			return nil
		elseif data then
			self.got = self.got + #data
			return data
		elseif data == false then
			return false, status, why
		end
		data = receive(self)
		if not data then
			return lost(self)
		end
		reader:push(data)
	end
end

local function read_sized(self)
	if self.length > self.limit then
		return false, 413, "body too large"
	end
	local reader = self.conn.reader
	local data = reader:take(self.left)
	if not data then
		data = receive(self)
		if not data then
			return lost(self)
		elseif #data > self.left then
			reader:push(data:sub(self.left + 1))
			data = data:sub(1, self.left)
		end
	end
	self.left = self.left - #data
	self.at_end = self.left == 0
	return data
end

-- The next piece; nil at the end; false, status, why when there is none. Yields.
local function read_piece(self)
	if self.at_end then
		return nil
	elseif self.failed then
		return false, nil, self.failed
	end
	local data, status, why
	if self.chunked then
		data, status, why = read_chunked(self)
	else
		data, status, why = read_sized(self)
	end
	if data == false then
		self.failed = why
	end
	return data, status, why
end

---The next piece of the body as it arrives, nil at its end. Raises when the peer is
---gone, sends garbage or more than `limit` bytes; if the handler lets that pass, the
---peer is answered accordingly. Yields.
---@return string?
function methods:read()
	local data, status, why = read_piece(self)
	if data == false then
		request.fail(status, why)
	end
	return data --[[@as string?]]
end

---The body, or what is left of it. Raises as read does. Yields.
---@param limit integer? most bytes
---@return string
function methods:body(limit)
	self.limit = limit or self.limit
	if self.at_end then
		return ""
	end
	local first = self:read()
	if self.at_end then
		return first or ""
	end
	local pieces = {}
	while first do
		pieces[#pieces + 1] = first
		first = self:read()
	end
	return table.concat(pieces)
end

---The pairs of a form that was posted (application/x-www-form-urlencoded). Yields.
---@param limit integer? most bytes
---@return table<string, string|string[]>
function methods:form(limit)
	local ok, form = pcall(url.parse_query, self:body(limit))
	return ok and form or request.fail(400, "malformed form")
end

---The pairs of the query; the peer is answered with 400 when it is malformed.
---@return table<string, string|string[]>
function methods:query_pairs()
	local ok, found = pcall(url.parse_query, self.query)
	return ok and found or request.fail(400, "malformed query")
end

---Take the connection out of the server, for another protocol. The caller owns the id
---and closes it.
---@return integer id
---@return string bytes that came after the request
---@return skynet.tls.connection? session to read and write with, when it is https
function methods:detach()
	local conn = self.conn
	conn.detached = true
	flow.release(conn.id)
	conn:enter "handler"
	return conn.id, conn.reader:take() or "", conn.session
end

---Whether the connection can go on although the handler has not read the body, of which up
---to `limit` bytes are left to read. Does not yield.
---@param self http.request
---@param limit integer
---@return boolean
function request.can_drain(self, limit)
	return self.at_end or not (self.expects or self.failed) and self.left <= limit
end

---Read what the handler has not, up to `limit` bytes. True if the end was reached. Yields.
---@param self http.request
---@param limit integer
---@return boolean
function request.drain(self, limit)
	if self.at_end then
		return true
	elseif not request.can_drain(self, limit) then
		return false
	end
	self.limit = self.got + limit
	if self.length then
		self.limit = self.length
	end
	local data
	repeat
		data = read_piece(self)
	until not data
	return self.at_end
end

return request
