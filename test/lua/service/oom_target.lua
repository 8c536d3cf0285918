-- oom_target: what services do most, for test_oom.lua.

local skynet = require "skynet"
local queue = require "skynet.queue"
local mqueue = require "skynet.mqueue"

-- In 1/100 s.
local LIMIT = 50

local cs = queue()
local later
local command = {}

function command.echo(...)
	return ...
end

function command.sleep(...)
	skynet.sleep(0)
	return ...
end

function command.yield(...)
	skynet.yield()
	return ...
end

-- Waits for a task of its own.
function command.wait(...)
	local done
	local token = {}
	skynet.fork(function()
		done = true
		skynet.wakeup(token)
	end)
	-- Who is to wake it may have failed.
	skynet.sleep(LIMIT, token)
	assert(done, "nobody woke it")
	return ...
end

function command.timeout(...)
	local done
	local co = coroutine.running()
	skynet.timeout(1, function()
		done = true
		skynet.wakeup(co)
	end)
	skynet.sleep(LIMIT, co)
	assert(done, "nobody woke it")
	return ...
end

function command.queue(...)
	return cs(function(...)
		skynet.yield()
		return ...
	end, ...)
end

-- The answer comes from another task.
function command.response(...)
	local answer = skynet.response()
	local args = table.pack(...)
	skynet.fork(function()
		answer(true, table.unpack(args, 1, args.n))
	end)
end

-- The answer comes with the next request.
function command.later(...)
	local before = later
	later = skynet.response()
	if before then
		before(true, ...)
	end
end

function command.call(other, ...)
	return skynet.call(other, "lua", "echo", ...)
end

function command.limited(limit, other, ...)
	return skynet.call_timeout(limit, other, "lua", "echo", ...)
end

function command.select(limit, other, ...)
	local sum = 0
	local set = skynet.request { other, "lua", "echo", ... } { other, "lua", "echo", ... }
	for _, answer in set:select(limit) do
		sum = sum + (answer and answer[1] or 0)
	end
	return sum
end

-- A call that fails, twice.
function command.failing(other)
	local a, b = pcall(skynet.call, other, "lua", "no such command"),
		pcall(skynet.call, other, "lua", "no such command")
	return a or b
end

mqueue.register(function(...)
	return ...
end)

local silent = { response = true, later = true }

skynet.start(function()
	skynet.dispatch("lua", function(_, _, cmd, ...)
		if cmd == "exit" then
			skynet.exit()
		elseif silent[cmd] then
			command[cmd](...)
		else
			skynet.retpack(command[cmd](...))
		end
	end)
end)
