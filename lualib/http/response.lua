-- http.response: what a handler of http.server answers with. A complete answer goes
-- out in one write; a streamed one waits for a slow peer whenever about 1 MiB is on
-- its way, so its memory is bounded. Belongs to its connection.

local skynet = require "skynet"
local codec = require "http.codec"
local phrase = require "http.status"
local request = require "http.request"

local CLOSE = codec.CLOSE
-- What every response needs.
local skynet_now, message, block = skynet.now, codec.message, codec.block

---@class http.response
---@field status_sent integer|false once the head is on its way
---@field finished boolean the response is complete
---@field keep_alive boolean set it to false to close the connection afterwards
local response = {}
response.__index = response

-- Unread bytes of the request that may stay for the server to read.
local DRAIN_LIMIT = 64 * 1024
-- Bodies larger than that are not copied to be joined with their head in Lua.
local JOIN_LIMIT = 16 * 1024
-- Bytes that a handler may stream before the warnings of the socket get their turn.
local UNSEEN_LIMIT = 256 * 1024

------------------------------------------------------------------------ heads

local first_line = setmetatable({}, {
	__index = function(lines, status)
		if math.type(status) ~= "integer" or status < 100 or status > 999 then
			error("Invalid HTTP status " .. tostring(status), 3)
		end
		local line = string.format("HTTP/1.1 %d %s", status, phrase[status] or "")
		lines[status] = line
		return line
	end,
})

---A response without body.
---@param status integer
---@param closes boolean?
---@return string
function response.bare(status, closes)
	return codec.message(first_line[status], nil,
		closes and "content-length: 0\r\nconnection: close\r\n" or "content-length: 0\r\n")
end

local date_text, date_until = nil, 0
-- The Date line with what follows it.
local dated = {}

-- The Date line and `lines`, which are few. Made once a second.
local function date_and(lines)
	local now = skynet_now()
	if now >= date_until then
		date_text = "date: " .. codec.date(os.time()) .. "\r\n"
		dated = {}
		-- Wall-clock seconds do not begin where ours do; a little early is harmless.
		date_until = now + 50
	end
	local text = dated[lines]
	if not text then
		text = date_text .. lines
		dated[lines] = text
	end
	return text
end

---@param conn http.connection
---@param req http.request
---@return http.response
function response.new(conn, req)
	local flags = req.flags
	local keep_alive = flags & CLOSE == 0
	if req.version == "1.0" then
		keep_alive = keep_alive and flags & codec.KEEP_ALIVE ~= 0
	end
	return setmetatable({
		conn = conn,
		req = req,
		head_only = req.method == "HEAD",
		keep_alive = keep_alive,
		-- There from the beginning, so that the table need not grow.
		status_sent = false,
		finished = false,
	}, response)
end

---Set a header line for the response that will be sent, whoever sends it.
---@param name string
---@param value string|number|(string|number)[]|nil
function response:set(name, value)
	self.fields = self.fields or {}
	self.fields[name:lower()] = value
end

-- The header of the caller over the fields that were set.
local function merged(self, header)
	local fields = self.fields
	if not fields then
		return header
	end
	for name, value in pairs(header or {}) do
		fields[name:lower()] = value
	end
	return fields
end

local function connection_line(self)
	local req = self.req
	if self.conn.server.closing or not (req.at_end or request.can_drain(req, DRAIN_LIMIT)) then
		self.keep_alive = false
	end
	if not self.keep_alive then
		return "connection: close\r\n"
	elseif req.version == "1.0" then
		return "connection: keep-alive\r\n"
	end
	return ""
end

-- The first line, for a response that was not sent yet.
local function begin(self, status)
	if self.status_sent then
		error("the response was already sent", 3)
	end
	return first_line[status]
end

local function lost()
	request.fail(nil, "connection lost in a response")
end

------------------------------------------------------------------------- gzip

local function compressible(kind)
	return kind:find "^text/" or kind:find "json" or kind:find "xml" or kind:find "javascript"
end

local function header_value(header, name)
	for key, value in pairs(header or {}) do
		if key:lower() == name then
			return value
		end
	end
end

-- Whether the client takes gzip (RFC 9110, 12.5.3).
local function accepts_gzip(req)
	local accept = req.header["accept-encoding"]
	if type(accept) == "table" then
		accept = table.concat(accept, ",")
	end
	for coding, parameters in (accept or ""):lower():gmatch "([%w*-]+)([^,]*)" do
		if coding == "gzip" or coding == "*" then
			return not parameters:find "q%s*=%s*0%.?0*%s*$"
		end
	end
	return false
end

