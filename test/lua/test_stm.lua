-- skynet.stm: cells with one writer and many readers.

local skynet = require "skynet"
local stm = require "skynet.stm"
local memory = require "skynet.memory"
local test = require "testlib"

local PUBLISHES = skynet.getenv "test_variant" == "release" and 20000 or 1000

local function ask(service, ...)
	return skynet.call(service, "lua", ...)
end

local function text(data, size)
	return skynet.tostring(data, size), size
end

test.case("a version is read once, and the newest one only", function()
	local w = stm.new(skynet.pack(1, "one"))
	local r = stm.newcopy(stm.copy(w))
	test.eq({ r(skynet.unpack) }, { true, 1, "one" })
	test.eq(table.pack(r(skynet.unpack)), { false, n = 1 })
	w(skynet.pack(2))
	w(skynet.pack(3))
	test.eq({ r(skynet.unpack) }, { true, 3 })
	test.eq(r(skynet.unpack), false)
end)

test.case("buffers may be strings, also the empty one; f gets a third argument", function()
	local w = stm.new "a\0b"
	local r = stm.newcopy(stm.copy(w))
	test.eq({ r(text) }, { true, "a\0b", 3 })
	w ""
	test.eq({ r(text) }, { true, "", 0 })
	w "x"
	test.eq({ r(function(_, _, ud) return ud end, "ud") }, { true, "ud" })
	w "y"
	test.eq(table.pack(r(function() end)), { true, n = 1 })
end)

test.case("a version whose callback raised is read again", function()
	local w = stm.new "v"
	local r = stm.newcopy(stm.copy(w))
	test.err(function() r(function() error "on purpose" end) end, "on purpose")
	test.eq({ r(text) }, { true, "v", 1 })
	test.eq(r(text), false)
	w "w"
	test.err(function() r(5) end, "attempt to call")
	test.eq({ r(text) }, { true, "w", 1 })
	test.err(function() r() end)
end)

test.case("a callback may read on through the same reader", function()
	local w = stm.new "outer"
	local r = stm.newcopy(stm.copy(w))
	local inner
	test.eq({ r(function()
		w "inner"
		inner = table.pack(r(text))
		return "outer"
	end) }, { true, "outer" })
	test.eq({ table.unpack(inner) }, { true, "inner", 5 })
	test.eq(r(text), false)
end)

test.case("when the writer is gone, readers get false", function()
	local w = stm.new "v"
	local r, late, late_copy = stm.newcopy(stm.copy(w)), stm.copy(w), stm.copy(w)
	test.eq(r(text), true)
	w = nil
	test.eq(w, nil)
	collectgarbage()
	test.eq(r(text), false)
	-- Copies that come too late are readers of an empty cell.
	test.eq(stm.newcopy(late)(text), false)
	r = nil
	test.eq(r, nil)
	collectgarbage()
	local orphan = stm.newcopy(late_copy)
	test.eq(orphan(text), false)
	test.eq(stm.newcopy(stm.copy(orphan))(text), false)
end)

test.case("a copy works once", function()
	local w = stm.new "v"
	local copy = stm.copy(w)
	local r = stm.newcopy(copy)
	for _ = 1, 3 do
		test.err(function() stm.newcopy(copy) end, "used already")
	end
	test.eq(r(text), true)
	test.err(function() stm.newcopy(nil) end, "userdata expected")
	test.err(function() stm.copy {} end, "writer or reader")
	test.err(function() stm.new(nil) end, "string or light userdata")
	test.err(function() stm.new(copy, -1) end, "size")
	test.err(function() w(5) end, "string or light userdata")
	test.eq(r(text), false)
end)

test.case("copies that nobody uses, and buffers, leak nothing", function()
	collectgarbage()
	local big = ("x"):rep(100000)
	test.wait_for(function()
		local before = memory.current()
		do
			local w = stm.new(big)
			local r = stm.newcopy(stm.copy(w))
			for _ = 1, 1000 do
				stm.copy(w)
				w(big)
				r(text)
			end
		end
		collectgarbage()
		return memory.current() - before < 50000
	end)
end)

test.case("readers in other services, and readers of readers", function()
	local w = stm.new(skynet.pack "first")
	local a, b = skynet.newservice "stm_reader", skynet.newservice "stm_reader"
	ask(a, "open", stm.copy(w))
	ask(b, "open", (ask(a, "hand_on")))
	test.eq({ ask(b, "read") }, { true, "first" })
	test.eq({ ask(a, "read") }, { true, "first" })
	w(skynet.pack "second")
	test.eq({ ask(a, "read") }, { true, "second" })
	test.eq({ ask(a, "read") }, { false })
	ask(a, "exit")
	test.eq({ ask(b, "read") }, { true, "second" })
	ask(b, "exit")
end)

test.case("readers on other threads see whole versions, never older ones", function()
	local function version(i)
		return (i .. ","):rep(1 + i % 500)
	end
	local w = stm.new(version(1))
	local readers, finished, faults = {}, 0, 0
	for i = 1, 4 do
		readers[i] = skynet.newservice "stm_reader"
		ask(readers[i], "open", stm.copy(w))
		skynet.fork(function()
			faults = faults + ask(readers[i], "watch", PUBLISHES)
			finished = finished + 1
		end)
	end
	for i = 2, PUBLISHES do
		w(version(i))
		if i % 16 == 0 then
			skynet.yield()
		end
	end
	test.wait_for(function() return finished == 4 end, 6000)
	test.eq(faults, 0)
	for i = 1, 4 do
		ask(readers[i], "exit")
	end
end)

test.run()
