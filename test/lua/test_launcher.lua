-- The launcher: list, launch outcomes, queries of all services, kill.
-- config: logservice = "snlua"
-- config: logger = "rt_log"

local skynet = require "skynet"
require "skynet.manager"
local core = require "skynet.core"
local rt = require "rt"
local test = require "testlib"

local function list()
	return skynet.call(".launcher", "lua", "LIST")
end

local function listed(handle)
	return list()[skynet.address(handle)]
end

-- Start a launch whose start function waits; its handle and a result table. Yields.
local function slow_launch()
	local result = {}
	skynet.fork(function()
		result.ok, result.value = pcall(skynet.newservice, "sv_helper", "slow")
		result.done = true
	end)
	local handle
	test.wait_for(function()
		for address, description in pairs(list()) do
			if description == "snlua sv_helper slow" then
				handle = tonumber(address:sub(2), 16)
				return true
			end
		end
	end)
	-- Who answers has loaded its script, and starts before it hears anything else.
	skynet.call(handle, "debug", "PING")
	return handle, result
end

test.case("LIST has what was launched, with its words", function()
	local handle = skynet.newservice("sv_helper", "plain", 9, "a b", 3.5)
	test.eq(listed(handle), "snlua sv_helper plain 9 a b 3.5")
	test.eq(skynet.call(handle, "lua", "words"), { "plain", "9", "a", "b", "3.5" })
	test.eq(listed(skynet.self()), "snlua test_launcher")
	skynet.kill(handle)
end)

test.case("LIST has neither logger, bootstrap, launcher nor core launches", function()
	test.eq(list()[":00000001"], nil)
	test.eq(list()[":00000002"], nil)
	test.eq(list()[":00000003"], nil)
	local handle = skynet.launch("snlua", "sv_helper")
	test.ok(handle)
	skynet.call(handle, "debug", "PING")
	test.eq(listed(handle), nil)
	skynet.kill(handle)
end)

test.case("an entry vanishes after exit, kill, debug EXIT, kill by name and core KILL", function()
	local ends = {
		function(h) skynet.send(h, "lua", "exit") end,
		function(h) skynet.kill(h) end,
		function(h) skynet.send(h, "debug", "EXIT") end,
		function(h)
			skynet.name(".launcher_test", h)
			skynet.kill ".launcher_test"
		end,
		function(h) core.command("KILL", skynet.address(h)) end,
	}
	for i, finish in ipairs(ends) do
		local handle = skynet.newservice "sv_helper"
		test.ok(listed(handle))
		finish(handle)
		test.wait_for(function() return not listed(handle) end, nil, "end " .. i)
	end
end)

test.case("the command word may have any case; an unknown or missing one is answered", function()
	test.eq(skynet.call(".launcher", "lua", "list"), list())
	test.eq(skynet.call(".launcher", "lua", "nosuch"), { "Unknown command" })
	test.eq(skynet.call(".launcher", "lua"), { "Unknown command" })
	test.eq(skynet.call(".launcher", "lua", {}), { "Unknown command" })
end)

test.case("a script that is missing, or raises in its start, fails the launch", function()
	test.err(function() skynet.newservice "no_such_script" end, "call failed")
	test.err(function() skynet.newservice("sv_helper", "raise") end, "call failed")
	for _, description in pairs(list()) do
		test.ok(not description:find("no_such_script", 1, true))
		test.ok(not description:find("sv_helper raise", 1, true))
	end
end)

test.case("a script that never calls skynet.start fails the launch", function()
	test.err(function() skynet.newservice "sv_nostart" end, "call failed")
end)

test.case("a script that exits in its start is no failure, but gives no handle", function()
	test.eq(table.pack(skynet.newservice("sv_helper", "exit")), { n = 0 })
end)

test.case("a module that can't be created fails the launch", function()
	test.err(function()
		skynet.call(".launcher", "lua", "LAUNCH", "no_such_module", "x")
	end, "call failed")
end)

test.case("words that are no text fail the launch, trailing nils don't", function()
	test.err(function() skynet.newservice("sv_helper", true) end)
	test.err(function() skynet.newservice("sv_helper", {}) end)
	local handle = skynet.call(".launcher", "lua", "LAUNCH", "snlua", "sv_helper", "plain", nil)
	test.eq(listed(handle), "snlua sv_helper plain")
	skynet.kill(handle)
end)

test.case("a service killed while it starts fails its launch", function()
	local handle, result = slow_launch()
	skynet.kill(handle)
	test.wait_for(function() return result.done end)
	test.eq(result.ok, false)
	test.match(result.value, "call failed")
end)

test.case("a service that dies unheard while it starts fails its launch too", function()
	local handle, result = slow_launch()
	core.command("KILL", skynet.address(handle))
	list()	-- the launcher looks after its services when they are asked for
	test.wait_for(function() return result.done end)
	test.eq(result.ok, false)
end)

test.case("a service may be called while its start waits", function()
	local handle, result = slow_launch()
	test.eq(skynet.call(handle, "lua", "echo", 5), 5)
	test.eq(result.done, nil)
	skynet.call(handle, "lua", "go")
	test.wait_for(function() return result.done end)
	test.eq(result.value, handle)
	skynet.kill(handle)
end)

