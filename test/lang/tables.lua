-- Tables: keys, length, traversal, constructors, the library.
local test = dofile("../lib/langtest.lua")
local case, eq = test.case, test.eq

case("floats with integer values are integer keys", function()
	local t = { [1] = "a", [2.0] = "b", [2^53] = "c" }
	eq(t[1.0], "a")
	eq(t[2], "b")
	eq(math.type(next({ [3.0] = 1 })), "integer")
	eq(t[9007199254740992], "c")
	eq(t["1"], nil)
	t[1.5] = "d"
	eq(t[1.5], "d")
	eq(t[-0.0], nil)
	t[0] = "zero"
	eq(t[-0.0], "zero")
end)

case("nil and NaN are no keys", function()
	local t = {}
	test.err("index is nil", function()
		t[nil] = 1
	end)
	test.err("index is NaN", function()
		t[0 / 0] = 1
	end)
	test.err("index is nil", rawset, t, nil, 1)
	eq(t[nil], nil)
	eq(t[0 / 0], nil)
end)

case("extreme keys work", function()
	local t = {}
	local keys = { math.maxinteger, math.mininteger, 1 << 40, -1, 0, 1e300, -1e300, 1 / 0,
		-1 / 0, true, false, print, t, "", ("k"):rep(100), 2^63 }
	for i, k in ipairs(keys) do
		t[k] = i
	end
	for i, k in ipairs(keys) do
		eq(t[k], i)
	end
	local n = 0
	for _ in pairs(t) do
		n = n + 1
	end
	eq(n, #keys)
end)

case("the length is a border", function()
	local function is_border(t)
		local n = #t
		return (n == 0 or t[n] ~= nil) and t[n + 1] == nil
	end
	local t = {}
	for i = 1, 100 do
		t[i] = i
		eq(#t, i)
	end
	for i = 100, 1, -1 do
		t[i] = nil
		eq(#t, i - 1)
	end
	assert(is_border({ 1, nil, 3 }) and is_border({ nil, nil, 3 }))
	assert(is_border({ n = 1, [1] = 1, [2] = 2, [4] = 4 }))
	for i = 1, 64 do
		t[i] = i
	end
	for i = 1, 64, 3 do
		t[i] = nil
		assert(is_border(t))
	end
	eq(#{ table.unpack({}, 1, 3) }, 0)
	eq(rawlen({ 1, 2, 3 }), 3)
end)

case("next visits each entry once, while they are removed", function()
	local t = {}
	for i = 1, 200 do
		t[i], t["k" .. i], t[i + 0.5] = true, true, true
	end
	local seen, n = {}, 0
	for k in next, t do
		assert(not seen[k])
		seen[k], n = true, n + 1
		t[k] = nil
		if n % 50 == 0 then
			collectgarbage("step")
		end
	end
	eq(n, 600)
	eq(next(t), nil)
	test.err("invalid key to 'next'", next, {}, "no such key")
end)

case("existing fields can be assigned during a traversal", function()
	local t = { a = 1, b = 2, c = 3, 4, 5 }
	for k, v in pairs(t) do
		t[k] = v * 10
	end
	assert(t.a == 10 and t.c == 30 and t[2] == 50)
end)

case("constructors", function()
	local function two()
		return "x", "y"
	end
	local t = { 1, 2, x = 3, [10] = 4, two(), "z", two() }
	eq(#t, 6)
	assert(t[3] == "x" and t[4] == "z" and t[5] == "x" and t[6] == "y")
	local big = assert(load("return {" .. ("1,"):rep(5000) .. "n = 5}"))()
	assert(#big == 5000 and big.n == 5)
	local nested = { { { { "deep" } } } }
	eq(nested[1][1][1][1], "deep")
	eq(({ [1] = "b", "a" })[1], "a")
	local wide = assert(load("return {" .. ("a = 1, [2] = 2; "):rep(1000) .. "}"))()
	eq(wide.a + wide[2], 3)
end)

case("insert, remove, move", function()
	local t = {}
	table.insert(t, "b")
	table.insert(t, 1, "a")
	table.insert(t, 3, "c")
	eq(table.concat(t), "abc")
	eq(table.remove(t, 1), "a")
	eq(table.remove(t), "c")
	eq(table.remove(t), "b")
	eq(table.remove(t), nil)
	test.err("position out of bounds", table.insert, t, 3, "x")
	test.err("wrong number of arguments to 'insert'", table.insert, t)
	t = table.move({ 1, 2, 3, 4, 5 }, 2, 5, 1)
	eq(table.concat(t, ","), "2,3,4,5,5")
	t = table.move({ 1, 2, 3 }, 1, 3, 2)
	eq(table.concat(t, ","), "1,1,2,3")
	eq(#table.move({ 1, 2, 3 }, 1, 0, 5), 3)
	test.err("too many elements to move", table.move, {}, math.mininteger, math.maxinteger, 1)
end)

case("sort", function()
	local t = {}
	for i = 1, 500 do
		t[i] = (i * 7919) % 1009
	end
	table.sort(t)
	for i = 2, #t do
		assert(t[i - 1] <= t[i])
	end
	table.sort(t, function(a, b)
		return a > b
	end)
	for i = 2, #t do
		assert(t[i - 1] >= t[i])
	end
	local words = { "pear", "Apple", "fig", "" }
	table.sort(words)
	eq(table.concat(words, ","), ",Apple,fig,pear")
	test.err("attempt to compare", table.sort, { 1, "x" })
	test.err("invalid order function", table.sort, { 1, 2, 3, 4, 5, 6 }, function()
		return true
	end)
end)

case("concat, pack, unpack, create", function()
	eq(table.concat({ 1, 2.5, "x" }, "-"), "1-2.5-x")
	eq(table.concat({}, "x"), "")
	eq(table.concat({ 1, 2, 3 }, ",", 2, 3), "2,3")
	test.err("invalid value", table.concat, { 1, {}, 3 })
	eq(table.pack().n, 0)
	eq(select("#", table.unpack({ n = 3 }, 1, 3)), 3)
	eq(select("#", table.unpack({}, math.maxinteger, math.maxinteger)), 1)
	eq(#table.create(100), 0)
	eq(next(table.create(10, 10)), nil)
end)

case("tables of all sizes grow and shrink", function()
	for size = 0, 70 do
		local t = {}
		for i = 1, size do
			t[i], t["x" .. i] = i, i
		end
		local n = 0
		for _ in pairs(t) do
			n = n + 1
		end
		eq(n, 2 * size)
		for i = 1, size do
			t[i] = nil
		end
		for i = 1, size do
			eq(t["x" .. i], i)
			t["x" .. i] = nil
		end
		eq(next(t), nil)
		t.again = true
		eq(next(t), "again")
	end
end)

case("the library honours metamethods", function()
	local log = {}
	local proxy = setmetatable({}, {
		__index = function(_, i)
			return i <= 3 and i * 10 or nil
		end,
		__newindex = function(_, k, v)
			log[#log + 1] = k .. "=" .. tostring(v)
		end,
		__len = function()
			return 3
		end,
	})
	eq(table.concat(proxy, ","), "10,20,30")
	eq(select("#", table.unpack(proxy)), 3)
	table.insert(proxy, "new")
	eq(log[1], "4=new")
	eq(table.remove(proxy), 30)
	for i, v in ipairs(proxy) do
		eq(v, i * 10)
	end
	local n = 0
	for k, v in pairs(setmetatable({}, { __pairs = function()
		return function(_, i)
			i = (i or 0) + 1
			if i <= 2 then
				return i, "v"
			end
		end
	end })) do
		n = n + k
		eq(v, "v")
	end
	eq(n, 3)
end)

test.run()
