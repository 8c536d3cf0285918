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

-- Bytes that somebody holds: C memory by the accounting, and what the
-- allocator handed out altogether (which counts Lua heaps as well).
local function held()
	collectgarbage()
	collectgarbage()
	skynet.call(".launcher", "lua", "GC")
	return memory.total(), memory.jestat()["stats.allocated"]
end

local function settled(c_want, all_want)
	local c, all
	local ok = pcall(test.wait_for, function()
		c, all = held()
		return c <= c_want and all <= all_want
	end, 2000)
	if not ok then
		error(string.format("C memory %d, want at most %.0f; all memory %d, want at most %.0f",
			c, c_want, all, all_want), 0)
	end
end

test.case("services in great number answer every call and give their memory back", function()
	math.randomseed(SEED)
	-- A first small round pays for what is created once and kept.
	local first = launch(50)
	burst(first)
	kill_all(first)
	first = nil
	skynet.sleep(10)
	local c0, all0 = held()

	local list = launch(SERVICES)
	test.eq(burst(list), SERVICES * CALLS)
	kill_all(list)
	list = nil
	if all0 and all0 > 0 then
		settled(c0 * 1.05, all0 * 1.05)
	end
end)

test.run()
