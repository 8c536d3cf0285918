-- http.url: the path and the query of a request target (RFC 3986, and the plus sign
-- of HTML forms). Pure functions; nothing here yields.

---@class http.url
local url = {}

local function decode_byte(hex)
	local byte = hex:match "^%x%x$" and tonumber(hex, 16)
	if not byte then
		error("Invalid percent-encoding %" .. hex, 0)
	end
	return string.char(byte)
end

---Undo percent-encoding; a plus is a blank. A cut-off `%4` at the end stays as it is.
---Raises on `%zz`.
---@param text string
---@return string
function url.decode(text)
	if type(text) ~= "string" then
		require "skynet.misuse"("url.decode", 1, "string", text)
	end
	if not text:find "[%%+]" then
		return text
	end
	return (text:gsub("%+", " "):gsub("%%(..)", decode_byte))
end

---Percent-encode everything but letters, digits and `-._~` (RFC 3986, 2.3).
---@param text string
---@return string
function url.encode(text)
	if type(text) ~= "string" then
		require "skynet.misuse"("url.encode", 1, "string", text)
	end
	return (text:gsub("[^%w%-._~]", function(c)
		return string.format("%%%02X", c:byte())
	end))
end

---Split a target. Raises on a malformed percent-encoding.
---@param target string such as "/a%20b?x=1"
---@return string path decoded
---@return string query as it is, "" when there is none
function url.parse(target)
	if type(target) ~= "string" then
		require "skynet.misuse"("url.parse", 1, "string", target)
	end
	local path, query = target:match "^([^?]*)%??(.*)$"
	return url.decode(path), query
end

---The pairs of a query, decoded. A repeated name becomes an array of its values; a
---name without `=` has the value "". Raises on a malformed percent-encoding.
---@param query string
---@return table<string, string|string[]>
function url.parse_query(query)
	if type(query) ~= "string" then
		require "skynet.misuse"("url.parse_query", 1, "string", query)
	end
	local pairs_of = {}
	for piece in query:gmatch "[^&]+" do
		local name, value = piece:match "^([^=]*)=?(.*)$"
		name, value = url.decode(name), url.decode(value)
		local old = pairs_of[name]
		if old == nil then
			pairs_of[name] = value
		elseif type(old) == "table" then
			old[#old + 1] = value
		else
			pairs_of[name] = { old, value }
		end
	end
	return pairs_of
end

---@class http.url.parts
---@field scheme string in lower case
---@field authority string host and port as they are, without user info
---@field target string path and query, at least "/"

---Split an absolute URL. User info and the fragment are left out.
---@param text string
---@return http.url.parts? # nil when it is none
function url.split(text)
	if type(text) ~= "string" then
		require "skynet.misuse"("url.split", 1, "string", text)
	end
	local scheme, rest = text:match "^(%a[%w+.-]*)://(.*)$"
	if not scheme then
		return
	end
	local authority, target = rest:match "^([^/?#]*)([^#]*)"
	authority = authority:match "([^@]*)$"
	if authority == "" then
		return
	elseif target:sub(1, 1) ~= "/" then
		target = "/" .. target
	end
	return { scheme = scheme:lower(), authority = authority, target = target }
end

-- A path without its dot segments (RFC 3986, 5.2.4).
local function without_dots(path)
	local out = {}
	for segment in path:gmatch "/([^/]*)" do
		if segment == ".." then
			out[#out] = nil
		elseif segment ~= "." then
			out[#out + 1] = segment
		end
	end
	local last = path:match "/([^/]*)$"
	local slash = (last == "." or last == "..") and #out > 0 and "/" or ""
	return "/" .. table.concat(out, "/") .. slash
end

---The absolute URL that a reference means in a document (RFC 3986, 5.2).
---@param base string absolute
---@param reference string
---@return string? # nil when `base` is not absolute
function url.resolve(base, reference)
	if type(base) ~= "string" then
		require "skynet.misuse"("url.resolve", 1, "string", base)
	end
	if type(reference) ~= "string" then
		require "skynet.misuse"("url.resolve", 2, "string", reference)
	end
	local parts = url.split(base)
	if not parts then
		return
	elseif url.split(reference) then
		return reference
	elseif reference:sub(1, 2) == "//" then
		return parts.scheme .. ":" .. reference
	end
	local path, query = parts.target:match "^([^?]*)(.*)$"
	local to_path, to_query = reference:match "^([^?#]*)([^#]*)"
	if to_path == "" then
		to_path, to_query = path, to_query ~= "" and to_query or query
	elseif to_path:sub(1, 1) ~= "/" then
		to_path = path:match "^(.*/)" .. to_path
	end
	return parts.scheme .. "://" .. parts.authority .. without_dots(to_path) .. to_query
end

return url
