-- skynet.misuse: the error for an argument that makes no sense, worded as Lua's own. Who
-- finds one loads this then, so that services without a mistake never do. Owns nothing.

local function shown(value)
	local kind = type(value)
	if kind == "number" or kind == "boolean" then
		return kind .. " " .. tostring(value)
	end
	return kind
end

---Raises, at the caller of the public function that calls this.
---@param where string the public function, e.g. "socket.open"
---@param index integer of the argument
---@param want string what it is to be
---@param got any
---@param deeper integer? functions between the public one and this, default 0
---@param ending string? what callers may look for at the end of the text
return function(where, index, want, got, deeper, ending)
	error(string.format("bad argument #%d to '%s' (%s expected, got %s)%s", index, where, want,
		shown(got), ending or ""), 3 + (deeper or 0))
end
