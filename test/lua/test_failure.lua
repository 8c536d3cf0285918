-- config: logservice = "snlua"
-- config: logger = "rt_log"
-- What a requester sees when the other side fails, row by row.

local skynet = require "skynet"
require "skynet.manager"
local test = require "testlib"
local rt = require "rt"

local agent

test.case("the handler raises before it answers: failure, with the reason", function()
	agent = rt.agent()
	local from = rt.mark()
	local err = rt.call_failed(rt.run, agent, "error 'the dog ate it'")
	test.match(err, "agent:3: the dog ate it: call failed$")
	rt.logged("the dog ate it", from)
end)

test.case("the handler raises a value that is no string", function()
	local from = rt.mark()
	rt.call_failed(rt.run, agent, "error(setmetatable({}, { __tostring = function() return 'an object' end }))")
	rt.logged("an object", from)
	rt.call_failed(rt.run, agent, "error()")
	rt.call_failed(rt.run, agent, "error(setmetatable({}, { __tostring = error }))")
end)

test.case("the handler raises after it answered: the answer, and a log entry", function()
	local from = rt.mark()
	test.eq(rt.run(agent, "skynet.retpack(1) error 'afterwards'"), 1)
	rt.logged("afterwards", from)
end)

test.case("the handler defers and raises: pending until the closure is used", function()
	local from = rt.mark()
	local r = rt.start(rt.run, agent, "SHARED.r = skynet.response() error 'deferred'")
	rt.logged("deferred", from)
	test.ok(not r.done)
	rt.run(agent, "SHARED.r(true, 5) skynet.ret()")
	test.eq({ rt.join(r) }, { true, 5 })
end)

test.case("ignoreret leaves the call pending until the service ends", function()
	local other = rt.agent()
	local r = rt.start(rt.run, other, "skynet.ignoreret()")
	rt.run(other, "skynet.ret()")
	test.ok(not r.done)
	local exited = rt.start(rt.run, other, "skynet.exit()")
	rt.join(exited)
	-- The farewell of a service that exits only tells those who owe it answers;
	-- the request that nobody owed stays pending.
	test.ok(not r.done)
	skynet.term(other)
	test.eq(rt.join(r), false)
end)

test.case("exit fails owed, deferred and queued requests", function()
	local other = rt.agent()
	local owed = rt.start(rt.run, other, "skynet.wait()")
	local deferred = rt.start(rt.run, other, "SHARED.r = skynet.response()")
	rt.run(other, "skynet.ret()")
	local exiting = rt.start(rt.run, other, "skynet.exit()")
	local queued = rt.start(rt.run, other, "skynet.ret()")
	for _, r in ipairs { owed, deferred, exiting, queued } do
		local ok, err = rt.join(r)
		test.eq(ok, false)
		test.ok(err:find "call failed$" or err:find "call to invalid address", err)
	end
end)

test.case("kill fails queued requests and those already taken", function()
	local other = rt.agent()
	local taken = rt.start(rt.run, other, "skynet.wait()")
	local deferred = rt.start(rt.run, other, "SHARED.r = skynet.response()")
	rt.run(other, "skynet.ret()")
	skynet.kill(other)
	for _, r in ipairs { taken, deferred } do
		local ok, err = rt.join(r)
		test.eq(ok, false)
		test.match(err, "call failed$")
	end
	test.err(function() rt.run(other, "") end, "call to invalid address")
end)

test.case("sends that were dropped report the death, which fails pending calls", function()
	local other = rt.agent()
	local r = rt.start(rt.run, other, "skynet.wait()")
	rt.run(other, "skynet.ret()")
	-- It kills itself with messages of ours still in its mailbox.
	rt.tell(other, [[
		local until_time = skynet.hpc() + 30000000
		while skynet.hpc() < until_time do end
		skynet.kill(skynet.self())
	]])
	rt.tell(other, "")
	rt.tell(other, "")
	test.eq(rt.join(r), false)
end)

