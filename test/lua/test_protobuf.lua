-- skynet.protobuf against protoc, both ways, byte for byte; its limits and errors.

local protobuf = require "skynet.protobuf"
local rt = require "rt"
local test = require "testlib"

local DIR = "test/vectors/protobuf"

local function read(name)
	local f <close> = assert(io.open(name, "rb"))
	return f:read "a"
end

local temporary = os.tmpname()

local function varint(n)
	local bytes = ""
	while n > 127 do
		bytes = bytes .. string.char(n & 127 | 128)
		n = n >> 7
	end
	return bytes .. string.char(n)
end

-- Run protoc with these arguments, and this on its input; returns its output.
local function protoc(arguments, input)
	local f <close> = assert(io.open(temporary, "wb"))
	f:write(input or "")
	f:close()
	local command = ("protoc -I %s %s <%s 2>&1"):format(DIR, arguments, temporary)
	local p <close> = assert(io.popen(command, "r"))
	return p:read "a"
end

local function compile(names)
	local set = os.tmpname()
	test.eq(protoc(("--include_imports --descriptor_set_out=%s %s"):format(set, names)), "")
	local bytes = read(set)
	os.remove(set)
	return bytes
end

local SET = compile "three.proto two.proto"
local schema = protobuf.load(SET)

local function file_of(type)
	return type:match "^test%.(%a+)" .. ".proto"
end

local function protoc_encode(type, text)
	return protoc(("--deterministic_output --encode=%s %s"):format(type, file_of(type)), text)
end

local function protoc_decode(type, bytes)
	return protoc(("--decode=%s %s"):format(type, file_of(type)), bytes)
end

-- What protoc encodes from the text must be what we encode from the table, and decode to it.
local function same(type, text, value)
	local bytes = protoc_encode(type, text)
	test.eq(schema:decode(type, bytes), value, text)
	test.eq(schema:encode(type, value), bytes, text)
end

test.case("proto2 scalars: protoc's bytes are ours", function()
	same("test.two.Scalars", "", {})
	same("test.two.Scalars", [[
		f_double: -1.5 f_float: 0.25 f_int64: -9223372036854775808 f_uint64: 18446744073709551615
		f_int32: -2147483648 f_fixed64: 18446744073709551615 f_fixed32: 4294967295 f_bool: true
		f_string: "text \303\244" f_bytes: "\000\377" f_uint32: 4294967295 f_enum: BLACK
		f_sfixed32: -2147483648 f_sfixed64: -9223372036854775808 f_sint32: -2147483648
		f_sint64: -9223372036854775808]], {
		f_double = -1.5, f_float = 0.25, f_int64 = math.mininteger, f_uint64 = -1, f_int32 = -2147483648,
		f_fixed64 = -1, f_fixed32 = 4294967295, f_bool = true, f_string = "text ä", f_bytes = "\0\255",
		f_uint32 = 4294967295, f_enum = "BLACK", f_sfixed32 = -2147483648, f_sfixed64 = math.mininteger,
		f_sint32 = -2147483648, f_sint64 = math.mininteger,
	})
	-- Presence: a zero that is set goes out.
	same("test.two.Scalars", [[f_double: 0 f_int32: 0 f_bool: false f_string: "" f_enum: RED f_sint64: 9223372036854775807
		f_float: inf]],
		{ f_double = 0.0, f_int32 = 0, f_bool = false, f_string = "", f_enum = "RED", f_sint64 = math.maxinteger,
			f_float = math.huge })
	same("test.two.Scalars", "f_double: nan f_enum: LIME", { f_double = -(0 / 0), f_enum = "GREEN" })
end)

