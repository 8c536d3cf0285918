-- config: logservice = "snlua"
-- config: logger = "rt_log"
-- sleep, yield, wait, wakeup, timeout, fork, killthread.

local skynet = require "skynet"
local core = require "skynet.core"
require "skynet.manager"
local test = require "testlib"
local rt = require "rt"

test.case("sleep returns nothing after the delay, BREAK when woken", function()
	test.eq(select("#", skynet.sleep(1)), 0)
	local co = coroutine.running()
	skynet.fork(function() skynet.wakeup(co) end)
	test.eq(skynet.sleep(6000), "BREAK")
end)

test.case("yield lets queued messages in and returns nothing", function()
	local seen
	skynet.timeout(0, function() seen = true end)
	test.eq(select("#", skynet.yield()), 0)
	test.ok(seen)
end)

test.case("waiters run in the order of wakeup, the waker goes on first", function()
	local order = {}
	local token = { {}, {}, {} }
	for i = 1, 3 do
		skynet.fork(function()
			test.eq(select("#", skynet.wait(token[i])), 0)
			order[#order + 1] = i
		end)
	end
	skynet.yield()
	for _, i in ipairs { 2, 1, 3 } do
		test.eq(skynet.wakeup(token[i]), true)
	end
	order[#order + 1] = "waker"
	skynet.yield()
	test.eq(order, { "waker", 2, 1, 3 })
end)

test.case("wakeup of a token that nobody waits for returns nothing", function()
	test.eq(select("#", skynet.wakeup {}), 0)
	test.eq(select("#", skynet.wakeup(coroutine.running())), 0)
end)

test.case("wakeup does not affect a task in call", function()
	local agent = rt.agent()
	local co
	local r = rt.start(function()
		co = coroutine.running()
		return rt.run(agent, "skynet.sleep(5) skynet.retpack 'late'")
	end)
	skynet.yield()
	test.eq(skynet.wakeup(co), nil)
	local ok, value = rt.join(r)
	test.eq({ ok, value }, { true, "late" })
	skynet.kill(agent)
end)

test.case("a token in use is refused without side effects", function()
	local token = {}
	local r = rt.start(skynet.wait, token)
	skynet.yield()
	local before = skynet.task()
	test.err(function() skynet.wait(token) end, "token duplicative")
	test.err(function() skynet.sleep(1, token) end, "token duplicative")
	test.eq(skynet.task(), before)
	-- No stray tick of the refused sleep ends this one early.
	local start = skynet.now()
	skynet.sleep(5)
	test.ok(skynet.now() - start >= 5)
	skynet.wakeup(token)
	rt.join(r)
end)

test.case("a coroutine is a token for another task, and refused while it waits itself", function()
	local co
	local r1 = rt.start(function()
		co = coroutine.running()
		skynet.wait()
	end)
	skynet.yield()
	test.err(function() skynet.wait(co) end, "token duplicative")
	test.ok(skynet.wakeup(co))
	rt.join(r1)
	local key = coroutine.create(print)
	local r2 = rt.start(skynet.wait, key)
	skynet.yield()
	test.ok(skynet.wakeup(key))
	rt.join(r2)
end)

test.case("surplus wakeups do not break the next sleep", function()
	local token = {}
	local woken, delay
	local r = rt.start(function()
		woken = skynet.sleep(100, token)
		local start = skynet.now()
		test.eq(skynet.sleep(3, token), nil)
		delay = skynet.now() - start
	end)
	skynet.yield()
	test.eq(skynet.wakeup(token), true)
	test.eq(skynet.wakeup(token), true)
	rt.join(r)
	test.eq(woken, "BREAK")
	test.ok(delay >= 3)
end)

test.case("time arguments are checked", function()
	test.err(function() skynet.sleep(1.5) end, "a whole number of 1/100 s expected, got 1.5")
	test.err(function() skynet.timeout(0.25, print) end, "a whole number of 1/100 s expected, got 0.25")
	test.eq(skynet.sleep(1.0), nil)
	test.err(function() skynet.sleep(nil) end, "number expected, got nil")
	test.err(function() skynet.sleep "soon" end)
	test.err(function() skynet.timeout(0x100000005, print) end, "out of range")
	test.err(function() skynet.timeout({}, print) end)
	test.err(function() skynet.timeout(1) end)
	test.eq(skynet.sleep "1", nil)
	test.eq(skynet.sleep(-5), nil)
	test.eq(skynet.sleep(1.0), nil)
end)

test.case("timeouts fire in order, no earlier than asked", function()
	local order = {}
	for _, ti in ipairs { 4, 2, 10, 1, 3 } do
		-- A tick may pass while they are armed: when it is due is between these.
		local timer = { earliest = skynet.now() + ti }
		skynet.timeout(ti, function()
			timer.fired = skynet.now()
			order[#order + 1] = timer
		end)
		timer.latest = skynet.now() + ti
	end
	test.wait_for(function() return #order == 5 end)
	for i, timer in ipairs(order) do
		test.ok(timer.fired >= timer.earliest)
		for k = i + 1, 5 do
			test.ok(timer.earliest <= order[k].latest, "order")
		end
	end
end)

test.case("timeouts of one tick fire in the order they were armed", function()
	local order = {}
	for i = 1, 50 do
		skynet.timeout(2, function() order[#order + 1] = i end)
	end
	test.wait_for(function() return #order == 50 end)
	for i = 1, 50 do
		test.eq(order[i], i)
	end
end)

test.case("timeout returns the coroutine that will run", function()
	local ran
	local co = skynet.timeout(1, function() ran = coroutine.running() end)
	test.eq(type(co), "thread")
	test.wait_for(function() return ran end)
	test.eq(ran, co)
end)

test.case("fork passes arguments with nils and returns the coroutine", function()
	local got
	local co = skynet.fork(function(...)
		got = table.pack(coroutine.running(), ...)
	end, 1, nil, 3, nil)
	skynet.yield()
	test.eq(got.n, 5)
	test.eq(got[1], co)
	test.eq({ got[2], got[3], got[4], got[5] }, { 1, nil, 3, nil })
end)

test.case("fork of what cannot be called raises at once", function()
	test.err(function() skynet.fork(nil) end)
	test.err(function() skynet.fork {} end)
	local ran
	skynet.fork(setmetatable({}, { __call = function(_, v) ran = v end }), 7)
	skynet.yield()
	test.eq(ran, 7)
end)

test.case("killthread closes a sleeper, and its tick is swallowed", function()
	local from = rt.mark()
	local closed = 0
	local co = skynet.fork(function()
		local _ <close> = setmetatable({}, { __close = function() closed = closed + 1 end })
		skynet.sleep(2)
	end)
	skynet.yield()
	test.eq(skynet.killthread(co), co)
	test.eq(closed, 1)
	test.eq(coroutine.status(co), "dead")
	skynet.sleep(5)
	test.eq(rt.lines("Unknown session", from), {})
	test.eq(skynet.killthread(co), nil)
end)

test.case("killthread removes a fork and a timer that have not started", function()
	local ran = false
	local forked = skynet.fork(function() ran = true end)
	test.eq(skynet.killthread(forked), forked)
	local timer = skynet.timeout(1, function() ran = true end)
	test.eq(skynet.killthread(timer), timer)
	skynet.sleep(4)
	test.eq(ran, false)
end)

test.case("killthread frees the token of its victim", function()
	local token = {}
	local co = skynet.fork(function() skynet.wait(token) end)
	skynet.yield()
	skynet.killthread(co)
	test.eq(skynet.wakeup(token), nil)
	test.eq(skynet.sleep(1, token), nil)
end)

test.case("killthread of the running task, a stranger or a woken task", function()
	test.eq(skynet.killthread(coroutine.running()), nil)
	test.eq(skynet.killthread(coroutine.create(print)), nil)
	test.err(function() skynet.killthread(nil) end)
	local ran = false
	local co = skynet.fork(function()
		skynet.wait()
		ran = true
	end)
	skynet.yield()
	skynet.wakeup(co)
	test.eq(skynet.killthread(co), co)
	skynet.yield()
	test.eq(ran, false)
end)

test.case("killthread by text wants an exact identifier", function()
	local co = skynet.fork(function() skynet.wait() end)
	skynet.yield()
	test.eq(skynet.killthread "0x", nil)
	test.eq(skynet.killthread(tostring(co):match "0x%x+"), co)
	co = skynet.fork(function() skynet.wait() end)
	skynet.yield()
	test.eq(skynet.killthread("session: " .. skynet.task(co)), co)
end)

test.case("killthread of a timer by its session", function()
	local ran = false
	skynet.timeout(2, function() ran = true end)
	local dump, key = {}, nil
	skynet.task(dump)
	for k in pairs(dump) do
		key = k:find "^timer: " and k or key
	end
	test.eq(type(skynet.killthread(key)), "function")
	test.eq(skynet.killthread(key), nil)
	skynet.sleep(5)
	test.eq(ran, false)
end)

test.case("killthread of a handler fails its requester", function()
	local agent = rt.agent()
	local r = rt.start(rt.run, agent, "SHARED.co = coroutine.running() skynet.wait()")
	test.wait_for(function()
		return rt.run(agent, "skynet.retpack(SHARED.co ~= nil)")
	end)
	test.eq(rt.run(agent, "skynet.retpack(skynet.killthread(SHARED.co) == SHARED.co)"), true)
	local ok, err = rt.join(r)
	test.eq(ok, false)
	test.match(err, "call failed$")
	skynet.kill(agent)
end)

-- Was the wait cancelled, and its tick or answer is still to come?
local function has_tombstone(session)
	local tasks = {}
	skynet.task(tasks)
	local text = tasks["BREAK session: " .. session]
	test.ok(text == nil or text == "BREAK")
	return text ~= nil
end

test.case("killthread of a caller swallows the late answer", function()
	local from = rt.mark()
	local agent = rt.agent()
	-- Also of a late failure, and of the end of the callee.
	for _, late in ipairs { "skynet.retpack(1)", "error 'late'", "skynet.exit()" } do
		local co = skynet.fork(rt.run, agent, "skynet.sleep(3) " .. late)
		skynet.yield()
		local session = skynet.task(co)
		test.eq(skynet.killthread(co), co)
		test.eq(has_tombstone(session), true)
		test.wait_for(function() return not has_tombstone(session) end)
	end
	test.eq(rt.lines("Unknown session", from), {})
end)

test.case("trace_timeout shows where a timer was armed", function()
	skynet.trace_timeout(true)
	local co = skynet.timeout(50, print)
	skynet.trace_timeout(false)
	local text = skynet.task(skynet.task(co))
	test.match(text, "^TIMER %d+%+50 : ")
	test.match(text, "test_wait.lua")
	skynet.killthread(co)
end)

test.case("many timers are fired once each", function()
	local n, left = 5000, 5000
	local token = {}
	for i = 1, n do
		skynet.timeout(i % 10, function()
			left = left - 1
			if left == 0 then skynet.wakeup(token) end
		end)
	end
	skynet.wait(token)
	test.eq(left, 0)
end)

test.case("a session that is waited for is not handed out again after the wrap", function()
	local pending = {}
	local held = {}
	for i = 1, 20 do
		local token = {}
		pending[i] = { token = token, r = rt.start(skynet.wait, token) }
	end
	skynet.yield()
	local dump = {}
	skynet.task(dump)
	for key in pairs(dump) do
		held[tonumber(key:match "session: (%d+)")] = true
	end
	-- The counter belongs to the kernel; only drawing numbers moves it, so this
	-- checks what a full round would: the allocator skips what is in use.
	for _ = 1, 100 do
		test.ok(not held[skynet.genid()])
	end
	for i = 1, 20 do
		skynet.wakeup(pending[i].token)
		rt.join(pending[i].r)
	end
	test.ok(core.genid() > 0)
end)

test.run()
