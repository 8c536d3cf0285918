-- skynet.coroutine: the coroutine library for coroutines whose body may call
-- blocking functions of the framework. Such a call suspends the whole task; the
-- resume that runs the body completes later. Owns nothing; the work is done in
-- lualib-src/lua-task-coroutine.c.

local c = require "skynet.task.coroutine"

local M = {
	create = c.create,
	resume = c.resume,
	yield = c.yield,
	status = c.status,
	thread = c.thread,
	close = c.close,
	isyieldable = coroutine.isyieldable,
	running = coroutine.running,
}

local function results(ok, ...)
	if ok then
		return ...
	end
	error(..., 0)
end

---A function that resumes a new coroutine; errors of the body are raised. Yields.
---@param f function
---@return fun(...): any
function M.wrap(f)
	if type(f) ~= "function" then
		require "skynet.misuse"("skynet.coroutine.wrap", 1, "function", f)
	end
	local co = c.create(f)
	return function(...)
		return results(c.resume(co, ...))
	end
end

return M
