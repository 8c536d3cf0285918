-- skynet.inject: run source text inside a running service (debug command RUN),
-- with the service's tables in reach. Owns nothing.

-- Collect the tables that a function's upvalues lead to; functions among them are
-- followed, each once.
local function collect_upvalues(f, tables, seen)
	if type(f) ~= "function" or seen[f] then
		return
	end
	seen[f] = true
	local i = 1
	while true do
		local name, value = debug.getupvalue(f, i)
		if name == nil then
			return
		end
		if type(value) == "table" then
			tables[name] = value
		elseif type(value) == "function" then
			collect_upvalues(value, tables, seen)
		end
		i = i + 1
	end
end

-- print for the injected code: a line per call, values up to the first nil.
local function line_collector(output)
	return function(...)
		local words = {}
		for _, value in ipairs { ... } do
			words[#words + 1] = tostring(value)
		end
		output[#output + 1] = table.concat(words, "\t")
	end
end

local function environment(skynet, output, roots)
	local seen, upvalues, protocols = {}, {}, {}
	for _, root in ipairs(roots) do
		collect_upvalues(root, upvalues, seen)
	end
	for name, class in pairs(skynet._proto) do
		if type(name) == "string" and type(class.dispatch) == "function" then
			local tables = {}
			collect_upvalues(class.dispatch, tables, seen)
			protocols[name] = tables
		end
	end
	return setmetatable({
		print = line_collector(output),
		_U = upvalues,
		_P = protocols,
	}, { __index = _ENV })
end

---Run source text in this service. The code sees `print` (collected), `_U` (tables
---reachable from the root functions), `_P` (protocol name -> tables reachable from
---its dispatch function) and, for reading, the service's globals. It may yield.
---@param skynet table
---@param source string text or binary chunk
---@param filename string?
---@param args table arguments of the chunk, with n
---@param ... function root functions
---@return boolean ok
---@return string[] output lines; the last one is the error message unless ok
return function(skynet, source, filename, args, ...)
	local output = {}
	local env = environment(skynet, output, { ... })
	local chunkname = filename and "@" .. filename or "=(load)"
	local f, err = load(source, chunkname, "bt", env)
	if not f then
		return false, { err }
	end
	local ok, msg = pcall(f, table.unpack(args, 1, args.n))
	if not ok then
		output[#output + 1] = tostring(msg)
	end
	return ok, output
end
