-- Cases of the language regression, as TAP lines. Used by the programs in
-- test/lang, which run in the plain interpreter; owns nothing global.

local langtest = {}

local cases = {}

--- Adds a case; it passes when `body` returns without an error.
---@param name string a claim, such as "closures share a variable"
---@param body fun()
function langtest.case(name, body)
	cases[#cases + 1] = { name = name, body = body }
end

--- Checks that `got == want` and that numbers are of the same kind.
function langtest.eq(got, want)
	if got ~= want or math.type(got) ~= math.type(want) then
		error(string.format("got %s, want %s", tostring(got), tostring(want)), 2)
	end
end

--- Checks that `f(...)` raises and that the message contains `text`.
---@param text string plain text
---@param f function
function langtest.err(text, f, ...)
	local ok, message = pcall(f, ...)
	if ok then
		error("no error, want: " .. text, 2)
	end
	if not tostring(message):find(text, 1, true) then
		error(string.format("got %q, want %q", tostring(message), text), 2)
	end
end

--- Checks that `source` does not compile and that the message contains `text`.
function langtest.syntax(text, source)
	local f, message = load(source, "=source")
	if f then
		error("compiles, want: " .. text, 2)
	end
	if not message:find(text, 1, true) then
		error(string.format("got %q, want %q", message, text), 2)
	end
end

--- Runs all cases in order and ends the program.
function langtest.run()
	local failed = 0
	print("1.." .. #cases)
	for i, case in ipairs(cases) do
		local ok, message = xpcall(case.body, debug.traceback)
		if ok then
			print(string.format("ok %d - %s", i, case.name))
		else
			failed = failed + 1
			print(string.format("not ok %d - %s", i, case.name))
			print("# " .. tostring(message):gsub("\n", "\n# "))
		end
	end
	os.exit(failed == 0, true)
end

return langtest
