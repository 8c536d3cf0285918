-- The data centre: paths, copies, waiting.

local skynet = require "skynet"
local datacenter = require "skynet.datacenter"
local rt = require "rt"
local test = require "testlib"

-- Let messages sent so far be handled by the data centre.
local function settle()
	datacenter.get "settle"
end

test.case("set returns the old value, get the present one", function()
	test.eq(select("#", datacenter.get "a"), 0)
	test.eq(select("#", datacenter.set("a", 1)), 0)
	test.eq(datacenter.set("a", "two"), 1)
	test.eq(datacenter.get "a", "two")
	test.eq(datacenter.set("a", nil), "two")
	test.eq(datacenter.get "a", nil)
	test.eq(select("#", datacenter.get()), 0)
end)

test.case("longer paths make branches, and branches come as copies", function()
	datacenter.set("x", "y", "z", 5)
	test.eq(datacenter.get("x", "y", "z"), 5)
	local copy = datacenter.get "x"
	test.eq(copy, { y = { z = 5 } })
	copy.y.z = 6
	test.eq(datacenter.get("x", "y", "z"), 5)
	test.eq(datacenter.set("x", { p = { q = 7 } }), { y = { z = 5 } })
	test.eq(datacenter.get("x", "p", "q"), 7)
	datacenter.set("x", "p", "r", false)
	test.eq(datacenter.get("x", "p"), { q = 7, r = false })
	test.eq(datacenter.get("x", nil, "p"), { p = { q = 7, r = false } })
	test.eq(datacenter.get("x", "no", "such"), nil)
end)

test.case("any value may be a key; 1 and 1.0 are the same", function()
	datacenter.set("keys", 1, "int")
	test.eq(datacenter.get("keys", 1.0), "int")
	datacenter.set("keys", true, "bool")
	test.eq(datacenter.get("keys", true), "bool")
	test.err(function() datacenter.set(0 / 0, 1) end, "call failed")
	test.err(function() datacenter.set(nil, 1) end, "call failed")
end)

test.case("a path through a scalar raises, and changes nothing", function()
	datacenter.set("scalar", 1)
	datacenter.set("text", "upper")
	test.err(function() datacenter.get("scalar", "b") end, "datacenter: a number has no field 'b'")
	test.err(function() datacenter.set("scalar", "b", 2) end, "datacenter: 'scalar' is a number, no branch")
	test.err(function() datacenter.wait("scalar", "b") end, "datacenter: a number has no field 'b'")
	test.err(function() datacenter.get("text", "upper") end, "datacenter: a string has no field 'upper'")
	test.err(function() datacenter.set("text", "b", "c", 2) end, "datacenter: 'text' is a string, no branch")
	test.eq(datacenter.get "scalar", 1)
	test.eq(datacenter.get "text", "upper")
end)

test.case("a lone key is set to nil, no key raises", function()
	datacenter.set("lone", 3)
	test.eq(datacenter.set "lone", 3)
	test.eq(datacenter.get "lone", nil)
	test.err(function() datacenter.set() end, "call failed")
end)

test.case("removing what is not there makes no branches", function()
	test.eq(datacenter.set("ghost", "a", "b", nil), nil)
	test.eq(datacenter.get "ghost", nil)
end)

test.case("wait returns what is there at once, false and branches included", function()
	datacenter.set("w", "present", false)
	test.eq(datacenter.wait("w", "present"), false)
	test.eq(datacenter.wait "w", { present = false })
end)

