-- The services that start and know others, whose allocations fail, each in its turn: who
-- starts or wants a service gets it or an error, and no service is left that nobody knows.
-- config: logservice = "snlua"
-- config: logger = "rt_log"

local skynet = require "skynet.manager"
local harbor = require "skynet.harbor"
local service = require "skynet.service"
local oom = require "oom"
local rt = require "rt"
local test = require "testlib"

-- What does not come in this time does not come while allocations fail, 1/100 s.
local PATIENCE = 100

local function sweep(handle, exchange, check)
	oom.sweep { handle = handle, exchange = exchange, check = check, burst = 6 }
end

test.case("the launcher", function()
	local launcher = oom.watched ".launcher"
	local before = oom.services()

	local function exchange()
		local ok, handle = pcall(skynet.newservice, "sv_later")
		local failed = not pcall(skynet.newservice, "sv_nosuch")
		local flaky = not pcall(skynet.newservice, "oom_failing")
		local exits, nothing = pcall(skynet.newservice, "sv_helper_exits")
		local lists, list = pcall(skynet.call, ".launcher", "lua", "LIST")
		if ok then
			ok = not lists or list[skynet.address(handle)] == "snlua sv_later"
			if not pcall(skynet.call, ".launcher", "lua", "KILL", handle) then
				skynet.kill(handle)
			end
			rt.wait_gone(handle)
		end
		return ok and failed and flaky and exits and nothing == nil and lists
	end

	sweep(launcher, exchange, function()
		oom.collect(launcher)
		oom.only(before)
		test.ok(exchange())
	end)
end)

-- Tasks that wait for a service of their choice, at the same time. Each ends when the last one
-- has got it, which `start` does then.
local function race(handle, want, start)
	local before = oom.services()
	local tasks = {}

	local function exchange()
		for i, f in ipairs(want) do
			tasks[i] = rt.start(f)
		end
		for _, t in ipairs(tasks) do
			oom.await(function() return t.done end, PATIENCE)
		end
	end

	local function settle()
		oom.collect(handle)
		skynet.kill(start())
		for _, t in ipairs(tasks) do
			rt.join(t)
		end
		oom.only(before)
	end

	sweep(handle, exchange, function()
		settle()
		exchange()
		local one = tasks[1].value
		for i, t in ipairs(tasks) do
			test.eq(t.ok, i < #tasks, t.value)
			test.eq(t.value == one, i < #tasks)
		end
		settle()
	end)
end

test.case("the manager of unique services", function()
	local function launch() return skynet.uniqueservice "sv_later" end
	race(oom.watched ".service", {
		function() return skynet.queryservice "sv_later" end, launch, launch,
		function() return skynet.uniqueservice "oom_failing" end,
	}, launch)
end)

test.case("the provider of named services", function()
	-- It is known by its name from then on.
	local function main() require "skynet".start(function() end) end
	local function launch() return service.new("oom", main) end
	skynet.kill(launch())
	race(oom.watched(skynet.uniqueservice "service_provider"), {
		launch, launch, function() return service.query "oom" end,
		function() return service.new("failing", function() error "on purpose" end) end,
	}, launch)
end)

test.case("global names", function()
	local cslave = oom.watched ".cslave"
	local target = skynet.newservice "sv_later"
	local n = 0
	local known, asked

	local function ask(name) return rt.start(skynet.call, name, "lua", name) end

	-- Those who want the name before it is there, and after.
	local function exchange()
		n = n + 1
		local name = "oom" .. n
		known = { rt.start(harbor.queryname, name), rt.start(harbor.queryname, name) }
		asked = { ask(name) }
		skynet.yield()
		skynet.name(name, target)
		known[3], asked[2] = rt.start(harbor.queryname, name), ask(name)
		-- What was said is heard, late at worst.
		oom.await(function() return asked[1].done and asked[2].done end, PATIENCE)
	end

	sweep(cslave, exchange, function()
		oom.collect(cslave)
		for _, t in ipairs(asked) do
			test.eq(select(2, rt.join(t)), "oom" .. n)
		end
		for _, t in ipairs(known) do
			local ok, handle = rt.join(t)
			test.ok(not ok or handle == target, handle)
		end
		exchange()
		for _, t in ipairs(known) do
			test.eq(select(2, rt.join(t)), target)
		end
	end)
	skynet.kill(target)
end)

test.case("debug command GC", function()
	local target = oom.newservice "sv_later"
	local function collect() skynet.call(target, "debug", "GC") end
	sweep(target, collect, function()
		local mark = rt.mark()
		collect()
		rt.logged("GC .* Kb %->", mark)
	end)
	skynet.kill(target)
end)

test.run()