test.case("an empty ERROR with session 0 fails all calls to its source", function()
	local other = rt.agent()
	local by_handle = rt.start(rt.run, other, "SHARED.a = skynet.response()")
	rt.run(other, "skynet.register '.test_failure' skynet.ret()")
	local by_name = rt.start(rt.run, ".test_failure", "SHARED.b = skynet.response()")
	local elsewhere = rt.start(rt.run, agent, "SHARED.c = skynet.response()")
	rt.run(other, "skynet.ret()")
	rt.run(agent, "skynet.ret()")
	skynet.redirect(skynet.self(), other, "error", 0, "")
	test.eq(rt.join(by_handle), false)
	test.eq(rt.join(by_name), false)
	test.ok(not elsewhere.done)
	rt.run(agent, "SHARED.c(true) skynet.ret()")
	rt.join(elsewhere)
	skynet.kill(other)
end)

test.case("an ERROR must come from the service that was called", function()
	local r = rt.start(rt.run, agent, "SHARED.c = skynet.response()")
	local session = rt.session(r)
	skynet.redirect(skynet.self(), skynet.self(), "error", session, "")
	skynet.redirect(skynet.self(), 0xffff, "error", session, "")
	rt.run(agent, "skynet.ret()")
	test.ok(not r.done)
	skynet.redirect(skynet.self(), agent, "error", session, "")
	test.eq(rt.join(r), false)
	rt.run(agent, "SHARED.c(true) skynet.ret()")
end)

test.case("an ERROR for an unknown session is ignored", function()
	local from = rt.mark()
	skynet.redirect(skynet.self(), agent, "error", 123456, "")
	skynet.redirect(skynet.self(), agent, "error", 0, "")
	skynet.yield()
	test.eq(rt.lines("error", from), {})
end)

test.case("a dropped answer does not fail an unrelated call", function()
	-- Services that never answer die with our responses in their mailboxes.
	local victim = rt.agent()
	local r = rt.start(rt.run, agent, "SHARED.c = skynet.response()")
	local session = rt.session(r)
	rt.tell(victim, [[
		local until_time = skynet.hpc() + 20000000
		while skynet.hpc() < until_time do end
		skynet.kill(skynet.self())
	]])
	skynet.redirect(victim, skynet.self(), "response", session, "x")
	rt.wait_gone(victim)
	rt.run(agent, "skynet.ret()")
	test.ok(not r.done)
	rt.run(agent, "SHARED.c(true) skynet.ret()")
	test.eq(rt.join(r), true)
end)

test.case("term fails calls to a name that nobody has, once, and nothing else", function()
	local r1 = rt.start(skynet.call, "UNEXIST", "lua")
	local r2 = rt.start(skynet.call, "UNEXIST", "lua")
	local other = rt.start(skynet.call, "UNEXIST2", "lua")
	skynet.yield()
	skynet.term "UNEXIST"
	skynet.term "UNEXIST"
	for _, r in ipairs { r1, r2 } do
		local ok, err = rt.join(r)
		test.eq(ok, false)
		test.match(err, "call failed$")
	end
	test.ok(not other.done)
	skynet.term "UNEXIST2"
	test.eq(rt.join(other), false)
	skynet.term "UNEXIST"
end)

test.case("term inside a handler leaves its own answer alone", function()
	test.eq(rt.run(agent, [[
		skynet.term(source)
		skynet.term(source)
		skynet.retpack "still answered"
	]]), "still answered")
end)

test.case("a signal that interrupts a handler fails its requester", function()
	if skynet.getenv "thread" == "1" then
		test.skip "nobody could send the signal"
	end
	local core = require "skynet.core"
	local other = rt.agent()
	local from = rt.mark()
	local r = rt.start(rt.run, other, "while true do end")
	-- Until the loop runs, the signal finds nothing to interrupt.
	test.wait_for(function()
		core.command("SIGNAL", skynet.address(other) .. " 0")
		return r.done
	end)
	test.match(r.value, "signal 0: call failed$")
	rt.logged("signal 0", from)
	test.eq(rt.run(other, "skynet.retpack 'alive'"), "alive")
	skynet.kill(other)
end)

test.run()
