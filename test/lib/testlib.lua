-- testlib: how a Lua test that runs inside the real runtime is written.
-- A test file is a service: it registers cases, then calls test.run(), which
-- starts the service, runs the cases in order in one task, prints one TAP line
-- per case on standard output and ends the node. It owns nothing else.

local skynet = require "skynet"

local test = {}

-- No host's name begins with a hyphen, so nobody is asked for it: the answer is the same where
-- no name server can be reached.
test.NO_HOST = "-no.such.host.invalid"

local cases = {}

---Register a case. Cases run in the order of registration and may yield.
---@param name string a claim, e.g. "pop of an empty queue returns nil"
---@param fn fun() raises when the claim does not hold
function test.case(name, fn)
	cases[#cases + 1] = { name = name, fn = fn }
end

local function show(v, depth)
	depth = depth or 0
	if type(v) == "string" then
		return string.format("%q", v)
	elseif type(v) ~= "table" or depth > 3 then
		return tostring(v)
	end
	local keys = {}
	for k in pairs(v) do keys[#keys + 1] = k end
	table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
	local out = {}
	for i, k in ipairs(keys) do
		if i > 40 then
			out[i] = "..."
			break
		end
		out[i] = string.format("[%s]=%s", show(k, depth + 1), show(v[k], depth + 1))
	end
	return "{" .. table.concat(out, ",") .. "}"
end

local function same(a, b)
	if rawequal(a, b) then
		return true
	end
	if type(a) ~= type(b) then
		return false
	end
	if type(a) == "number" then
		return math.type(a) == math.type(b) and (a == b or (a ~= a and b ~= b))
	end
	if type(a) ~= "table" then
		return a == b
	end
	for k, v in next, a do
		if not same(v, rawget(b, k)) then return false end
	end
	for k in next, b do
		if rawget(a, k) == nil then return false end
	end
	return true
end

---Assert deep equality; integers and floats are different, NaN equals NaN.
function test.eq(got, want, what)
	if not same(got, want) then
		error(string.format("%sgot %s, want %s", what and what .. ": " or "", show(got), show(want)), 2)
	end
end

---Assert that two values differ.
function test.ne(got, other, what)
	if same(got, other) then
		error(string.format("%sgot %s, want another value", what and what .. ": " or "", show(got)), 2)
	end
end

---Assert that v is true in the Lua sense.
function test.ok(v, what)
	if not v then
		error(string.format("%s: got %s", what or "want a true value", show(v)), 2)
	end
	return v
end

---Assert that fn raises an error whose text contains `text` (plain).
---@param fn fun()
---@param text string? substring; nil accepts any error
function test.err(fn, text)
	local ok, msg = pcall(fn)
	if ok then
		error("want an error" .. (text and " containing " .. show(text) or ""), 2)
	end
	if text and not tostring(msg):find(text, 1, true) then
		error(string.format("error %s does not contain %s", show(tostring(msg)), show(text)), 2)
	end
	return msg
end

---Assert that string s matches a Lua pattern.
function test.match(s, pattern)
	if type(s) ~= "string" or not s:find(pattern) then
		error(string.format("%s does not match %s", show(s), show(pattern)), 2)
	end
end

-- Only bounds a failure: no machine is to be so slow, or to stop for so long.
local LIMIT = 6000

---Poll until pred() is true; yields. Raises after `cs` centiseconds.
---@param pred fun():any
---@param cs integer? limit, default 6000
function test.wait_for(pred, cs, what)
	local deadline = skynet.now() + (cs or LIMIT)
	while true do
		local v = pred()
		if v then
			return v
		end
		if skynet.now() > deadline then
			error("waited in vain for " .. (what or "the condition"), 2)
		end
		skynet.sleep(1)
	end
end

---What this service logs while fn runs, which may yield: the lines that contain `text`,
---which fn is given as they come.
---@param text string plain; "" = all
---@param fn fun(lines: string[])
---@return string[]
function test.logged(text, fn)
	local error_of = skynet.error
	local lines = {}
	skynet.error = function(...)
		local line = table.concat({ ... }, " ")
		if line:find(text, 1, true) then
			lines[#lines + 1] = line
		end
		return error_of(...)
	end
	local ok, err = pcall(fn, lines)
	skynet.error = error_of
	assert(ok, err)
	return lines
end

---Leave a case out, with the reason on its TAP line.
function test.skip(reason)
	error({ skip = reason })
end

local function out(fmt, ...)
	-- One piece: the log is printed as well.
	io.stdout:write(string.format(fmt, ...) .. "\n")
	io.stdout:flush()
end

local function trace(msg)
	if type(msg) == "table" and msg.skip then
		return msg
	end
	return debug.traceback(tostring(msg), 2)
end

local function run_all()
	out("TAP plan 1..%d", #cases)
	for i, c in ipairs(cases) do
		local ok, msg = xpcall(c.fn, trace)
		if ok then
			out("ok %d - %s", i, c.name)
		elseif type(msg) == "table" then
			out("ok %d - %s # SKIP %s", i, c.name, msg.skip)
		else
			out("not ok %d - %s", i, c.name)
			for line in msg:gmatch "[^\n]+" do out("# %s", line) end
		end
	end
	out("TAP done")
	require "skynet.manager".abort()
end

---Start the service and run all cases, then end the node.
---@param setup fun()? runs first, in the start function
function test.run(setup)
	skynet.start(function()
		if setup then
			setup()
		end
		skynet.fork(run_all)
	end)
end

return test
