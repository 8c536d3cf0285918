-- http.exchange: the client's half of HTTP/1.1 on one connection: the head of a
-- response, and its body piece by piece (RFC 9112). What could be read in two ways is
-- refused; an end that comes too early is an error, never a short body.
--
-- Works on anything with `read(self)`, which gives some bytes, nil at the end, and
-- raises; and with `reader`, of http.codec, which keeps what has not been used yet.

local codec = require "http.codec"

---@class http.exchange
local exchange = {}

---@class http.source
---@field reader userdata
---@field read fun(self: http.source): string?

---@class http.head
---@field status integer
---@field reason string
---@field header table<string, string|string[]>
---@field how "none"|"chunked"|"close"|integer how the body ends
---@field keep_alive boolean whether another exchange may follow

-- Interim responses that are passed over before the real one.
local INTERIM_LIMIT = 32

-- How the body ends (RFC 9112, 6.3).
local function framing(method, status, length, flags)
	if method == "HEAD" or status < 200 or status == 204 or status == 304
		or method == "CONNECT" and status < 300 then
		return "none"
	elseif flags & codec.CODED ~= 0 then
		error("Unsupport transfer-encoding", 0)
	elseif flags & codec.CHUNKED ~= 0 then
		return "chunked"
	end
	return length or "close"
end

local function one_head(source)
	local reader = source.reader
	local status, reason, header, length, flags, minor = reader:response()
	while status == nil do
		local data = source:read()
		if not data then
			error("Recv header failed", 0)
		end
		status, reason, header, length, flags, minor = reader:response(data)
	end
	if not status then
		if reason == 431 or reason == 414 then
			error("Recv header failed: " .. header, 0)
		end
		error("Invalid HTTP response header: " .. header, 0)
	end
	return status, reason, header, length, flags, minor
end

---Read the head of a response; interim ones but 101 are passed over. Raises. Yields.
---@param source http.source
---@param method string of the request
---@return http.head
function exchange.head(source, method)
	for _ = 1, INTERIM_LIMIT do
		local status, reason, header, length, flags, minor = one_head(source)
		if status >= 200 or status == 101 then
			local keep = minor > 0 or flags & codec.KEEP_ALIVE ~= 0
			return {
				status = status,
				reason = reason,
				header = header,
				how = framing(method, status, length, flags),
				keep_alive = keep and flags & codec.CLOSE == 0,
			}
		end
	end
	error("Recv header failed: too many interim responses", 0)
end

local function broken(why)
	error("Invalid response body: " .. why, 0)
end

local function more(source)
	return source:read() or broken "the connection ended too early"
end

local function chunked_pieces(source, header, limit, whole)
	local reader, got = source.reader, 0
	local done = false
	return function()
		while not done do
			local data, _, why = reader:chunk(header, limit and limit - got, whole)
			if data == "" then
				done = true
			elseif data then
				got = got + #data
				return data
			elseif data == false then
				broken(why)
			else
				reader:push(more(source))
			end
		end
	end
end

local function sized_pieces(source, length, limit)
	local reader, left = source.reader, length
	if limit and length > limit then
		broken "too large"
	end
	return function()
		if left == 0 then
			return nil
		end
		local data = reader:take(left)
		if not data then
			data = more(source)
			if #data > left then
				reader:push(data:sub(left + 1))
				data = data:sub(1, left)
			end
		end
		left = left - #data
		return data, left == 0
	end
end

local function closed_pieces(source, limit)
	local reader, got = source.reader, 0
	return function()
		local data = reader:take() or source:read()
		if data then
			got = got + #data
			if limit and got > limit then
				broken "too large"
			end
		end
		return data
	end
end

---A function that gives the pieces of the body, nil at its end. It raises and yields.
---@param source http.source
---@param how "none"|"chunked"|"close"|integer
---@param header table gets the trailers
---@param limit integer? bytes of the body
---@param whole boolean? each chunk is one piece
---@return fun(): string?, boolean? # the second result: it is known to be the last one
function exchange.pieces(source, how, header, limit, whole)
	if how == "none" then
		return function() end
	elseif how == "chunked" then
		return chunked_pieces(source, header, limit, whole)
	elseif how == "close" then
		return closed_pieces(source, limit)
	end
	return sized_pieces(source, how, limit)
end

---All pieces together. Yields.
---@param next_piece fun(): string?
---@return string
function exchange.join(next_piece)
	local first = next_piece()
	local second = first and next_piece()
	if not second then
		return first or ""
	end
	local list = { first, second }
	for data in next_piece do
		list[#list + 1] = data
	end
	return table.concat(list)
end

--------------------------------------------------------------------- streams

---@class http.stream
---@field status integer
---@field header table<string, string|string[]>
---@field connected boolean? true while more is to come; false after malformed chunks
local stream = {}
stream.__index = stream

---The next piece of the body and the stream itself, so that `for piece in stream`
---works; nil at the end. Raises when the connection fails. Yields.
---@return string?
---@return http.stream?
function stream:padding()
	if not self.connected then
		return nil
	end
	local how = self.how
	if how == "none" or how == 0 then
		self.connected = nil
		return "", self
	end
	local ok, data, last = pcall(self.next_piece)
	if not ok then
		self.connected = false
		if how == "chunked" and type(data) == "string" then
			return nil
		end
		error(data, 0)
	elseif data == nil and how == "chunked" then
		self.connected = nil
		return "", self
	elseif data == nil or last then
		self.connected = nil
	end
	return data, self
end

stream.__call = stream.padding

---End the exchange; needed when the stream was not read to its end. Yields.
function stream:close()
	local close = self.close_source
	if self.connected then
		self.connected = nil
	end
	if close then
		self.close_source = nil
		close()
	end
end

stream.__close = stream.close

---@param source http.source
---@param status integer
---@param header table
---@param how "none"|"chunked"|"close"|integer
---@param limit integer? bytes of the body
---@param close fun()? called once by stream:close
---@return http.stream
function exchange.stream(source, status, header, how, limit, close)
	return setmetatable({
		status = status,
		header = header,
		how = how,
		connected = true,
		next_piece = exchange.pieces(source, how, header, limit, true),
		close_source = close,
	}, stream)
end

return exchange
