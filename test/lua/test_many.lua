-- Ten thousand services alive at once, a million calls between random pairs of
-- them, everything answered, then all of them killed: the memory goes back to
-- where it was, by the accounting and not by eye.

local skynet = require "skynet"
local manager = require "skynet.manager"
local memory = require "skynet.memory"
local test = require "testlib"

-- Sanitizers make every VM and every call an order of magnitude dearer.
local slow = skynet.getenv "test_variant" ~= "release"
local SERVICES = slow and 500 or 10000
local CALLS = slow and 20 or 100
local SEED = 20261121

local function launch(n)
	local list = {}
	for i = 1, n do
		list[i] = skynet.newservice "many_node"
	end
	return list
end

local function burst(list)
	local left, right = #list, 0
	for _, addr in ipairs(list) do
		local targets = {}
		for i = 1, CALLS do
			targets[i] = list[math.random(#list)]
		end
		skynet.fork(function()
			local n = skynet.call(addr, "lua", "burst", targets)
			right = right + n
			left = left - 1
		end)
	end
	test.wait_for(function() return left == 0 end, 30000, "all bursts")
	return right
end

local function kill_all(list)
	for _, addr in ipairs(list) do
		manager.kill(addr)
	end
	-- A dead service can't be called; the launcher forgot it as well.
	test.wait_for(function()
		local n = 0
		for _ in pairs(skynet.call(".launcher", "lua", "LIST")) do n = n + 1 end
		return n < 20
	end)
end

-- Bytes that somebody holds: the C memory of all services and of the kernel,
-- and the Lua heaps. (The allocator's own figure also counts the free blocks
-- that each thread keeps at hand.)
local function held()
	collectgarbage()
	collectgarbage()
	local lua_kb = collectgarbage "count"
	skynet.send(".launcher", "debug", "GC")	-- it is not in its own list
	for _, text in pairs(skynet.call(".launcher", "lua", "GC")) do
		lua_kb = lua_kb + (tonumber(text:match "^[%d.]+") or 0)
	end
	lua_kb = lua_kb + skynet.call(".launcher", "debug", "MEM")
	return memory.total() + lua_kb * 1024
end

local function settled(want)
	local got
	local ok = pcall(test.wait_for, function()
		got = held()
		return got <= want
	end)
	if not ok then
		error(string.format("%.0f bytes held, want at most %.0f", got, want), 0)
	end
end

test.case("services in great number answer every call and give their memory back", function()
	math.randomseed(SEED)
	-- A first, smaller round pays for what is created once and kept.
	local first = launch(slow and 50 or 500)
	burst(first)
	kill_all(first)
	first = nil
	skynet.sleep(10)
	local before = held()

	local list = launch(SERVICES)
	test.eq(burst(list), SERVICES * CALLS)
	kill_all(list)
	list = nil
	-- Without the accounting (sanitizers) the total is 0.
	if memory.total() > 0 then
		settled(before * 1.05)
	end
end)

test.run()
