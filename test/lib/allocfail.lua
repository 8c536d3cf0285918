-- allocfail: every allocation that a C function makes fails once, and nothing is hurt.
--
-- A subject is called again and again; in round n the n-th allocation of the Lua state fails,
-- until a round gets through. That is done in three ways: the call of the allocator fails, but
-- not the second one that Lua makes after a full collection, and a library that asks by itself
-- does not ("retry"); both fail ("once"); all fail from there on ("always"). After each round
--   - an error was "not enough memory";
--   - the same call, on the same objects, works;
--   - garbage is collected, while every allocation fails, and then the service has no more C
--     memory than before, and the process no more descriptors.
-- In builds without accounts of C memory the leak checker finds what is left behind.

local skynet = require "skynet"
local memory = require "skynet.memory"
local test = require "testlib"

local path = skynet.getenv "cpath":match "([^;]*/test/cservice)/%?%.so"
local native = assert(package.loadlib(path .. "/t_allocfail.so", "luaopen_t_allocfail"))()

local allocfail = { native = native }

local MODES = { "retry", "once", "always" }
-- Looks, 1/100 s apart: however slow the machine is, others had their turns in between.
local SETTLE = 50
-- A leak is there each time. A library may keep something for each thread that runs it.
local REPEATS = 8
-- Nothing that is tested allocates that often.
local MAX_ROUNDS = 20000

local function usage()
	-- Finalizers must not need memory.
	native.collect()
	collectgarbage()
	collectgarbage()
	return memory.current(), native.descriptors()
end

-- Until it uses no more than before, since others free what they were sent in their own
-- time; yields then. Returns whether that came, and what it uses.
local function settled(bytes, descriptors)
	local b, d
	for _ = 1, SETTLE do
		b, d = usage()
		if b <= bytes and d <= descriptors then
			return true, b, d
		end
		skynet.sleep(1)
	end
	return false, b, d
end

allocfail.usage, allocfail.settled = usage, settled

---@class allocfail.subject
---@field make? fun(): ... before each round: the objects, which the others get first
---@field run fun(...): ... what is to survive; it cannot yield
---@field check? fun(...) after run has worked: the objects, then the results of run
---@field failed? fun(...) after run has raised: the objects
---@field once? boolean what failed cannot be done again
---@field over? fun(...) after each round: the objects; frees what a collection does not
---@field raises? string what an error may say as well, plain

local function checked(s, objects, results)
	if s.check then
		local all = table.move(results, 1, results.n, objects.n + 1, table.move(objects, 1, objects.n, 1, {}))
		s.check(table.unpack(all, 1, objects.n + results.n))
	end
end

local function unpacked(objects)
	return table.unpack(objects, 1, objects.n)
end

-- One round; false when no allocation failed any more.
local function round(s, n, mode)
	local objects = table.pack((s.make or function() end)())
	local results = table.pack(native.attempt(n, mode, s.run, unpacked(objects)))
	local failed, ok, err = results[1], results[2], results[3]
	if ok then
		checked(s, objects, table.pack(table.unpack(results, 3, results.n)))
	else
		local message = tostring(err)
		test.ok(failed, message)
		test.ok(message:find("not enough memory", 1, true) or
			s.raises and message:find(s.raises, 1, true), message)
		if s.failed then
			s.failed(unpacked(objects))
		end
		if not s.once then
			checked(s, objects, table.pack(s.run(unpacked(objects))))
		end
	end
	if s.over then
		s.over(unpacked(objects))
	end
	return failed
end

local function work_once(s)
	local objects = table.pack((s.make or function() end)())
	checked(s, objects, table.pack(native.trace(s.run, unpacked(objects))))
	if s.over then
		s.over(unpacked(objects))
	end
end

-- A round after which nothing is left; raises, or returns as `round`, and what is used then.
local function clean_round(s, n, mode, bytes, descriptors)
	local more
	for _ = 1, REPEATS do
		local ok, failed = xpcall(round, debug.traceback, s, n, mode)
		if not ok then
			error(("when allocation %d fails (%s): %s"):format(n, mode, failed), 0)
		end
		local is_settled, b, d = settled(bytes, descriptors)
		if is_settled then
			return failed, b, d
		end
		more = ("%d bytes and %d descriptors more than before"):format(b - bytes, d - descriptors)
		bytes, descriptors = b, d
	end
	error(("when allocation %d fails (%s): %s, each time"):format(n, mode, more), 0)
end

-- All rounds in one way.
local function rounds(s, mode)
	local failed = true
	local bytes, descriptors = usage()
	for n = 1, MAX_ROUNDS do
		failed, bytes, descriptors = clean_round(s, n, mode, bytes, descriptors)
		if not failed then
			return
		end
	end
	error "never got through"
end

---A list of the numbers up to n.
function allocfail.numbers(n)
	local t = {}
	for i = 1, n do
		t[i] = i
	end
	return t
end

---Register a case that fails each allocation of a call.
---@param name string a claim, as for test.case
---@param s allocfail.subject
function allocfail.case(name, s)
	test.case(name, function()
		-- What is made at the first time only must not look like a leak.
		for _ = 1, 3 do
			work_once(s)
		end
		for _, mode in ipairs(MODES) do
			rounds(s, mode)
		end
	end)
end

-- The C functions below a table, once each: name -> function.
local function functions_of(name, t, found, seen)
	if type(t) ~= "table" or seen[t] then
		return
	end
	seen[t] = true
	for k, f in next, t do
		if type(f) == "function" then
			found[("%s.%s"):format(name, k)] = f
		elseif type(k) == "string" and not k:find "^_[^_]" then
			functions_of(("%s.%s"):format(name, k), f, found, seen)
		end
	end
end

---Register a case that looks whether every C function of these libraries was in a case.
---@param libraries table<string, table> by name; also metatables, by what they are of
---@param except table<string, string>? name of a function -> why it cannot be
function allocfail.covers(libraries, except)
	test.case("every C function has had a case", function()
		local missing, needless = {}, {}
		for name, library in pairs(libraries) do
			local found = {}
			functions_of(name, library, found, {})
			for full, f in pairs(found) do
				local traced = native.traced(f)
				if traced == false and not (except and except[full]) then
					missing[#missing + 1] = full
				elseif traced and except and except[full] then
					needless[#needless + 1] = full
				end
			end
		end
		table.sort(missing)
		test.eq(missing, {}, "add a case to this file for")
		test.eq(needless, {}, "no exception is needed for")
	end)
end

return allocfail
