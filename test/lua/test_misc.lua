-- config: logservice = "snlua"
-- config: logger = "rt_log"
-- Introspection, clock, environment, addresses.

local skynet = require "skynet"
require "skynet.manager"
local test = require "testlib"
local rt = require "rt"

test.case("time is starttime and now", function()
	local before = skynet.now()
	local diff = skynet.time() - skynet.starttime()
	test.ok(diff >= before / 100 - 0.001 and diff <= skynet.now() / 100 + 0.001)
	test.eq(math.type(skynet.now()), "integer")
	test.eq(math.type(skynet.hpc()), "integer")
	test.ok(math.abs(skynet.time() - os.time()) < 60)
end)

test.case("environment values are set once", function()
	skynet.setenv("foo", "2 3")
	test.eq(skynet.getenv "foo", "2 3")
	test.err(function() skynet.setenv("foo", "other") end, "Can't setenv exist key : foo")
	test.eq(skynet.getenv "foo", "2 3")
	skynet.setenv("n", 12)
	test.eq(skynet.getenv "n", "12")
	skynet.setenv("e", "")
	test.eq(skynet.getenv "e", "")
	test.err(function() skynet.setenv("e", "x") end, "Can't setenv exist key : e")
	test.eq(skynet.getenv "never_set", nil)
	test.err(function() skynet.getenv(5) end)
	test.err(function() skynet.setenv("nil", nil) end)
	test.err(function() skynet.setenv("with blank", "x") end, "blanks")
end)

test.case("addresses and names", function()
	test.eq(skynet.address(10), ":0000000a")
	test.eq(skynet.address ".x", ".x")
	test.eq(skynet.self(), tonumber(skynet.address(skynet.self()):sub(2), 16))
	test.eq(skynet.localname ".launcher", 3)
	test.eq(skynet.localname ".nobody", nil)
	test.eq(skynet.localname "launcher", nil)
	-- An address is no name.
	test.eq(skynet.localname ":3", nil)
	test.eq({ skynet.harbor(skynet.self()) }, { 0, false })
	test.err(function() skynet.harbor "x" end)
end)

test.case("stat", function()
	test.eq(skynet.stat "nonsense", 0)
	test.eq(skynet.mqlen(), skynet.stat "mqlen")
	test.eq(skynet.endless(), false)
	local before = skynet.stat "message"
	skynet.yield()
	test.ok(skynet.stat "message" > before)
	test.ok(skynet.stat "cpu" >= 0)
	test.ok(skynet.stat "time" >= 0)
end)

test.case("task counts what waits, and finds sessions", function()
	local before = skynet.task()
	local token = {}
	local r = rt.start(skynet.wait, token)
	skynet.yield()
	test.eq(skynet.task(), before + 1)
	local session = skynet.task(r.co)
	test.eq(math.type(session), "integer")
	test.match(skynet.task(session), "stack traceback")
	test.eq(skynet.task(99999), "No session")
	test.eq(skynet.task "nonsense", nil)
	test.eq(skynet.task "init", nil)
	local dump = {}
	test.eq(skynet.task(dump), nil)
	local found
	for key, text in pairs(dump) do
		if tonumber(key:match "^thread: 0x%x+ session: (%d+)$") == session then
			found = text
		end
	end
	test.match(found, "stack traceback")
	skynet.wakeup(token)
	rt.join(r)
	test.eq(skynet.task(), before)
end)

test.case("a timer without a coroutine shows where its function is", function()
	skynet.timeout(2, function() end)
	local dump = {}
	skynet.task(dump)
	local found
	for key, text in pairs(dump) do
		if key:find "^timer: 0x%x+ session: %d+$" then
			found = text
		end
	end
	test.match(found, "test_misc.lua:%d+")
	skynet.sleep(4)
end)

test.case("uniqtask groups tasks that wait at the same place", function()
	local token = {}
	for i = 1, 11 do
		token[i] = {}
		skynet.fork(function(t) skynet.wait(t) end, token[i])
	end
	skynet.yield()
	local header
	for key, text in pairs(skynet.uniqtask()) do
		test.match(text, "stack traceback")
		if key:find "^11\t" then
			header = key
		end
	end
	test.match(header, "^11\tsessions:%[[%d,]+%.%.%.%]\n$")
	local n = 0
	for _ in header:match "%[(.*)%]":gmatch "%d+" do
		n = n + 1
	end
	test.eq(n, 9)
	for i = 1, 11 do
		skynet.wakeup(token[i])
	end
	skynet.yield()
end)