test.case("proto3 scalars: zero is absent unless the field is optional", function()
	same("test.three.Scalars", "", {})
	same("test.three.Scalars", [[f_double: 1e300 f_float: -0.5 f_int64: 1 f_uint64: 300 f_int32: -1 f_fixed64: 7
		f_fixed32: 8 f_bool: true f_string: "x" f_bytes: "y" f_uint32: 128 f_enum: SHIELD f_sfixed32: -1
		f_sfixed64: -2 f_sint32: 63 f_sint64: -64 o_int32: 0 o_string: ""]], {
		f_double = 1e300, f_float = -0.5, f_int64 = 1, f_uint64 = 300, f_int32 = -1, f_fixed64 = 7, f_fixed32 = 8,
		f_bool = true, f_string = "x", f_bytes = "y", f_uint32 = 128, f_enum = "SHIELD", f_sfixed32 = -1,
		f_sfixed64 = -2, f_sint32 = 63, f_sint64 = -64, o_int32 = 0, o_string = "",
	})
	test.eq(schema:encode("test.three.Scalars",
		{ f_double = 0.0, f_int32 = 0, f_bool = false, f_string = "", f_bytes = "", f_enum = "NONE", f_sint32 = 0 }), "")
	-- -0.0 is not zero.
	test.eq(#schema:encode("test.three.Scalars", { f_double = -0.0 }), 9)
	-- An enum keeps numbers without a name.
	same("test.three.Scalars", "f_enum: 77", { f_enum = 77 })
	test.eq(schema:encode("test.three.Scalars", { f_enum = 5 }), schema:encode("test.three.Scalars", { f_enum = "SHIELD" }))
end)

test.case("lists, packed and not", function()
	same("test.two.Lists", [=[f_double: 1 f_double: 2.5 f_sint32: [-1, 0, 1, 300] f_enum: [RED, BLACK] p_enum: [BLACK, GREEN]
		f_string: ["", "b"] f_message { f_int32: 1 } f_message { } p_bool: [true, false] p_fixed: [1, 2]]=], {
		f_double = { 1.0, 2.5 }, f_sint32 = { -1, 0, 1, 300 }, f_enum = { "RED", "BLACK" }, p_enum = { "BLACK", "GREEN" },
		f_string = { "", "b" }, f_message = { { f_int32 = 1 }, {} }, p_bool = { true, false }, p_fixed = { 1, 2 },
	})
	test.eq(schema:encode("test.two.Lists", { f_sint32 = {}, f_string = {} }), "")
	-- Readers take either form, in pieces.
	local packed = "\x1a\3\1\2\1" .. "\x1a\0" .. "\x18\2" -- levels of Player as 3: packed, packed, single
	test.eq(schema:decode("test.three.Player", packed), { levels = { 1, 2, 1, 2 } })
	test.eq(schema:decode("test.two.Lists", "\x10\2\x12\2\4\6\x10\1"), { f_sint32 = { 1, 2, 3, -1 } })
end)

test.case("messages, oneofs, maps, imports", function()
	same("test.three.Player", [[
		name: "alice" bag { kind: SWORD count: 2 } bag { } levels: [1, 2, 300] loose: [4, 5] tent { count: 3 }
		worn { key: "b" value { count: 1 } } worn { key: "a" value { } } worn { key: "" value { kind: SHIELD } }
		notes { key: -1 value: "minus" } notes { key: 0 value: "" } notes { key: 7 value: "seven" }
		flags { key: true value: 1.5 } flags { key: false value: 0 }
		kinds { key: 18446744073709551615 value: SWORD } kinds { key: 1 value: NONE }
		blobs { key: -5 value: "x" } blobs { key: 5 value: "" }
		old { f_enum: GREEN } history: [SWORD, SHIELD, 9] friend { name: "bob" friend { } } tags: "t" far: -1]], {
		name = "alice", bag = { { kind = "SWORD", count = 2 }, {} }, levels = { 1, 2, 300 }, loose = { 4, 5 },
		tent = { count = 3 }, worn = { b = { count = 1 }, a = {}, [""] = { kind = "SHIELD" } },
		notes = { [-1] = "minus", [0] = "", [7] = "seven" }, flags = { [true] = 1.5, [false] = 0.0 },
		kinds = { [-1] = "SWORD", [1] = "NONE" }, blobs = { [-5] = "x", [5] = "" }, old = { f_enum = "GREEN" },
		history = { "SWORD", "SHIELD", 9 }, friend = { name = "bob", friend = {} }, tags = { "t" }, far = -1,
	})
	-- A long part: the length takes more bytes than were left free.
	local long = ("x"):rep(20000)
	same("test.three.Player", ('friend { friend { name: "%s" } }'):format(long), { friend = { friend = { name = long } } })
end)

test.case("a oneof has one member: the last one read, and no two are written", function()
	local two = schema:encode("test.three.Player", { city = "x" }) .. schema:encode("test.three.Player", { cave = 0 })
	test.eq(schema:decode("test.three.Player", two), { cave = 0 })
	test.err(function() schema:encode("test.three.Player", { city = "x", cave = 1 }) end,
		"protobuf: test.three.Player.cave: field city of the same oneof is set, too")
end)

test.case("of a field that comes twice the last value counts, and messages merge", function()
	local a = schema:encode("test.three.Player", { name = "a", friend = { name = "f", levels = { 1 } } })
	local b = schema:encode("test.three.Player", { name = "b", friend = { levels = { 2 }, far = 3 } })
	test.eq(schema:decode("test.three.Player", a .. b), { name = "b", friend = { name = "f", levels = { 1, 2 }, far = 3 } })
	-- An entry of a map without its parts has their defaults.
	test.eq(schema:decode("test.three.Player", "\x42\0\x4a\0"), { worn = { [""] = {} }, notes = { [0] = "" } })
end)

test.case("groups", function()
	same("test.two.Node", [[value: 1 next { Extra { text: "deep" } } Extra { text: "t" Item { n: 1 } Item { } }]],
		{ value = 1, next = { extra = { text = "deep" } }, extra = { text = "t", item = { { n = 1 }, {} } } })
	test.err(function() schema:decode("test.two.Node", "\x1b\x0a\1x") end, "a group has no end")
	test.err(function() schema:decode("test.two.Node", "\x1b\x24") end, "an unknown field is malformed")
	test.err(function() schema:decode("test.two.Node", "\x1c") end, "an unknown field is malformed")
end)

test.case("extensions are fields with their full name in brackets", function()
	same("test.two.Open", [=[known: 1 [test.two.note]: "n" [test.two.numbers]: [1, 2] [test.two.Scope.note]: true
		[test.two.far] { value: 9 }]=], {
		known = 1, ["[test.two.note]"] = "n", ["[test.two.numbers]"] = { 1, 2 }, ["[test.two.Scope.note]"] = true,
		["[test.two.far]"] = { value = 9 },
	})
end)

test.case("defaults come on demand", function()
	local want = {
		f_double = -1.5, f_inf = math.huge, f_nan = 0 / 0, f_int64 = math.mininteger, f_uint64 = -1, f_bool = true,
		f_string = 'a"b\nä', f_bytes = "\0\1\\x\255", f_enum = "GREEN", f_first = "RED", plain = 0, list = {},
	}
	test.eq(schema:default "test.two.Defaults", want)
	test.eq(schema:decode("test.two.Defaults", "", { defaults = true }), want)
	test.eq(schema:decode("test.two.Defaults", "", { defaults = false }), {})
	local got = schema:decode("test.three.Player", schema:encode("test.three.Player", { bag = { {} } }), { defaults = true })
	test.eq(got.bag, { { kind = "NONE", count = 0 } })
	test.eq(got.name, "")
	test.eq(got.friend, nil)
	test.eq(got.city, nil)
	test.eq(got.worn, {})
end)

test.case("unknown fields are dropped, or kept and written again", function()
	local full = schema:encode("test.three.Player", {
		name = "n", bag = { { count = 1 } }, far = 5, tags = { "a", "b" }, friend = { name = "f", far = 1 } })
	test.eq(schema:decode("test.two.Open", full), {})
	local kept = schema:decode("test.two.Open", full, { unknown = true })
	test.eq(#kept[0], 6)
	test.eq(schema:encode("test.two.Open", kept), full)
	-- A closed enum does not take numbers without a name; they are unknown, packed ones, too.
	local bytes = "\x18\1\x18\5" .. "\x22\2\1\5" -- f_enum RED, 5; p_enum RED, 5
	test.eq(schema:decode("test.two.Lists", bytes), { f_enum = { "RED" }, p_enum = { "RED" } })
	test.eq(schema:decode("test.two.Lists", bytes, { unknown = true })[0], { "\x18\5", "\x20\5" })
	test.err(function() schema:encode("test.two.Open", { [0] = "x" }) end, "must be an array of strings")
	test.err(function() schema:encode("test.two.Open", { [0] = { "\x0a\5" } }) end, "item 1 of the unknown fields")
	test.err(function() schema:encode("test.two.Open", { [0] = { {} } }) end, "item 1 of the unknown fields")
	-- Any wire type may come where another one is expected.
	test.eq(schema:decode("test.two.Scalars", "\x0a\1x"), {})
end)

test.case("required fields must be there, on both sides", function()
	same("test.two.Required", "a: 1 inner { a: 2 } list { a: 3 }", { a = 1, inner = { a = 2 }, list = { { a = 3 } } })
	test.err(function() schema:encode("test.two.Required", {}) end,
		"protobuf: test.two.Required.a: required field is missing")
	test.err(function() schema:encode("test.two.Required", { a = 1, list = { { a = 1 }, {} } }) end,
		"protobuf: test.two.Required.list[2].a: required field is missing")
	test.err(function() schema:decode("test.two.Required", "") end,
		"protobuf: test.two.Required.a: a required field is missing")
	test.err(function() schema:decode("test.two.Required", "\8\1\x12\0") end, "test.two.Required.inner.a: a required field")
end)

test.case("values that do not fit raise, and name their place", function()
	local function bad(value, text, type)
		test.err(function() schema:encode(type or "test.three.Scalars", value) end, "protobuf: " .. text)
	end
	bad({ f_int32 = 1 << 31 }, "test.three.Scalars.f_int32: 2147483648 is out of range")
	bad({ f_uint32 = -1 }, "test.three.Scalars.f_uint32: -1 is out of range")
	bad({ f_int32 = "1" }, "test.three.Scalars.f_int32: integer expected, got string")
	bad({ f_int32 = 1.5 }, "test.three.Scalars.f_int32: number has no integer representation")
	bad({ f_double = "1" }, "test.three.Scalars.f_double: number expected, got string")
	bad({ f_bool = 1 }, "test.three.Scalars.f_bool: boolean expected, got number")
	bad({ f_string = 1 }, "test.three.Scalars.f_string: string expected, got number")
	bad({ f_string = "\255" }, "test.three.Scalars.f_string: string is not UTF-8")
	bad({ f_enum = "AXE" }, "test.three.Scalars.f_enum: enum test.three.Kind has no value 'AXE'")
	bad({ f_enum = {} }, "test.three.Scalars.f_enum: name or number of an enum expected, got table")
	bad({ bag = { {}, { count = "x" } } }, "test.three.Player.bag[2].count: integer expected, got string", "test.three.Player")
	bad({ bag = 5 }, "test.three.Player.bag: table expected, got number", "test.three.Player")
	bad({ friend = 5 }, "test.three.Player.friend: table expected, got number", "test.three.Player")
	bad({ notes = { x = "y" } }, "test.three.Player.notes.key: integer expected, got string", "test.three.Player")
	bad({ notes = { "y", 2 } }, "test.three.Player.notes.value: string expected, got number", "test.three.Player")
	bad({ worn = { {} } }, "test.three.Player.worn.key: string expected, got number", "test.three.Player")
	test.eq(schema:encode("test.three.Scalars", { f_int32 = 2.0 }), schema:encode("test.three.Scalars", { f_int32 = 2 }))
	-- An object is as good as new after an error.
	test.eq(schema:encode("test.three.Scalars", { f_int32 = 1 }), "\x28\1")
end)

test.case("strings of proto3 are UTF-8, those of proto2 any bytes", function()
	for _, bad in ipairs { "\x80", "\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "a\xff" } do
		local bytes = "\x4a" .. string.char(#bad) .. bad
		test.err(function() schema:decode("test.three.Scalars", bytes) end, "not UTF-8")
		test.eq(schema:decode("test.two.Scalars", bytes), { f_string = bad })
	end
	for _, good in ipairs { "\0", "é", "€", "\u{10ffff}", "\u{d7ff}\u{e000}" } do
		test.eq(schema:decode("test.three.Scalars", schema:encode("test.three.Scalars", { f_string = good })).f_string, good)
	end
end)

test.case("every cut of a message decodes or raises", function()
	local bytes = schema:encode("test.three.Player", {
		name = "alice", bag = { { count = 1 } }, levels = { 1, 300 }, worn = { a = {} }, flags = { [true] = 1 },
		old = { f_double = 1, f_fixed32 = 5 }, friend = { name = "b" },
	})
	for i = 0, #bytes do
		pcall(schema.decode, schema, "test.three.Player", bytes:sub(1, i))
		pcall(schema.decode, schema, "test.two.Node", bytes:sub(i), { unknown = true, defaults = true })
	end
	test.err(function() schema:decode("test.three.Player", bytes:sub(1, -2)) end, "a length reaches beyond the data at byte")
	test.err(function() schema:decode("test.three.Player", "\x0a\xff\xff\xff\xff\x0f") end, "a length reaches beyond the data")
	test.err(function() schema:decode("test.three.Player", "\x0a" .. ("\xff"):rep(10)) end, "a length reaches beyond the data")
	test.err(function() schema:decode("test.three.Player", "\0") end, "no field begins at byte")
	test.err(function() schema:decode("test.three.Player", "\x0f") end, "no field begins")
	test.err(function() schema:decode("test.three.Scalars", "\x28" .. ("\x80"):rep(10) .. "\1") end, "cut off or too long")
	test.err(function() schema:decode("test.three.Scalars", "\x0d\1\2") end, "an unknown field is malformed")
	test.err(function() schema:decode("test.three.Scalars", "\x09\1\2") end, "a number is cut off")
end)

test.case("100 levels pass, 101 and 20 000 raise; cycles, too", function()
	local function nested(levels)
		local value = {}
		for _ = 2, levels do value = { next = value } end
		return value
	end
	test.eq(schema:decode("test.two.Node", schema:encode("test.two.Node", nested(100))), nested(100))
	test.err(function() schema:encode("test.two.Node", nested(101)) end, "more than 100 levels")
	local cycle = {}
	cycle.next = cycle
	test.err(function() schema:encode("test.two.Node", cycle) end, "more than 100 levels")
	local parts, size = {}, 0
	for i = 20000, 1, -1 do
		parts[i] = "\x12" .. varint(size)
		size = size + #parts[i]
	end
	local deep = table.concat(parts)
	test.err(function() schema:decode("test.two.Node", deep) end, "too many levels of messages")
	test.err(function() schema:decode("test.two.Node", ("\x1b"):rep(20000)) end, "an unknown field is malformed")
	test.err(function() schema:decode("test.two.Scalars", ("\x1b"):rep(20000)) end, "an unknown field is malformed")
	test.err(function() schema:decode("test.two.Node", "\x1b" .. ("\x13"):rep(20000)) end, "an unknown field is malformed")
end)

test.case("random messages: what we write protoc reads, and writes the same", function()
	local seed = os.time()
	math.randomseed(seed)
	local R = math.random
	local function text() return string.char(R(32, 126)):rep(R(0, 5)) end
	local function maybe(f) if R(2) == 1 then return f() end end
	local function list(f)
		local t = {}
		for i = 1, R(1, 4) do t[i] = f() end
		return t
	end
	local function item() return { kind = maybe(function() return R(1, 9) end), count = maybe(function() return R(1, 1 << 30) end) } end
	local function player(depth)
		local p = {
			name = maybe(function() return text() .. "x" end), bag = maybe(function() return list(item) end),
			levels = maybe(function() return list(function() return R(-5, 1000) end) end),
			loose = maybe(function() return list(function() return R(-5, 1000) end) end),
			worn = maybe(function() return { [text()] = item(), [text() .. "z"] = item() } end),
			notes = maybe(function() return { [R(-9, 9)] = text(), [R(100)] = text() } end),
			kinds = maybe(function() return { [R(0)] = "SWORD", [R(0)] = R(0, 7) } end),
			friend = depth > 0 and maybe(function() return player(depth - 1) end) or nil,
			far = maybe(function() return R(-1 << 31, -1) end),
		}
		p[({ "city", "tent", "cave" })[R(3)]] = nil
		if R(2) == 1 then p.city = text() elseif R(2) == 1 then p.tent = item() end
		return p
	end
	for _ = 1, 15 do
		local bytes = schema:encode("test.three.Player", player(3))
		local back = protoc_encode("test.three.Player", protoc_decode("test.three.Player", bytes))
		test.eq(back, bytes, "seed " .. seed)
		test.eq(schema:encode("test.three.Player", schema:decode("test.three.Player", bytes)), bytes, "seed " .. seed)
	end
end)

test.case("descriptor sets that are wrong say how", function()
	test.err(function() protobuf.load(SET:sub(1, -2)) end, "the descriptor set is malformed or cut off")
	test.err(function() protobuf.load("garbage") end, "protobuf: ")
	local no_imports = os.tmpname()
	protoc(("--descriptor_set_out=%s three.proto"):format(no_imports))
	test.err(function() protobuf.loadfile(no_imports) end,
		"field old: type .test.two.Scalars is not in the descriptor set (protoc --include_imports puts it there)")
	local only_two = os.tmpname()
	protoc(("--descriptor_set_out=%s two.proto"):format(only_two))
	-- Sets in two files are one set; a file that comes twice counts once.
	local joined = protobuf.loadfile(no_imports, only_two, only_two)
	test.eq(joined:messages(), schema:messages())
	os.remove(no_imports)
	os.remove(only_two)
	test.err(function() protobuf.loadfile "/nonexistent" end, "protobuf: can't open /nonexistent")

	-- A set by hand: one file with these parts.
	local function part(number, bytes) return string.char(number << 3 | 2) .. string.char(#bytes) .. bytes end
	local function number(n, v) return string.char(n << 3, v) end
	local function file(...) return part(1, table.concat { ... }) end
	local function field(name, n, label, kind, type_name)
		return part(2, part(1, name) .. number(3, n) .. number(4, label) .. (kind and number(5, kind) or "")
			.. (type_name and part(6, type_name) or ""))
	end
	local function message(name, ...) return part(4, part(1, name) .. table.concat { ... }) end
	local function bad(set, text) test.err(function() protobuf.load(set) end, text) end
	bad(file(part(1, "f.proto"), part(12, "editions")), [[file f.proto: syntax "editions" is not supported]])
	bad(file(message("M"), message("M")), "two types are called M")
	bad(file(message("M", field("a", 1, 1, 5), field("b", 1, 1, 5))), "have number 1")
	bad(file(message("M", field("a", 1, 1, 5), field("a", 2, 1, 5))), "message M has two fields a")
	bad(file(message("M", field("a", 0, 1, 5))), "field a: number 0 is out of range")
	bad(file(message("M", field("a", 1, 1, 99))), "field a: unknown type 99")
	bad(file(message("M", field("a", 1, 9, 5))), "field a: unknown label 9")
	bad(file(message("M", field("a", 1, 1, 11))), "field a has no type")
	bad(file(message("M", field("a", 1, 1, 14, ".M"))), "field a: type .M is of another kind")
	bad(file(message("M", part(7, number(7, 1)))), "message M is no map entry")
	bad(file(message("M", part(7, number(1, 1)))), "message_set_wire_format")
	bad(file(part(4, "")), "has no name")
	bad(file(part(5, part(1, "E"))), "enum E has no values")
	-- Types inside each other, without end: lengths are written from the inside out.
	local parts, size = {}, 0
	for i = 20000, 1, -1 do
		parts[i] = "\x0a\1N\x1a" .. varint(size)
		size = size + #parts[i]
	end
	local set = "\x22" .. varint(size) .. table.concat(parts)
	bad("\x0a" .. varint(#set) .. set, "more than 64 message types inside each other")
	local open = protobuf.load(file(message("M", field("a", 1, 1, nil, ".M"))))
	test.eq(open:encode("M", { a = {} }), "\x0a\0")
	test.eq(#protobuf.load(""):messages(), 0)
end)

test.case("enums, names, unknown types", function()
	test.eq(schema:enum("test.two.Color", "LIME"), 2)
	test.eq(schema:enum("test.two.Color", 2), "GREEN")
	test.eq(schema:enum("test.two.Color", 99), nil)
	test.eq(schema:enum("test.two.Color", "PINK"), nil)
	test.eq(schema:enum("test.two.Color", 1 << 40), nil)
	test.err(function() schema:enum("test.two.Colour", 1) end, "there is no enum 'test.two.Colour'")
	test.err(function() schema:encode("Nothing", {}) end, "there is no message type 'Nothing'")
	test.err(function() schema:decode("Nothing", "") end, "there is no message type 'Nothing'")
	test.eq(schema:decode(".test.two.Node", "\8\1"), { value = 1 })
	test.err(function() schema:encode("test.two.Node", 1) end, "table expected")
	test.err(function() schema:decode("test.two.Node", 1) end, "string expected")
	test.err(function() schema:decode("test.two.Node", "", 1) end, "table expected")
	local names = table.concat(schema:messages(), " ")
	test.ok(names:find("test.three.Player.Item", 1, true))
	test.ok(not names:find "Entry")
end)

test.case("services share a schema", function()
	schema:share "game"
	local answer = rt.run(rt.agent(), [[
		local protobuf = require "skynet.protobuf"
		local schema = protobuf.shared "game"
		skynet.retpack(schema:encode("test.two.Node", { value = 7 }), pcall(protobuf.shared, "other"))
	]])
	test.eq(answer, "\8\7")
	-- Replacing it leaves objects that exist alone.
	local old = protobuf.shared "game"
	protobuf.load(""):share "game"
	test.eq(protobuf.shared "game":messages(), {})
	collectgarbage()
	test.eq(old:decode("test.two.Node", "\8\7"), { value = 7 })
	test.err(function() protobuf.shared "other" end, "no schema is shared as 'other'")
end)

test.case("clean up", function()
	os.remove(temporary)
end)

test.run()
