-- Metatables: all events, inheritance, protection, finalized and named types.
local test = dofile("../lib/langtest.lua")
local case, eq = test.case, test.eq

local function with(event, f)
	return setmetatable({}, { ["__" .. event] = f })
end

case("arithmetic events get both operands in order", function()
	local ops = {
		add = function(a, b) return a + b end,
		sub = function(a, b) return a - b end,
		mul = function(a, b) return a * b end,
		div = function(a, b) return a / b end,
		mod = function(a, b) return a % b end,
		pow = function(a, b) return a ^ b end,
		idiv = function(a, b) return a // b end,
		band = function(a, b) return a & b end,
		bor = function(a, b) return a | b end,
		bxor = function(a, b) return a ~ b end,
		shl = function(a, b) return a << b end,
		shr = function(a, b) return a >> b end,
		concat = function(a, b) return a .. b end,
	}
	for event, op in pairs(ops) do
		local o
		o = with(event, function(a, b)
			return { a, b }
		end)
		local r = op(o, 7)
		assert(r[1] == o and r[2] == 7, event)
		r = op(7, o)
		assert(r[1] == 7 and r[2] == o, event)
		r = op(o, o)
		assert(r[1] == o and r[2] == o, event)
		test.err("attempt to", op, setmetatable({}, {}), {})
	end
	eq(-with("unm", function() return "neg" end), "neg")
	eq(~with("bnot", function() return "not" end), "not")
	eq(#with("len", function() return "len" end), "len")
end)

case("constant operands reach the event too", function()
	local o = with("add", function(a, b)
		return type(a) .. type(b) .. tostring(b == 5 or a == 5)
	end)
	eq(o + 5, "tablenumbertrue")
	eq(5 + o, "numbertabletrue")
	eq(o + 5.0, "tablenumbertrue")
	local s = with("sub", function(a, b)
		return math.type(a) or math.type(b)
	end)
	eq(s - 1, "integer")
	eq(s - 1.0, "float")
end)

case("comparison events", function()
	local mt = {}
	mt.__eq = function(a, b) return a.v == b.v end
	mt.__lt = function(a, b) return a.v < b.v end
	mt.__le = function(a, b) return a.v <= b.v end
	local function new(v)
		return setmetatable({ v = v }, mt)
	end
	local a, b, c = new(1), new(1), new(2)
	assert(a == b and a ~= c and a < c and not (c < a) and a <= b and c >= a and c > a)
	assert(not rawequal(a, b))
	assert(a ~= 1 and a ~= "x")
	test.err("attempt to compare", function() return a < {} and {} < {} end)
	test.err("attempt to compare two nil values", function() return nil < nil end)
	test.err("attempt to compare number with string", function() return 1 < "2" end)
	mt.__lt = function() return nil end
	eq(a < b, false)
	mt.__lt = function() return 1 end
	eq(a < b, true)
end)

case("index chains through tables and functions", function()
	local base = { x = 1, over = "base" }
	local mid = setmetatable({ y = 2, over = "mid" }, { __index = base })
	local o = setmetatable({}, { __index = mid })
	assert(o.x == 1 and o.y == 2 and o.over == "mid" and o.z == nil)
	o.over = "own"
	assert(o.over == "own" and mid.over == "mid")
	local calls = 0
	local f = setmetatable({}, { __index = function(t, k)
		calls = calls + 1
		rawset(t, k, k .. "!")
		return t[k]
	end })
	eq(f.a .. f.a, "a!a!")
	eq(calls, 1)
	eq(rawget(f, "b"), nil)
	eq(("x").upper, string.upper)
	test.err("attempt to index a nil value (field 'missing')", function()
		return o.missing.field
	end)
end)

case("newindex chains, and sees only absent keys", function()
	local store = {}
	local o = setmetatable({ have = 1 }, { __newindex = store })
	o.have, o.new = 2, 3
	assert(o.have == 2 and rawget(o, "new") == nil and store.new == 3)
	local log = {}
	local p = setmetatable({}, { __newindex = function(_, k, v)
		log[#log + 1] = tostring(k) .. tostring(v)
	end })
	p.a, p[1], p[1.5], p[true] = 1, 2, 3, 4
	table.sort(log)
	eq(table.concat(log, " "), "1.53 12 a1 true4")
	rawset(p, "a", 5)
	p.a = 6
	eq(p.a, 6)
	local loop = {}
	setmetatable(loop, { __newindex = loop })
	test.err("'__newindex' chain too long; possible loop", function() loop.x = 1 end)
	setmetatable(loop, { __index = loop })
	test.err("'__index' chain too long; possible loop", function() return loop.x end)
end)

case("changing a metatable later takes effect", function()
	local mt = {}
	local o = setmetatable({}, mt)
	eq(o.x, nil)
	mt.__index = { x = 1 }
	eq(o.x, 1)
	mt.__index = nil
	eq(o.x, nil)
	mt.__newindex = function(t, k, v)
		rawset(t, k, v * 2)
	end
	o.a = 5
	eq(o.a, 10)
	mt.__newindex = nil
	o.b = 5
	eq(o.b, 5)
	mt.__eq = function() return true end
	eq(o == setmetatable({}, mt), true)
	mt.__len = function() return 42 end
	eq(#o, 42)
end)

case("call", function()
	local o = with("call", function(self, ...)
		return select("#", ...), self, ...
	end)
	local n, self, a = o(1, nil)
	assert(n == 2 and self == o and a == 1)
	local p = setmetatable({}, { __call = o })
	local m, _, q = p("x")
	assert(m == 2 and q == p)
	eq(pcall(o), true)
	eq((function() return o() end)(), 0)
	test.err("attempt to call a table value (local 't')", function()
		local t = {}
		t()
	end)
	test.err("attempt to call a nil value (method 'nope')", function()
		o:nope()
	end)
end)

case("metatables are protected by __metatable", function()
	local o = setmetatable({}, { __metatable = "locked" })
	eq(getmetatable(o), "locked")
	test.err("cannot change a protected metatable", setmetatable, o, {})
	eq(getmetatable("").__index, string)
	test.err("bad argument #2 to 'setmetatable'", setmetatable, {}, 1)
end)

case("tostring, name and pairs", function()
	eq(tostring(with("tostring", function() return "shown" end)), "shown")
	assert(tostring(setmetatable({}, { __name = "my.type" })):find("^my.type: "))
	test.err("'__tostring' must return a string", tostring, with("tostring", function() return {} end))
	test.err("my.type", string.rep, setmetatable({}, { __name = "my.type" }))
	local k, v = next((function()
		local t = {}
		for a, b in pairs(with("pairs", function() return next, { only = "one" }, nil end)) do
			t[a] = b
		end
		return t
	end)())
	assert(k == "only" and v == "one")
end)

case("raw access goes around metatables", function()
	local o = setmetatable({}, {
		__index = function() error("index") end,
		__newindex = function() error("newindex") end,
		__len = function() error("len") end,
		__eq = function() error("eq") end,
	})
	rawset(o, 1, "a")
	assert(rawget(o, 1) == "a" and rawget(o, 2) == nil and rawlen(o) == 1 and rawequal(o, o))
	eq(rawequal(o, setmetatable({}, getmetatable(o))), false)
end)

case("classes with inheritance", function()
	local Animal = {}
	Animal.__index = Animal
	function Animal.new(class, name)
		return setmetatable({ name = name }, class)
	end
	function Animal:speak() return self.name .. self:sound() end
	function Animal.sound() return "?" end
	local Dog = setmetatable({}, { __index = Animal })
	Dog.__index = Dog
	function Dog.sound() return "woof" end
	eq(Dog.new(Dog, "rex"):speak(), "rexwoof")
	eq(Animal:new("x"):speak(), "x?")
end)

case("basic types can have metatables", function()
	local before = debug.getmetatable(0)
	debug.setmetatable(0, {
		__index = { half = function(n) return n / 2 end },
		__call = function(n, m) return n + m end,
	})
	local x = 10
	eq(x:half(), 5.0)
	eq(x(5), 15)
	debug.setmetatable(0, before)
	test.err("attempt to index a number value", function() return x.half end)
	debug.setmetatable(nil, { __index = function() return "nothing" end })
	local n
	eq(n.anything, "nothing")
	debug.setmetatable(nil, nil)
end)

test.run()
