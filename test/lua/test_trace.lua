-- config: logservice = "snlua"
-- config: logger = "rt_log"
-- Trace tags and the lines they leave in the log.

local skynet = require "skynet"
require "skynet.manager"
local test = require "testlib"
local rt = require "rt"

-- Events of a tag: { service, event, call sites }.
local function events(tag, from)
	local list = {}
	for _, line in ipairs(rt.lines("<TRACE " .. tag:gsub("%-", "%%-") .. ">", from)) do
		local who, text = line:match "^%[(:%x+)%] <TRACE [^>]+> %d+ (.*)$"
		list[#list + 1] = { who, text }
	end
	return list
end

local function names(list)
	local out = {}
	for i, e in ipairs(list) do
		out[i] = e[2]:match "^(%a[%a ]-) : " or e[2]
	end
	return out
end

-- Run f as a traced task; returns its tag.
local function traced(f)
	local tag
	local r = rt.start(function()
		skynet.trace()
		tag = skynet.tracetag()
		f()
	end)
	rt.join(r)
	return tag
end

test.case("a call leaves the documented lines on both sides, in order", function()
	local agent = rt.agent()
	local from = rt.mark()
	local tag = traced(function() rt.run(agent, "skynet.retpack(skynet.tracetag())") end)
	test.eq(tag, skynet.address(skynet.self()) .. "-1")
	test.wait_for(function() return #events(tag, from) == 7 end)
	local list = events(tag, from)
	local mine, theirs = {}, {}
	for i, e in ipairs(list) do
		local side = e[1] == skynet.address(agent) and theirs or mine
		side[#side + 1] = names(list)[i]
	end
	test.eq(mine, { "trace", "call", "resume", "end" })
	test.eq(theirs, { "request", "response", "end" })
	for _, e in ipairs(list) do
		if e[2]:find "^call" then
			test.match(e[2], "^call : @.*test/lib/rt.lua:%d+ @.*test_trace.lua:%d+")
		end
	end
	test.eq(rt.lines("TRACE nil", from), {})
	skynet.kill(agent)
end)

test.case("a failing callee leaves request and error, and no resume here", function()
	local agent = rt.agent()
	local from = rt.mark()
	local tag = traced(function() pcall(rt.run, agent, "error 'on purpose'") end)
	test.wait_for(function() return #events(tag, from) >= 5 end)
	local seen = {}
	for _, name in ipairs(names(events(tag, from))) do
		seen[name] = true
	end
	test.eq(seen, { trace = true, call = true, request = true, error = true, ["end"] = true })
	skynet.kill(agent)
end)

test.case("a request that was never sent leaves no tag for the next one", function()
	local agent = rt.agent()
	traced(function()
		pcall(skynet.call, agent, "lua", print)
		pcall(skynet.call, 0xffff, "lua", 1)
	end)
	test.eq(rt.run(agent, "skynet.retpack(skynet.tracetag())"), nil)
	traced(function() skynet.send(agent, "lua", "return") end)
	test.eq(rt.run(agent, "skynet.retpack(skynet.tracetag())"), nil)
	skynet.kill(agent)
end)

test.case("sleeping leaves sleep with call sites and resume", function()
	local from = rt.mark()
	local tag = traced(function() skynet.sleep(1) skynet.yield() end)
	test.eq(names(events(tag, from)), { "trace", "sleep", "resume", "sleep", "resume", "end" })
	test.match(events(tag, from)[2][2], "^sleep : @.*test_trace.lua:%d+")
end)

test.case("trace with information, and a second tag", function()
	local from = rt.mark()
	local tag = traced(function()
		skynet.trace "for a reason"
	end)
	local second = tag:gsub("%d+$", function(n) return n + 1 end)
	test.eq(names(events(tag, from)), { "trace" })
	test.eq(names(events(second, from)), { "trace for a reason", "end" })
end)

test.case("the tag is not inherited by forks and timers", function()
	local inside = {}
	traced(function()
		skynet.fork(function() inside.fork = tostring(skynet.tracetag()) end)
		skynet.timeout(0, function() inside.timer = tostring(skynet.tracetag()) end)
		skynet.sleep(2)
	end)
	test.eq(inside, { fork = "nil", timer = "nil" })
end)

test.case("the tag travels on through several services", function()
	local a, b = rt.agent(), rt.agent()
	local got
	local tag = traced(function()
		got = rt.run(a, "skynet.retpack(skynet.call(select(3, ...), 'lua', \"require 'skynet'.retpack(require 'skynet'.tracetag())\"))", b)
	end)
	test.eq(got, tag)
	test.eq(rt.run(a, "skynet.retpack(skynet.tracetag())"), nil)
	skynet.kill(a)
	skynet.kill(b)
end)

test.case("traceproto false discards tags and inhibits trace", function()
	local agent = rt.agent()
	rt.run(agent, "skynet.traceproto('lua', false) skynet.ret()")
	local got
	traced(function()
		got = table.pack(rt.run(agent, [[
			local before = skynet.tracetag()
			skynet.trace()
			skynet.retpack(before, skynet.tracetag())
		]]))
	end)
	test.eq(got, { false, false, n = 2 })
	skynet.kill(agent)
end)

test.case("traceproto true starts a trace for every message without a tag", function()
	local agent = rt.agent()
	rt.run(agent, "skynet.traceproto('lua', true) skynet.ret()")
	test.eq(rt.run(agent, "skynet.retpack(skynet.tracetag())"), skynet.address(agent) .. "-1")
	local got
	local tag = traced(function() got = rt.run(agent, "skynet.retpack(skynet.tracetag())") end)
	test.eq(got, tag)
	test.err(function() skynet.traceproto("nosuch", true) end,
		"bad argument #1 to 'skynet.traceproto' (no protocol is named 'nosuch'): assertion failed!")
	skynet.kill(agent)
end)

test.case("debug TRACELOG turns tracing on and says so", function()
	local agent = rt.agent()
	local from = rt.mark()
	test.eq(select("#", skynet.call(agent, "debug", "TRACELOG", true)), 0)
	rt.logged("Turn trace log true for lua", from)
	test.ok(rt.run(agent, "skynet.retpack(skynet.tracetag())"))
	rt.call_failed(skynet.call, agent, "debug", "TRACELOG", "nosuch", true)
	skynet.kill(agent)
end)

test.case("tracecall brackets a raw call and carries its tag", function()
	local agent = rt.agent()
	local from = rt.mark()
	local msg, size = skynet.tracecall("mytag", agent, "lua",
		skynet.packstring "require 'skynet'.retpack(require 'skynet'.tracetag())")
	test.eq(skynet.unpack(msg, size), "mytag")
	test.wait_for(function() return #events("mytag", from) == 5 end)
	local list = names(events("mytag", from))
	test.eq({ list[1], list[#list] == "end" or list[#list] == "tracecall end" }, { "tracecall begin", true })
	skynet.kill(agent)
end)

test.case("tracelog writes one line, with call sites if asked", function()
	local from = rt.mark()
	skynet.tracelog("t1", "plain")
	skynet.tracelog("t2", "sited", 1)
	skynet.tracelog("t3", "of a thread", coroutine.create(print))
	test.eq(events("t1", from)[1][2], "plain")
	test.match(events("t2", from)[1][2], "^sited : @.*test_trace.lua:%d+")
	test.eq(events("t3", from)[1][2], "of a thread")
end)

test.case("a select carries the tag with each request", function()
	local agent = rt.agent()
	local got = {}
	local tag = traced(function()
		local ask = "require 'skynet'.retpack(require 'skynet'.tracetag())"
		for _, resp in skynet.request { agent, "lua", ask } { agent, "lua", ask } :select() do
			got[#got + 1] = resp[1]
		end
	end)
	test.eq(got, { tag, tag })
	skynet.kill(agent)
end)

test.run()
