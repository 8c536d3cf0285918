-- config: logservice = "snlua"
-- config: logger = "rt_log"
-- Start-up of a service: outcomes, order, and what the main chunk may not do.

local skynet = require "skynet"
require "skynet.manager"
local test = require "testlib"
local rt = require "rt"

test.case("the main chunk cannot block, and nothing is left behind", function()
	local from = rt.mark()
	local h = skynet.newservice("rt_start", "block_in_main")
	local list = skynet.call(h, "lua", "result")
	for _, err in ipairs(list) do
		test.match(err, "attempt to yield from outside a coroutine")
	end
	test.eq(#list, 4)
	test.eq(skynet.call(h, "lua", "tasks"), 0)
	test.eq(rt.lines("Unknown session", from), {})
	skynet.kill(h)
end)

test.case("code behind skynet.start runs before the start function", function()
	local h = skynet.newservice("rt_start", "order")
	test.eq(skynet.call(h, "lua", "result"), { "main", "behind start", "init 1", "init 2", "start" })
	skynet.kill(h)
end)

test.case("newservice returns when the start function has returned", function()
	local start = skynet.now()
	local h = skynet.newservice("rt_start", "slow")
	test.ok(skynet.now() - start >= 5)
	skynet.kill(h)
end)

test.case("a service handles messages while its start function is suspended", function()
	local r = rt.start(skynet.newservice, "rt_start", "suspended")
	local h
	test.wait_for(function()
		h = skynet.localname ".rt_start_suspended"
		return h
	end)
	test.eq(skynet.call(h, "lua", "result"), nil)
	test.match(skynet.call(h, "debug", "TASK", "init"), "stack traceback")
	skynet.call(h, "lua", "go")
	test.eq({ rt.join(r) }, { true, h })
	test.eq(skynet.call(h, "debug", "TASK", "init"), nil)
	skynet.kill(h)
end)

test.case("a start function that raises fails newservice, with the reason", function()
	local from = rt.mark()
	local ok, err = pcall(skynet.newservice, "rt_start", "raise")
	test.eq(ok, false)
	test.match(err, "start fails on purpose: call failed$")
	rt.logged("init service failed: .*start fails on purpose", from)
end)

test.case("a module whose init raises fails newservice", function()
	local from = rt.mark()
	test.eq(pcall(skynet.newservice, "rt_start", "init_raise"), false)
	rt.logged("init service failed: .*init fails on purpose", from)
end)

test.case("a start function that exits gives nil", function()
	test.eq(skynet.newservice("rt_start", "exit"), nil)
	test.eq(skynet.newservice("rt_start", "exit_later"), nil)
end)

test.case("a main chunk that raises fails newservice", function()
	local from = rt.mark()
	local ok, err = pcall(skynet.newservice, "rt_start", "main_raise")
	test.eq(ok, false)
	test.match(err, "main chunk fails on purpose: call failed$")
	rt.logged("lua loader error : .*main chunk fails on purpose", from)
end)

test.case("a script that is missing, or does not start, fails newservice, with the reason", function()
	local _, err = pcall(skynet.newservice, "no_such_script")
	test.match(err, "no_such_script.*: call failed$")
	_, err = pcall(skynet.newservice, "rt_start_never")
	test.match(err, "rt_start_never did not call skynet.start: call failed$")
end)

test.case("a second skynet.start raises and the service lives", function()
	local h = skynet.newservice("rt_start", "twice")
	test.match(skynet.call(h, "lua", "result"), "called before")
	skynet.kill(h)
end)

test.case("skynet.init in a running task runs the function at once", function()
	local order = {}
	skynet.init(function()
		skynet.sleep(1)
		order[#order + 1] = "init"
	end)
	order[#order + 1] = "after"
	test.eq(order, { "init", "after" })
	test.err(function() skynet.init(nil) end,
		"bad argument #1 to 'skynet.init' (function expected, got nil): assertion failed!")
end)

test.case("forks of the main chunk run after the first message", function()
	local h = skynet.newservice("rt_start", "fork_in_main")
	test.eq(skynet.call(h, "lua", "result"), { "start", "fork" })
	skynet.kill(h)
end)

test.case("arguments are strings, split at blanks", function()
	local h = skynet.newservice("rt_start", "words", 1, "a b", 3.5)
	test.eq(skynet.call(h, "lua", "result"), { "words", "1", "a", "b", "3.5" })
	skynet.kill(h)
end)

test.case("an argument that cannot be passed fails the launch", function()
	rt.call_failed(skynet.newservice, "rt_start", true)
	rt.call_failed(skynet.newservice, "rt_start", {})
end)

test.case("the initial globals are gone, and the constants are there", function()
	test.eq({ LUA_PATH, LUA_CPATH, LUA_SERVICE, LUA_PRELOAD }, {})
	local id = { TEXT = 0, RESPONSE = 1, MULTICAST = 2, CLIENT = 3, SYSTEM = 4, HARBOR = 5, SOCKET = 6,
		ERROR = 7, QUEUE = 8, DEBUG = 9, LUA = 10, SNAX = 11, TRACE = 12 }
	for name, value in pairs(id) do
		test.eq(skynet["PTYPE_" .. name], value)
	end
end)

test.case("init_service alone starts a service and reports to the launcher", function()
	local addr = skynet.newservice "rt_initservice"
	test.eq(skynet.call(addr, "lua"), "ready")
end)

test.run()
