-- skynet.injectcode: run source text in the scope of one frame of a coroutine, as
-- debuggers do. Owns nothing.
--
-- The text becomes a function inside a chunk that declares the frame's names as
-- locals. Those that stand for upvalues are joined with the frame's own; those
-- that stand for locals get the value before the run, and the frame gets it back
-- after a successful one.

-- Does the text use the name? (A word in a string counts; that does no harm.)
local function mentions(source, name)
	return source:find("%f[%w_]" .. name .. "%f[^%w_]") ~= nil
end

local function is_name(name)
	return name:find "^[%a_][%w_]*$" ~= nil and name ~= "_ENV"
end

-- Names that the text uses and the frame knows -> { upvalue = i } or
-- { index = i, value = v }; and the value of _ENV there. level: as seen here.
local function read_scope(co, level, func, source)
	local scope, env = {}, _ENV
	local i = 1
	while true do
		local name, value = debug.getupvalue(func, i)
		if name == nil then
			break
		end
		if name == "_ENV" then
			env = value
		elseif is_name(name) and mentions(source, name) then
			scope[name] = { upvalue = i }
		end
		i = i + 1
	end
	i = 1
	while true do
		local name, value = debug.getlocal(co, level, i)
		if name == nil then
			break
		end
		if name == "_ENV" then
			env = value
		elseif is_name(name) and mentions(source, name) then
			-- A later local of the same name hides the earlier one.
			scope[name] = { index = i, value = value }
		end
		i = i + 1
	end
	return scope, env
end

local function read_varargs(co, level)
	local list, n = {}, 0
	while true do
		local name, value = debug.getlocal(co, level, -(n + 1))
		if name == nil then
			return list, n
		end
		n = n + 1
		list[n] = value
	end
end

local function compile(source, scope, env, ext)
	local names = {}
	for name in pairs(scope) do
		names[#names + 1] = name
	end
	local declare = #names > 0 and "local " .. table.concat(names, ",") .. " " or ""
	local text = declare .. "return function(...) " .. source .. "\nend"
	local globals = setmetatable({}, {
		__index = function(_, key)
			local value = ext and ext[key]
			if value == nil then
				value = env[key]
			end
			return value
		end,
		__newindex = env,
	})
	local chunk, err = load(text, "=(debug)", "t", globals)
	if not chunk then
		return nil, err
	end
	return chunk()
end

-- Connect the upvalues of f with the frame. Returns those that are its locals.
local function connect(f, func, scope)
	local copies = {}
	local i = 1
	while true do
		local name = debug.getupvalue(f, i)
		if name == nil then
			return copies
		end
		local where = scope[name]
		if where and where.upvalue then
			debug.upvaluejoin(f, i, func, where.upvalue)
		elseif where then
			debug.setupvalue(f, i, where.value)
			copies[i] = where
		end
		i = i + 1
	end
end

---Run source text in the scope of a frame. Its locals, upvalues and varargs are
---visible; assignments to locals take effect after a run without error. May yield.
---@param source string
---@param co thread? default: the running coroutine
---@param level integer? default 0; in the running coroutine 0 is the caller
---@param ext table? further names; the frame's own win
---@return boolean ok
---@return any ... results, or the error message
return function(source, co, level, ext)
	local running = coroutine.running()
	co = co or running
	level = level or 0
	-- Levels in the running coroutine count from this function, which is 1.
	local base = co == running and level + 2 or level
	local info = level >= 0 and debug.getinfo(co, base, "fS")
	if not info then
		return false, string.format("no frame at level %d", level)
	end
	if info.what == "C" then
		return false, string.format("the frame at level %d is a C function", level)
	end
	local inner = co == running and base + 1 or base
	local scope, env = read_scope(co, inner, info.func, source)
	local varargs, n = read_varargs(co, inner)
	local f, err = compile(source, scope, env, ext)
	if not f then
		return false, err
	end
	local copies = connect(f, info.func, scope)
	local result = table.pack(pcall(f, table.unpack(varargs, 1, n)))
	if result[1] then
		for i, where in pairs(copies) do
			local _, value = debug.getupvalue(f, i)
			debug.setlocal(co, base, where.index, value)
		end
	end
	return table.unpack(result, 1, result.n)
end
