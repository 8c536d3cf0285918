-- config: logservice = "snlua"
-- config: logger = "rt_log"
-- The order in which tasks run, what a message does, and illegal suspensions.

local skynet = require "skynet"
require "skynet.manager"
local test = require "testlib"
local rt = require "rt"

-- The first of all, while no task of another case lies in the pool.
test.case("a task that sleeps takes little memory", function()
	local N, tokens = 2000, {}
	for i = 1, N do
		tokens[i] = {}
	end
	collectgarbage()
	collectgarbage "stop"	-- it would shrink the stacks
	local before = collectgarbage "count"
	for i = 1, N do
		skynet.fork(skynet.wait, tokens[i])
	end
	skynet.yield()
	local each = (collectgarbage "count" - before) * 1024 / N
	collectgarbage "restart"
	for i = 1, N do
		skynet.wakeup(tokens[i])
	end
	skynet.yield()
	-- Some 1060: its stack as Lua makes it, and its places in tables. A stack that grows adds 340.
	test.ok(each < 1200, string.format("%.0f bytes", each))
end)

test.case("forks run before the next message, a nested fork behind them", function()
	local order = {}
	local function add(name) order[#order + 1] = name end
	skynet.fork(add, "fork1")
	skynet.fork(function()
		add "fork2"
		skynet.fork(add, "fork2.1")
	end)
	skynet.fork(add, "fork3")
	skynet.timeout(0, function() add "timeout0" end)
	add "main"
	skynet.yield()
	add "after-yield"
	test.eq(order, { "main", "fork1", "fork2", "fork3", "fork2.1", "timeout0", "after-yield" })
end)

test.case("a woken task runs before a fork, both after the waker suspends", function()
	local order = {}
	local token = {}
	rt.start(function()
		skynet.wait(token)
		order[#order + 1] = "W"
	end)
	skynet.yield()
	skynet.fork(function() order[#order + 1] = "F" end)
	skynet.wakeup(token)
	order[#order + 1] = "rest"
	skynet.yield()
	order[#order + 1] = "again"
	test.eq(order, { "rest", "W", "F", "again" })
end)

test.case("forks that raise do not stop the others, one entry reports all", function()
	local from = rt.mark()
	local printed
	skynet.fork(error, "first fork fails")
	skynet.fork(error, "second fork fails")
	skynet.fork(function() printed = true end)
	skynet.yield()
	test.ok(printed)
	local line = rt.logged("first fork fails", from)
	test.match(line, "second fork fails")
	test.match(line, "lua call %[[%x]+ to :[%x]+ : %d+ msgsz = %d+%] error : ")
	test.match(line, "stack traceback")
end)

test.case("a task that wakes another and raises does not lose the wake-up", function()
	local from = rt.mark()
	local token = {}
	local r = rt.start(skynet.wait, token)
	skynet.yield()
	local order = {}
	skynet.timeout(0, function()
		skynet.fork(function() order[#order + 1] = r.done end)
		skynet.wakeup(token)
		error "raised after wakeup"
	end)
	skynet.yield()
	skynet.yield()
	test.eq(order, { true })
	rt.logged("raised after wakeup", from)
end)

test.case("a fork chain does not starve the mailbox", function()
	local n = 0
	local stop = false
	local function again()
		n = n + 1
		if not stop then
			skynet.fork(again)
		end
	end
	skynet.fork(again)
	skynet.timeout(0, function() stop = true end)
	skynet.yield()
	skynet.yield()
	test.ok(stop)
	test.ok(n > 1000)
end)

test.case("many forks at once all run", function()
	local n = 0
	for _ = 1, 20000 do
		skynet.fork(function() n = n + 1 end)
	end
	skynet.yield()
	test.eq(n, 20000)
end)

test.case("a handler without an answer is logged and answers ERROR", function()
	local from = rt.mark()
	local agent = rt.agent()
	rt.call_failed(rt.run, agent, "local x = 1")
	local line = rt.logged("Maybe forgot response session", from)
	test.match(line, string.format("from %s : @", skynet.address(skynet.self())))
	test.match(line, "rt_agent.lua:%d+$")
	skynet.kill(agent)
end)

test.case("close variables of a failing handler run once, with the error", function()
	local agent = rt.agent()
	rt.call_failed(rt.run, agent, [[
		SHARED.closed = 0
		local _ <close> = setmetatable({}, { __close = function(_, e)
			SHARED.closed = SHARED.closed + 1
			SHARED.err = e
		end })
		error("with a close variable", 0)
	]])
	test.eq({ rt.run(agent, "skynet.retpack(SHARED.closed, SHARED.err)") }, { 1, "with a close variable" })
	skynet.kill(agent)
end)

test.case("a plain yield is logged with a traceback", function()
	local from = rt.mark()
	skynet.fork(function() coroutine.yield() end)
	skynet.yield()
	test.match(rt.logged("plain coroutine.yield", from), "test_sched.lua")
	skynet.fork(function() coroutine.yield "NOSUCH" end)
	skynet.yield()
	test.match(rt.logged("Unknown command : NOSUCH", from), "stack traceback")
end)

test.case("blocking in a plain coroutine raises and harms nobody", function()
	local co = coroutine.create(function() skynet.sleep(1) end)
	local ok, err = coroutine.resume(co)
	test.eq(ok, false)
	test.match(err, "skynet.sleep in a coroutine that is not a task")
	co = coroutine.wrap(function() return pcall(skynet.call, ".launcher", "lua", "LIST") end)
	test.eq(co(), false)
	test.eq(skynet.sleep(1), nil)
end)

test.case("blocking across a C function that cannot yield raises", function()
	local ok, err = pcall(table.sort, { 3, 2, 1 }, function(a, b)
		skynet.yield()
		return a < b
	end)
	test.eq(ok, false)
	test.match(err, "attempt to yield across a C%-call boundary")
	test.eq(skynet.sleep(1), nil)
end)

test.case("replying works in a plain coroutine inside the handler", function()
	local agent = rt.agent()
	test.eq(rt.run(agent, "coroutine.wrap(function() skynet.retpack('inner') end)()"), "inner")
	skynet.kill(agent)
end)

test.case("resuming a task by hand kills it, and nothing else", function()
	local from = rt.mark()
	local sleeper = skynet.fork(function() skynet.sleep(2) end)
	local caller = skynet.fork(function() skynet.call(".launcher", "lua", "LIST") end)
	local forked
	skynet.yield()
	local ok, err = coroutine.resume(sleeper)
	test.eq(ok, false)
	test.match(err, "resumed by coroutine.resume")
	test.eq(coroutine.resume(caller), false)
	forked = skynet.fork(function() skynet.sleep(1) end)
	test.eq(coroutine.resume(forked), false)
	local finished = skynet.fork(function() return 1 end)
	test.eq({ coroutine.resume(finished) }, { true, 1 })
	skynet.sleep(5)
	test.eq(#rt.lines("cannot resume dead coroutine", from) > 0, true)
	-- A user coroutine that is blocked in a task.
	local sc = require "skynet.coroutine"
	local inner
	local r = rt.start(function()
		inner = sc.create(function() skynet.sleep(2) end)
		return sc.resume(inner)
	end)
	skynet.yield()
	test.eq(coroutine.resume(inner), false)
	test.eq({ rt.join(r) }, { true, false, "cannot resume dead coroutine" })
end)

test.case("closing a task by hand leaves nothing behind", function()
	local token = {}
	local sleeper = skynet.fork(function() skynet.sleep(2, token) end)
	local waiter = skynet.fork(function() skynet.wait "a string" end)
	local own = skynet.fork(function() skynet.sleep(2) end)
	skynet.yield()
	for _, co in ipairs { sleeper, waiter, own } do
		test.eq(coroutine.close(co), true)
	end
	test.eq(skynet.wakeup "a string", true)
	skynet.sleep(5)
	test.eq(skynet.wakeup(token), nil)
	test.eq(skynet.wakeup "a string", nil)
	test.eq(skynet.sleep(1, token), nil)
	skynet.wakeup(own)
	skynet.killthread(waiter)
end)

test.case("coroutines are reused, and not while someone holds one", function()
	local seen = {}
	local n = 0
	for _ = 1, 100 do
		skynet.timeout(0, function()
			local co = tostring(coroutine.running())
			if not seen[co] then
				seen[co] = true
				n = n + 1
			end
		end)
	end
	skynet.yield()
	test.ok(n < 10, "coroutines used")
	local held = skynet.fork(function() end)
	skynet.yield()
	local again = 0
	for _ = 1, 50 do
		skynet.fork(function()
			again = again + (coroutine.running() == held and 1 or 0)
		end)
	end
	skynet.yield()
	test.eq(again, 0)
end)

test.case("the pool gives coroutines back after a burst", function()
	local tokens = {}
	for i = 1, 2000 do
		tokens[i] = {}
		skynet.fork(skynet.wait, tokens[i])
	end
	skynet.yield()
	-- Before the end of the burst: no collection can have given any of them back.
	collectgarbage()
	local full = collectgarbage "count"
	for i = 1, 2000 do
		skynet.wakeup(tokens[i])
	end
	tokens = nil
	skynet.yield()
	for _ = 1, 4 do
		collectgarbage()
	end
	test.ok(collectgarbage "count" < full - 1000, "memory after the burst")
end)

test.run()
