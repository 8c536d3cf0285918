-- Functions: upvalues, varargs, multiple results, tail calls, recursion.
local test = dofile("../lib/langtest.lua")
local case, eq = test.case, test.eq

case("closures of one scope share its variable", function()
	local n = 0
	local function up()
		n = n + 1
	end
	local function get()
		return n
	end
	up()
	up()
	eq(get(), 2)
	n = 10
	eq(get(), 10)
end)

case("each iteration has a fresh loop variable", function()
	local fs = {}
	for i = 1, 5 do
		fs[i] = function()
			return i
		end
	end
	for i = 1, 5 do
		eq(fs[i](), i)
	end
	local gs = {}
	for k, v in pairs({ a = 1, b = 2 }) do
		gs[k] = function()
			return v
		end
	end
	eq(gs.a() + gs.b(), 3)
end)

case("a while body has fresh locals too", function()
	local fs, i = {}, 1
	while i <= 3 do
		local j = i
		fs[i] = function()
			j = j + 10
			return j
		end
		i = i + 1
	end
	eq(fs[1](), 11)
	eq(fs[1](), 21)
	eq(fs[2](), 12)
end)

case("a goto backwards makes fresh locals", function()
	local fs, i = {}, 0
	::again::
	do
		local x = i
		fs[#fs + 1] = function()
			return x
		end
		i = i + 1
		if i < 3 then
			goto again
		end
	end
	eq(fs[1]() + fs[2]() + fs[3](), 3)
end)

case("upvalues survive their function and nest deeply", function()
	local function adder(a)
		return function(b)
			return function(c)
				a = a + 1
				return a + b + c
			end
		end
	end
	local f = adder(1)(10)
	eq(f(100), 112)
	eq(f(100), 113)
	eq(adder(5)(5)(5), 16)
end)

case("upvalues can be joined and identified", function()
	local a, b = 1, 2
	local function f()
		return a
	end
	local function g()
		return b
	end
	assert(debug.upvalueid(f, 1) ~= debug.upvalueid(g, 1))
	debug.upvaluejoin(f, 1, g, 1)
	eq(f(), 2)
	b = 7
	eq(f(), 7)
	eq(select(1, debug.getupvalue(f, 1)), "a")
	eq(debug.setupvalue(f, 1, 9), "a")
	eq(b, 9)
end)

case("results are adjusted to what is wanted", function()
	local function three()
		return 1, 2, 3
	end
	local a, b, c, d = three()
	assert(a == 1 and b == 2 and c == 3 and d == nil)
	a, b = (three())
	assert(a == 1 and b == nil)
	local t = { three(), three() }
	eq(#t, 4)
	t = { three(), (three()) }
	eq(#t, 2)
	eq(select("#", three(), three()), 4)
	eq(select("#"), 0)
	eq(select(-1, three()), 3)
end)

case("varargs keep their nils", function()
	local function count(...)
		local t = table.pack(...)
		return t.n, select("#", ...), ...
	end
	local n, m, x = count(nil, nil, nil)
	assert(n == 3 and m == 3 and x == nil)
	eq(select("#", count()), 2)
	local function rest(_, ...)
		return ...
	end
	eq(select("#", rest(1, 2, 3)), 2)
	eq(select("#", rest()), 0)
end)

case("a vararg parameter can have a name", function()
	local f = assert(load("local function f(a, ...t) return a, t.n, t[1], t[2], #t end return f(...)"))
	local a, n, x, y, len = f("a", "b", "c")
	assert(a == "a" and n == 2 and x == "b" and y == "c" and len == 2)
	eq(select(2, f()), 0)
	local g = assert(load("local function g(...t) t[1] = 'changed' return ... end return g(...)"))
	eq(g("first"), "changed")
end)

case("tail calls do not use the stack", function()
	local function loop(n)
		if n == 0 then
			return "done"
		end
		return loop(n - 1)
	end
	eq(loop(1000000), "done")
	local function even(n)
		if n == 0 then
			return true
		end
		return (function(m)
			return not even(m)
		end)(n - 1)
	end
	eq(even(100), true)
end)

case("runaway recursion is an error, not a crash", function()
	local function f()
		return 1 + f()
	end
	test.err("stack overflow", f)
	local t = setmetatable({}, {})
	getmetatable(t).__index = function(_, k)
		return t[k]
	end
	test.err("overflow", function()
		return t.x
	end)
end)

case("many arguments and results pass through", function()
	local t = {}
	for i = 1, 240 do
		t[i] = i
	end
	eq(select("#", table.unpack(t)), 240)
	local function sum(...)
		local s = 0
		for i = 1, select("#", ...) do
			s = s + (select(i, ...))
		end
		return s
	end
	eq(sum(table.unpack(t)), 240 * 241 // 2)
	test.err("too many results", table.unpack, {}, 1, 1e8)
end)

case("methods get their object", function()
	local o = { n = 3 }
	function o:add(k)
		self.n = self.n + k
		return self
	end
	eq(o:add(1):add(2).n, 6)
	eq(("x"):rep(3), "xxx")
	function o.a()
		return o
	end
	eq(o.a():add(0).n, 6)
end)

test.run()
