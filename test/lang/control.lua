-- Control structures and declarations: loops, goto, attributes, global.
local test = dofile("../lib/langtest.lua")
local case, eq = test.case, test.eq

case("numeric loops count right at the edges", function()
	local function count(a, b, c)
		local n = 0
		for _ = a, b, c or 1 do
			n = n + 1
			if n > 1000 then
				return "endless"
			end
		end
		return n
	end
	eq(count(1, 0), 0)
	eq(count(1, 1), 1)
	eq(count(10, 1, -3), 4)
	eq(count(math.maxinteger - 2, math.maxinteger), 3)
	eq(count(math.mininteger, math.mininteger + 2), 3)
	eq(count(math.mininteger, math.maxinteger, math.maxinteger), 3)
	eq(count(1, 1 / 0), "endless")
	eq(count(1, -1 / 0), 0)
	eq(count(3, 1 / 0, math.maxinteger), 1)
	eq(count(1.0, 2.0, 0.25), 5)
	eq(count(0, 0.9), 1)
	eq(count(1, 3.9), 3)
	eq(count(-1, -3.9, -1), 3)
	eq(count(1, 0 / 0), 0)
	test.err("'for' step is zero", count, 1, 2, 0)
	test.err("'for' initial value", count, {}, 2)
	test.err("'for' limit", count, 1, {})
end)

case("a float start or step makes a float loop", function()
	for i = 1, 2 do
		eq(math.type(i), "integer")
	end
	for i = 1.0, 2 do
		eq(math.type(i), "float")
	end
	for i = 1, 2, 1.0 do
		eq(math.type(i), "float")
	end
end)

case("loop variables cannot be assigned", function()
	test.syntax("attempt to assign to const variable 'i'", "for i = 1, 2 do i = 3 end")
	test.syntax("attempt to assign to const variable 'k'", "for k, v in pairs{} do k = 3 end")
	assert(load("for k, v in pairs{} do v = 3 end"))
	test.syntax("attempt to assign to const variable 'i'", "for i = 1, 2 do local function f() i = 1 end end")
end)

