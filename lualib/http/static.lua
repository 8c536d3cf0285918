-- http.static: the files of a folder over HTTP, with ranges and conditional requests
-- (RFC 9110, 13 and 14). Only regular files below the folder are reached; symbolic
-- links are not followed, and names that begin with a dot are not served. Reading a
-- file may hold up the worker while the disk works.

local codec = require "http.codec"
local file = require "http.file"
local check_options = require "skynet.options".check

local static = {}

-- Bytes that are read and sent at a time.
local PIECE = 64 * 1024

local TYPES = {
	css = "text/css; charset=utf-8",
	csv = "text/csv; charset=utf-8",
	gif = "image/gif",
	gz = "application/gzip",
	htm = "text/html; charset=utf-8",
	html = "text/html; charset=utf-8",
	ico = "image/x-icon",
	jpeg = "image/jpeg",
	jpg = "image/jpeg",
	js = "text/javascript; charset=utf-8",
	json = "application/json",
	lua = "text/plain; charset=utf-8",
	map = "application/json",
	md = "text/markdown; charset=utf-8",
	mjs = "text/javascript; charset=utf-8",
	mp3 = "audio/mpeg",
	mp4 = "video/mp4",
	ogg = "audio/ogg",
	pdf = "application/pdf",
	png = "image/png",
	svg = "image/svg+xml",
	txt = "text/plain; charset=utf-8",
	wasm = "application/wasm",
	wav = "audio/wav",
	webm = "video/webm",
	webp = "image/webp",
	woff = "font/woff",
	woff2 = "font/woff2",
	xml = "application/xml",
	zip = "application/zip",
}

---@class http.static.options
---@field index string? the file of a folder, default "index.html"
---@field types table<string, string>? content types by suffix, before the built-in ones
---@field cache_control string? value of that header line

local RULES = { index = "string", types = "table", cache_control = "string" }

---------------------------------------------------------------- conditions

-- One value of a field that may have been repeated.
local function joined(value)
	return type(value) == "table" and table.concat(value, ", ") or value
end

-- Whether a list of entity tags has this one, by weak comparison.
local function has_tag(list, etag)
	if list:match "^%s*%*%s*$" then
		return true
	end
	for tag in list:gmatch '"[^"]*"' do
		if tag == etag then
			return true
		end
	end
	return false
end

-- The status that the conditions of a request ask for, nil to go on (RFC 9110, 13.2.2).
local function precondition(header, etag, modified)
	local match = joined(header["if-match"])
	if match then
		-- Strong comparison: weak tags never match.
		if not has_tag(match:gsub('W/"[^"]*"', ""), etag) then
			return 412
		end
	else
		local since = file.parse_date(header["if-unmodified-since"])
		if since and modified > since then
			return 412
		end
	end
	local none = joined(header["if-none-match"])
	if none then
		return has_tag(none, etag) and 304 or nil
	end
	local since = file.parse_date(header["if-modified-since"])
	return since and modified <= since and 304 or nil
end

---------------------------------------------------------------------- ranges

-- Decimal digits as a number; too many of them are beyond any file.
local function offset(digits)
	return #digits <= 18 and math.tointeger(tonumber(digits)) or math.maxinteger
end

-- First and last byte of a Range value for a body of so many bytes; nil: there is no
-- valid range, so all is sent; false: it lies outside.
local function byte_range(value, size)
	local first, last = value:match "^bytes=%s*(%d*)%s*%-%s*(%d*)%s*$"
	if not first or first == "" and last == "" then
		return nil
	elseif first == "" then
		local n = math.min(offset(last), size)
		if n == 0 then
			return false
		end
		return size - n, size - 1
	end
	local from = offset(first)
	local to = last == "" and size - 1 or math.min(offset(last), size - 1)
	if last ~= "" and offset(last) < from then
		return nil
	elseif from >= size then
		return false
	end
	return from, to
end

-- Several ranges in one answer are not made; RFC 9110, 14.2 lets a server ignore them,
-- but a client that asked is told.
local function is_many(value)
	return value:match "^bytes=" and value:find(",", 1, true)
end

local function range_applies(header, etag, date)
	local condition = header["if-range"]
	return condition == nil or condition == etag or condition == date
end

------------------------------------------------------------------------ files

local function content_type(name, options)
	local suffix = (name:match "%.([^./]+)$" or ""):lower()
	return options.types and options.types[suffix] or TYPES[suffix] or "application/octet-stream"
end

local function plain(res, status, header)
	res:send(status, status == 404 and "not found\n" or "", header)
end

local function send_part(res, f, status, header, from, to)
	res:start(status, header, to - from + 1)
	if res.head_only then
		return res:finish()
	end
	while from <= to do
		local data = f:read(from, math.min(PIECE, to - from + 1))
		if data == "" then
			-- The file has become shorter; the server closes the connection.
			break
		end
		from = from + #data
		res:write(data)
	end
	res:finish()
end

local function send_file(req, res, f, name, options)
	local size, modified, mark = f:stat()
	local etag = string.format('"%x-%x"', size, mark)
	local date = codec.date(modified)
	local header = {
		["content-type"] = content_type(name, options),
		["last-modified"] = date,
		["etag"] = etag,
		["accept-ranges"] = "bytes",
		["cache-control"] = options.cache_control,
	}
	local status = precondition(req.header, etag, modified)
	if status then
		return res:send(status, "", header)
	end
	local range = req.method == "GET" and joined(req.header.range)
	if not range or not range_applies(req.header, etag, date) then
		return send_part(res, f, 200, header, 0, size - 1)
	end
	if is_many(range) then
		return res:send(416, "only one range at a time\n",
			{ ["content-range"] = "bytes */" .. size, ["content-type"] = "text/plain" })
	end
	local from, to = byte_range(range, size)
	if from == false then
		return res:send(416, "", { ["content-range"] = "bytes */" .. size })
	elseif from == nil then
		return send_part(res, f, 200, header, 0, size - 1)
	end
	header["content-range"] = string.format("bytes %d-%d/%d", from, to, size)
	send_part(res, f, 206, header, from, to)
end

-- Whether the path stays where it should, whatever the file system makes of it.
local function is_sound(path)
	for segment in path:gmatch "[^/]+" do
		if segment:sub(1, 1) == "." or segment:find "[%z\\]" then
			return false
		end
	end
	return not path:find("//", 1, true)
end

---A handler that serves the files of a folder: handler(req, res, path), where `path`
---is decoded and relative to the folder. Raises when there is no such folder.
---@param folder string
---@param options http.static.options?
---@return fun(req: http.request, res: http.response, path: string)
function static.handler(folder, options)
	if type(folder) ~= "string" then
		require "skynet.misuse"("static.handler", 1, "string", folder)
	end
	check_options("http.static", options, RULES)
	options = options or {}
	local root = assert(file.root(folder))
	local index = options.index or "index.html"
	return function(req, res, path)
		if not is_sound(path) then
			return plain(res, 404)
		end
		if path == "" or path:sub(-1) == "/" then
			path = path .. index
		end
		local f, why, failed = root:open(path)
		if f == nil and why == "folder" then
			-- Relative links in its index need the slash. What a client sent is not
			-- decoded, so it can be sent back; but not as the name of another host.
			return res:redirect((req.path:gsub("^/+", "/")) .. "/", 301)
		elseif failed then
			-- Not 404, which may be remembered.
			error(("can't open %s/%s: %s"):format(folder, path, why), 0)
		elseif f == nil then
			return plain(res, 404)
		end
		local ok, err = pcall(send_file, req, res, f, path, options)
		f:close()
		if not ok then
			error(err, 0)
		end
	end
end

return static
