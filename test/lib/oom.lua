-- oom: lets every allocation of an exchange with a service fail in turn, and looks whether
-- the service is as it was before. See test/cmodule/t_oom.c.

local skynet = require "skynet"
local driver = require "skynet.socketdriver"
local fault = require "t_oom"
local rt = require "rt"
local test = require "testlib"

local oom = {}

-- An exchange that has not ended after so long (1/100 s) waits for ever.
local HUNG = 1500
-- After so long nothing fails any more, and garbage is collected, which a service that does
-- not only wait does by itself: some answers come from finalizers.
local RELIEF = 20
-- So many different complaints are told.
local TOLD = 12

-- Run in the service: what must be the same before and after.
local PROBE = [[
local skynet = require "skynet"
collectgarbage()
collectgarbage()
print(skynet.task(), collectgarbage "count", require "skynet.memory".current() / 1024)
]]

---Have the allocations of a service counted. To be done once.
---@param handle integer
function oom.watch(handle)
	oom.run(handle, "require 't_oom'.watch(require 'skynet'.self())")
end

---Run code in any Lua service. Returns what it prints. Yields.
---@param handle integer|string
---@param code string
function oom.run(handle, code)
	local ok, text = skynet.call(handle, "debug", "RUN", code)
	assert(ok, text)
	return text
end

---Have a service collect its garbage: an answer that is dropped is an error by then. Yields.
---@param handle integer
function oom.collect(handle)
	oom.run(handle, "")
end

-- Tasks that wait in the service, KiB of its heap and of all its memory, and sockets and
-- descriptors of the node.
local function look(handle)
	local tasks, heap, memory = oom.run(handle, PROBE):match "(%d+)\t(%S+)\t(%S+)"
	return {
		tasks = tonumber(tasks),
		heap = tonumber(heap),
		memory = tonumber(memory),
		sockets = #driver.info(),
		descriptors = fault.descriptors(),
	}
end

local function tell(seen, list, n, text)
	text = tostring(text):gsub("\n.*", "")
	local kind = text:gsub("%d+", "N")
	if not seen[kind] then
		seen[kind] = { first = n, count = 0, text = text }
		list[#list + 1] = seen[kind]
	end
	seen[kind].count = seen[kind].count + 1
end

-- Ends by itself, or hangs. Returns whether it ended.
local function run_to_end(f)
	local r = rt.start(f)
	return pcall(test.wait_for, function() return r.done end, HUNG), r
end

-- Returns also how many allocations failed.
local function run_starved(s, n)
	local r
	fault.arm(s.handle, n, s.times)
	local ended = run_to_end(function()
		r = rt.start(s.exchange)
		if not pcall(test.wait_for, function() return r.done end, RELIEF) then
			fault.arm(s.handle, 0)
			oom.run(s.handle, "")
		end
		test.wait_for(function() return r.done end, HUNG)
	end)
	return ended, r, fault.disarm(s.handle)
end

-- What is still there when all should be over, nil if nothing is.
local function leftover(s, base)
	local now
	local slack = s.slack or 64
	local ok = pcall(test.wait_for, function()
		now = look(s.handle)
		if s.timers then
			now.tasks = 0
		end
		return now.tasks <= base.tasks and now.sockets <= base.sockets
			and now.descriptors <= base.descriptors and now.heap <= base.heap + slack
			and now.memory <= base.memory + slack
	end, 300)
	if ok then
		return nil
	end
	local left = {}
	for key, value in pairs(base) do
		if now[key] > value then
			left[#left + 1] = string.format("%s %.1f, were %.1f", key, now[key], value)
		end
	end
	return table.concat(left, "; ")
end

---@class oom.sweep
---@field handle integer of the service, which is watched
---@field exchange fun() from outside; may fail, must end
---@field check fun()? must succeed, after each exchange; default: exchange
---@field times integer? so many allocations from the n-th on fail, default 1
---@field step integer? of n, default 1
---@field timers boolean? tasks that are left are timers, which end in their own time
---@field slack number? KiB that the heap may grow in all, default 64
---@field last integer? of n, default none
---@field each fun()? before each check, while nothing fails

---For n = 1, 2, ...: the n-th allocation of the service fails during an exchange. Raises
---unless the service does its work afterwards and keeps nothing. Returns how many times it
---had to. Yields.
---@param s oom.sweep
---@return integer
function oom.sweep(s)
	local check = s.check or s.exchange
	local seen, list = {}, {}
	for _ = 1, 3 do
		s.exchange()
		check()
	end
	local base = look(s.handle)
	local n, tried, failed = 1, 0, 1
	while failed > 0 and n <= (s.last or math.huge) do
		local ended, r
		ended, r, failed = run_starved(s, n)
		if not ended then
			tell(seen, list, n, "the exchange does not end: " .. debug.traceback(r.co):gsub("\n%s*", " < "))
			break
		end
		if s.each then
			s.each()
		end
		local good, c = run_to_end(check)
		if not good then
			tell(seen, list, n, "the check does not end: " .. debug.traceback(c.co):gsub("\n%s*", " < "))
			break
		elseif not c.ok then
			tell(seen, list, n, "the check fails: " .. tostring(c.value))
		end
		local left = leftover(s, base)
		if left then
			tell(seen, list, n, "left: " .. left)
			base = look(s.handle)
		end
		tried = tried + 1
		if #list >= TOLD then
			break
		end
		n = n + (s.step or 1)
	end
	if #list > 0 then
		local lines = {}
		for i, c in ipairs(list) do
			lines[i] = string.format("allocation %d (%d times): %s", c.first, c.count, c.text)
		end
		error(string.format("%d of %d exchanges:\n%s", #list, tried, table.concat(lines, "\n")), 2)
	end
	return tried
end

---@class oom.fresh
---@field make fun(): integer handle of a service, which is watched; yields
---@field exchange fun(handle: integer) its first; may fail, must end
---@field check fun(handle: integer) must succeed; the service ends by it
---@field times integer? as for a sweep
---@field step integer? as for a sweep

---As oom.sweep, with a new service each time: for what is done once in the life of one.
---Raises unless each check succeeds. Returns how many services there were. Yields.
---@param s oom.fresh
---@return integer
function oom.fresh(s)
	local n, tried, failed = 1, 0, 1
	while failed > 0 do
		local handle = s.make()
		local round = { handle = handle, times = s.times, exchange = function() s.exchange(handle) end }
		local ended, r
		ended, r, failed = run_starved(round, n)
		assert(ended, "allocation " .. n .. ": the exchange does not end: " .. debug.traceback(r.co))
		local ok, err = pcall(s.check, handle)
		assert(ok, "allocation " .. n .. ": " .. tostring(err))
		n = n + (s.step or 1)
		tried = tried + 1
	end
	return tried
end

return oom
