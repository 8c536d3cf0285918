-- skynet.readfile: what is in a file. What can't be read is neither missing nor empty. Owns
-- nothing; for plain Lua, too.

---@param name string
---@return string? text nil: it can't be had
---@return string? why not, as the system says
---@return boolean? is_missing
return function(name)
	local file, why, code = io.open(name, "rb")
	if not file then
		-- Whose text begins with the name. 2: ENOENT.
		return nil, why:sub(#name + 3), code == 2
	end
	local text
	text, why = file:read "a"
	file:close()
	return text, why, false
end
