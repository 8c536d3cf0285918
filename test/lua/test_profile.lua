-- skynet.profile: what is counted, and that its resume and wrap behave as the
-- standard ones.

local skynet = require "skynet"
local profile = require "skynet.profile"
local test = require "testlib"

-- Use CPU until the profiler of another coroutine would have counted `seconds`.
local function work(seconds)
	local from = os.clock()
	while os.clock() - from < seconds do
		for _ = 1, 1000 do end
	end
end

local function near(got, want, slack, what)
	test.ok(math.type(got) == "float" and math.abs(got - want) <= slack,
		string.format("%s: %s is not near %s", what or "time", got, want))
end

test.case("the coroutine library is the profiler's", function()
	test.eq(coroutine.resume, profile.resume)
	test.eq(coroutine.wrap, profile.wrap)
	test.eq(rawget(_G, "profile"), nil)
end)

test.case("sleep is not counted", function()
	profile.start()
	skynet.sleep(20)
	local t = profile.stop()
	test.ok(t >= 0 and t < 0.15, "slept for " .. t)
end)

test.case("work is counted across suspensions", function()
	local n = 3
	local total
	local co = coroutine.create(function()
		profile.start()
		for _ = 1, n do
			work(0.02)
			coroutine.yield()
		end
		total = profile.stop()
	end)
	while coroutine.status(co) ~= "dead" do
		test.ok(coroutine.resume(co))
		work(0.03)
	end
	near(total, 0.06, 0.05, "three rounds of 0.02")
end)

test.case("a suspended coroutine stopped from outside is counted exactly", function()
	local co = coroutine.create(function()
		for _ = 1, 2 do
			work(0.1)
			coroutine.yield()
		end
	end)
	profile.start(co)
	coroutine.resume(co)
	work(0.1)
	coroutine.resume(co)
	work(0.1)
	local t = profile.stop(co)
	near(t, 0.2, 0.08, "two runs of 0.1")
end)

test.case("nested coroutines count for the one that resumed them", function()
	profile.start()
	local inner = coroutine.wrap(function()
		work(0.05)
		coroutine.yield()
	end)
	inner()
	near(profile.stop(), 0.05, 0.05)
end)

test.case("starting twice and stopping without start raise", function()
	profile.start()
	test.err(function() profile.start() end, "start profile more than once")
	test.match(test.err(function() profile.start() end), "Thread 0x%x+ start profile more than once")
	profile.stop()
	test.err(function() profile.stop() end, "Call profile.start() before profile.stop()")
end)

test.case("what is no thread is an argument error", function()
	test.err(function() profile.start(5) end, "thread expected")
	test.err(function() profile.stop "x" end, "thread expected")
	test.err(function() profile.resume {} end, "thread expected")
	test.err(function() profile.wrap(5) end, "function expected")
end)

test.case("a task that forgets to stop does not disturb the next one", function()
	local done = 0
	for _ = 1, 20 do
		skynet.fork(function()
			profile.start()
			done = done + 1
		end)
		test.wait_for(function() return done == 20 or skynet.yield() or true end)
	end
	test.wait_for(function() return done == 20 end)
end)

test.case("a measured coroutine can be collected", function()
	local weak = setmetatable({}, { __mode = "k" })
	for _ = 1, 10 do
		local co = coroutine.create(function() coroutine.yield() end)
		profile.start(co)
		coroutine.resume(co)
		weak[co] = true
	end
	collectgarbage()
	collectgarbage()
	test.eq(next(weak), nil)
end)

test.case("resume passes values both ways and reports errors", function()
	local co = coroutine.create(function(...)
		local got = table.pack(coroutine.yield(...))
		return table.unpack(got, 1, got.n)
	end)
	test.eq({ coroutine.resume(co, 1, nil, 3) }, { true, 1, nil, 3 })
	test.eq({ coroutine.resume(co, "a", false) }, { true, "a", false })
	test.eq({ coroutine.resume(co) }, { false, "cannot resume dead coroutine" })
	local err = {}
	test.eq({ coroutine.resume(coroutine.create(function() error(err) end)) }, { false, err })
end)

test.case("wrap adds a position to text, passes other errors and closes", function()
	local closed = false
	local f = coroutine.wrap(function()
		local _ <close> = setmetatable({}, { __close = function() closed = true end })
		error("oops", 0)
	end)
	test.match(test.err(function() f() end), "test_profile.lua:%d+: oops$")
	test.eq(closed, true)
	test.err(f, "cannot resume dead coroutine")
	local err = setmetatable({}, { __tostring = function() return "mine" end })
	local ok, got = pcall(coroutine.wrap(function() error(err) end))
	test.eq({ ok, got == err }, { false, true })
	local g = coroutine.wrap(function(...) local x = coroutine.yield(...) return x, "end" end)
	test.eq({ g(1, 2) }, { 1, 2 })
	test.eq({ g(3) }, { 3, "end" })
end)

test.run()