-- A compressor if this body is to be compressed; the header that then goes with it.
local function compressor(self, status, header, length)
	local smallest = self.conn.server.gzip
	if not smallest or length and length < smallest or status == 206 then
		return nil, header
	end
	local kind = header_value(header, "content-type")
	if type(kind) ~= "string" or not compressible(kind) or header_value(header, "content-encoding") then
		return nil, header
	end
	local changed = {}
	for name, value in pairs(header) do
		changed[name:lower()] = value
	end
	changed.vary = changed.vary and changed.vary .. ", accept-encoding" or "accept-encoding"
	if not accepts_gzip(self.req) then
		return nil, changed
	end
	changed["content-encoding"] = "gzip"
	changed["accept-ranges"] = nil
	local etag = changed.etag
	if type(etag) == "string" and etag:sub(1, 1) == '"' then
		-- Not the same bytes any more (RFC 9110, 8.8.3.3).
		changed.etag = "W/" .. etag
	end
	return require "http.gzip".deflater(), changed
end

-------------------------------------------------------------------- responses

---Answer with a complete body, in one write. Does not yield.
---@param status integer
---@param body string?
---@param header table<string, string|number|(string|number)[]>?
function response:send(status, body, header)
	local line = begin(self, status)
	if self.fields then
		header = merged(self, header)
	end
	local conn, length = self.conn, true
	if status < 200 or status == 204 or status == 304 then
		body = nil
	else
		body = body or ""
		length = #body
		local smallest = conn.server.gzip
		if smallest and length >= smallest and header and length > 0 then
			local gzip
			gzip, header = compressor(self, status, header, length)
			if gzip then
				body = gzip:write(body, true)
				length = #body
			end
		end
	end
	local extra = date_and(connection_line(self))
	if self.head_only then
		body = nil
	end
	local data, size
	if length ~= true and length > JOIN_LIMIT and body then
		data = { message(line, header, extra, nil, length), body }
	elseif conn.session then
		data = message(line, header, extra, body, length)
	else
		data, size = block(line, header, extra, body, length)
	end
	self.status_sent, self.finished, conn.responding = status, true, true
	if not conn:write(data, size) then
		self.keep_alive = false
	end
end

---Begin a body that is written in pieces; the head goes out with the first of them.
---Does not yield.
---@param status integer
---@param header table<string, string|number|(string|number)[]>?
---@param length integer? its bytes, when known; otherwise it is chunked
function response:start(status, header, length)
	local line = begin(self, status)
	header = merged(self, header)
	local framing = ""
	if status < 200 or status == 204 or status == 304 then
		self.head_only = true
	else
		self.gzip, header = compressor(self, status, header, length)
		if self.gzip then
			length = nil
		end
		if length then
			framing = "content-length: " .. length .. "\r\n"
			self.left = length
		elseif self.req.version == "1.0" then
			self.keep_alive = false
		else
			framing = "transfer-encoding: chunked\r\n"
			self.chunked = true
		end
	end
	local extra = framing .. date_and(connection_line(self))
	self.head = message(line, header, extra, nil, true)
	self.status_sent, self.conn.responding = status, true
end

-- Pass bytes on; the head first. Yields when the peer is slow.
local function pass(self, data)
	if self.head then
		data = self.head .. data
		self.head = nil
	end
	local conn = self.conn
	if not conn:write(data) then
		lost()
	end
	self.unseen = (self.unseen or 0) + #data
	if self.unseen >= UNSEEN_LIMIT then
		self.unseen = 0
		skynet.yield()
	end
	if conn.congested and not conn:flush() then
		lost()
	end
end

local function pass_body(self, data)
	if data == "" then
		return
	elseif self.chunked then
		data = codec.chunk(data)
	end
	pass(self, data)
end

---Write a piece of the body. Raises when the peer is gone, which ends the handler
---quietly. Yields when the peer is slow.
---@param data string
function response:write(data)
	if not self.status_sent or self.finished then
		error("response:write needs response:start, and no response:finish before it", 2)
	elseif self.left then
		self.left = self.left - #data
		if self.left < 0 then
			error("the body is longer than the length given to response:start", 2)
		end
	end
	if self.head_only then
		return
	elseif self.gzip then
		data = self.gzip:write(data)
	end
	pass_body(self, data)
end

---End a body begun with start. The server calls it when the handler has not. Yields
---when the peer is slow.
function response:finish()
	if self.finished then
		return
	end
	self.finished = true
	if self.head_only then
		pass(self, "")
		return
	end
	if self.gzip then
		pass_body(self, self.gzip:write("", true))
	end
	if self.left and self.left > 0 then
		-- The peer cannot tell where this response ends.
		self.keep_alive = false
		self.conn:log "a response is shorter than it was said to be"
	end
	if self.chunked then
		pass(self, codec.chunk "")
	elseif self.head then
		pass(self, "")
	end
end

---Send the client elsewhere. Does not yield.
---@param location string
---@param status integer? default 302
function response:redirect(location, status)
	self:send(status or 302, "", { location = location })
end

return response
