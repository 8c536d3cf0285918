-- To-be-closed variables and errors: order, values, protected calls, tracebacks.
local test = dofile("../lib/langtest.lua")
local case, eq = test.case, test.eq

local function closer(log, name, then_error)
	return setmetatable({}, { __close = function(_, e)
		log[#log + 1] = name .. (e ~= nil and "(" .. tostring(e) .. ")" or "")
		if then_error then
			error(then_error, 0)
		end
	end })
end

case("variables close in reverse order at the end of their block", function()
	local log = {}
	do
		local a <close> = closer(log, "a")
		local b <close> = closer(log, "b")
		local c <close> = nil
		local d <close> = false
		log[#log + 1] = "body"
		assert(a and b and c == nil and d == false)
	end
	eq(table.concat(log, " "), "body b a")
end)

case("every way out closes", function()
	local log = {}
	local function f(how)
		for i = 1, 2 do
			local x <close> = closer(log, how .. i)
			if how == "return" then
				return "value", x and 2
			elseif how == "break" then
				break
			elseif how == "goto" then
				goto out
			elseif how == "error" then
				error("E", 0)
			end
		end
		::out::
		return "end"
	end
	local a, b = f("return")
	assert(a == "value" and b == 2)
	f("break")
	f("goto")
	pcall(f, "error")
	f("loop")
	eq(table.concat(log, " "), "return1 break1 goto1 error1(E) loop1 loop2")
end)

case("a value that cannot be closed is refused", function()
	test.err("variable 'x' got a non-closable value", function()
		local x <close> = {}
	end)
	test.err("variable 'x' got a non-closable value", function()
		local x <close> = 42
	end)
end)

case("errors while closing replace the error", function()
	local log = {}
	local ok, e = pcall(function()
		local a <close> = closer(log, "a")
		local b <close> = closer(log, "b", "from b")
		local c <close> = closer(log, "c", "from c")
		error("body", 0)
	end)
	assert(not ok and e == "from b")
	eq(table.concat(log, " "), "c(body) b(from c) a(from b)")
	ok, e = pcall(function()
		local a <close> = closer(log, "a", "at return")
		return "lost"
	end)
	assert(not ok and e == "at return")
end)

case("results survive closing, also many of them", function()
	local function f(...)
		local x <close> = setmetatable({}, { __close = function()
			local t = {}
			for i = 1, 300 do
				t[i] = tostring(i)
			end
		end })
		return ...
	end
	eq(select("#", f(table.unpack({}, 1, 100))), 100)
	local a, b = f(1, "two")
	assert(a == 1 and b == "two")
	assert(not pcall(load, nil))
end)

case("a closing method can yield", function()
	local co = coroutine.wrap(function()
		do
			local x <close> = setmetatable({}, { __close = function()
				coroutine.yield("closing")
			end })
			coroutine.yield("body")
		end
		local function f()
			local y <close> = setmetatable({}, { __close = function()
				coroutine.yield("again")
			end })
			return "result"
		end
		return f()
	end)
	eq(co(), "body")
	eq(co(), "closing")
	eq(co(), "again")
	eq(co(), "result")
end)

case("error values of any type arrive unchanged", function()
	for _, v in ipairs({ 1, 2.5, true, "text", {}, print }) do
		local ok, e = pcall(error, v)
		assert(not ok and e == v)
	end
	local ok, e = pcall(error)
	assert(not ok)
	eq(select("#", pcall(error, nil)), 2)
	ok, e = pcall(error, "m", 0)
	eq(e, "m")
	assert(ok == false)
end)

case("levels say whose fault it is", function()
	local function inner()
		error("msg", 2)
	end
	local ok, e = pcall(function()
		inner()
	end)
	assert(not ok and e:find("^closing.lua:%d+: msg$"), e)
	local _, e1 = pcall(function()
		error("here", 1)
	end)
	assert(e1:find("^closing.lua:%d+: here$"))
end)

case("handlers see the stack of the error", function()
	local function fail()
		local nothing
		nothing()
	end
	local ok, trace = xpcall(fail, debug.traceback)
	assert(not ok and trace:find("in function"))
	assert(trace:find("attempt to call a nil value (local 'nothing')", 1, true))
	local _, depth = xpcall(fail, function(m)
		return { m, debug.getinfo(2, "f").func }
	end)
	eq(depth[2], fail)
	local _, err = xpcall(error, function()
		error("again")
	end)
	assert(err ~= nil)
	eq(select(2, xpcall(function(...) return select("#", ...) end, print, 1, nil, 3)), 3)
end)

case("assert passes values through", function()
	local a, b = assert(1, "m")
	assert(a == 1 and b == "m")
	test.err("assertion failed!", assert, false)
	test.err("mine", assert, nil, "mine")
	local t = {}
	eq(select(2, pcall(assert, false, t)), t)
	test.err("bad argument #1 to 'assert'", assert)
end)

case("nested protected calls unwind one by one", function()
	local depth = 0
	local function nest(n)
		depth = n
		if n == 100 then
			error("bottom", 0)
		end
		local ok, e = pcall(nest, n + 1)
		assert(not ok)
		error(e .. n % 10, 0)
	end
	local _, e = pcall(nest, 1)
	eq(depth, 100)
	eq(#e, 6 + 99)
end)

test.run()
