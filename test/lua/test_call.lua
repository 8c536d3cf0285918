-- config: logservice = "snlua"
-- config: logger = "rt_log"
-- Sending, requests and answers between healthy services.

local skynet = require "skynet"
require "skynet.manager"
local core = require "skynet.core"
local test = require "testlib"
local rt = require "rt"

local agent

local ECHO = "skynet.retpack(select(3, ...))"

test.case("call keeps all values, nils included", function()
	agent = rt.agent()
	local r = table.pack(rt.run(agent, ECHO, 1, nil, "x", nil))
	test.eq(r, { 1, nil, "x", nil, n = 4 })
	test.eq(select("#", rt.run(agent, "skynet.ret()")), 0)
	test.eq(select("#", rt.run(agent, "skynet.retpack()")), 0)
	local big = string.rep("x", 1000000)
	test.eq(rt.run(agent, ECHO, big), big)
	local many = table.pack(rt.run(agent, ECHO, table.unpack({}, 1, 200)))
	test.eq(many.n, 200)
end)

test.case("a second answer raises, an answer to a send is false", function()
	test.eq({ rt.run(agent, [[
		local first = skynet.retpack(1)
		local ok, err = pcall(skynet.retpack, 2)
		SHARED.seen = { first, ok, err }
	]]) }, { 1 })
	local seen = rt.run(agent, "skynet.retpack(SHARED.seen)")
	test.eq({ seen[1], seen[2] }, { true, false })
	test.match(seen[3], "No session")
	rt.tell(agent, "SHARED.seen = { skynet.retpack(1) }")
	test.eq(rt.run(agent, "skynet.retpack(SHARED.seen)"), { false })
end)

test.case("ret sends strings and pointers as they are", function()
	test.eq(rt.run(agent, "skynet.ret(skynet.packstring('s', 1))"), "s")
	test.eq({ rt.run(agent, "skynet.ret(skynet.pack('p', 2))") }, { "p", 2 })
	local msg, size = skynet.rawcall(agent, "lua", skynet.pack(
		"require('skynet').ret 'raw bytes'"))
	test.eq(skynet.tostring(msg, size), "raw bytes")
	msg, size = skynet.rawcall(agent, "lua", skynet.packstring "require('skynet').ret()")
	test.eq(size, 0)
end)

test.case("ret without a debt raises in forks and timers", function()
	local err
	skynet.fork(function() err = select(2, pcall(skynet.retpack, 1)) end)
	skynet.yield()
	test.match(err, "No session")
	skynet.timeout(0, function() err = select(2, pcall(skynet.ret, skynet.pack(1))) end)
	skynet.yield()
	test.match(err, "No session")
end)

test.case("context tells session and source, as long as the debt lasts", function()
	local s, src = rt.run(agent, "skynet.retpack(skynet.context())")
	test.ok(s > 0)
	test.eq(src, skynet.self())
	test.eq({ rt.run(agent, [[
		skynet.retpack(1)
		SHARED.context = table.pack(skynet.context())
	]]) }, { 1 })
	test.eq(rt.run(agent, "skynet.retpack(SHARED.context)"), { nil, skynet.self(), n = 2 })
	local in_fork
	skynet.fork(function() in_fork = table.pack(skynet.context()) end)
	skynet.yield()
	test.eq(in_fork, { nil, nil, n = 2 })
	rt.tell(agent, "SHARED.context = table.pack(skynet.context())")
	test.eq(rt.run(agent, "skynet.retpack(SHARED.context)"), { 0, skynet.self(), n = 2 })
end)

test.case("a call to oneself is legal", function()
	skynet.dispatch("lua", function(_, _, ...) skynet.retpack(...) end)
	test.eq({ skynet.call(skynet.self(), "lua", "me", 2) }, { "me", 2 })
end)

test.case("calls that overlap get their own answers", function()
	local got = {}
	local list = {}
	for i = 1, 50 do
		list[i] = rt.start(function()
			got[i] = rt.run(agent, "skynet.sleep(select(3, ...) % 3) skynet.retpack(select(3, ...))", i)
		end)
	end
	for i = 1, 50 do
		test.eq(rt.join(list[i]), true)
		test.eq(got[i], i)
	end
end)

test.case("missing destinations: call raises, send returns nothing", function()
	test.err(function() skynet.call(0xffff, "lua") end, "call to invalid address :0000ffff")
	test.err(function() skynet.call(".nope", "lua") end, "call to invalid address .nope")
	test.err(function() skynet.call(":ffff", "lua") end, "call to invalid address :ffff")
	test.err(function() skynet.rawcall(0xffff, "lua", "") end, "call to invalid address")
	test.eq(select("#", skynet.send(0xffff, "lua", 1)), 0)
	test.eq(select("#", skynet.send(".nope", "lua", 1)), 0)
	test.eq(skynet.send(agent, "lua", "local x"), 0)
end)

