-- skynet.queue: critical sections. A queue serves one task at a time, first come,
-- first served. It owns the list of tasks that wait.
--
-- The owner is a task, so coroutines of skynet.coroutine inside it own the queue
-- too. A task that is killed gives the queue, or its place in the line, up.

local skynet = require "skynet"

local function describe_error(msg)
	if type(msg) == "string" then
		return debug.traceback(msg, 2)
	end
	return msg
end

local function pass(ok, ...)
	if ok then
		return ...
	end
	error(..., 0)
end

-- Hand the queue to the first task that still waits.
local function release(queue)
	queue.owner = false
	while queue.first <= queue.last do
		local entry = queue[queue.first]
		queue[queue.first] = nil
		queue.first = queue.first + 1
		if not entry.left then
			queue.owner = entry.task
			entry.granted = true
			skynet.wakeup(entry)
			return
		end
	end
	queue.first, queue.last = 1, 0
end

-- Closing the guard undoes whatever its task has reached so far.
local guard_meta = {
	__close = function(guard)
		local queue = guard.queue
		if not guard.granted then
			guard.left = true
			return
		end
		queue.depth = queue.depth - 1
		if queue.depth == 0 then
			release(queue)
		end
	end,
}

-- Nothing here is changed before what may fail for want of memory.
local function enter(queue, guard)
	guard.task = skynet._root() or coroutine.running()
	if queue.owner == guard.task then
		queue.depth = queue.depth + 1
		guard.granted = true
		return
	end
	if not queue.owner then
		queue.owner = guard.task
		guard.granted = true
	else
		local last = queue.last + 1
		queue[last] = guard
		queue.last = last
		repeat
			skynet.wait(guard)
		until guard.granted
	end
	queue.depth = 1
end

---Make a queue. It is not the queue: what it returns is to be called with functions.
---@return fun(f: function, ...): any # run f alone; results of f. Yields. Errors
---of f are raised again, strings with a traceback.
local function new_queue(f)
	if type(f) == "function" then
		-- With the caller's place, if it has one.
		skynet.error(select(2, pcall(error, "skynet.queue makes a queue and does not run a function: "
			.. "local cs = queue(), then cs(f)", 3)))
	end
	local queue = { first = 1, last = 0, depth = 0, owner = false }
	return function(f, ...)
		-- With all its fields, so that it need not grow.
		local guard <close> = setmetatable({
			queue = queue,
			task = false,
			granted = false,
			left = false,
		}, guard_meta)
		enter(queue, guard)
		return pass(xpcall(f, describe_error, ...))
	end
end

skynet.queue = new_queue

return new_queue
