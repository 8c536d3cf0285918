-- skynet.require: `require` for services. A module's chunk may register work
-- that yields with skynet.init; inside a task that work is done before require
-- returns, and tasks that ask for the same module meanwhile wait for it. On the
-- main thread, where nothing can yield, it is kept until the service starts.
--
-- Owns the lists of registered functions and the table of modules being loaded.

local standard_require = require

local M = {}

local main_thread = coroutine.running()
-- Functions registered from the main thread; nil once they have run.
local main_init = {}
-- Coroutine -> list that skynet.init in it appends to.
local context = {}
-- Module name -> { co = loading coroutine, waiting = coroutines }
local loading = {}
-- Coroutine -> name of the module it waits for.
local waits_for = {}

---Register start-up work (as skynet.init).
---@param f fun()
function M.init(f)
	assert(type(f) == "function")
	local co, is_main = coroutine.running()
	if is_main or co == main_thread then
		if not main_init then
			error("skynet.init after the service has started", 2)
		end
		main_init[#main_init + 1] = f
		return
	end
	local list = context[co]
	if list then
		list[#list + 1] = f
	else
		-- Nothing is being loaded here: yielding is legal, so do it now.
		f()
	end
end

---Run what was registered on the main thread, in order. Once. Yields.
function M.init_all()
	local list = main_init
	if not list then
		error("module init functions have run already", 2)
	end
	main_init = nil
	for _, f in ipairs(list) do
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
	local skynet = standard_require "skynet"
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
			local skynet = standard_require "skynet"
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

---Load a module, as the standard function does. Yields while another task loads
---it, and in the work that it registered with skynet.init.
---@param name string
---@return any
function M.require(name)
	local value = package.loaded[name]
	if value ~= nil then
		return value
	end
	local co, is_main = coroutine.running()
	if is_main or co == main_thread or package.preload[name] then
		return standard_require(name)
	end
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
