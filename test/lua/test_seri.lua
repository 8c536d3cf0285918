-- skynet.pack and skynet.unpack in the runtime: the vectors, and messages of
-- every size between services. Units are in test/unit/test_seri.c.

local skynet = require "skynet"
local core = require "skynet.core"
local test = require "testlib"
local vectors = require "vectors"

local function results(...)
	return table.pack(...)
end

local function check_unpack(v)
	local bytes = vectors.unhex(v.unpack_hex)
	if v.error then
		test.err(function() core.unpack(bytes) end, v.error)
	else
		test.eq(results(core.unpack(bytes)), vectors.eval(v.results), v.name)
	end
end

local function check_pack(v)
	local args = vectors.eval(v.expr)
	local bytes = core.packstring(table.unpack(args, 1, args.n))
	if v.hex then
		test.eq(vectors.hex(bytes), v.hex, v.name)
	else
		test.eq(#bytes, v.length, v.name)
		test.eq(vectors.hex(bytes:sub(1, #v.prefix_hex // 2)), v.prefix_hex, v.name)
	end
	local want = v.results and vectors.eval(v.results) or args
	test.eq(results(core.unpack(bytes)), want, v.name)
	local ptr, size = core.pack(table.unpack(args, 1, args.n))
	test.eq(core.tostring(ptr, size), bytes, v.name)
	test.eq(results(core.unpack(ptr, size)), want, v.name)
	core.trash(ptr, size)
end

test.case("every vector packs and unpacks", function()
	for _, v in ipairs(vectors.load("seri").vectors) do
		if v.unpack_hex then
			check_unpack(v)
		elseif v.error then
			local args = vectors.eval(v.expr)
			test.err(function() core.packstring(table.unpack(args, 1, args.n)) end, v.error)
		else
			check_pack(v)
		end
	end
end)

test.case("random nested values come back", function()
	math.randomseed(20260101)
	local function value(depth)
		local kind = math.random(depth > 4 and 6 or 8)
		if kind == 1 then return math.random(0)
		elseif kind == 2 then return math.random(-70000, 70000)
		elseif kind == 3 then return math.random() * 1e9
		elseif kind == 4 then return math.random() < 0.5
		elseif kind <= 6 then return string.rep(string.char(math.random(0, 255)), math.random(0, 80))
		end
		local t = {}
		for i = 1, math.random(0, 40) do t[i] = value(depth + 1) end
		for _ = 1, math.random(0, 10) do t["k" .. math.random(100)] = value(depth + 1) end
		return t
	end
	for _ = 1, 50 do
		local v = value(1)
		test.eq(core.unpack(core.packstring(v)), v)
	end
end)

test.case("values nested 20000 deep raise in both directions", function()
	local root = {}
	local t = root
	for _ = 1, 20000 do
		t[1] = {}
		t = t[1]
	end
	test.err(function() core.packstring(root) end, "serialize can't pack too depth table")
	test.err(function() core.pack(root) end, "serialize can't pack too depth table")
	-- Heads of arrays of one item, and of tables with a pair.
	test.err(function() core.unpack(("\x0e"):rep(20000)) end, "Invalid serialize stream")
	test.err(function() core.unpack(("\x06\x01"):rep(20000)) end, "Invalid serialize stream")
	local me = skynet.self()
	test.err(function() skynet.call(me, "lua", root) end, "serialize can't pack too depth table")
end)

test.case("what cannot be packed is named: which value, and where in it", function()
	local function refused(text, ...)
		local args = table.pack(...)
		test.err(function() core.packstring(table.unpack(args, 1, args.n)) end, text)
		test.err(function() core.pack(table.unpack(args, 1, args.n)) end, text)
		test.err(function() skynet.send(skynet.self(), "lua", table.unpack(args, 1, args.n)) end, text)
	end
	refused("Unsupport type function to serialize (value 1)", print)
	refused("Unsupport type function to serialize (value 3)", 1, nil, print)
	refused("Unsupport type thread to serialize (value 2.list[3].co)", "set",
		{ n = 1, list = { 1, {}, { co = coroutine.create(print) } } })
	refused("Unsupport type userdata to serialize (value 1[a boolean])", { [true] = io.stdout })
	refused("Unsupport type function to serialize (value 1.x, a key)", { x = { [print] = 1 } })
	-- What a metamethod gives cannot be looked for.
	local by_pairs = setmetatable({}, { __pairs = function() return next, { f = print } end })
	refused("Unsupport type function to serialize (value 2)", 1, { by_pairs })
	-- Items are packed first; who looks for what was refused may come to the rest before.
	local endless, list = {}, {}
	endless.a, endless.b = endless, endless
	for i = 1, 7 do
		list["x" .. i] = endless
	end
	list[1] = print
	test.err(function() skynet.packstring(list) end, "Unsupport type function to serialize (value 1")
	local cycle = {}
	cycle.me = cycle
	refused("serialize can't pack too depth table (value 2 has more than 32 levels, or a cycle)", 1, cycle)
end)

test.case("NaN is no key, whoever packed it", function()
	local nan = string.pack("<d", 0 / 0)
	test.err(function() core.unpack("\x06\x42" .. nan .. "\x09\x00") end, "table index is NaN")
end)

test.case("a claimed length of 2^31 raises at once", function()
	local before = collectgarbage "count"
	test.err(function() core.unpack("\xfe\x22\xff\xff\xff\x7f") end, "Invalid serialize stream")
	test.ok(collectgarbage "count" - before < 1000)
end)

test.case("a pack of 100000 bytes is charged exactly, and given back", function()
	local ok, memory = pcall(require, "skynet.memory")
	if not ok or memory.current() == 0 then
		test.skip("no accounting in this build")
	end
	local text = string.rep("x", 100000)
	-- Receivers of earlier messages may still be freeing them: look again then.
	test.wait_for(function()
		local before = memory.current()
		local ptr, size = core.pack(text)
		local held = memory.current() - before
		core.trash(ptr, size)
		test.eq(size, 100005)
		return held >= size and held < size + 64 and memory.current() == before
	end)
end)

test.run()
