-- Soak: services are born, exchange messages of 1 byte to 1 MB, open and close
-- sockets, reload code, fail and die; at the end every counter is where it was.
-- Half a minute in `make test`, as long as SOAK_SECONDS says in `make soak`.

local skynet = require "skynet"
local manager = require "skynet.manager"
local memory = require "skynet.memory"
local socketdriver = require "skynet.socketdriver"
local test = require "testlib"

local SEED = 4711
local LANES = 8
local SECONDS = tonumber(skynet.getenv "soak_seconds") or (tonumber(skynet.getenv "thread") == 1 and 5 or 25)
local BIGGEST = 1024 * 1024

local function random_text()
	local n = math.random(0, 20)
	return string.rep(string.char(math.random(0, 255)), math.min(BIGGEST, math.random(1 << n, 2 << n)))
end

-- One life of one service: random deeds until chance ends it.
local function life()
	local addr = skynet.newservice "soak_player"
	local deeds = 0
	repeat
		local dice = math.random(100)
		deeds = deeds + 1
		if dice <= 60 then
			local text = random_text()
			test.eq(#skynet.call(addr, "lua", "echo", text), #text)
		elseif dice <= 75 then
			local text = random_text()
			test.ok(skynet.call(addr, "lua", "loopback", text) == text, "the loopback's answer")
		elseif dice <= 85 then
			test.eq(skynet.call(addr, "lua", "reload", "test/lua/service/soak_code.lua", dice == 76), 42)
		elseif dice <= 90 then
			test.err(function() skynet.call(addr, "lua", "fail") end, "call failed")
		end
	until dice > 95 or deeds > 50
	if math.random(2) == 1 then
		skynet.send(addr, "lua", "echo", random_text())	-- dies in its mailbox
		manager.kill(addr)
	else
		test.err(function() skynet.call(addr, "lua", "exit") end, "call failed")
	end
	return deeds
end

local function lane(deadline, result)
	while skynet.now() < deadline do
		result.deeds = result.deeds + life()
		result.lives = result.lives + 1
	end
end

local function run_lanes(seconds)
	local result = { deeds = 0, lives = 0, left = LANES }
	local deadline = skynet.now() + seconds * 100
	for _ = 1, LANES do
		skynet.fork(function()
			local ok, err = pcall(lane, deadline, result)
			result.err = result.err or (not ok and err or nil)
			result.left = result.left - 1
		end)
	end
	test.wait_for(function() return result.left == 0 end, seconds * 100 + 6000, "all lanes")
	test.eq(result.err, nil)
	return result
end

local function count(t)
	local n = 0
	for _ in pairs(t) do n = n + 1 end
	return n
end

local function all_gone()
	for _, description in pairs(skynet.call(".launcher", "lua", "LIST")) do
		if description:find "soak_player" then
			return false
		end
	end
	return #socketdriver.info() == 0
end

-- What must be as before: services, sockets, and every byte somebody holds.
local function counters()
	collectgarbage()
	collectgarbage()
	local lua_kb = collectgarbage "count"
	skynet.send(".launcher", "debug", "GC")
	local list = skynet.call(".launcher", "lua", "GC")
	for _, text in pairs(list) do
		lua_kb = lua_kb + (tonumber(text:match "^[%d.]+") or 0)
	end
	lua_kb = lua_kb + skynet.call(".launcher", "debug", "MEM")
	return count(list), #socketdriver.info(), memory.total() + lua_kb * 1024
end

-- How much code there is depends on when the code cache was cleared last: services that
-- were there before keep theirs, those that come load it again. So before each count it
-- is cleared, and then every kind of deed loads what it needs.
local function settle()
	local addr = skynet.newservice "soak_player"
	skynet.call(addr, "lua", "reload", "test/lua/service/soak_code.lua", true)
	manager.kill(addr)
	addr = skynet.newservice "soak_player"
	skynet.call(addr, "lua", "echo", "x")
	skynet.call(addr, "lua", "loopback", "x")
	skynet.call(addr, "lua", "reload", "test/lua/service/soak_code.lua", false)
	test.err(function() skynet.call(addr, "lua", "fail") end, "call failed")
	test.err(function() skynet.call(addr, "lua", "exit") end, "call failed")
end

test.case("a random life of many services leaves nothing behind", function()
	math.randomseed(SEED)
	run_lanes(2)
	settle()
	-- The last player and its connection may still be ending; with them, the counts would be of
	-- a moment.
	test.wait_for(all_gone, nil, "the end of the players and their sockets")
	local services, sockets, bytes = counters()
	local result = run_lanes(SECONDS)
	test.ok(result.lives > 0)
	settle()
	local s, k, b
	local ok = pcall(test.wait_for, function()
		s, k, b = counters()
		return s == services and k == sockets and b <= bytes * 1.05
	end)
	test.ok(ok, string.format("seed %d, %d lives: services %d (was %d), sockets %d (%d), bytes %.0f (%.0f)",
		SEED, result.lives, s, services, k, sockets, b, bytes))
end)

test.run()