test.case("QUERY finds a launch by the session of its request", function()
	local session
	local thread
	skynet.fork(function()
		thread = coroutine.running()
		pcall(skynet.newservice, "sv_helper", "slow")
	end)
	test.wait_for(function() return thread end)
	session = skynet.task(thread)
	local handle = test.wait_for(function()
		return skynet.call(".launcher", "lua", "QUERY", session, skynet.self())
	end)
	test.eq(skynet.call(".launcher", "lua", "QUERY", session), handle)
	test.match(listed(handle), "sv_helper slow")
	skynet.kill(handle)
	test.wait_for(function()
		return not skynet.call(".launcher", "lua", "QUERY", session, skynet.self())
	end)
end)

test.case("a C service is ready when it sends an empty text", function()
	local result
	skynet.fork(function()
		result = skynet.call(".launcher", "lua", "LAUNCH", "logger", "/dev/null")
	end)
	local handle = test.wait_for(function()
		for address, description in pairs(list()) do
			if description == "logger /dev/null" then
				return tonumber(address:sub(2), 16)
			end
		end
	end)
	skynet.yield()
	test.eq(result, nil)
	core.redirect(".launcher", handle, skynet.PTYPE_TEXT, 0, "")
	test.wait_for(function() return result end)
	test.eq(result, handle)
	skynet.kill(handle)
end)

test.case("texts that mean nothing are an error, ERROR is the end of a launch", function()
	local mark = rt.mark()
	core.send(".launcher", skynet.PTYPE_TEXT, 0, "hello")
	rt.logged("Invalid text command hello", mark)
	local handle, result = slow_launch()
	core.redirect(".launcher", handle, skynet.PTYPE_TEXT, 0, "ERROR")
	test.wait_for(function() return result.done end)
	test.eq(result.ok, false)
	test.eq(listed(handle), nil)
	skynet.kill(handle)
end)

test.case("STAT tells who does not answer in time and who fails", function()
	local mute = skynet.newservice("sv_helper", "mute")
	local faulty = skynet.newservice("sv_helper", "faulty")
	-- The answer to `command` in which the mute one alone is late, however busy the machine.
	local function ask(command)
		local ti = 10
		while true do
			ti = ti * 2
			local start = skynet.now()
			local all = skynet.call(".launcher", "lua", command, ti)
			test.ok(skynet.now() - start >= ti)
			local late = 0
			for _, answer in pairs(all) do
				late = late + (tostring(answer):find "^TIMEOUT" and 1 or 0)
			end
			test.ok(late >= 1 and ti < 6000, command)
			if late == 1 then
				return all
			end
		end
	end
	local stat = ask "STAT"
	test.eq(stat[skynet.address(mute)], "TIMEOUT")
	test.eq(stat[skynet.address(faulty)], "ERROR")
	local own = stat[skynet.address(skynet.self())]
	for _, key in ipairs { "task", "mqlen", "cpu", "message" } do
		test.eq(type(own[key]), "number", key)
	end
	local mem = ask "MEM"
	test.eq(mem[skynet.address(mute)], "TIMEOUT (snlua sv_helper mute)")
	test.eq(mem[skynet.address(faulty)], "ERROR (snlua sv_helper faulty)")
	skynet.kill(mute)
	skynet.kill(faulty)
end)

test.case("MEM and GC give the heap of every service", function()
	local handle = skynet.newservice "sv_helper"
	for _, cmd in ipairs { "MEM", "GC" } do
		local mem = skynet.call(".launcher", "lua", cmd)
		test.match(mem[skynet.address(handle)], "^%d+%.%d%d Kb %(snlua sv_helper%)$")
		test.eq(mem[":00000003"], nil)
	end
	-- GC asks everybody before it looks at them.
	local mark = rt.mark()
	skynet.call(".launcher", "lua", "GC")
	for address in pairs(list()) do
		rt.logged("^%[" .. address .. "%] GC [%d.]+ Kb %-> [%d.]+ Kb, cost [%d.]+ sec$", mark)
	end
	skynet.kill(handle)
end)

test.case("KILL takes a handle in any spelling and tells what it was", function()
	local handle = skynet.newservice("sv_helper", "a")
	local answer = skynet.call(".launcher", "lua", "KILL", handle)
	test.eq(answer, { [skynet.address(handle)] = "snlua sv_helper a" })
	test.err(function() skynet.call(handle, "lua", "echo") end, "call to invalid address")
	handle = skynet.newservice("sv_helper", "b")
	answer = skynet.call(".launcher", "lua", "KILL", string.format(":%x", handle))
	test.eq(answer, { [skynet.address(handle)] = "snlua sv_helper b" })
	test.eq(skynet.call(".launcher", "lua", "KILL", 0xfff), { [":00000fff"] = "nil" })
	test.eq(skynet.call(".launcher", "lua", "KILL", "junk"), { junk = "nil" })
end)

test.run()
