-- http.internal: the pieces of HTTP/1.1 that servers, clients and the websocket
-- handshake share, on top of a function that reads. Strict after RFC 9112: what could
-- be read in two ways is refused. Everything that reads yields when the function does,
-- and passes its errors on. Keeps no state.

local codec = require "http.codec"
local exchange = require "http.exchange"

---@class http.internal
local internal = {}

-- Most bytes and lines of a header.
local HEADER_LIMIT = 8192
local HEADER_FIELDS = 256
local CRLF = "\r\n"
-- What an interface is, in errors.
local INTERFACE = "table with read, write and readall"
-- A byte that is in no name.
local NO_TOKEN = "[^%w!#$%%&'*+%-.^_`|~]"

-- Raises when an argument of a public function is not what it is to be.
local function check(is_fine, where, index, want, got, deeper)
	if not is_fine then
		require "skynet.misuse"("internal." .. where, index, want, got, 1 + (deeper or 0))
	end
end

local function can_be_called(f)
	return type(f) == "function" or type(f) == "table"
end

local function is_optional(kind, value)
	return value == nil or type(value) == kind
end

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
	check(can_be_called(readbytes), "recvheader", 1, "function", readbytes)
	check(type(lines) == "table", "recvheader", 2, "table", lines)
	check(is_optional("string", prefix), "recvheader", 3, "string", prefix)
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
	check(type(lines) == "table", "parseheader", 1, "list of lines", lines)
	check(math.type(from) == "integer", "parseheader", 2, "number of a line", from)
	check(type(header) == "table", "parseheader", 3, "table", header)
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

-- What http.exchange and codec read from, on top of a function.
local function source_of(readbytes, first)
	local reader = codec.reader(HEADER_LIMIT, HEADER_LIMIT, HEADER_FIELDS)
	if first and first ~= "" then
		reader:push(first)
	end
	return { reader = reader, read = function() return readbytes() end }
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
	check(can_be_called(readbytes), "recvchunkedbody", 1, "function", readbytes)
	check(is_optional("number", limit), "recvchunkedbody", 2, "number of bytes", limit)
	check(type(header) == "table", "recvchunkedbody", 3, "table", header)
	check(is_optional("string", prefix), "recvchunkedbody", 4, "string", prefix)
	local reader = source_of(readbytes, prefix).reader
	local body, size = {}, 0
	while true do
		local data = reader:chunk(header, limit and limit - size)
		if data == false then
			return
		elseif data == "" then
			return table.concat(body), header, reader:take() or ""
		elseif data then
			size = size + #data
			body[#body + 1] = data
		else
			reader:push(readbytes())
		end
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
	check_text(name, NO_TOKEN, "header name")
	value = check_text(tostring(value), "[%z\r\n]", "header value")
	out[#out + 1] = name .. ":" .. value .. CRLF
end

-- The header lines of a request. The caller's table is only read.
local function append_header(out, host, header)
	local has_host, chunked = false, false
	for name, value in pairs(header or {}) do
		local lower = tostring(name):lower()
		has_host = has_host or lower == "host"
		chunked = chunked or lower == "transfer-encoding" and tostring(value):lower() == "chunked"
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

---The bytes of a request.
---@param method string
---@param host string as the Host field is to be
---@param url string the target
---@param header table?
---@param content string?
---@return string
function internal.request_text(method, host, url, header, content)
	check(is_optional("table", header), "request_text", 4, "table", header)
	check(is_optional("string", content), "request_text", 5, "string", content)
	local out = { string.format("%s %s HTTP/1.1\r\n", check_text(method, NO_TOKEN, "method"),
		check_text(url, "[%c ]", "url")) }
	local chunked = append_header(out, host, header)
	if not chunked then
		out[#out + 1] = "Content-length:" .. #(content or "") .. CRLF
	end
	out[#out + 1] = CRLF
	out[#out + 1] = content
	return table.concat(out)
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
	check(type(interface) == "table", "request", 1, INTERFACE, interface)
	check(is_optional("table", recvheader), "request", 5, "table", recvheader)
	check(is_optional("table", header), "request", 6, "table", header)
	check(is_optional("string", content), "request", 7, "string", content)
	interface.write(internal.request_text(method, host, url, header, content))
	local source = source_of(interface.read)
	local head = exchange.head(source, method)
	local got = recvheader or {}
	for name, value in pairs(head.header) do
		got[name] = value
	end
	return head.status, source.reader:take() or "", got
end

------------------------------------------------------------------- responses

local function check_response(where, interface, code, extra, header)
	check(type(interface) == "table", where, 1, INTERFACE, interface, 1)
	check(math.type(code) == "integer", where, 2, "status code", code, 1)
	check(is_optional("string", extra), where, 3, "string", extra, 1)
	check(type(header) == "table", where, 4, "table", header, 1)
end

-- How the body ends, as exchange.pieces has it.
local function framing(code, header)
	if code < 200 or code == 204 or code == 304 then
		return "none"
	end
	local length, encoding = header["content-length"], header["transfer-encoding"]
	if encoding and encoding ~= "identity" then
		if type(encoding) ~= "string" or encoding:lower() ~= "chunked" then
			error("Unsupport transfer-encoding", 0)
		end
		return "chunked"
	end
	return length and math.tointeger(tonumber(length)) or "close"
end

-- A source that ends when readall has given the rest.
local function source_to_end(interface, extra, how)
	local source = source_of(interface.read, extra)
	if how == "close" then
		local done = false
		function source.read()
			if not done then
				done = true
				local data = interface.readall()
				return data ~= "" and data or nil
			end
		end
	end
	return source
end

---Read the body that follows the head.
---@param interface {read: function, write: function, readall: function}
---@param code integer
---@param extra string bytes that came with the head
---@param header table<string, string|string[]> as internal.request gave it
---@return string
function internal.response(interface, code, extra, header)
	check_response("response", interface, code, extra, header)
	local how = framing(code, header)
	return exchange.join(exchange.pieces(source_to_end(interface, extra, how), how, header))
end

---Read the body that follows the head piece by piece.
---@param interface {read: function, write: function, readall: function}
---@param code integer
---@param extra string bytes that came with the head
---@param header table<string, string|string[]> as internal.request gave it
---@return http.stream
function internal.response_stream(interface, code, extra, header)
	check_response("response_stream", interface, code, extra, header)
	local how = framing(code, header)
	return exchange.stream(source_to_end(interface, extra, how), code, header, how)
end

return internal
