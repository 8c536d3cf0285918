-- lpeg and re are there and work inside a service.

local lpeg = require "lpeg"
local re = require "re"
local test = require "testlib"

test.case("lpeg matches and captures", function()
	local word = lpeg.C(lpeg.R "az" ^ 1)
	local list = lpeg.Ct(word * ("," * word) ^ 0) * -1
	test.eq(list:match "one,two,three", { "one", "two", "three" })
	test.eq(list:match "one,,two", nil)
end)

test.case("lpeg grammars recurse", function()
	local number = lpeg.R "09" ^ 1 / tonumber
	local sum = lpeg.P {
		"sum",
		sum = lpeg.Cf(lpeg.V "term" * lpeg.Cg(lpeg.C "+" * lpeg.V "term") ^ 0, function(a, _, b)
			return a + b
		end),
		term = number + "(" * lpeg.V "sum" * ")",
	}
	test.eq(sum:match "1+(2+3)+4", 10)
end)

test.case("re compiles its patterns", function()
	test.eq(re.match("key = value", "{ %w+ } ' = ' { %w+ }"), "key")
	test.eq(re.gsub("hello world", "[o]", "0"), "hell0 w0rld")
	test.eq(re.find("abc 42", "[0-9]+"), 5)
end)

test.run()
