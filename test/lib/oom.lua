-- oom: what tests share whose subject has no memory. Each allocation of a service fails in its
-- turn while somebody deals with the service; it must do its work afterwards, and hold no more
-- than before.
--
--   oom.sweep { handle = oom.newservice "subject", ask = function() return question(), answer end }
--
-- For n = 1, 2, ... until nothing fails any more:
--   - the n-th allocation of the service (test/cmodule/t_oom.c) fails during an *exchange*, which
--     may raise, but ends;
--   - a *check*, while nothing fails, succeeds;
--   - what is left of both goes away.
-- What must not even be seen while allocations fail is told by oom.complain. A test goes on to
-- the next n when something is wrong, and says of which n what was.
--
-- An exchange waits for what may not come, so that its limits of time are short; those of a check
-- only bound a failure, so that no slow machine misses them: oom.patience tells them apart, in
-- every service of the node.

local skynet = require "skynet"
local driver = require "skynet.socketdriver"
local memory = require "skynet.memory"
local fault = require "t_oom"
local rt = require "rt"
local test = require "testlib"

local oom = {}

-- An exchange or a check that has not ended after so long (1/100 s) waits for ever.
local HUNG = 9000
-- So long after a failure nothing fails any more, and garbage is collected, which a service that
-- does not only wait does by itself: some answers come from finalizers.
local RELIEF = 20
-- What a service does when the answer is out, such as closing, belongs to the exchange.
local AFTERMATH = 1
-- So often is it looked whether what was left has gone, every 1/100 s at best. A count, since a
-- machine that stops for a while must not decide.
local LOOKS = 300
-- So many different complaints are told, and none any more after so long (1/100 s).
local TOLD = 12
local PATIENT = 6000
-- So many allocations fail one after the other in a second pass, each of which alone would not be
-- noticed.
local BURST = 30
-- Nothing that is tested allocates that often.
local MOST = 10000

-- Run in the service: what must be the same before and after. Timers end in their own time. The
-- collections come last: what they take away is allocated anew in the next exchange.
local PROBE = [[
local skynet = require "skynet"
local tasks = 0
for _, entry in pairs(skynet._pending()) do
	tasks = tasks + (type(entry) == "thread" and 1 or 0)
end
collectgarbage()
collectgarbage()
print(tasks, collectgarbage "count", require "skynet.memory".current() / 1024)
]]

------------------------------------------------------------------------ services

---Have the allocations of a service counted. To be done once. Yields.
---@param handle integer
function oom.watch(handle)
	oom.run(handle, "require 't_oom'.watch(require 'skynet'.self())")
end

---A new service that is watched. Yields.
---@param ... any as for skynet.newservice
---@return integer handle
function oom.newservice(...)
	local handle = skynet.newservice(...)
	oom.watch(handle)
	return handle
end

---A service that there is, which is watched from now on. Yields.
---@param who integer|string handle or name
---@return integer handle
function oom.watched(who)
	local handle = math.tointeger(tonumber(oom.run(who, "print(require 'skynet'.self())"))) --[[@as integer]]
	oom.watch(handle)
	return handle
end

---Run code in any Lua service. Yields.
---@param handle integer|string
---@param code string
---@return string # what it prints
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

---The port of a service that listens at one, or is about to. Yields.
---@param handle integer
---@return integer
function oom.port_of(handle)
	return test.wait_for(function()
		for _, s in ipairs(driver.info()) do
			if s.type == "LISTEN" and s.address == handle then
				return math.tointeger(tonumber(s.sock:match ":(%d+)$"))
			end
		end
	end, nil, "a listener")
end

---The services that there are, for oom.only.
---@return table<integer, any>
function oom.services()
	return memory.services()
end

---Wait until every service is one of those. Others that were on their way out when these were
---counted may be missing. Yields.
---@param before table<integer, any>
function oom.only(before)
	test.wait_for(function()
		for handle in pairs(memory.services()) do
			if not before[handle] then
				return false
			end
		end
		return true
	end, nil, "services to be gone")
end

---------------------------------------------------------------------------- time