test.case("waiters are woken in order by the set of another service", function()
	local order = {}
	local results = {}
	for i = 1, 3 do
		results[i] = rt.start(function()
			local v = datacenter.wait("w", "later")
			order[#order + 1] = i
			return v
		end)
		settle()
	end
	local setter = skynet.newservice "sv_helper"
	skynet.call(setter, "lua", "call", "DATACENTER", "lua", "UPDATE", "w", "later", "now")
	for i = 1, 3 do
		test.eq(select(2, rt.join(results[i])), "now")
	end
	test.eq(order, { 1, 2, 3 })
	skynet.send(setter, "lua", "exit")
end)

test.case("setting nil wakes nobody, setting false does", function()
	local waiter = rt.start(datacenter.wait, "w", "nil")
	settle()
	datacenter.set("w", "nil", nil)
	settle()
	test.eq(waiter.done, nil)
	datacenter.set("w", "nil", false)
	test.eq(table.pack(rt.join(waiter)), { true, false, n = 2 })
end)

test.case("nobody can wait for a path and for a longer one", function()
	local deep = rt.start(datacenter.wait, "c1", "b", "c")
	settle()
	test.err(function() datacenter.wait("c1", "b") end, "call failed")
	local short = rt.start(datacenter.wait, "c2", "b")
	settle()
	test.err(function() datacenter.wait("c2", "b", "c") end, "call failed")
	datacenter.set("c1", "b", "c", 1)
	datacenter.set("c2", "b", 2)
	test.eq(select(2, rt.join(deep)), 1)
	test.eq(select(2, rt.join(short)), 2)
	-- Nothing is left behind: both shapes may be waited for now.
	local again = rt.start(datacenter.wait, "c1", "b", "d")
	settle()
	datacenter.set("c1", "b", "d", 3)
	test.eq(select(2, rt.join(again)), 3)
end)

test.case("a longer path that is set fails the waiters of the shorter one", function()
	local waiter = rt.start(datacenter.wait, "key")
	settle()
	datacenter.set("key", "foobar", 1)
	test.eq(rt.join(waiter), false)
	test.eq(datacenter.wait("key", "foobar"), 1)
end)

test.case("a table that is set wakes all who wait for something in it", function()
	local x, y = rt.start(datacenter.wait, "sub", "x"), rt.start(datacenter.wait, "sub", "y", "z")
	local branch, other = rt.start(datacenter.wait, "sub", "b"), rt.start(datacenter.wait, "sub", "other")
	settle()
	datacenter.set("sub", { x = false, y = { z = 5 }, b = { c = 1 } })
	test.eq(table.pack(rt.join(x)), { true, false, n = 2 })
	test.eq(select(2, rt.join(y)), 5)
	test.eq(select(2, rt.join(branch)), { c = 1 })
	settle()
	test.eq(other.done, nil)
	-- Also when there was something before.
	datacenter.set("sub", { other = "now" })
	test.eq(select(2, rt.join(other)), "now")
end)

test.case("a scalar that is set fails all who wait for something below it", function()
	local waiters = {
		rt.start(datacenter.wait, "long", "path"),
		rt.start(datacenter.wait, "long", "way", "down"),
		rt.start(datacenter.wait, "long", "way", "up"),
	}
	settle()
	datacenter.set("long", nil)
	datacenter.set("long", "else", { way = 1 })
	settle()
	test.eq(waiters[1].done, nil)
	datacenter.set("long", { way = 5 })
	test.eq(rt.join(waiters[2]), false)
	test.eq(rt.join(waiters[3]), false)
	test.eq(waiters[1].done, nil)
	datacenter.set("long", 5)
	test.eq(rt.join(waiters[1]), false)
	datacenter.set("long", nil)
	local again = rt.start(datacenter.wait, "long", "path")
	settle()
	datacenter.set("long", "path", 6)
	test.eq(select(2, rt.join(again)), 6)
end)

test.case("waiters of services that died are dropped", function()
	local function waiting()
		return skynet.call("DATACENTER", "debug", "INFO").waiters
	end
	test.eq(waiting(), 0)
	for i = 1, 40 do
		local s = skynet.newservice "sv_helper"
		skynet.send(s, "lua", "call", "DATACENTER", "lua", "WAIT", "dead", i % 2 == 0 and "even" or "odd")
		-- Answered when the helper has sent its request.
		test.wait_for(function() return waiting() == 1 end)
		require "skynet.manager".kill(s)
		test.wait_for(function() return waiting() == 0 end)
	end
	-- The dead are not in the way of others either.
	local s = skynet.newservice "sv_helper"
	skynet.send(s, "lua", "call", "DATACENTER", "lua", "WAIT", "dead", "path")
	test.wait_for(function() return waiting() == 1 end)
	require "skynet.manager".kill(s)
	test.wait_for(function() return not require "skynet.alive"(s) end)
	local waiter = rt.start(datacenter.wait, "dead")
	settle()
	datacenter.set("dead", "woken")
	test.eq(select(2, rt.join(waiter)), "woken")
end)

test.case("wait without a key and unknown commands raise", function()
	test.err(function() datacenter.wait() end, "call failed")
	test.err(function() skynet.call("DATACENTER", "lua", "NOSUCH") end, "call failed")
end)

test.run()
