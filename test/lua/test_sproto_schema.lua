-- sprotoparser: the schema vectors, and errors that name file, line and field.
local sproto = require "sproto"
local parser = require "sprotoparser"
local test = require "testlib"
local vectors = require "vectors"

-- Where ours is better than what the vectors record: another text, or (true)
-- the schema is accepted.
local better = {
	["main index on a non-array is ignored"] = "field a of type z is not an array",
	["error: duplicate protocol tag"] = "redefined protocol tag 1 at q",
	["error: tag too large"] = "unsigned overflow: tag 32767 of field x",
	["error: decimal on string"] = "Invalid (2) on string field x of type z",
	["error: protocols without any type"] = true,
}

test.case("every schema vector", function()
	local suite = vectors.load "sproto_schema"
	test.eq(#suite.vectors, 44)
	for _, v in ipairs(suite.vectors) do
		local ok, result = pcall(parser.parse, v.schema)
		local want = better[v.name] or v.error
		if type(want) == "string" then
			test.ok(not ok and result:find(want, 1, true), v.name .. ": " .. tostring(result))
		else
			test.ok(ok, v.name .. ": " .. tostring(result))
			if not better[v.name] then test.eq(vectors.hex(result), v.bundle, v.name) end
			if result ~= "\0\0" then sproto.new(result) end
		end
	end
end)

test.case("an empty schema compiles, but is no object", function()
	test.eq(parser.parse "# nothing", "\0\0")
	test.err(function() sproto.parse "" end, "invalid sproto bundle")
end)

test.case("a schema may have protocols only", function()
	local sp = sproto.parse "ping 1 {} pong 2 { response nil }"
	test.eq(sp:exist_proto(2), true)
	test.eq(sp:queryproto "ping".request, nil)
end)

local function fails(text, message)
	test.err(function() parser.parse(text, "game.sproto") end, message)
end

test.case("syntax errors name file, line and what was expected", function()
	fails(".a {\n x 0 integer\n}", "syntax error at [game.sproto] line (2): ':' expected")
	fails(".a {\n x 0 : integer", "line (2): a field, a type or '}' expected")
	fails(".a { x : integer }", "the tag of field x expected")
	fails(".a { x0 }", "the tag of field x0 expected")
	fails(".a { x 0 : * integer }", "a type name expected")
	fails(".a { x 0 : integer(2 }", "')' expected")
	fails("p 1 { request{} }", "a blank after request expected")
	fails("p 1 { reqest a }", "'request', 'response' or '}' expected")
	fails("p { }", "the tag of protocol p expected")
	fails("\n\n!", "syntax error at [game.sproto] line (3): a type or a protocol expected")
	fails(".a {}\r.b {}", "line (1)")
	fails(". a {}", "the name of a type expected")
end)

test.case("broken rules name file, line, type and field", function()
	fails(".a {}\n.b {\n x 0 : nope }",
		"Undefined type nope in type b (field x) at [game.sproto] line (3)")
	fails(".b { x 0 : string() }", "Invalid () on string field x of type b")
	fails(".b { x 0 : *boolean(k) }", "Invalid (k) on boolean field x of type b")
	fails(".b { x 0 : integer(k) }", "Invalid (k) on integer field x of type b")
	fails(".b { x 0 : integer(10) }", "Too many decimal digits (10) in field x of type b, at most 9")
	fails(".q { k 0 : integer } .b { x 0 : q(k) }", "field x of type b is not an array")
	fails(".q { k 0 : *integer } .b { x 0 : *q(k) }", "Invalid map index :k in field x of type b")
	fails(".q { k 0 : q v 1 : integer } .b { x 0 : *q() }", "Invalid map index :k in field x of type b")
	fails(".q { k 0 : integer } .b { x 0 : *q() }", "Invalid map definition: x, must only have two fields")
	fails(".a {}\np 1 { request a\n request a }",
		"redefine request in protocol p at [game.sproto] line (3)")
	fails("p 1 {\n response nope }", "Undefined response type nope in protocol p at [game.sproto] line (2)")
	fails("p 32767 {}", "unsigned overflow: tag 32767 of protocol p")
	fails(".a { x 99999999999999999999 : integer }", "unsigned overflow")
	fails(".a { .b {} .b {} }", "redefined a.b at")
end)

test.case("blanks may be missing where the text is clear", function()
	local want = parser.parse ".a { } .b { x 0 : integer(2) y 1 : integer } .c { }"
	test.eq(parser.parse ".a{}.b{x 0:integer(2)y 1:integer}.c{}", want)
	test.eq(parser.parse ".a\r\n{ # one\n}\t.b{x 0 :integer( 2 ) y 1:integer}.c{}#end", want)
end)

test.case("of several parentheses of a field the first one counts", function()
	test.eq(parser.parse ".a { x 0 : integer(2)(5) y 1 : integer }", parser.parse ".a { x 0 : integer(2) y 1 : integer }")
end)

test.case("keywords and built-in names are ordinary names of fields", function()
	local sp = sproto.parse ".a { request 0 : integer  type 1 : string  integer 2 : boolean }"
	local value = { request = 1, type = "t", integer = true }
	test.eq((sp:decode("a", sp:encode("a", value))), value)
end)

test.case("a nested name is looked up from the inside out", function()
	local sp = sproto.parse [[
		.x { outer 0 : integer }
		.a {
			.b { .c { f 0 : x  g 1 : d } .x { inner 0 : integer } }
			.d { y 0 : integer }
			c 0 : b.c
		}
		p 1 { request { .in1 { z 0 : integer } v 0 : in1 } response a.b.c }
	]]
	local value = { c = { f = { inner = 1 }, g = { y = 2 } } }
	test.eq((sp:decode("a", sp:encode("a", value))), value)
	local body = sp:request_encode("p", { v = { z = 3 } })
	test.eq((sp:request_decode("p", body)), { v = { z = 3 } })
	test.eq(sp:exist_type "p.request.in1", true)
end)

test.case("a large schema keeps its order", function()
	local text = {}
	for i = 1, 500 do
		text[i] = string.format(".t%d { f%d %d : integer n 32766 : *t%d }", i, i, i, (i % 500) + 1)
	end
	for i = 1, 500 do
		text[#text + 1] = string.format("p%d %d { request t%d response t%d }", i, i * 3, i, i)
	end
	local sp = sproto.parse(table.concat(text, "\n"))
	for i = 1, 500, 7 do
		local value = { ["f" .. i] = i, n = { { ["f" .. (i % 500 + 1)] = 5 } } }
		test.eq((sp:decode("t" .. i, sp:encode("t" .. i, value))), value)
		test.eq(sp:queryproto(i * 3).name, "p" .. i)
	end
end)

test.case("schema noise only ever returns or raises", function()
	local pieces = { ".a", "{", "}", " ", "\n", "x", "0", ":", "*", "(", ")", "integer", "request",
		"response", "nil", "#", "\r", ".", "9", "string" }
	local seed = 7
	for _ = 1, 3000 do
		local out = {}
		for i = 1, 20 do
			seed = (seed * 1103515245 + 12345) % 0x80000000
			out[i] = pieces[(seed >> 8) % #pieces + 1]
		end
		local ok, result = pcall(parser.parse, table.concat(out))
		test.ok(ok or result:find "line %(%d+%)", result)
	end
end)

test.case("the schema in the documentation compiles", function()
	local f <close> = assert(io.open "doc/reference/sproto.md")
	local block = f:read "a":match "## Schema\n\n(.-)\n\nBuilt%-in"
	local sp = sproto.parse(block)
	local value = {
		items = { [7] = { id = 7, price = 1.25, tags = { "new" }, at = { x = 1, y = 2 } } },
		stock = { apple = 3, pear = 4 },
	}
	test.eq((sp:decode("Bag", sp:encode("Bag", value))), value)
	test.eq(sp:queryproto("ack").tag, 2)
end)

test.run()
