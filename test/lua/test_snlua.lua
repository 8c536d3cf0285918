-- The Lua container: what a script finds, memory limits, interrupts. What it
-- logs is asserted in test/process/test_snlua.py.

local skynet = require "skynet"
local core = require "skynet.core"
local test = require "testlib"

local MIB <const> = 1048576

local spinning = 0
local vm

local function ask(...)
	return skynet.call(vm, "lua", ...)
end

local function start_vm(...)
	vm = skynet.newservice("core_vm", ...)
end

local function stop_vm()
	skynet.send(vm, "lua", "quit")
end

local function interrupt()
	core.command("SIGNAL", skynet.address(vm) .. " 0")
end

-- Whoever spins occupies a worker; one more must be there to interrupt it.
local function needs_workers()
	if tonumber(skynet.getenv "thread") < 2 then
		test.skip "needs two workers"
	end
end

-- Let vm spin by `name`, interrupt it, and return what its caller gets.
local function interrupt_call(name)
	local result
	local before = spinning
	skynet.fork(function()
		result = table.pack(pcall(ask, name, skynet.self()))
	end)
	test.wait_for(function() return spinning > before end)
	interrupt()
	test.wait_for(function() return result end)
	return result
end

test.case("arguments are the words after the name, as strings", function()
	start_vm("1", "x", 3.5)
	test.eq({ ask "args" }, { "1", "x", "3.5" })
end)

test.case("the loader's globals are gone, the context is in the registry", function()
	test.eq({ ask "globals" }, { true, "userdata", true })
	stop_vm()
end)

test.case("libraries belong to one service, whatever others do to theirs", function()
	local before = skynet.newservice "core_libs"
	local changed = skynet.newservice "core_libs"
	local names = skynet.call(before, "lua", "names")
	test.match(names, "io.stdout userdata\n.*math.pi number\n.*string.upper function\n.*utf8.char ")
	test.eq({ skynet.call(changed, "lua", "change") }, { "x!", 77 })
	local after = skynet.newservice "core_libs"
	test.eq(skynet.call(before, "lua", "names"), names)
	test.eq(skynet.call(after, "lua", "names"), names)
	test.ok(skynet.call(changed, "lua", "names") ~= names)
	for _, s in ipairs { before, changed, after } do
		skynet.send(s, "lua", "quit")
	end
end)

test.case("no two services have the same random numbers", function()
	local seen = {}
	for _ = 1, 20 do
		local s = skynet.newservice "core_libs"
		for _, n in ipairs { skynet.call(s, "lua", "random") } do
			test.eq(seen[n], nil)
			seen[n] = true
		end
		skynet.send(s, "lua", "quit")
	end
end)

test.case("the collector runs in the generational mode and can be changed", function()
	local s = skynet.newservice "core_libs"
	test.eq(skynet.call(s, "lua", "collector", "isrunning"), true)
	test.eq({ skynet.call(s, "lua", "mode") }, { "generational", "incremental" })
	skynet.send(s, "lua", "quit")
end)

test.case("garbage of the main chunk is gone when the service has started", function()
	local s = skynet.newservice("core_libs", 5000)
	local kib = skynet.call(s, "lua", "collector", "count")
	test.ok(kib < 100, kib .. " KiB")
	skynet.send(s, "lua", "quit")
end)

test.case("a service with a folder finds its own modules first", function()
	local s = skynet.newservice "core_dir"
	local name, path, first, part = skynet.call(s, "lua", "path")
	test.eq(name, "core_dir")
	test.match(path, "/core_dir/$")
	test.eq(first, path .. "?.lua")
	test.eq(part, "part of core_dir")
	skynet.send(s, "lua", "quit")
end)

test.case("launching a script that is not there raises", function()
	test.err(function() skynet.newservice "core_no_such" end)
end)

test.case("a script that does not start anything fails its launch", function()
	test.err(function() skynet.newservice "core_idle" end)
end)