case("generic loops close their fourth value", function()
	local log = {}
	local function iterate(n)
		return function(_, i)
			if i < n then
				return i + 1
			end
		end, nil, 0, setmetatable({}, { __close = function()
			log[#log + 1] = "closed"
		end })
	end
	for i in iterate(3) do
		log[#log + 1] = i
	end
	for _ in iterate(3) do
		break
	end
	pcall(function()
		for _ in iterate(3) do
			error("x")
		end
	end)
	eq(table.concat(log, " "), "1 2 3 closed closed closed")
	test.err("attempt to call a nil value", function()
		for _ in nil do
			break
		end
	end)
end)

case("goto continues, breaks out and repeats", function()
	local out = {}
	for i = 1, 5 do
		if i % 2 == 0 then
			goto continue
		end
		for j = 1, 5 do
			if j == 3 then
				goto next_i
			end
			out[#out + 1] = i * 10 + j
		end
		::next_i::
		::continue::
	end
	eq(table.concat(out, " "), "11 12 31 32 51 52")
	local n = 0
	::top::
	n = n + 1
	if n < 5 then
		goto top
	end
	eq(n, 5)
end)

case("goto obeys scopes", function()
	test.syntax("no visible label 'nowhere'", "goto nowhere")
	test.syntax("no visible label 'l'", "do ::l:: end goto l")
	test.syntax("label 'a' already defined", "::a:: ::a::")
	test.syntax("jumps into the scope of", "goto f; local x; ::f:: print(x)")
	assert(load("do goto f; local x; ::f:: end"))
	test.syntax("no visible label", "goto l; local function f() ::l:: end")
	test.syntax("break outside", "break")
	assert(load("repeat if x then goto cont end; local y; ::cont:: until true") == nil)
end)

case("repeat sees the locals of its body", function()
	local n = 0
	repeat
		local done = n >= 3
		n = n + 1
	until done
	eq(n, 4)
end)

case("constants and closed variables", function()
	local a <const> = 5
	local f = function()
		return a
	end
	eq(f(), 5)
	test.syntax("attempt to assign to const variable 'x'", "local x <const> = 1; x = 2")
	test.syntax("attempt to assign to const variable 'x'", "local x <close> = nil; x = 2")
	test.syntax("unknown attribute 'other'", "local x <other> = 1")
	test.syntax("multiple to-be-closed variables", "local a <close>, b <close> = 1, 2")
	local function g()
		local <const> x, y = 1, 2
		return x + y
	end
	eq(g(), 3)
end)

case("declared globals", function()
	local env = setmetatable({}, { __index = _G })
	assert(load("global x; x = 1; y2 = nil", "=c", "t", env) == nil)
	assert(load("global x, y; x, y = 1, 2", "=c", "t", env))()
	assert(env.x == 1 and env.y == 2)
	assert(load("global function f(n) return n * 2 end", "=c", "t", env))()
	eq(env.f(4), 8)
	test.syntax("variable 'z' not declared", "global x; z = 1")
	test.syntax("variable 'z' not declared", "global x; return z")
	test.syntax("attempt to assign to const variable 'print'", "global <const> print; print = 1")
	assert(load("global <const> *; return print"))
	assert(load("global *; anything = 1"))
	assert(load("do global x; x = 1 end; free = 2", "=c", "t", {}))()
	-- The word alone stays a name.
	eq(assert(load("local global = 5; return global"))(), 5)
end)

case("a declared global is not defined twice", function()
	local env = {}
	assert(load("global a = 1", "=c", "t", env))()
	eq(env.a, 1)
	test.err("global 'a' already defined", assert(load("global a = 2", "=c", "t", env)))
end)

case("logic yields operands and short-circuits", function()
	eq(nil or 1, 1)
	eq(false and error("no"), false)
	eq(1 and 2, 2)
	eq(nil and 1 or 3, 3)
	eq(not nil == true, true)
	eq(1 == 1.0 and "1" ~= 1, true)
	local x = 0
	local function t()
		x = x + 1
		return true
	end
	local _ = t() or t()
	eq(x, 1)
end)

case("precedence", function()
	eq(2 + 3 * 4 ^ 2 / 2, 26.0)
	eq(-2 ^ 2, -4.0)
	eq(2 ^ 3 ^ 2, 512.0)
	eq(not 1 == 2, false)
	eq(1 .. 2 .. 3, "123")
	eq(5 - 3 - 1, 1)
	eq(1 << 2 + 1, 8)
	eq(6 & 3 | 8 ~ 1, 11)
	eq("a" .. "b" == "ab", true)
	eq(1 < 2 == true, true)
	eq(-3 % 5, 2)
	eq(- -3, 3)
end)

case("assignment evaluates before it stores", function()
	local a, b = 1, 2
	a, b = b, a
	assert(a == 2 and b == 1)
	local i, t = 1, {}
	i, t[i] = i + 1, 20
	assert(i == 2 and t[1] == 20)
	local x, y, z = (function()
		return 1, 2
	end)()
	assert(x == 1 and y == 2 and z == nil)
	t.a, t.b, t.c = 0
	assert(t.a == 0 and t.b == nil and t.c == nil)
end)

case("limits are errors of the compiler", function()
	local many = {}
	for i = 1, 201 do
		many[i] = "local v" .. i
	end
	test.syntax("too many local variables", table.concat(many, "\n"))
	test.syntax("overflow", ("("):rep(300) .. "1" .. (")"):rep(300))
	test.syntax("syntax error", "x")
	test.syntax("'end' expected (to close 'if' at line 1)", "if x then\n\n")
	test.syntax("unexpected symbol near '='", "= 1")
	test.syntax("near <eof>", "local x =")
	test.syntax("malformed number near '3x'", "return 3x")
end)

test.run()
