-- skynet.loading: loading a module inside a task (the second half of
-- skynet.require). Owns the table of modules being loaded, on which other tasks
-- that want them wait.

local M = {}

-- Coroutine -> list that skynet.init in it appends to.
local context = {}
-- Module name -> load in progress
local loading = {}
-- Coroutine -> name of the module it waits for. Those that ended meanwhile are forgotten.
local waits_for = setmetatable({}, { __mode = "k" })

---skynet.init in a task.
---@param f fun()
function M.init(f)
	local list = context[coroutine.running()]
	if list then
		list[#list + 1] = f
	else
		-- Nothing is being loaded here: yielding is legal, so do it now.
		f()
	end
end

-- Would waiting for `name` close a circle of tasks that wait for each other?
local function is_circular(name, co)
	while name do
		local entry = loading[name]
		if not entry then
			return false
		end
		if entry.co == co then
			return true
		end
		name = waits_for[entry.co]
	end
	return false
end

local function wait_for(name, entry, co)
	if is_circular(name, co) then
		error("circular dependency: require " .. name)
	end
	local skynet = require "skynet"
	waits_for[co] = name
	entry.waiting[#entry.waiting + 1] = co
	while loading[name] == entry do
		skynet.wait(co)
	end
	waits_for[co] = nil
	local value = package.loaded[name]
	if value == nil then
		error(string.format("require %s failed", name))
	end
	return value
end

-- Run the chunk, then the functions it registered, and those they register.
local function run(chunk, name, filename, list)
	local value = chunk(name, filename)
	local i = 1
	while list[i] do
		list[i]()
		i = i + 1
	end
	if value == nil then
		value = package.loaded[name]
		if value == nil then
			value = true
		end
	end
	return value
end

-- A load in progress. Closing it, also because its task is killed, lets the tasks
-- that wait for it go on.
local load_meta = {
	__close = function(entry)
		context[entry.co] = entry.outer
		loading[entry.name] = nil
		if #entry.waiting > 0 then
			local skynet = require "skynet"
			for _, waiting in ipairs(entry.waiting) do
				skynet.wakeup(waiting)
			end
		end
	end,
}

local function load_module(name, filename, chunk, co)
	local list = {}
	local entry <close> = setmetatable({ name = name, co = co, outer = context[co], waiting = {} },
		load_meta)
	loading[name] = entry
	context[co] = list
	local ok, value = xpcall(run, debug.traceback, chunk, name, filename, list)
	if not ok then
		error(value, 0)
	end
	package.loaded[name] = value
	return value, filename
end

---Load module `name`, which is neither loaded nor preloaded. Yields.
---@param name string
---@param standard_require fun(name: string): any
---@return any
function M.require(name, standard_require)
	local co = coroutine.running()
	local entry = loading[name]
	if entry then
		return wait_for(name, entry, co)
	end
	local filename = package.searchpath(name, package.path)
	local chunk = filename and loadfile(filename)
	if not chunk then
		return standard_require(name)
	end
	return load_module(name, filename, chunk, co)
end

return M
