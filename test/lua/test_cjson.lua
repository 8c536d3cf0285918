-- cjson is there and works inside a service, with integers of 64 bits.

local skynet = require "skynet"
local cjson = require "cjson"
local safe = require "cjson.safe"
local test = require "testlib"

test.case("values come back", function()
	local t = {
		list = { 1, 2.5, "three", false, cjson.null },
		nested = { a = { b = { c = "d" } } },
		text = "quote \" backslash \\ newline \n zero \0 \u{6c49}",
	}
	test.eq(cjson.decode(cjson.encode(t)), t)
end)

test.case("text is JSON", function()
	test.eq(cjson.encode { 1, "two", true, cjson.null }, '[1,"two",true,null]')
	test.eq(cjson.encode { a = { 1.5 } }, '{"a":[1.5]}')
	test.eq(cjson.decode ' { "a" : [ 1 , "\\u6c49\\ud83d\\ude00" , { } ] } ', { a = { 1, "\u{6c49}\u{1f600}", {} } })
end)

test.case("integers keep all their digits and stay integers", function()
	for _, v in ipairs { 0, 1, -1, 1 << 53, (1 << 53) + 1, math.maxinteger, math.mininteger, 123456789012345678 } do
		test.eq(cjson.encode { v }, "[" .. tostring(v) .. "]")
		test.eq(cjson.decode(cjson.encode { v })[1], v)
	end
	test.eq(cjson.decode "[9223372036854775808]", { 2.0 ^ 63 })
	test.eq(cjson.decode("[" .. ("9"):rep(40) .. "]"), { 1e40 })
	test.eq(cjson.encode { [(1 << 53) + 1] = 1, a = 2 }:find('"9007199254740993":1', 1, true) ~= nil, true)
end)

test.case("floats stay floats", function()
	test.eq(cjson.decode "[1.0,1e2,-0,0.5,-1.25E-2]", { 1.0, 100.0, -0.0, 0.5, -0.0125 })
	test.eq(1 / cjson.decode "[-0]"[1], -math.huge)
	test.eq(cjson.encode { 0.5, -1.25 }, "[0.5,-1.25]")
	test.err(function() cjson.encode { 0 / 0 } end, "must not be NaN or Inf")
	test.err(function() cjson.encode { math.huge } end, "must not be NaN or Inf")
end)

test.case("bad input raises, or is told by cjson.safe", function()
	for _, bad in ipairs { "", "{", "[1,]", '{"a"}', "[1] x", "'a'", "nul", '"\\x"', '"a', "[01" } do
		test.err(function() cjson.decode(bad) end)
		local v, msg = safe.decode(bad)
		test.eq(v, nil)
		test.eq(type(msg), "string")
	end
	test.err(function() cjson.encode { print } end, "type not supported")
	test.eq(safe.encode { print }, nil)
	test.eq(safe.decode "[1]", { 1 })
end)

test.case("deep nesting raises, both ways", function()
	local depth = 20000
	test.err(function() cjson.decode(("["):rep(depth) .. ("]"):rep(depth)) end, "too many nested data structures")
	test.err(function() cjson.decode(('{"a":'):rep(depth) .. "1" .. ("}"):rep(depth)) end, "too many nested data structures")
	local t = {}
	for _ = 1, depth do t = { t } end
	test.err(function() cjson.encode(t) end, "excessive nesting")
	local cycle = {}
	cycle[1] = cycle
	test.err(function() cjson.encode(cycle) end, "excessive nesting")
end)

test.case("no change of a text's bytes does harm", function()
	math.randomseed(20260303)
	local seed = cjson.encode { a = { 1, 2.5, { "text\n", cjson.null } }, b = true, c = -12345678901234 }
	local rounds = skynet.getenv "test_variant" == "release" and 20000 or 2000
	local good = 0
	for _ = 1, rounds do
		local bytes = { seed:byte(1, -1) }
		for _ = 1, math.random(3) do
			bytes[math.random(#bytes)] = math.random(32, 126)
		end
		if safe.decode(string.char(table.unpack(bytes))) ~= nil then
			good = good + 1
		end
	end
	test.ok(good > 0 and good < rounds)
end)

test.run()
