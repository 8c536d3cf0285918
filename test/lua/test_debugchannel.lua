-- skynet.debugchannel inside one service; two services use it through the
-- remote debugger.

local channel = require "skynet.debugchannel"
local core = require "skynet.core"
local test = require "testlib"

local function count(...)
	return select("#", ...)
end

test.case("strings come out whole and in order", function()
	local ch = channel.create()
	ch:write "a"
	ch:write "b\0c"
	ch:write ""
	ch:write(5)
	test.eq(ch:read(), "a")
	test.eq(ch:read(), "b\0c")
	test.eq(ch:read(), "")
	test.eq(ch:read(), "5")
	test.eq(count(ch:read()), 0)
end)

test.case("both ends share one queue", function()
	local a, ptr = channel.create()
	local b = channel.connect(ptr)
	a:write "from a"
	b:write "from b"
	test.eq(a:read(), "from a")
	test.eq(a:read(), "from b")
end)

test.case("a third end is refused until one is given up", function()
	local a, ptr = channel.create()
	local b = channel.connect(ptr)
	test.err(function() channel.connect(ptr) end, "new channel failed")
	channel.release(b)
	local c = channel.connect(ptr)
	c:write "x"
	test.eq(a:read(), "x")
	c = nil
	b = nil
	collectgarbage()
	test.ok(channel.connect(ptr))
end)

test.case("a pointer that is no channel is refused", function()
	test.err(function() channel.connect(nil) end, "Invalid channel pointer")
	test.err(function() channel.connect() end, "Invalid channel pointer")
	test.err(function() channel.connect "x" end, "Invalid channel pointer")
	local p, size = core.pack("no channel")
	test.err(function() channel.connect(p) end, "new channel failed")
	core.trash(p, size)
	local ch, ptr = channel.create()
	channel.release(ch)
	test.err(function() channel.connect(ptr) end, "new channel failed")
end)

test.case("release is harmless when repeated and before collection", function()
	local ch = channel.create()
	channel.release(ch)
	channel.release(ch)
	test.err(function() ch:read() end, "released")
	test.err(function() channel.release {} end, "debugchannel")
	ch = nil
	collectgarbage()
end)

test.case("read waits as long as it was told", function()
	local ch = channel.create()
	local from = core.hpc()
	test.eq(count(ch:read(0.5)), 0)
	local waited = (core.hpc() - from) / 1e9
	test.ok(waited >= 0.05, "waited " .. waited)
	ch:write "there"
	test.eq(ch:read(100), "there")
end)

test.case("a line hook that returns true suspends the coroutine at each line", function()
	local co = coroutine.create(function()
		local a = 1
		local b = a + 1
		local c = b + 1
		return c
	end)
	channel.sethook(co, function(event, line)
		assert(event == "line" and math.type(line) == "integer")
		return true
	end, "l")
	local resumed = 0
	while coroutine.status(co) ~= "dead" do
		test.ok(coroutine.resume(co))
		resumed = resumed + 1
	end
	test.eq(resumed, 5)
end)

test.case("a count hook suspends a loop a few times and the result is right", function()
	local co = coroutine.create(function()
		local sum = 0
		for i = 1, 1000 do sum = sum + i end
		return sum
	end)
	channel.sethook(co, function(event)
		assert(event == "count")
		return true
	end, "", 500)
	local resumed = 0
	local ok, result
	repeat
		ok, result = coroutine.resume(co)
		test.ok(ok)
		resumed = resumed + 1
	until coroutine.status(co) == "dead"
	test.eq(result, 500500)
	test.ok(resumed > 1 and resumed < 20, "resumed " .. resumed)
end)

test.case("a hook that returns nothing only watches, and can be taken off", function()
	local lines = 0
	local function f()
		local x = 1
		return x
	end
	channel.sethook(function() lines = lines + 1 end, "l")
	f()
	channel.sethook()
	local seen = lines
	f()
	test.ok(seen > 0)
	test.eq(lines, seen)
	test.eq(debug.gethook(), nil)
end)

test.run()
