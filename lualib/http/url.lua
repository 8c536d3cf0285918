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
	if not text:find "[%%+]" then
		return text
	end
	return (text:gsub("%+", " "):gsub("%%(..)", decode_byte))
end

---Percent-encode everything but letters, digits and `-._~` (RFC 3986, 2.3).
---@param text string
---@return string
function url.encode(text)
	return (text:gsub("[^%w%-._~]", function(c)
		return string.format("%%%02X", c:byte())
	end))
end

---Split a target. Raises on a malformed percent-encoding.
---@param target string such as "/a%20b?x=1"
---@return string path decoded
---@return string query as it is, "" when there is none
function url.parse(target)
	local path, query = target:match "^([^?]*)%??(.*)$"
	return url.decode(path), query
end

---The pairs of a query, decoded. A repeated name becomes an array of its values; a
---name without `=` has the value "". Raises on a malformed percent-encoding.
---@param query string
---@return table<string, string|string[]>
function url.parse_query(query)
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

return url