---How long to wait for what may not come: `cs` while allocations fail, else so long that it only
---bounds a failure. Services that cannot require this have it from t_oom.
---@type fun(cs: integer): integer 1/100 s, both
oom.patience = fault.patience

---Wait for what may not come while allocations fail. Yields.
---@generic T
---@param pred fun(): T?
---@param cs integer how long, while allocations fail
---@return T? # what pred gives at last
function oom.await(pred, cs)
	local value
	pcall(test.wait_for, function()
		value = pred()
		return value
	end, oom.patience(cs))
	return value
end

-- Waits for the end of a task of rt.start. Returns whether it came.
local function ends_within(r, cs)
	local deadline = skynet.now() + cs
	while not r.done do
		local left = deadline - skynet.now()
		if left <= 0 then
			return false
		end
		skynet.sleep(left, r)
	end
	return true
end

---------------------------------------------------------------------- complaints

-- What was seen and must not be, since the last exchange or check began.
local seen = {}

---Say that something has happened that must not, though allocations fail.
---@param ... any as for string.format
function oom.complain(...)
	seen[#seen + 1] = string.format(...)
end

-- What was wrong in all of a sweep: { n, count, text } for each kind, in order.
local function new_report()
	return { deadline = skynet.now() + PATIENT }
end

local function tell(report, n, text)
	text = tostring(text):gsub("\n.*", "")
	local kind = text:gsub("%d+", "N")
	local known = report[kind]
	if not known then
		known = { n = n, count = 0, text = text }
		report[kind] = known
		report[#report + 1] = known
	end
	known.count = known.count + 1
end

local function tell_seen(report, n)
	for _, text in ipairs(seen) do
		tell(report, n, text)
	end
	seen = {}
end

local function tell_hung(report, n, what, r)
	tell(report, n, what .. " does not end: " .. debug.traceback(r.co):gsub("\n%s*", " < "))
end

local function is_enough(report)
	return #report >= TOLD or #report > 0 and skynet.now() > report.deadline
end

local function raise(report, tried)
	local lines = {}
	for i, c in ipairs(report) do
		lines[i] = string.format("allocation %d (%d times): %s", c.n, c.count, c.text)
	end
	error(string.format("%d complaints in %d exchanges:\n%s", #report, tried, table.concat(lines, "\n")), 0)
end

------------------------------------------------------------------------- sweeps

-- Tasks that wait in the service, not counting timers, KiB of its heap and of all its memory, and sockets and
-- descriptors of the node.
local function look(s)
	local tasks, heap, kib = oom.run(s.handle, PROBE):match "(%d+)\t(%S+)\t(%S+)"
	return {
		tasks = tonumber(tasks),
		heap = tonumber(heap),
		memory = tonumber(kib),
		sockets = #driver.info(),
		descriptors = fault.descriptors(),
	}
end

-- What of it there is more now, nil if nothing is. The heap may be that much larger.
local function more_than(base, now, slack)
	local left = {}
	for key, value in pairs(base) do
		local room = (key == "heap" or key == "memory") and slack or 0
		if now[key] > value + room then
			left[#left + 1] = string.format("%s %.1f, were %.1f", key, now[key], value)
		end
	end
	return left[1] and table.concat(left, "; ")
end

-- What is still there when all should be over, nil if nothing is.
local function leftover(s, base)
	local left
	for _ = 1, LOOKS do
		left = more_than(base, look(s), s.slack or 64)
		if not left then
			return nil
		end
		skynet.sleep(1)
	end
	return left
end

-- The exchange, while allocations fail from the n-th on. Returns its task, whether that has
-- ended, and how many failed.
local function starve(s, exchange, n, times)
	fault.arm(s.handle, n, times)
	local r = rt.start(exchange)
	local ended = ends_within(r, RELIEF)
	local deadline = skynet.now() + HUNG
	while not ended and fault.failed(s.handle) == 0 and skynet.now() < deadline do
		ended = ends_within(r, RELIEF)
	end
	if not ended then
		fault.arm(s.handle, 0)
		pcall(oom.run, s.handle, "")
		ended = ends_within(r, HUNG)
	end
	skynet.sleep(AFTERMATH)
	return r, ended, fault.disarm(s.handle)
end

-- An exchange, and a check, of what is asked.
local function asking(ask)
	local function exchange()
		local got, want = ask()
		local ok, why = pcall(test.eq, got or want, want)
		if not ok then
			oom.complain("%s", why)
		end
	end
	local function check()
		local got, want = ask()
		test.eq(got, want)
	end
	return exchange, check
end

-- Returns whether it is worth going on.
local function check_well(s, check, report, n)
	if s.each then
		s.each()
	end
	local r = rt.start(check)
	if not ends_within(r, HUNG) then
		tell_hung(report, n, "the check", r)
		return false
	end
	if not r.ok then
		tell(report, n, "the check fails: " .. tostring(r.value))
	end
	tell_seen(report, n)
	return true
end

-- One pass over all n. Returns how many there were.
local function pass(s, exchange, check, step, times)
	local base = look(s)
	local report = new_report()
	local tried, n, failed = 0, 1, 1
	while failed > 0 and n < MOST and not is_enough(report) do
		local r, ended
		r, ended, failed = starve(s, exchange, n, times)
		tried = tried + 1
		tell_seen(report, n)
		if not ended then
			tell_hung(report, n, "the exchange", r)
			break
		elseif not check_well(s, check, report, n) then
			break
		end
		local left = leftover(s, base)
		if left then
			tell(report, n, "left: " .. left)
			base = look(s)
		end
		n = n + step
	end
	if report[1] then
		raise(report, tried)
	end
	test.ok(n < MOST, "every exchange has an allocation that fails")
	return tried
end

---@class oom.sweep
---@field handle integer of the service, which is watched
---@field exchange fun()? from outside; may fail while allocations fail, must end. May yield, as all here
---@field check fun()? must succeed, after each exchange; default: exchange
---@field ask? fun(): any, any in place of both: what came, false or nil if nothing did, and what
---should. What comes is right though allocations fail
---@field step integer? of n, default 1
---@field burst integer? step of n in a second pass, in which not one allocation fails but 30, one
---after the other; default: there is none
---@field slack number? KiB that the heap may grow in all, default 64
---@field each fun()? before each check, while nothing fails

---Each allocation of a service fails in its turn. Raises unless the service does its work
---afterwards and keeps nothing. Yields.
---@param s oom.sweep
function oom.sweep(s)
	local exchange, check = s.exchange, s.check or s.exchange
	if s.ask then
		exchange, check = asking(s.ask)
	end
	seen = {}
	for _ = 1, 3 do
		exchange()
		check()
	end
	test.ok(pass(s, exchange, check, s.step or 1, 1) > 1, "nothing failed")
	if s.burst then
		pass(s, exchange, check, s.burst, BURST)
	end
end

---@class oom.fresh
---@field make fun(): integer handle of a service
---@field exchange fun(handle: integer) its first; may fail, must end
---@field check fun(handle: integer) must succeed; the service ends by it

local function fresh_pass(s, times)
	local n, failed = 0, 1
	while failed > 0 and n < MOST do
		n = n + 1
		local handle = s.make()
		oom.watch(handle)
		local r, ended
		r, ended, failed = starve({ handle = handle }, function() s.exchange(handle) end, n, times)
		assert(ended, "allocation " .. n .. ": the exchange does not end: " .. debug.traceback(r.co))
		local ok, err = pcall(s.check, handle)
		assert(ok and not seen[1], "allocation " .. n .. ": " .. tostring(seen[1] or err))
	end
	test.ok(n > 1, "nothing failed")
	test.ok(n < MOST, "every exchange has an allocation that fails")
end

---As oom.sweep, with a new service for each n, which is watched then: for what is done once in
---the life of one. Then once more with bursts. Yields.
---@param s oom.fresh
function oom.fresh(s)
	seen = {}
	fresh_pass(s, 1)
	fresh_pass(s, BURST)
end

return oom