test.case("memlimit refuses memory beyond the limit, and the service lives", function()
	local agent = rt.agent()
	local from = rt.mark()
	local ok, err = rt.run(agent, [[
		skynet.memlimit(2 * 1024 * 1024)
		local ok, err = pcall(function()
			local t = {}
			for i = 1, 10000000 do t[i] = {} end
		end)
		skynet.retpack(ok, err)
	]])
	test.eq({ ok, err }, { false, "not enough memory" })
	rt.logged("Set memory limit to 2.00 M", from)
	rt.call_failed(rt.run, agent, "local t = {} for i = 1, 10000000 do t[i] = {} end skynet.ret()")
	test.eq(rt.run(agent, "collectgarbage() skynet.retpack 'fine'"), "fine")
	skynet.kill(agent)
end)

test.case("every documented function is there, and pairs shows it", function()
	local all = [[
		abort address cache call context dispatch dispatch_message dispatch_unknown_request
		dispatch_unknown_response endless error exit fork genid getenv harbor hpc ignoreret
		info_func init init_service kill killthread launch localname memlimit monitor mqlen name
		newservice now pack packstring pcall queryservice rawcall rawsend redirect register
		register_protocol request response ret retpack self send setenv sleep start starttime stat
		task term time timeout trace trace_timeout tracecall tracelog traceproto tracetag trash
		tostring uniqtask uniqueservice unpack wait wakeup yield filter forward_type _proto
		call_timeout on_shutdown
	]]
	local listed = {}
	for key in pairs(skynet) do
		listed[key] = true
	end
	for name in all:gmatch "%S+" do
		test.ok(skynet[name] ~= nil, "skynet." .. name)
		test.ok(listed[name], "pairs of skynet." .. name)
	end
	test.eq(skynet.cache, require "skynet.codecache")
	test.eq(skynet.pcall, pcall)
	test.eq(skynet.no_such_function, nil)
end)

test.case("error joins its arguments with blanks", function()
	local from = rt.mark()
	skynet.error("one", 2, nil, true)
	skynet.error()
	skynet.error "with\nnewline"
	test.eq(#rt.lines("one 2 nil true$", from), 1)
	test.eq(#rt.lines("%] nil$", from), 1)
	test.eq(#rt.lines("with\nnewline$", from), 1)
end)

test.case("unique services of this node", function()
	local waiting = rt.start(skynet.queryservice, "rt_agent")
	skynet.yield()
	test.ok(not waiting.done)
	local h = skynet.uniqueservice "rt_agent"
	test.eq({ rt.join(waiting) }, { true, h })
	test.eq(skynet.uniqueservice "rt_agent", h)
	local global = skynet.uniqueservice(true, "rt_agent")
	test.ne(global, h)
	test.eq(skynet.queryservice(true, "rt_agent"), global)
	local ok, err = pcall(skynet.uniqueservice, "rt_no_such_script")
	test.eq(ok, false)
	test.match(err, "call failed")
	skynet.kill(h)
	skynet.kill(global)
end)

test.case("profile left on by a task does not reach the next one", function()
	local profile = require "skynet.profile"
	for _ = 1, 3 do
		local ok, err
		local r = rt.start(function() ok, err = pcall(profile.start) end)
		rt.join(r)
		test.eq(ok, true, err)
		skynet.timeout(0, function() ok, err = pcall(profile.start) end)
		skynet.sleep(1)
		test.eq(ok, true, err)
	end
end)

test.case("profile counts the time a task runs, not the time it sleeps", function()
	local profile = require "skynet.profile"
	profile.start()
	skynet.sleep(10)
	local t = profile.stop()
	test.eq(math.type(t), "float")
	test.ok(t < 0.08, "profiled " .. t)
	test.err(function() profile.stop() end, "Call profile.start() before profile.stop()")
	profile.start()
	test.err(profile.start, "start profile more than once")
	profile.stop()
end)

test.run()
