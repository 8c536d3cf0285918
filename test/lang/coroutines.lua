-- Coroutines: passing values, errors, yields across metamethods, iterators and
-- protected calls, closing.
local test = dofile("../lib/langtest.lua")
local case, eq = test.case, test.eq

case("values pass both ways", function()
	local co = coroutine.create(function(a, b)
		local c = coroutine.yield(a + b)
		local d, e = coroutine.yield(c * 2)
		return d + e, "end"
	end)
	local ok, v = coroutine.resume(co, 1, 2)
	assert(ok and v == 3)
	ok, v = coroutine.resume(co, 10)
	assert(ok and v == 20)
	local w
	ok, v, w = coroutine.resume(co, 3, 4)
	assert(ok and v == 7 and w == "end")
	eq(coroutine.status(co), "dead")
	ok, v = coroutine.resume(co)
	assert(not ok and v == "cannot resume dead coroutine")
end)

case("status tells all four states", function()
	local outer, inner
	outer = coroutine.create(function()
		inner = coroutine.create(function()
			eq(coroutine.status(outer), "normal")
			eq(coroutine.status(inner), "running")
			coroutine.yield()
		end)
		assert(coroutine.resume(inner))
		eq(coroutine.status(inner), "suspended")
	end)
	assert(coroutine.resume(outer))
	eq(coroutine.status(outer), "dead")
	local main, is_main = coroutine.running()
	assert(type(main) == "thread" and is_main)
end)

case("errors end a coroutine and keep its stack readable", function()
	local co = coroutine.create(function()
		local x = 42
		error({ code = x })
	end)
	local ok, e = coroutine.resume(co)
	assert(not ok and e.code == 42)
	assert(debug.traceback(co):find("coroutines.lua"))
	eq(coroutine.status(co), "dead")
end)

case("a yield passes through pcall and xpcall", function()
	local co = coroutine.wrap(function()
		local ok, v = pcall(function()
			local got = coroutine.yield("first")
			error("e" .. got, 0)
		end)
		assert(not ok)
		local _, w = xpcall(function()
			coroutine.yield(v)
			error("x", 0)
		end, function(m)
			return m .. m
		end)
		return w
	end)
	eq(co(), "first")
	eq(co(1), "e1")
	eq(co(), "xx")
end)

case("metamethods can yield", function()
	local mt = {}
	local binary = "add sub mul div mod pow idiv band bor bxor shl shr concat"
	for event in binary:gmatch("%a+") do
		mt["__" .. event] = function(a)
			return coroutine.yield(event) and a
		end
	end
	for _, event in ipairs({ "unm", "bnot", "len" }) do
		mt["__" .. event] = function()
			return coroutine.yield(event)
		end
	end
	mt.__eq = function()
		return coroutine.yield("eq")
	end
	mt.__lt = function()
		return coroutine.yield("lt")
	end
	mt.__le = function()
		return coroutine.yield("le")
	end
	mt.__index = function(_, k)
		return coroutine.yield("index " .. k)
	end
	mt.__newindex = function(_, k)
		coroutine.yield("newindex " .. k)
	end
	mt.__call = function(_, v)
		return coroutine.yield("call"), v
	end
	local a, b = setmetatable({}, mt), setmetatable({}, mt)
	local log = {}
	local co = coroutine.wrap(function()
		local r = { a + 1, a - 1, a * 1, a / 1, a % 1, a ^ 1, a // 1 }
		table.move({ a & 1, a | 1, a ~ 1, a << 1, a >> 1, a .. "x" }, 1, 6, 8, r)
		for i = 1, 13 do
			assert(r[i] == a)
		end
		assert(-a == "v" and ~a == "v" and #a == "v")
		assert(a == b and a < b and a <= b)
		if not (a == b) then
			error("eq")
		end
		assert(a.key == "v")
		a.key = 1
		local x, y = a(5)
		assert(x == "v" and y == 5)
		return "done"
	end)
	local v = co()
	while v ~= "done" do
		log[#log + 1] = v
		v = co("v")
	end
	eq(table.concat(log, " "), binary .. " unm bnot len "
		.. "eq lt le eq index key newindex key call")
end)

case("iterators can yield", function()
	local co = coroutine.wrap(function()
		local sum = 0
		for v in function(_, last)
			return coroutine.yield(last)
		end do
			sum = sum + v
		end
		return "sum" .. sum
	end)
	eq(co(), nil)
	eq(co(1), 1)
	eq(co(5), 5)
	eq(co(nil), "sum6")
end)

case("sort's comparison cannot yield, and says so", function()
	local co = coroutine.create(function()
		table.sort({ 3, 2, 1 }, coroutine.yield)
	end)
	local ok, m = coroutine.resume(co)
	assert(not ok and m:find("attempt to yield across a C-call boundary", 1, true))
	test.err("attempt to yield from outside a coroutine", coroutine.yield)
	eq(coroutine.isyieldable(), false)
	coroutine.wrap(function()
		eq(coroutine.isyieldable(), true)
	end)()
end)

case("wrap propagates errors with their position", function()
	local f = coroutine.wrap(function()
		error("inside")
	end)
	test.err("coroutines.lua", f)
	test.err("cannot resume dead coroutine", f)
	test.err("cannot resume non-suspended coroutine", coroutine.wrap(function()
		local co = coroutine.running()
		assert(coroutine.resume(co))
	end))
end)

case("close ends a coroutine and its to-be-closed variables", function()
	local log = {}
	local co = coroutine.create(function()
		local a <close> = setmetatable({}, { __close = function(_, e)
			log[#log + 1] = "a" .. tostring(e)
		end })
		local b <close> = setmetatable({}, { __close = function()
			log[#log + 1] = "b"
			error("in b", 0)
		end })
		coroutine.yield(a, b)
	end)
	coroutine.resume(co)
	local ok, e = coroutine.close(co)
	assert(not ok and e == "in b")
	eq(table.concat(log, ","), "b,ain b")
	eq(coroutine.status(co), "dead")
	assert(coroutine.close(coroutine.create(print)))
end)

case("a generator over a tree", function()
	local function walk(t)
		if t then
			walk(t.l)
			coroutine.yield(t.v)
			walk(t.r)
		end
	end
	local tree = { v = 4, l = { v = 2, l = { v = 1 }, r = { v = 3 } }, r = { v = 5 } }
	local out = {}
	for v in coroutine.wrap(function()
		walk(tree)
	end) do
		out[#out + 1] = v
	end
	eq(table.concat(out), "12345")
end)

case("many coroutines live at once and are collected", function()
	local all, sum = {}, 0
	for i = 1, 2000 do
		all[i] = coroutine.create(function(x)
			while true do
				x = coroutine.yield(x + i)
			end
		end)
	end
	for round = 1, 3 do
		for i = 1, 2000 do
			local _, v = coroutine.resume(all[i], round)
			sum = sum + v
		end
	end
	eq(sum, 3 * (2000 * 2001 // 2) + 2000 * 6)
	all = nil
	collectgarbage()
end)

case("deep recursion of resumes is an error, not a crash", function()
	local function nest(n)
		local co = coroutine.create(nest)
		local ok, m = coroutine.resume(co, n + 1)
		if not ok then
			error(m, 0)
		end
	end
	test.err("C stack overflow", nest, 1)
end)

test.run()
