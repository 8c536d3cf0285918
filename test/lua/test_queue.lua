-- config: logservice = "snlua"
-- config: logger = "rt_log"
-- skynet.queue: critical sections.

local skynet = require "skynet"
require "skynet.manager"
local queue = require "skynet.queue"
local sc = require "skynet.coroutine"
local test = require "testlib"
local rt = require "rt"

test.case("a function given to the maker of queues, which nobody would run, is told", function()
	local from = rt.mark()
	local cs = queue(print)
	rt.logged("test_queue%.lua:%d+: skynet%.queue makes a queue and does not run a function", from)
	test.eq(cs(function() return "run" end), "run")
end)

test.case("tasks are served one at a time, in order, also when one raises", function()
	local cs = queue()
	local log = {}
	local list = {}
	for i = 1, 4 do
		list[i] = rt.start(cs, function()
			log[#log + 1] = "begin" .. i
			skynet.sleep(4 - i)
			log[#log + 1] = "end" .. i
			if i == 2 then error "two fails" end
		end)
	end
	for i = 1, 4 do
		local ok, err = rt.join(list[i])
		test.eq(ok, i ~= 2)
		if i == 2 then
			test.match(err, "two fails")
			test.match(err, "stack traceback")
		end
	end
	test.eq(log, { "begin1", "end1", "begin2", "end2", "begin3", "end3", "begin4", "end4" })
end)

test.case("the holder may enter again", function()
	local cs = queue()
	test.eq(cs(function() return cs(function() return "inner" end) end), "inner")
	-- Also from a coroutine inside the task.
	test.eq(cs(function()
		local co = sc.create(function() return cs(function() return "nested" end) end)
		return select(2, sc.resume(co))
	end), "nested")
	test.eq(cs(function() return "free again" end), "free again")
end)

test.case("values pass through", function()
	local cs = queue()
	local r = table.pack(cs(function(...) return ... end, 1, nil, 3, nil))
	test.eq(r, { 1, nil, 3, nil, n = 4 })
	test.eq(table.pack(cs(function() end)), { n = 0 })
end)

test.case("errors that are no strings pass unchanged, and release", function()
	local cs = queue()
	local object = {}
	local ok, err = pcall(cs, function() error(object) end)
	test.eq({ ok, rawequal(err, object) }, { false, true })
	test.eq(pcall(cs, nil), false)
	test.eq(cs(function() return 1 end), 1)
end)

test.case("other messages are handled while the holder sleeps", function()
	local cs = queue()
	local inside, seen = false, false
	local r = rt.start(cs, function()
		inside = true
		skynet.sleep(3)
		inside = false
	end)
	skynet.timeout(0, function() seen = inside end)
	rt.join(r)
	test.ok(seen)
end)

test.case("killing the holder, or one who waits, releases its place", function()
	local cs = queue()
	local order = {}
	local holder = rt.start(cs, skynet.wait)
	local waiting = rt.start(cs, function() order[#order + 1] = "killed" end)
	local last = rt.start(cs, function() order[#order + 1] = "last" end)
	skynet.yield()
	test.ok(skynet.killthread(waiting.co))
	test.ok(skynet.killthread(holder.co))
	rt.join(last)
	test.eq(order, { "last" })
	test.eq(cs(function() return "free" end), "free")
end)

test.case("waking one who waits from outside does not let it in", function()
	local cs = queue()
	local go = {}
	local holder = rt.start(cs, skynet.wait, go)
	local entered = false
	local waiting = rt.start(cs, function() entered = true end)
	skynet.yield()
	skynet.wakeup(waiting.co)
	skynet.yield()
	test.ok(not entered and not waiting.done)
	skynet.wakeup(go)
	rt.join(holder)
	test.eq(rt.join(waiting), true)
	test.ok(entered)
end)

test.case("the constructor is skynet.queue", function()
	test.eq(skynet.queue, queue)
end)

test.run()
