-- sproto: encoding, decoding and packing, against the vectors and at the edges.
local sproto = require "sproto"
local core = require "sproto.core"
local test = require "testlib"
local vectors = require "vectors"

local hex, unhex = vectors.hex, vectors.unhex

-- Text after "file:line: ".
local function raises(fn, text, what)
	local ok, err = pcall(fn)
	test.ok(not ok, what .. ": must raise")
	test.ok(tostring(err):find(text, 1, true), what .. ": " .. tostring(err))
end

-- Vectors that record what should be better: a value that is no number raises.
local stricter = { ["double from nonnumber is zero"] = "Unit.speed[0] is not a number (Is a string)" }

test.case("every encode vector, both ways", function()
	local suite = vectors.load "sproto_encode"
	local sp = sproto.parse(suite.schema)
	test.eq(#suite.vectors, 91)
	for _, v in ipairs(suite.vectors) do
		local value = vectors.eval(v.expr)[1]
		local err = v.error or stricter[v.name]
		if err then
			raises(function() sp:encode(v.type, value) end, err, v.name)
		else
			local data = sp:encode(v.type, value)
			test.eq(hex(data), v.hex, v.name)
			local packed = sp:pencode(v.type, value)
			test.eq(hex(packed), v.packed, v.name)
			local want = vectors.eval(v.decoded)[1]
			local got, consumed = sp:decode(v.type, data)
			test.eq(got, want, v.name)
			test.eq(consumed, #data, v.name)
			test.eq(sp:pdecode(v.type, packed), want, v.name)
		end
	end
end)

test.case("every decode vector", function()
	local suite = vectors.load "sproto_decode"
	local sp = sproto.parse(suite.schema)
	test.eq(#suite.vectors, 35)
	for _, v in ipairs(suite.vectors) do
		local data = unhex(v.hex)
		if v.error then
			raises(function() sp:decode(v.type, data) end, v.error, v.name)
		else
			local got, consumed = sp:decode(v.type, data)
			test.eq(got, vectors.eval(v.decoded)[1], v.name)
			test.eq(consumed, v.consumed, v.name)
		end
	end
end)

test.case("every packing vector", function()
	local suite = vectors.load "sproto_pack"
	test.eq(#suite.vectors, 28)
	for _, v in ipairs(suite.vectors) do
		if v.error then
			raises(function() sproto.unpack(unhex(v.unpack_hex)) end, v.error, v.name)
		else
			local plain = vectors.eval(v.expr)[1]
			local packed = sproto.pack(plain)
			if v.packed then
				test.eq(hex(packed), v.packed, v.name)
			else
				test.eq(#packed, v.packed_length, v.name)
			end
			test.eq(sproto.unpack(packed), plain .. ("\0"):rep(v.unpacked_length - #plain), v.name)
		end
	end
end)

local schema = [[
.Leaf { n 0 : integer  s 1 : string }
.Tree { left 0 : Tree  leaf 1 : Leaf  right 4 : *Tree  d 9 : double  m 10 : integer(9) }
.Entry { k 0 : string  v 1 : Leaf }
.IntEntry { v 3 : *integer  k 2 : integer }
.Maps { a 0 : *Entry()  b 1 : *IntEntry()  c 2 : *Leaf(n) }
.Values { r 0 : *double  t 1 : *integer(2)  b 2 : *boolean  x 3 : *binary  i 4 : *integer }
]]

test.case("both maps round trip with several entries", function()
	local sp = sproto.parse(schema)
	local value = {
		a = { x = { n = 1 }, y = { s = "two" }, z = {} },
		b = { [5] = { 1, 2, 1 << 40 }, [-7] = {}, [0] = { 3 } },
		c = { [70000] = { n = 70000, s = "c" }, [1] = { n = 1 } },
	}
	test.eq((sp:decode("Maps", sp:encode("Maps", value))), value)
end)

test.case("a map entry never inherits from the one before", function()
	local sp = sproto.parse(schema)
	-- Entry "a" has a value, entry "b" has none.
	local leaf = "\1\0\4\0"
	local first = "\2\0\0\0\0\0" .. string.pack("<s4s4", "a", leaf)
	local second = "\1\0\0\0" .. string.pack("<s4", "b")
	local data = "\1\0\0\0" .. string.pack("<s4", string.pack("<s4s4", first, second))
	test.err(function() sp:decode("Maps", data) end, "Can't find value field in [a]")
end)

test.case("older and newer schemas understand each other", function()
	local old = sproto.parse ".T { a 0 : integer  z 9 : string }"
	local new = sproto.parse [[
		.T { a 0 : integer  b 1 : *integer  c 2 : boolean  d 5 : T  z 9 : string  e 20 : double }
	]]
	local value = { a = 1, b = { 1, 2 }, c = true, d = { a = 2 }, z = "end", e = 1.5 }
	test.eq((old:decode("T", new:encode("T", value))), { a = 1, z = "end" })
	test.eq((new:decode("T", old:encode("T", { a = 7, z = "x" }))), { a = 7, z = "x" })
end)

test.case("a table given last is filled", function()
	local sp = sproto.parse(schema)
	local data = sp:encode("Leaf", { n = 5 })
	local into = { s = "kept", other = 1 }
	local got, consumed = sp:decode("Leaf", data, into)
	test.ok(got == into)
	test.eq(into, { s = "kept", other = 1, n = 5 })
	test.eq(consumed, #data)
end)

local function nest(depth, leaf)
	local t = leaf
	for _ = 1, depth do t = { left = t } end
	return t
end

test.case("64 levels with a field are the limit, both ways", function()
	local sp = sproto.parse(schema)
	local data = sp:encode("Tree", nest(63, { d = 1.0 }))
	test.eq((sp:decode("Tree", data)), nest(63, { d = 1.0 }))
	-- The 65th level may exist, but not hold anything.
	test.eq((sp:decode("Tree", sp:encode("Tree", nest(64, {})))), nest(64, {}))
	test.err(function() sp:encode("Tree", nest(64, { d = 1.0 })) end, "The table is too deep")
	local deep = "\1\0\4\0"
	for _ = 1, 70 do deep = "\1\0\0\0" .. string.pack("<s4", deep) end
	test.err(function() sp:decode("Tree", deep) end, "The table is too deep")
	local cycle = {}
	cycle.left = cycle
	test.err(function() sp:encode("Tree", cycle) end, "The table is too deep")
end)

-- `levels` times head(size of what is inside) around nothing.
local function wrap(levels, head)
	local parts, size = {}, 0
	for i = levels, 1, -1 do
		parts[i] = head(size)
		size = size + #parts[i]
	end
	return table.concat(parts)
end

test.case("data nested 20 000 deep is refused", function()
	local sp = sproto.parse(schema)
	local left = wrap(20000, function(size) return "\1\0\0\0" .. string.pack("<I4", size) end)
	test.err(function() sp:decode("Tree", left) end, "The table is too deep")
	local right = wrap(20000, function(size)
		return "\2\0" .. string.pack("<I2I2I4I4", 7, 0, size + 4, size)
	end)
	test.err(function() sp:decode("Tree", right) end, "The table is too deep")
end)

test.case("the key of a main index is that of the element", function()
	local sp = sproto.parse(schema)
	-- As doc/reference/sproto.md says: keys of the Lua table do not matter.
	local data = sp:encode("Maps", { c = { anything = { n = 5 }, [2] = { n = 6, s = "x" } } })
	test.eq((sp:decode("Maps", data)), { c = { [5] = { n = 5 }, [6] = { n = 6, s = "x" } } })
end)

test.case("a large message leaves no large buffer behind", function()
	local memory = require "skynet.memory"
	if memory.total() == 0 then test.skip "no accounting in this build" end
	local sp = sproto.parse(schema)
	local value = { s = ("x"):rep(8 << 20) }
	sp:encode("Leaf", { s = "small" })
	collectgarbage()
	local before = memory.current()
	sp:encode("Leaf", value)
	collectgarbage()
	collectgarbage()
	test.ok(memory.current() - before < 100000, memory.current() - before)
end)

test.case("16 MB are the limit of an object", function()
	local sp = sproto.parse(schema)
	local limit = 16 << 20
	local fits = ("x"):rep(limit - 10)
	test.eq(#sp:encode("Leaf", { s = fits }), limit)
	test.err(function() sp:encode("Leaf", { s = fits .. "x" }) end, "object is too large (>16777216)")
	local many = {}
	for i = 1, 20 do many[i] = fits end
	test.err(function() sp:encode("Values", { x = many }) end, "object is too large")
end)

test.case("what is no number raises", function()
	local sp = sproto.parse(schema)
	test.err(function() sp:encode("Tree", { d = {} }) end, "Tree.d[0] is not a number (Is a table)")
	test.err(function() sp:encode("Tree", { m = "x" }) end, "Tree.m[0] is not a number (Is a string)")
	test.err(function() sp:encode("Tree", { m = 0 / 0 }) end, "Tree.m[0] is out of range")
	test.err(function() sp:encode("Tree", { m = 1e10 }) end, "Tree.m[0] is out of range")
	test.err(function() sp:encode("Values", { r = { 1, true } }) end, "Values.r[2] is not a number")
	test.eq((sp:decode("Tree", sp:encode("Tree", { d = "1.5", m = 0.123456789 }))),
		{ d = 1.5, m = 0.123456789 })
end)

test.case("a string is no struct, a scalar is no array", function()
	local sp = sproto.parse(schema)
	test.err(function() sp:encode("Tree", { leaf = "x" }) end, "Tree.leaf[0] is not a table (Is a string)")
	test.err(function() sp:encode("Tree", { right = { {}, "x" } }) end, "Tree.right[2] is not a table")
	test.err(function() sp:encode("Tree", { right = "x" }) end, "should be a table")
	test.err(function() sp:encode("Leaf", "x") end, "table expected")
	test.err(function() sp:encode("Leaf") end, "table expected")
end)

test.case("a double takes eight bytes, no others", function()
	local sp = sproto.parse(schema)
	local head = "\2\0" .. string.pack("<I2I2", 17, 0)
	test.err(function() sp:decode("Tree", head .. string.pack("<s4", "\0\0\0\0")) end, "decode error")
	test.eq((sp:decode("Tree", head .. string.pack("<s4", string.pack("<d", 2.5)))), { d = 2.5 })
	local four = "\1\0\0\0" .. string.pack("<s4", "\4\0\0\0\0")
	test.err(function() sp:decode("Values", four) end, "decode error")
end)

test.case("metamethods give fields, items and entries", function()
	local sp = sproto.parse(schema)
	local lazy = setmetatable({}, { __index = function(_, k) return k == "n" and 9 or nil end })
	test.eq((sp:decode("Leaf", sp:encode("Leaf", lazy))), { n = 9 })
	local items = setmetatable({}, { __index = function(_, i) return i <= 3 and i * 10 or nil end })
	test.eq((sp:decode("Values", sp:encode("Values", { i = items }))), { i = { 10, 20, 30 } })
	local pairs_only = setmetatable({}, {
		__pairs = function()
			return function(_, k)
				k = (k or 0) + 1
				if k <= 3 then return k, { k } end
			end
		end,
	})
	test.eq((sp:decode("Maps", sp:encode("Maps", { b = pairs_only }))), { b = { { 1 }, { 2 }, { 3 } } })
	-- An encode within an encode.
	local inner = setmetatable({}, {
		__index = function(_, k)
			return k == "s" and sp:encode("Leaf", { n = 70000 }) or nil
		end,
	})
	test.eq((sp:decode("Leaf", sp:encode("Leaf", inner))), { s = sp:encode("Leaf", { n = 70000 }) })
	local broken = setmetatable({}, { __index = function() error "boom" end })
	for _ = 1, 100 do
		test.err(function() sp:encode("Maps", { a = { x = broken } }) end, "boom")
	end
end)

test.case("long arrays grow the buffer", function()
	local sp = sproto.parse(schema)
	local value = { r = {}, t = {}, b = {}, x = {}, i = {} }
	for i = 1, 20000 do
		value.r[i] = i / 3
		value.t[i] = i / 100
		value.b[i] = i % 3 == 0
		value.x[i] = ("x"):rep(i % 7)
		value.i[i] = i == 19999 and 1 << 40 or i
	end
	test.eq((sp:decode("Values", sp:encode("Values", value))), value)
	test.eq((sp:pdecode("Values", sp:pencode("Values", value))), value)
end)

test.case("pointers need a size that lies inside", function()
	local sp = sproto.parse(schema)
	test.err(function() sp:decode("Leaf", io.stdout, 1 << 40) end, "beyond the block")
	test.err(function() sp:decode("Leaf", io.stdout, -1) end, "bad size")
	test.err(function() sp:decode("Leaf", io.stdout) end, "number expected")
	test.err(function() sp:decode("Leaf", 5) end, "string or userdata expected")
	test.err(function() sproto.unpack(nil) end, "string or userdata expected")
	local skynet_core = require "skynet.core"
	-- Two packed nils are two zero bytes: an empty struct.
	local ptr, size = skynet_core.pack(nil, nil)
	test.eq({ sp:decode("Leaf", ptr, size) }, { {}, 2 })
	test.eq({ sp:decode("Leaf", ptr, size, { s = "kept" }) }, { { s = "kept" }, 2 })
	test.err(function() sp:decode("Leaf", ptr, 1) end, "decode error")
	test.eq(sproto.pack(ptr, size), "\0")
	skynet_core.trash(ptr, size)
end)

test.case("defaults show every field", function()
	local sp = sproto.parse [[
		.A { i 0 : integer  d 1 : integer(2)  f 2 : double  b 3 : boolean  s 4 : string
			x 5 : binary  a 6 : A  li 7 : *integer  la 8 : *A  ls 9 : *string }
		p 1 { request A response { ok 0 : boolean } }
		q 2 { response nil }
	]]
	test.eq(sp:default "A", {
		i = 0, d = 0.0, f = 0.0, b = false, s = "", x = "", a = { __type = "A" },
		li = { __array = 0 }, la = { __array = "A" }, ls = { __array = "" },
	})
	test.eq(sp:default("p", "REQUEST"), sp:default "A")
	test.eq(sp:default("p", "RESPONSE"), { ok = false })
	test.eq(sp:default("q", "REQUEST"), nil)
	test.eq(sp:default("q", "RESPONSE"), nil)
	test.err(function() sp:default("p", "ANSWER") end, "Invalid type")
	test.err(function() sp:default "B" end, "not found")
end)

test.case("types and protocols are found by name and tag", function()
	local sp = sproto.parse(".A {} p 7 { request A } q 0 { response nil }")
	test.eq(sp:exist_type "A", true)
	test.eq(sp:exist_type "B", false)
	test.eq(sp:exist_proto "p", true)
	test.eq(sp:exist_proto(7), true)
	test.eq(sp:exist_proto(0), true)
	test.eq(sp:exist_proto "7", false)
	test.eq(sp:exist_proto(8), false)
	test.eq(sp:queryproto "p".tag, 7)
	test.eq(sp:queryproto(7).name, "p")
	test.ok(sp:queryproto(7) == sp:queryproto "p")
	test.err(function() sp:queryproto "7" end, "7 not found")
	test.err(function() sp:encode("B", {}) end, "not found")
end)

test.case("bodies of protocols", function()
	local sp = sproto.parse ".A { a 0 : integer } p 1 { request A response A } q 2 { response nil } r 3 {}"
	local body, tag = sp:request_encode("p", { a = 1 })
	test.eq({ body, tag }, { "\1\0\4\0", 1 })
	test.eq({ sp:request_encode(3, { a = 1 }) }, { "", 3 })
	test.eq({ sp:request_decode("p", body) }, { { a = 1 }, "p" })
	test.eq(table.pack(sp:request_decode(3, body)), { n = 2, [2] = "r" })
	test.eq({ sp:response_decode(1, body) }, { { a = 1 }, 4 })
	test.eq(select("#", sp:response_decode("r", body)), 0)
	test.eq(sp:response_encode("p", { a = 1 }), body)
	test.eq(sp:response_encode("q"), "")
	test.eq(sp:response_encode("r", { a = 1 }), "")
	test.err(function() sp:response_encode("q", {}) end, "a confirm has no content")
end)

-- Repeatable noise.
local seed = 20261121
local function random(n)
	seed = (seed * 6364136223846793005 + 1442695040888963407)
	return (seed >> 33) % n
end

local function noise(n)
	local out = {}
	for i = 1, n do out[i] = string.char(random(4) == 0 and random(256) or random(5)) end
	return table.concat(out)
end

test.case("noise only ever returns or raises", function()
	local sp = sproto.parse(vectors.load "sproto_encode".schema)
	local decoded = 0
	for i = 1, 5000 do
		local data = noise(random(60))
		if pcall(sp.decode, sp, "Unit", data) then decoded = decoded + 1 end
		pcall(sproto.unpack, data)
		pcall(sp.pdecode, sp, "Unit", data)
		pcall(sproto.new, data)
		local back = sproto.unpack(sproto.pack(data))
		test.ok(back:sub(1, #data) == data and #back - #data < 8, "packing of noise " .. i)
	end
	test.ok(decoded > 0)
end)

test.case("damaged data and bundles only ever return or raise", function()
	local suite = vectors.load "sproto_encode"
	local parser = require "sprotoparser"
	local bundle = parser.parse(suite.schema .. " p 1 { request Unit response nil }")
	local sp = sproto.new(bundle)
	local sample = sp:encode("Unit", {
		level = 70000, title = "t", alive = true, speed = 1.5, leader = { pos = { x = 1 } },
		nums = { 1, 1 << 40 }, names = { "a", "b" }, flags = { true }, squad = { {}, { level = 1 } },
		bag = { { id = 1, label = "l" } }, stock = { k = 1 }, rates = { 0.5 },
	})
	local function damage(s)
		local at = random(#s) + 1
		local kind = random(3)
		if kind == 0 then
			return s:sub(1, at - 1) .. string.char(random(256)) .. s:sub(at + 1)
		elseif kind == 1 then
			return s:sub(1, at - 1)
		end
		return s:sub(1, at - 1) .. noise(3) .. s:sub(at)
	end
	local accepted = 0
	for _ = 1, 4000 do
		pcall(sp.decode, sp, "Unit", damage(sample))
		local ok, other = pcall(sproto.new, damage(bundle))
		if ok then
			accepted = accepted + 1
			pcall(other.decode, other, "Unit", sample)
			pcall(other.encode, other, "Unit", { level = 1, bag = { { id = 1 } } })
		end
	end
	test.ok(accepted > 0)
end)

test.case("malformed bundles are refused", function()
	local function bundle_of(...)
		return "\1\0\0\0" .. string.pack("<s4", table.concat { ... })
	end
	local function type_of(name, fields)
		return string.pack("<s4", "\2\0\0\0\0\0" .. string.pack("<s4s4", name, fields))
	end
	local function field_of(words, name)
		return string.pack("<s4", string.pack("<I2", #words // 2) .. words .. string.pack("<s4", name))
	end
	local integer = "\0\0\2\0\1\0\2\0"
	sproto.new(bundle_of(type_of("T", field_of(integer, "x"))))
	sproto.new(bundle_of(type_of("T", "")))
	local refused = {
		nothing = "",
		empty = "\0\0",
		["three parts"] = "\3\0\0\0\0\0\0\0" .. ("\0"):rep(12),
		["unknown part"] = "\2\0\3\0\0\0\0\0\0\0",
		["built-in code 4"] = bundle_of(type_of("T", field_of("\0\0\10\0\1\0\2\0", "x"))),
		["type number out of range"] = bundle_of(type_of("T", field_of("\0\0\1\0\4\0\2\0", "x"))),
		["no tag"] = bundle_of(type_of("T", field_of("\0\0\2\0", "x"))),
		["no name"] = bundle_of(type_of("T", string.pack("<s4", "\3\0\3\0\2\0\1\0"))),
		["no type at all"] = bundle_of(type_of("T", field_of("\0\0\3\0\2\0", "x"))),
		["unknown field tag"] = bundle_of(type_of("T", field_of(integer .. "\5\0\2\0", "x"))),
		["ten decimal digits"] = bundle_of(type_of("T", field_of("\0\0\2\0\22\0\2\0", "x"))),
		["descending tags"] = bundle_of(type_of("T",
			field_of("\0\0\2\0\1\0\4\0", "x") .. field_of(integer, "y"))),
		["equal tags"] = bundle_of(type_of("T", field_of(integer, "x") .. field_of(integer, "y"))),
		["truncated"] = bundle_of(type_of("T", field_of(integer, "x"))):sub(1, -2),
		["zero byte in a name"] = bundle_of(type_of("T\0", "")),
		["key that does not exist"] = bundle_of(type_of("T", field_of("\0\0\1\0\2\0\2\0\4\0\12\0", "x"))),
	}
	for what, bundle in pairs(refused) do
		test.eq(core.newproto(bundle), nil, what)
		test.err(function() sproto.new(bundle) end, "invalid sproto bundle")
	end
end)

test.run()