test.case("bad destinations and messages raise", function()
	test.err(function() skynet.call(0, "lua") end, "Invalid service address 0")
	test.err(function() skynet.call(8.5, "lua") end, "Invalid service address 0")
	test.err(function() skynet.call(nil, "lua") end,
		"dest address type (nil) must be a string or number.")
	test.err(function() skynet.send({}, "lua") end,
		"dest address type (table) must be a string or number.")
	test.err(function() skynet.rawsend(skynet.self(), "lua", nil) end, "invalid param nil")
	test.err(function() skynet.rawsend(skynet.self(), "lua", 5) end, "invalid param number")
	test.err(function() skynet.send(agent, "nosuch", 1) end, "nosuch")
	test.err(function() skynet.call(agent, "nosuch", 1) end, "nosuch")
	test.err(function() skynet.send(agent, "response", 1) end)
	test.err(function() skynet.call(agent, "lua", print) end, "Unsupport type function")
end)

test.case("numbers as text, names and hex text are addresses", function()
	local me = skynet.self()
	test.eq(skynet.call(tostring(me), "lua", 1), 1)
	test.eq(skynet.call(skynet.address(me), "lua", 2), 2)
	test.eq(skynet.register ".test_call", true)
	test.eq(skynet.call(".test_call", "lua", 3), 3)
	test.eq(skynet.call(me + 0.0, "lua", 4), 4)
end)

test.case("rawsend and redirect", function()
	test.eq(skynet.rawsend(agent, "lua", skynet.packstring "SHARED.raw = 'sent'"), 0)
	test.eq(rt.run(agent, "skynet.retpack(SHARED.raw)"), "sent")
	test.eq(skynet.redirect(agent, 0x1234, "lua", 0,
		skynet.pack "SHARED.raw = select(2, require 'skynet'.context())"), 0)
	test.eq(rt.run(agent, "skynet.retpack(SHARED.raw)"), 0x1234)
	test.err(function() skynet.redirect(agent, "x", "lua", 0, "") end)
	test.err(function() skynet.redirect(agent, 1, "nosuch", 0, "") end)
end)

test.case("a request that is passed on is answered by the second service", function()
	local second = rt.agent()
	local got = rt.run(agent, [[
		local second = select(3, ...)
		skynet.redirect(second, source, "lua", session,
			skynet.pack "require 'skynet'.retpack('from the second')")
		skynet.ignoreret()
	]], second)
	test.eq(got, "from the second")
	-- Its failure arrives too, although it comes from another address.
	rt.call_failed(rt.run, agent, [[
		local second = select(3, ...)
		skynet.redirect(second, source, "lua", session, skynet.pack "error 'the second fails'")
		skynet.ignoreret()
	]], second)
	skynet.kill(second)
end)

test.case("genid counts up and shares the series with the core", function()
	local a = skynet.genid()
	local b = core.genid()
	test.ok(b > a and skynet.genid() > b)
end)

test.case("deferred answers, all at once", function()
	local list = {}
	for i = 1, 5 do
		list[i] = rt.start(rt.run, agent, [[
			SHARED.wait = SHARED.wait or {}
			table.insert(SHARED.wait, skynet.response())
		]])
	end
	test.wait_for(function()
		return rt.run(agent, "skynet.retpack(SHARED.wait and #SHARED.wait)") == 5
	end)
	rt.tell(agent, [[
		SHARED.result = {}
		for i, r in ipairs(SHARED.wait) do
			SHARED.result[i] = { r "TEST", r(true, "same", nil, i), r "TEST" }
		end
		SHARED.twice = select(2, pcall(SHARED.wait[1], true))
		SHARED.wait = nil
	]])
	for i = 1, 5 do
		test.eq(table.pack(rt.join(list[i])), { true, "same", nil, i, n = 4 })
	end
	local result, twice = rt.run(agent, "skynet.retpack(SHARED.result, SHARED.twice)")
	for i = 1, 5 do
		test.eq(result[i], { true, true, false })
	end
	test.match(twice, "Can't response more than once")
end)

test.case("a deferred refusal fails the call, with its reason", function()
	local err = rt.call_failed(rt.run, agent, "skynet.response()(false)")
	err = rt.call_failed(rt.run, agent, "skynet.response()(false, 'because of the rain')")
	test.match(err, "because of the rain: call failed$")
end)

test.case("response to a send does nothing and returns nothing", function()
	rt.tell(agent, [[
		local r = skynet.response()
		SHARED.n = { select("#", r(true, 1)), select("#", r "TEST"), type(r) }
	]])
	test.eq(rt.run(agent, "skynet.retpack(SHARED.n)"), { 0, 0, "function" })
end)

