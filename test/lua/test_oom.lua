-- Services whose allocations fail, each in its turn: the request fails, and nothing else.

local skynet = require "skynet"
local mqueue = require "skynet.mqueue"
local oom = require "oom"
local rt = require "rt"
local test = require "testlib"

-- A wait for an answer that got lost ends after so long, 1/100 s.
local LIMIT = 30

local target, other

local function ask(...)
	return skynet.call(target, "lua", ...)
end

local function sweep(question)
	oom.sweep { handle = target, ask = question, burst = 1 }
end

for _, cmd in ipairs { "echo", "sleep", "yield", "wait", "timeout", "queue", "response" } do
	test.case(cmd .. " in a service where an allocation fails", function()
		sweep(function() return table.pack(ask(cmd, 1, "two", { 3 })), { 1, "two", { 3 }, n = 3 } end)
	end)
end

test.case("call from a service where an allocation fails", function()
	sweep(function() return table.pack(ask("call", other, 1, "two", { 3 })), { 1, "two", { 3 }, n = 3 } end)
end)

test.case("limited from a service where an allocation fails", function()
	sweep(function()
		return table.pack(ask("limited", oom.patience(LIMIT), other, 1, "two", { 3 })), { 1, "two", { 3 }, n = 3 }
	end)
end)

test.case("a service that filters its messages, where an allocation fails", function()
	local filtered = oom.newservice "oom_filter"
	oom.sweep {
		handle = filtered,
		burst = 1,
		ask = function()
			return { skynet.call(filtered, "lua", "echo", 1), skynet.call(filtered, "lua", "call", other) }, { 1, 5 }
		end,
	}
end)

test.case("jobs of a service where an allocation fails", function()
	local worker = oom.newservice "oom_cron"
	local function runs() return skynet.call(worker, "lua", "runs") end
	local function tick() skynet.call(worker, "lua", "tick") end
	oom.sweep {
		handle = worker,
		exchange = function()
			pcall(tick)
			pcall(runs)
		end,
		check = function()
			-- What could not run then is run a little later.
			local before = runs()
			tick()
			test.wait_for(function() return runs() > before end, nil, "the job")
		end,
	}
end)

test.case("a message queue in a service where an allocation fails", function()
	sweep(function() return mqueue.call(target, 1, "two"), 1 end)
end)

for _, command in ipairs { "STAT", "TASK", "UNIQTASK" } do
	test.case("debug command " .. command .. " in a service where an allocation fails", function()
		oom.sweep { handle = target, exchange = function() skynet.call(target, "debug", command) end, burst = 1 }
	end)
end

-- While it starts: n allocations of its main chunk and start function succeed.
test.case("a service that has no memory to start is no riddle to who wants it", function()
	-- Some do without: Lua keeps the table of its strings as it is when a larger one can't be had.
	local n, failed, hit = 0, 0, nil
	repeat
		n, hit = n + 1, nil
		local ok, handle = pcall(skynet.newservice, "oom_starter", n)
		if ok and handle then
			test.eq(skynet.call(handle, "lua", "echo", 1), 1)
			hit = skynet.call(handle, "lua", "failed")
			skynet.send(handle, "lua", "exit")
			rt.wait_gone(handle)
		else
			failed = failed + 1
		end
	until hit == 0 or n > 2000
	test.ok(failed > 5, failed)
	test.eq(hit, 0)
end)

test.case("requests of a set from a service where an allocation fails", function()
	oom.sweep {
		handle = target,
		burst = 1,
		-- Those that fail do not count.
		exchange = function() test.eq(ask("select", oom.patience(LIMIT), other, 4), 8) end,
	}
end)

test.case("failing calls from a service where an allocation fails", function()
	sweep(function() return { ask("failing", other) }, { false } end)
end)

test.run(function()
	target = oom.newservice "oom_target"
	other = skynet.newservice "oom_target"
end)
