-- skynet.require: `require` for services. A module's chunk may register work
-- that yields with skynet.init. In a task that work is done before require
-- returns (skynet.loading); on the main thread, where nothing can yield, it is
-- kept here until the service starts.

local standard_require = require

local M = {}

local main_thread = coroutine.running()
-- Functions registered on the main thread; nil once they have run.
local main_init = {}

local function on_main_thread()
	local co, is_main = coroutine.running()
	return is_main or co == main_thread
end

---Register start-up work of a service or module that may yield. In its main
---chunk: f runs before the start function, or before require returns. In a task
---that loads nothing: f runs at once.
---@param f fun()
function M.init(f)
	assert(type(f) == "function")
	if not on_main_thread() then
		standard_require "skynet.loading".init(f)
	elseif main_init then
		main_init[#main_init + 1] = f
	else
		error("skynet.init after the service has started", 2)
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

---Load a module, as the standard function does. Yields while another task loads
---it, and in the work that it registered with skynet.init.
---@param name string
---@return any
function M.require(name)
	local value = package.loaded[name]
	if value ~= nil then
		return value
	end
	if on_main_thread() or package.preload[name] then
		return standard_require(name)
	end
	return standard_require "skynet.loading".require(name, standard_require)
end

return M
