-- snax.hotfix: replaces methods of a running snax service by those of a patch.
--
-- A patch is a type file. A local that it declares without a value stands for
-- the variable of the same name in the running code: the upvalues of the patch
-- functions are joined to it. Joining only changes the new functions, so
-- everything up to the last step can fail without a trace; the last step puts
-- the functions in place, and takes them back when the patch's own `hotfix`
-- function raises.

local interface = require "snax.interface"

local function next_upvalue(func, index)
	index = index + 1
	local name, value = debug.getupvalue(func, index)
	if name then
		return index, name, value
	end
end

-- for index, name, value in upvalues(func)
local function upvalues(func)
	return next_upvalue, func, 0
end

-- The variables of the running code: name -> { func, index, id }, or
-- name -> false when several variables have that name.
local function collect_variables(methods)
	local sources, found, visited = {}, {}, {}
	for _, method in ipairs(methods) do
		if method.func then
			sources[debug.getinfo(method.func, "S").source] = true
		end
	end
	local function visit(func)
		if visited[func] or not sources[debug.getinfo(func, "S").source] then
			return	-- functions of libraries keep their variables for themselves
		end
		visited[func] = true
		for index, name, value in upvalues(func) do
			if name ~= "_ENV" and name ~= "" then
				local id = debug.upvalueid(func, index)
				if found[name] == nil then
					found[name] = { func = func, index = index, id = id }
				elseif found[name] and found[name].id ~= id then
					found[name] = false
				end
				if type(value) == "function" then
					visit(value)
				end
			end
		end
	end
	for _, method in ipairs(methods) do
		if method.func then
			visit(method.func)
		end
	end
	return found
end

-- Join the valueless upvalues of a patch function, and of the patch functions
-- it captured, to the running variables.
local function join(func, variables, source, visited)
	if visited[func] or debug.getinfo(func, "S").source ~= source then
		return
	end
	visited[func] = true
	for index, name, value in upvalues(func) do
		if type(value) == "function" then
			join(value, variables, source, visited)
		elseif value == nil and name ~= "_ENV" then
			local variable = variables[name]
			if variable == false then
				error("ambiguity local value " .. name, 0)
			elseif variable then
				debug.upvaluejoin(func, index, variable.func, variable.index)
			end
		end
	end
end

local function find(methods, group, name)
	for _, method in ipairs(methods) do
		if method.group == group and method.name == name then
			return method
		end
	end
end

-- The patch's methods paired with the running ones they replace.
local function match_methods(methods, patch)
	local pairs_found = {}
	for _, new in ipairs(patch) do
		if new.func then
			local old = find(methods, new.group, new.name)
			if not old then
				error(string.format("Patch mismatch %s.%s", new.group, new.name), 0)
			end
			pairs_found[#pairs_found + 1] = { old = old, new = new.func, previous = old.func }
		end
	end
	return pairs_found
end

local function put_in_place(replaced, run, ...)
	for _, pair in ipairs(replaced) do
		pair.old.func = pair.new
	end
	if run then
		return run(...)
	end
end

-- Needs no memory.
local function or_take_back(replaced, ok, ...)
	if not ok then
		for i = 1, #replaced do
			local pair = replaced[i]
			pair.old.func = pair.previous
		end
		error((...), 0)
	end
	return ...
end

---Apply a patch to the methods of a service: all of it or nothing. Yields if
---the patch does.
---@param methods snax.method[] of the running service, changed in place
---@param source string text of the patch
---@param ... any arguments of the patch's hotfix function
---@return any ... results of the patch's hotfix function
return function(methods, source, ...)
	local env = {}
	local main = assert(load(source, "=patch", "bt", env))
	local patch = interface.collect(main, env, _G)
	-- Its own globals first, then the service's; what it sets from now on are
	-- globals of the service.
	setmetatable(env, { __index = _G, __newindex = _G })

	local replaced = match_methods(methods, patch)
	local variables = collect_variables(methods)
	local chunk = debug.getinfo(main, "S").source
	local visited = {}
	for _, pair in ipairs(replaced) do
		join(pair.new, variables, chunk, visited)
	end

	local run = find(patch, "system", "hotfix").func
	return or_take_back(replaced, xpcall(put_in_place, debug.traceback, replaced, run, ...))
end
