-- config: logservice = "snlua"
-- config: logger = "rt_log"
-- The debug protocol.

local skynet = require "skynet"
require "skynet.manager"
local test = require "testlib"
local rt = require "rt"

local agent

local function debug_call(...)
	return skynet.call(agent, "debug", ...)
end

test.case("PING, MEM, STAT, SUPPORT", function()
	agent = rt.agent()
	test.eq(select("#", debug_call "PING"), 0)
	rt.run(agent, "collectgarbage() skynet.ret()")
	local before = debug_call "MEM"
	test.ok(before > 0)
	rt.run(agent, "SHARED.text = ('m'):rep(1 << 20) skynet.retpack()")
	local grown = debug_call "MEM" - before
	test.ok(grown > 1000, grown)
	rt.run(agent, "SHARED.text = nil skynet.retpack()")
	local stat = debug_call "STAT"
	for _, key in ipairs { "task", "mqlen", "cpu", "message" } do
		test.eq(type(stat[key]), "number")
	end
	test.ok(debug_call "STAT".message > stat.message)
	test.eq(debug_call("SUPPORT", "lua"), true)
	test.eq(debug_call("SUPPORT", "response"), false)
	test.eq(debug_call("SUPPORT", "nosuch"), false)
end)

test.case("GC collects, logs, and answers", function()
	local from = rt.mark()
	test.eq(select("#", debug_call "GC"), 0)
	rt.logged("GC %d+%.%d%d Kb %-> %d+%.%d%d Kb, cost %d+%.%d%d sec", from)
	skynet.send(agent, "debug", "GC")
	skynet.send(agent, "debug", "GC")
	debug_call "PING"
end)

test.case("TASK and KILLTASK", function()
	local r = rt.start(rt.run, agent, "skynet.sleep(100000)")
	rt.run(agent, "skynet.ret()")
	local tasks = debug_call "TASK"
	local key, text = next(tasks)
	test.eq(next(tasks, key), nil)
	local id = key:match "^thread: (%S+) session: %d+$"
	test.match(text, "stack traceback")
	test.match(debug_call("TASK", tonumber(key:match "session: (%d+)")), "stack traceback")
	test.eq(debug_call("TASK", key:match "session: (%d+)"), nil)
	test.eq(debug_call("TASK", "init"), nil)
	local header, where = next(debug_call "UNIQTASK")
	test.match(header, "^1\tsessions:%[%d+%]\n$")
	test.match(where, "stack traceback")
	local from = rt.mark()
	test.eq(debug_call("KILLTASK", "0x1"), "Not found")
	rt.logged("Kill 0x1 : Not found", from)
	test.eq(select("#", debug_call("KILLTASK", id)), 0)
	rt.logged("Kill thread: " .. id, from)
	local ok, err = rt.join(r)
	test.eq(ok, false)
	test.match(err, "call failed$")
end)

test.case("INFO asks the service", function()
	test.eq(table.pack(debug_call "INFO"), { nil, n = 1 })
	rt.run(agent, "skynet.info_func(function(...) return 'first', ... end) skynet.ret()")
	test.eq(table.pack(debug_call("INFO", 1, nil)), { "first", 1, nil, n = 3 })
	rt.run(agent, "skynet.info_func(function() error 'no info' end) skynet.ret()")
	rt.call_failed(debug_call, "INFO")
end)

test.case("TERM fails pending calls and answers", function()
	rt.tell(agent, "SHARED.ok = nil SHARED.ok = pcall(skynet.call, 'NO_NAME', 'lua')")
	rt.run(agent, "skynet.ret()")
	test.eq(select("#", debug_call("TERM", "NO_NAME")), 0)
	test.eq(rt.run(agent, "skynet.retpack(SHARED.ok)"), false)
end)

test.case("RUN runs code", function()
	test.eq({ debug_call("RUN", "print(1,2) print(...)", nil, "a", nil, "b") }, { true, "1\t2\na" })
	test.eq({ debug_call("RUN", "error 'x'", "fname") }, { false, "fname:1: x" })
	local ok, err = debug_call("RUN", "x =", "fname")
	test.eq(ok, false)
	test.match(err, "^fname:1: unexpected symbol near <eof>")
end)

test.case("a service can add commands, but not replace one", function()
	rt.run(agent, [[
		local debug = require "skynet.debug"
		debug.reg_debugcmd("MYCMD", function(...) skynet.retpack("mine", ...) end)
		debug.reg_debugcmd("PING", function() skynet.retpack "not this" end)
		skynet.ret()
	]])
	test.eq({ debug_call("MYCMD", 1, 2) }, { "mine", 1, 2 })
	test.eq(select("#", debug_call "PING"), 0)
end)

test.case("an unknown or missing command fails", function()
	rt.call_failed(debug_call, "nosuch")
	rt.call_failed(debug_call)
end)

test.run()
