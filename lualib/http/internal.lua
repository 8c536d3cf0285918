-- http.internal: the pieces of HTTP/1.1 that servers, clients and the websocket
-- handshake share, on top of a function that reads. Strict after RFC 9112: what could
-- be read in two ways is refused. Everything that reads yields when the function does,
-- and passes its errors on. Keeps no state.

---@class http.internal
local internal = {}

-- Longest header as a whole, and longest line of chunked framing.
local HEADER_LIMIT = 8192
local CHUNK_LINE_LIMIT = 128
-- What readbytes gives while nothing else is known to be there.
local CRLF = "\r\n"

-- A place to collect arriving bytes without joining them each time.
local function collector(first)
	return { first or "", size = #(first or "") }
end

local function collect(c, data)
	c[#c + 1] = data
	c.size = c.size + #data
end

local function joined(c)
	return table.concat(c)
end

-- Everything up to the blank line, and what follows it; nothing beyond the limit.
local function read_head(readbytes, first)
	local c = collector(first)
	local tail = c[1]
	while true do
		if tail:find("\r\n\r\n", 1, true) then
			local data = joined(c)
			local _, last = data:find("\r\n\r\n", 1, true)
			if last > HEADER_LIMIT then
				return
			end
			return data:sub(1, last - 2), data:sub(last + 1)
		end
		if c.size >= HEADER_LIMIT then
			return
		end
		local data = readbytes()
		collect(c, data)
		-- The end may begin in the bytes before.
		tail = tail:sub(-3) .. data
	end
end

---Read until the blank line that ends a header.
---@param readbytes fun(): string
---@param lines string[] gets the lines
---@param prefix string? bytes read before; CRLF at their beginning means no lines
---@return string? rest the bytes behind the header; nil if it is over 8192 bytes long
function internal.recvheader(readbytes, lines, prefix)
	prefix = prefix or ""
	while #prefix < 2 do
		prefix = prefix .. readbytes()
	end
	if prefix:sub(1, 2) == CRLF then
		return prefix:sub(3)
	end
	local head, rest = read_head(readbytes, prefix)
	if not head then
		return
	end
	for line in head:gmatch "(.-)\r\n" do
		lines[#lines + 1] = line
	end
	return rest
end

local function add_field(header, name, value)
	local old = header[name]
	if old == nil then
		header[name] = value
	elseif type(old) == "table" then
		old[#old + 1] = value
	else
		header[name] = { old, value }
	end
end

-- A line that begins with a tab belongs to the field before.
local function continue_field(header, name, line)
	local old = header[name]
	local more = line:match "^\t[\t ]*(.*)$"
	if type(old) == "table" then
		old[#old] = old[#old] .. more
	elseif old then
		header[name] = old .. more
	else
		return false
	end
	return true
end

---Sort header lines into a table: names in lower case, a repeated name has an array,
---a line that begins with a tab continues the value before.
---@param lines string[]
---@param from integer the first line to look at
---@param header table<string, string|string[]>
---@return table<string, string|string[]>? # `header`, nil when a line is malformed
function internal.parseheader(lines, from, header)
	local name
	for i = from, #lines do
		local line = lines[i]
		if line:find "[%z\1-\8\10-\31\127]" then
			return
		elseif line:byte(1) == 9 then
			if not name or not continue_field(header, name, line) then
				return
			end
		else
			local value
			name, value = line:match "^([%w!#$%%&'*+%-.^_`|~]+):[ \t]*(.*)$"
			if not name then
				return
			end
			name = name:lower()
			add_field(header, name, value)
		end
	end
	return header
end

-------------------------------------------------------------- chunked bodies

-- Reads that begin with bytes that were read before.
local function buffered(readbytes, first)
	local data = first or ""
	local self = {}

	-- The next line without its end, nil when it is longer than the limit.
	function self.line(limit)
		local from = 1
		while true do
			local at = data:find(CRLF, from, true)
			if at and at - 1 <= limit then
				local line = data:sub(1, at - 1)
				data = data:sub(at + 2)
				return line
			elseif at or #data > limit + 1 then
				return
			end
			from = math.max(1, #data)
			data = data .. readbytes()
		end
	end

	function self.exactly(n)
		if #data >= n then
			local part = data:sub(1, n)
			data = data:sub(n + 1)
			return part
		end
		local part = data
		data = ""
		return part .. readbytes(n - #part)
	end

	-- Lines up to the blank one into `header`; false when they are malformed.
	function self.trailer(header)
		local lines = {}
		data = internal.recvheader(readbytes, lines, data)
		return data and internal.parseheader(lines, 1, header)
	end

	function self.rest()
		return data
	end

	return self
end

-- The size that a chunk line states; nil when it is malformed.
local function chunk_size(line)
	local digits, extension = line:match "^(%x+)[ \t]*(.*)$"
	if not digits or #digits > 15 or line:find "[%z\1-\8\10-\31\127]" then
		return
	end
	if extension ~= "" and extension:sub(1, 1) ~= ";" or extension == "" and #digits ~= #line then
		return
	end
	return tonumber(digits, 16)
end

-- The next chunk: its bytes, "" at the end, nil when it is malformed or over `limit`.
local function next_chunk(from, limit, header)
	local line = from.line(CHUNK_LINE_LIMIT)
	local size = line and chunk_size(line)
	if not size or limit and size > limit then
		return
	elseif size == 0 then
		return from.trailer(header) and ""
	end
	local data = from.exactly(size + 2)
	if data:sub(-2) == CRLF then
		return data:sub(1, -3)
	end
end

---Read a chunked body.
---@param readbytes fun(n: integer?): string
---@param limit integer? most bytes of the body
---@param header table<string, string|string[]> gets the trailers
---@param prefix string? bytes read before
---@return string? body nil when it is malformed, or longer than the limit
---@return table? header
---@return string? rest the bytes behind the body
function internal.recvchunkedbody(readbytes, limit, header, prefix)
	local from = buffered(readbytes, prefix)
	local body = collector()
	while true do
		local data = next_chunk(from, limit and limit - body.size, header)
		if not data then
			return
		elseif data == "" then
			return joined(body), header, from.rest()
		end
		collect(body, data)
	end
end

-------------------------------------------------------------------- requests

local function check_text(text, pattern, what)
	if type(text) ~= "string" or text:find(pattern) then
		error(string.format("Invalid %s in an HTTP request: %q", what, tostring(text)), 0)
	end
	return text
end

local function append_field(out, name, value)
	check_text(name, "[^%w!#$%%&'*+%-.^_`|~]", "header name")
	value = check_text(tostring(value), "[%z\r\n]", "header value")
	out[#out + 1] = name .. ":" .. value .. CRLF
end

-- The header lines of a request. The caller's table is only read.
local function append_header(out, host, header)
	local has_host, chunked = false, false
	for name, value in pairs(header or {}) do
		local lower = tostring(name):lower()
		has_host = has_host or lower == "host"
		chunked = chunked or lower == "transfer-encoding" and value == "chunked"
		if lower ~= "content-length" then
			if type(value) == "table" then
				for _, v in ipairs(value) do
					append_field(out, name, v)
				end
			else
				append_field(out, name, value)
			end
		end
	end
	if not has_host then
		table.insert(out, 2, "host:" .. check_text(host, "[%c ]", "host") .. CRLF)
	end
	return chunked
end

-- The first line of a response: its code, nil when it is none.
local function status_of(line)
	local code, rest = line:match "^HTTP/1%.[01] (%d%d%d)(.*)$"
	if code and (rest == "" or rest:sub(1, 1) == " ") then
		return tonumber(code)
	end
end

local function read_response_head(readbytes, extra, recvheader)
	local lines = {}
	local rest = internal.recvheader(readbytes, lines, extra)
	if not rest then
		error("Recv header failed", 0)
	end
	local code = lines[1] and status_of(lines[1])
	if not code then
		error(string.format("Invalid HTTP response header: %q", tostring(lines[1])), 0)
	end
	for i = 2, #lines do
		if lines[i]:find "^[ \t]" then
			error("Invalid HTTP response header: folded line", 0)
		end
	end
	local header = internal.parseheader(lines, 2, recvheader)
	if not header then
		error("Invalid HTTP response header", 0)
	end
	return code, rest, header
end

---Send a request and read the head of its response; interim responses but 101 are
---passed over.
---@param interface {read: function, write: function, readall: function}
---@param method string
---@param host string as the Host field is to be
---@param url string the target
---@param recvheader table? gets the header of the response
---@param header table? fields of the request
---@param content string?
---@return integer code
---@return string extra bytes of the body that came along
---@return table<string, string|string[]> header
function internal.request(interface, method, host, url, recvheader, header, content)
	local out = { string.format("%s %s HTTP/1.1\r\n", check_text(method, "[^%w!#$%%&'*+%-.^_`|~]", "method"),
		check_text(url, "[%c ]", "url")) }
	local chunked = append_header(out, host, header)
	if not chunked then
		out[#out + 1] = "Content-length:" .. #(content or "") .. CRLF
	end
	out[#out + 1] = CRLF
	out[#out + 1] = content
	interface.write(table.concat(out))
	local extra
	while true do
		local target = {}
		local code, rest
		code, rest, target = read_response_head(interface.read, extra, target)
		if code >= 200 or code == 101 then
			recvheader = recvheader or {}
			for name, value in pairs(target) do
				recvheader[name] = value
			end
			return code, rest, recvheader
		end
		extra = rest
	end
end

------------------------------------------------------------------- responses

-- How the body ends: "none", "chunked", "close", or its length.
local function framing(code, header)
	if code < 200 or code == 204 or code == 304 then
		return "none"
	end
	local length, encoding = header["content-length"], header["transfer-encoding"]
	if encoding and encoding ~= "identity" then
		if type(encoding) ~= "string" or encoding:lower() ~= "chunked" then
			error("Unsupport transfer-encoding", 0)
		elseif length then
			error("Invalid HTTP response header: both content-length and transfer-encoding", 0)
		end
		return "chunked"
	elseif length then
		if type(length) ~= "string" or not length:match "^%d+[ \t]*$" or #length > 18 then
			error("Invalid HTTP response header: content-length", 0)
		end
		return math.tointeger(tonumber(length))
	end
	return "close"
end

---Read the body that follows the head.
---@param interface {read: function, write: function, readall: function}
---@param code integer
---@param extra string bytes that came with the head
---@param header table<string, string|string[]> as internal.request gave it
---@return string
function internal.response(interface, code, extra, header)
	local how = framing(code, header)
	if how == "none" then
		return ""
	elseif how == "close" then
		return extra .. interface.readall()
	elseif how == "chunked" then
		local body = internal.recvchunkedbody(interface.read, nil, header, extra)
		return body or error("Invalid response body", 0)
	end
	if #extra >= how then
		return extra:sub(1, how)
	end
	return extra .. interface.read(how - #extra)
end

return internal
