-- quiet_scene: for test_idle_gc.py. Services make garbage and go quiet; what
-- becomes of it is logged by the service that watches them without a message.

local skynet = require "skynet"
local memory = require "skynet.memory"

local role = ...
local KIB, MIB = 1024, 1024 * 1024

if role == "maker" then
	local command = {}
	local keep = {}

	-- Alive long enough to be old, then dropped in a message of its own: Lua
	-- sees no reason to collect it.
	function command.hoard(bytes, name)
		local list = {}
		keep[name or 1] = list
		for i = 1, bytes // 1024 do
			list[i] = { ("h"):rep(900) .. i }
		end
	end

	function command.drop(name)
		keep[name or 1] = nil
	end

	function command.finalize(text)
		setmetatable({}, { __gc = function() skynet.error(text) end })
	end

	function command.stop()
		collectgarbage "stop"
		command.hoard(4 * MIB)
		command.drop()
	end

	function command.mode()
		local mode = collectgarbage "incremental"
		collectgarbage(mode)
		return mode
	end

	skynet.start(function()
		skynet.dispatch("lua", function(_, _, cmd, ...)
			skynet.retpack(command[cmd](...))
		end)
	end)
	return
end

if role == "player" then
	skynet.start(function()
		skynet.dispatch("lua", function() skynet.retpack() end)
	end)
	return
end

local function maker()
	return skynet.newservice(SERVICE_NAME, "maker")
end

local function heap(handles)
	local services = memory.services()
	local sum = 0
	for _, handle in ipairs(handles) do
		sum = sum + services[handle].lua
	end
	return sum
end

-- Leaves garbage of some size in services. Returns what their heaps were while it
-- was not garbage yet: afterwards it may be collected at any moment.
local function litter(handles, bytes)
	for _, handle in ipairs(handles) do
		skynet.call(handle, "lua", "hoard", bytes, "litter")
	end
	local full = heap(handles)
	for _, handle in ipairs(handles) do
		skynet.call(handle, "lua", "drop", "litter")
	end
	return full
end

-- Looks without a word to the services in question.
local function wait_until(claim)
	while not claim() do
		skynet.sleep(5)
	end
end

local scenes = {}

function scenes.many()
	local list = {}
	local before
	for i = 1, 300 do
		list[i] = maker()
	end
	before = heap(list)
	local full = litter(list, 300 * KIB)
	assert(full > before + 300 * 200 * KIB, full - before)
	wait_until(function() return heap(list) < before + 300 * 30 * KIB end)
end

function scenes.large()
	local big = maker()
	skynet.call(big, "lua", "hoard", 48 * MIB)
	skynet.call(big, "lua", "drop")
	wait_until(function() return heap { big } < MIB end)
	-- Asking is a message, too: it may come between two steps.
	wait_until(function()
		skynet.sleep(50)
		return skynet.call(big, "lua", "mode") == "generational"
	end)
	wait_until(function() return memory.ledger().parts["jemalloc: dirty pages"] < 16 * MIB end)
end

-- A heap that stays large.
function scenes.alive()
	local big = maker()
	skynet.call(big, "lua", "hoard", 16 * MIB)
	local full = litter({ big }, 6 * MIB)
	wait_until(function() return heap { big } < full - 4 * MIB end)
	assert(heap { big } > 14 * MIB)
end

function scenes.finalizer()
	skynet.call(maker(), "lua", "finalize", "finalizer ran")
end

function scenes.stopped()
	local one, other = maker(), maker()
	skynet.call(one, "lua", "stop")
	-- It has answered, which need not be the last that it allocates for.
	local full
	repeat
		full = heap { one }
		skynet.sleep(20)
	until heap { one } == full
	local before = litter({ other }, 300 * KIB)
	wait_until(function() return heap { other } < before - 200 * KIB end)
	assert(heap { one } == full)
end

-- As long as workers have work, quiet services keep their garbage.
function scenes.busy()
	local quiet, player = maker(), skynet.newservice(SERVICE_NAME, "player")
	local full = litter({ quiet }, 300 * KIB)
	local until_time = skynet.now() + 100
	while skynet.now() < until_time do
		skynet.call(player, "lua")
	end
	assert(heap { quiet } > full - 100 * KIB, "collected while the worker was busy")
	wait_until(function() return heap { quiet } < full - 200 * KIB end)
end

skynet.start(function()
	local ok, err = pcall(scenes[role])
	skynet.error(string.format("scene %s %s", role, ok and "ok" or "failed: " .. tostring(err)))
end)
