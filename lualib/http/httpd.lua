-- http.httpd: read one request from a function, write one response to a function
-- (RFC 9112). What follows a request is kept for the next call with the same
-- function, so a keep-alive loop is a loop; http.server has one ready made. Owns
-- those kept bytes, as long as the function lives.

local codec = require "http.codec"
local phrase = require "http.status"

---@class http.httpd
local httpd = {}

-- Bytes of a header.
local HEADER_LIMIT = 8192
local HEADER_FIELDS = 256

-- Readers with bytes of the next request, by the function they came from.
local kept = setmetatable({}, { __mode = "k" })

-- Codes that this module has always given.
local CODE = { [414] = 413, [431] = 413 }

-- The next result of a method of the reader. Yields.
local function await(reader, readfunc, method, ...)
	while true do
		local a, b, c, d, e, f = method(reader, ...)
		if a ~= nil then
			return a, b, c, d, e, f
		end
		reader:push(readfunc())
	end
end

-- The body, or nil and a code. Yields.
local function read_chunked(reader, readfunc, limit, header)
	local pieces, size = {}, 0
	while true do
		local data = await(reader, readfunc, reader.chunk, header, limit and limit - size)
		if not data then
			return nil, 413
		elseif data == "" then
			return table.concat(pieces)
		end
		size = size + #data
		pieces[#pieces + 1] = data
	end
end

local function read_sized(reader, readfunc, length)
	local body = reader:take(length) or ""
	if #body < length then
		body = body .. readfunc(length - #body)
	end
	return body
end

local function read_body(reader, readfunc, limit, header, length, flags)
	if flags & codec.CHUNKED ~= 0 then
		return read_chunked(reader, readfunc, limit, header)
	elseif not length then
		return ""
	elseif limit and length > limit then
		return nil, 413
	end
	return read_sized(reader, readfunc, length)
end

local function expects_continue(flags, minor, length)
	return flags & codec.EXPECT ~= 0 and minor > 0 and (length ~= 0 or flags & codec.CHUNKED ~= 0)
end

local function read_request(readfunc, limit, writefunc)
	local reader = kept[readfunc]
	kept[readfunc] = nil
	reader = reader or codec.reader(HEADER_LIMIT, HEADER_LIMIT, HEADER_FIELDS)
	local method, url, head, length, flags, minor = await(reader, readfunc, reader.request)
	if not method then
		return CODE[url] or url
	end
	if length and limit and length > limit then
		return 413
	end
	if writefunc and expects_continue(flags, minor, length) and reader:size() == 0 then
		writefunc "HTTP/1.1 100 Continue\r\n\r\n"
	end
	local header = codec.header(head)
	local body, code = read_body(reader, readfunc, limit, header, length, flags)
	if not body then
		return code
	end
	if reader:size() > 0 then
		kept[readfunc] = reader
	end
	return 200, url, method, header, body
end

---Read a request. Yields when `readfunc` does.
---@param readfunc fun(n: integer?): string as sockethelper.readfunc gives it
---@param bodylimit integer? most bytes of the body
---@param writefunc fun(data: string)? asks for a body that waits for `100 Continue`
---@return integer? code 200; another code to answer with; nil when reading failed
---@return any url the target; after nil: the error
---@return string? method
---@return table<string, string|string[]>? header names in lower case
---@return string? body
function httpd.read_request(readfunc, bodylimit, writefunc)
	local ok, code, url, method, header, body = pcall(read_request, readfunc, bodylimit, writefunc)
	if ok then
		return code, url, method, header, body
	end
	return nil, code
end

---Take the bytes that came after the last request, for another protocol.
---@param readfunc function
---@return string
function httpd.pending(readfunc)
	local reader = kept[readfunc]
	kept[readfunc] = nil
	return reader and reader:take() or ""
end

local function write_pieces(writefunc, head, next_piece)
	local piece = next_piece()
	while piece do
		if piece ~= "" then
			writefunc(head .. codec.chunk(piece))
			head = ""
		end
		piece = next_piece()
	end
	writefunc(head .. codec.chunk "")
end

-- What a caller gives that makes no sense, as a text with the place of his line; he is two
-- functions away.
local function wrong_argument(writefunc, status, body, header)
	local kind, text = type(body), nil
	if not status then
		text = "the status must be a whole number from 100 to 999, such as 200"
	elseif body ~= nil and kind ~= "string" and kind ~= "function" then
		text = "body must be a string, a function or nil, not a " .. kind
	elseif header ~= nil and type(header) ~= "table" then
		text = "header must be a table or nil, not a " .. type(header)
	elseif writefunc == nil then
		text = "the first argument must be a function that writes, see sockethelper.writefunc"
	end
	return text and select(2, pcall(error, "httpd.write_response: " .. text, 4))
end

local function write_response(writefunc, status, body, header)
	local first = string.format("HTTP/1.1 %03d %s", status, phrase[status] or "")
	local kind = type(body)
	if kind == "string" then
		writefunc(codec.message(first, header, "", body, #body))
	elseif kind == "function" then
		local head = codec.message(first, header, "transfer-encoding: chunked\r\n", nil, true)
		write_pieces(writefunc, head, body)
	else
		writefunc(codec.message(first, header, ""))
	end
end

---Write a response, in one piece if the body is a string. Yields when the functions do.
---@param writefunc fun(data: string)
---@param status integer
---@param body string|nil|fun(): string? a function is called until it gives nil; chunked
---@param header table<string, string|number|(string|number)[]>?
---@return boolean ok
---@return any err
function httpd.write_response(writefunc, status, body, header)
	status = math.tointeger(tonumber(status))
	local wrong = wrong_argument(writefunc, status and status >= 100 and status <= 999 and status, body, header)
	if wrong then
		return false, wrong
	end
	local ok, err = pcall(write_response, writefunc, status, body, header)
	if ok then
		return true
	end
	return false, err
end

return httpd