test.case("response takes the debt over", function()
	test.eq(rt.run(agent, [[
		local r = skynet.response()
		local ok, err = pcall(skynet.response)
		SHARED.err = err
		r(true, "done")
	]]), "done")
	test.match(rt.run(agent, "skynet.retpack(SHARED.err)"), "no session")
end)

test.case("response with a pack function of its own", function()
	local msg, size = skynet.rawcall(agent, "lua", skynet.pack [[
		local skynet = require "skynet"
		skynet.response(function(a, b) return a .. b end)(true, "ra", "w2")
	]])
	test.eq(skynet.tostring(msg, size), "raw2")
	test.eq(rt.run(agent, "skynet.response(skynet.pack)(true, 'pointer')"), "pointer")
end)

test.case("a pack that raises leaves the deferred answer usable", function()
	test.eq(rt.run(agent, [[
		local r = skynet.response()
		SHARED.ok = pcall(r, true, print)
		r(true, "second try")
	]]), "second try")
	test.eq(rt.run(agent, "skynet.retpack(SHARED.ok)"), false)
end)

test.case("a deferred answer that is dropped fails the call and is logged", function()
	local from = rt.mark()
	local r = rt.start(rt.run, agent, "local r = skynet.response()")
	test.wait_for(function()
		rt.run(agent, "collectgarbage() skynet.ret()")
		return r.done
	end)
	test.match(r.value, "call failed$")
	rt.logged("Maybe forgot response session %d+ from", from)
end)

test.case("answers to a requester that is gone", function()
	local requester = rt.agent()
	rt.tell(requester, [[
		skynet.call(select(3, ...), "lua",
			"SHARED.late = require 'skynet'.response() SHARED.kept = require 'skynet'.response")
	]], agent)
	test.wait_for(function() return rt.run(agent, "skynet.retpack(SHARED.late ~= nil)") end)
	test.eq(rt.run(agent, "skynet.retpack(SHARED.late 'TEST')"), true)
	rt.tell(requester, "skynet.exit()")
	rt.wait_gone(requester)
	-- Its farewell tells us that nobody wants the answer any more.
	test.eq(rt.run(agent, "skynet.retpack(SHARED.late 'TEST', SHARED.late(true, 1))"), false)
	test.eq(select(2, rt.run(agent, "skynet.retpack(1, pcall(SHARED.late, true))")), false)
end)

test.case("after a kill of the requester the answer reports failure", function()
	local requester = rt.agent()
	rt.tell(requester, [[
		skynet.call(select(3, ...), "lua", "SHARED.late2 = require 'skynet'.response()")
	]], agent)
	test.wait_for(function() return rt.run(agent, "skynet.retpack(SHARED.late2 ~= nil)") end)
	skynet.kill(requester)
	rt.wait_gone(requester)
	test.eq(rt.run(agent, "skynet.retpack(SHARED.late2(true, 1))"), false)
end)

test.case("a call with a time limit", function()
	test.eq(skynet.call_timeout(100000, agent, "lua", "require 'skynet'.retpack 'in time'"), "in time")
	local from = rt.mark()
	local start = skynet.now()
	test.err(function()
		skynet.call_timeout(3, agent, "lua", "SHARED.limited = require 'skynet'.response()")
	end, "call timeout")
	test.ok(skynet.now() - start >= 3)
	test.err(function() skynet.call_timeout(3, 0xffff, "lua") end, "call to invalid address")
	test.err(function() skynet.call_timeout(-1, agent, "lua") end, "out of range")
	rt.call_failed(skynet.call_timeout, 100000, agent, "lua", "error 'within the limit'")
	-- The late answer is swallowed: it comes before that of this call.
	test.eq(rt.run(agent, "skynet.retpack(SHARED.limited(true, 1))"), true)
	test.eq(rt.lines("Unknown session", from), {})
end)

test.case("an answer that is too large fails the call, and tells who answers", function()
	for _, answer in ipairs {
		"SHARED.told = skynet.ret(skynet.pack(1), -1)",
		"SHARED.told = skynet.response(function() return skynet.pack(1), -1 end)(true)",
	} do
		rt.call_failed(rt.run, agent, answer)
		local told = rt.run(agent, "skynet.retpack(SHARED.told)")
		test.eq(told, answer:find "response" ~= nil)
	end
end)

test.case("a send is refused as false when it is too large", function()
	local msg = skynet.pack(1)
	test.eq(skynet.rawsend(agent, "lua", msg, -1), false)
	test.err(function()
		skynet.rawcall(agent, "lua", skynet.pack(1), -1)
	end)
end)

test.run(function()
	skynet.dispatch("lua", function(_, _, ...) skynet.retpack(...) end)
end)
