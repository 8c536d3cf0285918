-- Strings: literals, equality, interning borders, the library.
local test = dofile("../lib/langtest.lua")
local case, eq = test.case, test.eq

case("strings made in different ways are the same key", function()
	-- 40 bytes is the border between interned and other strings.
	for _, n in ipairs({ 0, 1, 39, 40, 41, 80, 1000 }) do
		local a, b = ("x"):rep(n), table.concat({ ("x"):rep(n // 2), ("x"):rep(n - n // 2) })
		eq(a, b)
		local t = { [a] = n }
		eq(t[b], n)
		t[b] = nil
		eq(next(t), nil)
		eq(a .. "", b)
		assert(not (a < b) and a <= b)
	end
end)

case("escapes and long brackets", function()
	eq("\65\066\x43\u{44}\z
	    E", "ABCDE")
	eq(#"\0\0\0", 3)
	eq("a\
b", "a\nb")
	eq([[
first newline is dropped]], "first newline is dropped")
	eq([==[a]]b]=]c]==], "a]]b]=]c")
	eq("\u{7FFFFFFF}", "\xFD\xBF\xBF\xBF\xBF\xBF")
	test.syntax("invalid escape sequence", [[return "\q"]])
	test.syntax("decimal escape too large", [[return "\300"]])
	test.syntax("unfinished string", "return 'abc")
	test.syntax("unfinished long string", "return [[abc")
end)

case("comparison goes byte by byte, zeros included", function()
	assert("a" < "b" and "a" < "aa" and "" < "a" and "Z" < "a")
	assert("a\0a" < "a\0b" and "a\0" > "a" and "a\0z" < "b")
	assert(not ("a" < "a") and "a" <= "a" and "b" >= "a")
end)

case("numbers and strings convert", function()
	eq("10" + 5, 15)
	eq("0x10" + 0, 16)
	eq("1e1" + 0, 10.0)
	eq(10 .. 20, "1020")
	eq(1.5 .. "", "1.5")
	eq(-0.0 .. "", "-0.0")
	eq(2^53 .. "", "9007199254740992.0")
	eq(tonumber("  0x1p4  "), 16.0)
	eq(tonumber("1e"), nil)
	eq(tonumber("10", 2), 2)
	eq(tonumber("zZ", 36), 35 * 36 + 35)
	eq(tonumber("8", 8), nil)
	test.err("attempt to", function()
		return "a" + 1
	end)
end)

case("sub, byte, char, rep, reverse at their edges", function()
	local s = "hello"
	eq(s:sub(2, -2), "ell")
	eq(s:sub(-3), "llo")
	eq(s:sub(0), "hello")
	eq(s:sub(10), "")
	eq(s:sub(3, 2), "")
	eq(s:sub(math.mininteger, math.maxinteger), "hello")
	eq(select("#", s:byte(1, -1)), 5)
	eq(s:byte(10), nil)
	eq(string.char(), "")
	test.err("value out of range", string.char, 256)
	eq(s:rep(0), "")
	eq(s:rep(3, "-"), "hello-hello-hello")
	test.err("resulting string too large", string.rep, "x", math.maxinteger)
	eq(s:reverse():upper(), "OLLEH")
end)

case("find and match", function()
	eq(("a.b"):find(".", 1, true), 2)
	eq(("a.b"):find("%."), 2)
	local s, e, c = ("key = value"):find("(%w+)%s*=")
	assert(s == 1 and e == 5 and c == "key")
	eq(("2024-05-06"):match("(%d+)-(%d+)-(%d+)"), "2024")
	eq(select(3, ("2024-05-06"):match("(%d+)-(%d+)-(%d+)")), "06")
	eq(("[[x]]"):match("%b[]"), "[[x]]")
	eq(("THE (quick) fox"):find("%((%a+)%)"), 5)
	eq(("hello"):match("()ll()"), 3)
	eq(("  trim  "):match("^%s*(.-)%s*$"), "trim")
	eq(("THE END"):match("%f[%a]%a+%f[%A]"), "THE")
	eq(("aaa"):match("a-$"), "aaa")
	eq((""):match(""), "")
	eq(("abc"):find("b", -1), nil)
	eq(("x=1, y=2"):match("y=(%d)"), "2")
	eq(("abab"):match("(ab)%1"), "ab")
	test.err("malformed pattern", string.find, "a", "[a")
	test.err("malformed pattern", string.find, "a", "%")
	test.err("capture", string.find, "a", "%1")
	test.err("pattern too complex", string.match, ("a"):rep(300000), (".-"):rep(300000) .. "b")
end)

case("gsub and gmatch", function()
	eq(("hello world"):gsub("o", "0"), "hell0 w0rld")
	eq(select(2, ("hello world"):gsub("o", "0")), 2)
	eq(("hello"):gsub("", "-"), "-h-e-l-l-o-")
	eq(("abc"):gsub("%w", "%0%0"), "aabbcc")
	eq(("abc"):gsub("%w", { a = "1", c = false }), "1bc")
	test.err("invalid replacement value", string.gsub, "abc", "%w", { b = true })
	eq(("$name is $age"):gsub("%$(%w+)", { name = "n", age = 5 }), "n is 5")
	eq(("abc"):gsub("(a)(b)", "%2%1"), "bac")
	eq(("abc"):gsub(".", function(c)
		return c == "b" and "" or nil
	end), "ac")
	eq(("aaaa"):gsub("a", "b", 2), "bbaa")
	test.err("replacement string", string.gsub, "a", "a", "x%")
	local words = {}
	for w in ("one two  three"):gmatch("%a+") do
		words[#words + 1] = w
	end
	eq(table.concat(words, "|"), "one|two|three")
	local pairs_found = {}
	for k, v in ("a=1,b=2"):gmatch("(%w)=(%w)") do
		pairs_found[k] = v
	end
	assert(pairs_found.a == "1" and pairs_found.b == "2")
	eq(("abc"):gmatch("%w", 3)(), "c")
end)

case("format", function()
	eq(("%5d|%-5d|%05d|%+d"):format(42, 42, 42, 42), "   42|42   |00042|+42")
	eq(("%x %X %#x %o"):format(255, 255, 255, 8), "ff FF 0xff 10")
	eq(("%5.2f|%g|%e"):format(3.14159, 0.1, 12345.678), " 3.14|0.1|1.234568e+04")
	eq(("%s %10s %-10s| %.2s"):format("a", "b", "c", "def"), "a          b c         | de")
	eq(("%q"):format('a "q" \n \0 \r\\'), '"a \\"q\\" \\\n \\0 \\13\\\\"')
	eq(("%q"):format(1 / 3), "0x1.5555555555555p-2")
	eq(("%q"):format(math.mininteger), "0x8000000000000000")
	eq(("%c%c"):format(72, 105), "Hi")
	eq(("%%"):format(), "%")
	eq(("%i"):format(3.0), "3")
	eq(("%a"):format(1), "0x1p+0")
	eq(("%s"):format(setmetatable({}, { __tostring = function()
		return "object"
	end })), "object")
	test.err("number has no integer representation", string.format, "%d", 1.5)
	test.err("invalid conversion", string.format, "%y", 1)
	test.err("no value", string.format, "%d")
end)

case("pack and unpack", function()
	eq(string.pack("<i4", -2), "\xFE\xFF\xFF\xFF")
	eq(string.pack(">I2", 258), "\1\2")
	eq(string.unpack("<i8", string.pack("<i8", math.mininteger)), math.mininteger)
	local a, b, c, pos = string.unpack("z s1 B", "abc\0\3xyz\7")
	assert(a == "abc" and b == "xyz" and c == 7 and pos == 10)
	eq(string.unpack("<d", string.pack("<d", 1.25)), 1.25)
	eq(string.packsize("<i4 i8"), 12)
	eq(string.packsize("<!8 i4 i8"), 16)
	eq(string.pack("!4 i1 i4", 1, 2), "\1\0\0\0\2\0\0\0")
	test.err("overflow", string.pack, "i1", 128)
	test.err("data string too short", string.unpack, "i4", "abc")
	test.err("out of limits", string.pack, "i17", 1)
end)

case("utf8", function()
	eq(utf8.char(72, 228, 8364, 0x10FFFF), "Hä€\u{10FFFF}")
	eq(utf8.len("Hä€"), 3)
	eq(utf8.len("\xff"), nil)
	eq(select(2, utf8.len("ab\xff")), 3)
	eq(utf8.codepoint("€"), 8364)
	eq(utf8.offset("Hä€", 3), 4)
	local out = {}
	for p, c in utf8.codes("aä€") do
		out[#out + 1] = p .. ":" .. c
	end
	eq(table.concat(out, " "), "1:97 2:228 4:8364")
	eq(("ä€x"):gsub(utf8.charpattern, "."), "...")
	test.err("invalid UTF-8 code", utf8.codepoint, "\xff")
end)

case("concatenation of many and of long pieces", function()
	local s = "a" .. 1 .. 2.5 .. "b" .. ("c"):rep(50) .. "" .. "d"
	eq(#s, 1 + 1 + 3 + 1 + 50 + 1)
	local t = {}
	for i = 1, 1000 do
		t[i] = "piece " .. i
	end
	eq(#table.concat(t, ", "), 9 * 7 + 90 * 8 + 900 * 9 + 10 + 999 * 2)
	test.err("attempt to concatenate a nil value (upvalue 't')", function()
		t = nil
		return "x" .. t
	end)
end)

test.run()