test.case("a limit from the main chunk holds, and the service survives it", function()
	start_vm "limit"
	test.eq({ ask("allocate", 4 * MIB) }, { false, "not enough memory" })
	test.eq({ ask("tables", 10000000) }, { false, "not enough memory" })
	test.eq(ask "collect", 1000)
	test.eq(ask("allocate", 1000), true)
	stop_vm()
end)

test.case("the registry field memlimit works as before", function()
	start_vm "field"
	test.eq({ ask("allocate", 4 * MIB) }, { false, "not enough memory" })
	stop_vm()
end)

test.case("a limit is in force at once, in the main chunk too", function()
	start_vm "overrun"
	test.eq({ ask "overrun" }, { false, "not enough memory" })
	stop_vm()
end)

test.case("a limit can be raised, lowered and lifted", function()
	start_vm()
	ask("limit", 2 * MIB)
	test.eq((ask("allocate", 4 * MIB)), false)
	ask("limit", 16 * MIB)
	test.eq((ask("allocate", 4 * MIB)), true)
	ask("limit", 2 * MIB)
	test.eq((ask("allocate", 4 * MIB)), false)
	ask("limit", 0)
	test.eq((ask("allocate", 4 * MIB)), true)
	test.err(function() core.memlimit(-1) end, "negative limit")
	test.err(function() core.memlimit(0 / 0) end, "not a number of bytes")
	test.err(function() core.memlimit(math.huge) end, "not a number of bytes")
	test.err(function() core.memlimit() end, "#1")
	stop_vm()
end)

test.case("an endless loop is interrupted, its caller gets an error", function()
	needs_workers()
	start_vm()
	test.eq(interrupt_call("spin")[1], false)
	test.eq(ask "ping", "pong")
	test.eq(interrupt_call("spin_nested")[1], false)
	test.eq(ask "ping", "pong")
end)

test.case("pcall catches an interrupt", function()
	needs_workers()
	local r = interrupt_call "protected_spin"
	test.eq({ r[1], r[2], r[3] }, { true, false, "signal 0" })
	test.eq(ask "ping", "pong")
end)

test.case("a debug hook survives an interrupt", function()
	needs_workers()
	local r = interrupt_call "hooked_spin"
	test.eq({ table.unpack(r, 1, 5) }, { true, false, "signal 0", true, true })
	stop_vm()
end)

test.case("an idle service does not keep an interrupt", function()
	start_vm()
	for _ = 1, 10 do
		interrupt()
		test.eq(ask "ping", "pong")
	end
end)

test.case("interrupts hit the message in progress or nothing", function()
	-- Every request gets an answer or an error, and the service stays sound.
	local answers, errors = 0, 0
	for round = 1, 20 do
		local waiting = 0
		for _ = 1, 10 do
			waiting = waiting + 1
			skynet.fork(function()
				local ok, v = pcall(ask, "count", 1000 * round)
				if ok then
					test.eq(v, 500 * round * (1000 * round + 1))
					answers = answers + 1
				else
					errors = errors + 1
				end
				waiting = waiting - 1
			end)
		end
		for _ = 1, 5 do
			interrupt()
			skynet.yield()
		end
		test.wait_for(function() return waiting == 0 end)
	end
	test.eq(answers + errors, 200)
	test.eq(ask "ping", "pong")
	stop_vm()
end)

test.case("signals to services that are just made or gone do no harm", function()
	for _ = 1, 20 do
		local addr = core.addresscommand("LAUNCH", "snlua core_vm")
		core.command("SIGNAL", string.format(":%x 1", addr))
		core.command("KILL", string.format(":%x", addr))
		core.command("SIGNAL", string.format(":%x 0", addr))
	end
end)

test.run(function()
	skynet.dispatch("lua", function()
		skynet.ignoreret()
		spinning = spinning + 1
	end)
end)
