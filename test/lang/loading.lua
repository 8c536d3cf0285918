-- Compiling and loading: load, dump, files, require, debug information.
local test = dofile("../lib/langtest.lua")
local case, eq = test.case, test.eq

local function with_file(text, body)
	local name = os.tmpname()
	local f = assert(io.open(name, "wb"))
	f:write(text)
	f:close()
	local ok, e = pcall(body, name)
	os.remove(name)
	assert(ok, e)
end

case("load takes text, pieces, names and environments", function()
	eq(load("return 1 + 1")(), 2)
	local pieces, i = { "return ", "'a", "b'", "" }, 0
	eq(load(function()
		i = i + 1
		return pieces[i]
	end)(), "ab")
	eq(load("return x", "=name", "t", { x = 5 })(), 5)
	local f, m = load("return +", "=name")
	assert(f == nil and m:find("^name:1:"))
	f, m = load("x x", "@file.lua")
	assert(f == nil and m:find("^file.lua:1:"))
	f, m = load("x x", "some text\nmore")
	assert(m:find('^%[string "some text..."%]:1:'))
	f, m = load("return 1", "=n", "b")
	assert(f == nil and m:find("attempt to load a text chunk"))
	test.err("reader function must return a string", function()
		assert(load(function() return {} end))
	end)
end)

case("dumped functions load and run, with and without debug information", function()
	local function f(a, ...)
		local t = { a, ... }
		local function g(x)
			return x and #t + x or "none"
		end
		return g, ("long constant "):rep(10), "short", 1.5, 1 << 40, nil, true
	end
	for _, strip in ipairs({ false, true }) do
		local h = assert(load(string.dump(f, strip), "=dumped", "b"))
		local g, long, short, fl, int, n, b = h(1, 2, 3)
		eq(g(10), 13)
		assert(long == ("long constant "):rep(10) and short == "short")
		assert(fl == 1.5 and int == 1 << 40 and n == nil and b)
		eq(debug.getinfo(h, "S").source, strip and "=?" or "@loading.lua")
	end
	test.err("Lua function expected", string.dump, print)
	test.err("attempt to load a binary chunk", function()
		assert(load(string.dump(f), "x", "t"))
	end)
end)

case("damaged bytecode headers are refused", function()
	local code = string.dump(function() return 1 end)
	for i = 2, 12 do
		local bad = code:sub(1, i - 1) .. string.char((code:byte(i) + 1) % 256) .. code:sub(i + 1)
		local f = load(bad, "=bad", "b")
		eq(f, nil)
	end
	for i = 1, #code - 1 do
		eq(load(code:sub(1, i), "=cut", "b"), nil)
	end
end)

case("files load anew as closures of their own", function()
	local text = "#!/usr/bin/lua\nlocal n = ...\nreturn function() n = n + 1 return n end, _ENV"
	with_file(text, function(name)
		local a, b = loadfile(name), loadfile(name)
		assert(a ~= b)
		local f, env = a(1)
		local g = b(10)
		eq(f(), 2)
		eq(g(), 11)
		eq(f(), 3)
		eq(env, _G)
		local own = {}
		eq(select(2, loadfile(name, "t", own)(1)), own)
		local i = debug.getinfo(a, "SL")
		assert(i.source == "@" .. name and i.what == "main" and i.activelines[2])
	end)
	with_file("\xEF\xBB\xBFreturn 'bom'", function(name)
		eq(dofile(name), "bom")
	end)
	with_file("x x", function(name)
		local f, m = loadfile(name)
		assert(f == nil and m:find(":1:", 1, true))
	end)
	local f, m = loadfile("/no/such/file")
	assert(f == nil and m:find("cannot open"))
	test.err("No such file", dofile, "/no/such/file")
end)

case("require loads once and explains failures", function()
	with_file("local name, path = ... return {name = name, path = path}", function(name)
		local dir, base = name:match("^(.*/)([^/]*)$")
		local path = package.path
		package.path = dir .. "?"
		local m = require(base)
		eq(m.name, base)
		eq(m.path, name)
		eq(require(base), m)
		eq(package.loaded[base], m)
		package.loaded[base] = nil
		assert(require(base) ~= m)
		package.path = path
	end)
	test.err("module 'no.such.module' not found", require, "no.such.module")
	test.err("no field package.preload['no.such.module']", require, "no.such.module")
	package.preload["made.up"] = function(n, extra)
		return n .. extra
	end
	eq(require("made.up"), "made.up:preload:")
	eq(package.searchpath("a.b", "./?.x;/?/y", ".", "/"), nil)
end)

case("debug information is right", function()
	local function f(a, b, ...)
		local c = 1
		do
			local d = 2
			c = d
		end
		return debug.getinfo(1, "nSlutr"), c, a, b, ...
	end
	local i = f(1, 2)
	assert(i.name == "f" and i.namewhat == "local" and i.what == "Lua")
	assert(i.nparams == 2 and i.isvararg)
	eq(i.currentline, i.linedefined + 6)
	local names = {}
	for n = 1, 10 do
		names[n] = debug.getlocal(f, n)
	end
	eq(table.concat(names, " "), "a b")
	local function g()
		local x, y = 10, 20
		assert(debug.setlocal(1, 1, 11) == "x")
		return x + y
	end
	eq(g(), 31)
	local lines = {}
	debug.sethook(function(_, line)
		lines[#lines + 1] = line
	end, "l")
	local z = 1
	z = z + 1
	debug.sethook()
	assert(#lines >= 3 and lines[2] == lines[1] + 1)
end)

case("hooks see calls and counts", function()
	local calls, returns, counts = 0, 0, 0
	local function leaf()
	end
	debug.sethook(function(event)
		if event == "call" then
			calls = calls + 1
		elseif event == "return" then
			returns = returns + 1
		end
	end, "cr")
	leaf()
	leaf()
	debug.sethook()
	assert(calls >= 2 and returns >= 2)
	debug.sethook(function()
		counts = counts + 1
	end, "", 100)
	for _ = 1, 10000 do
	end
	debug.sethook()
	assert(counts >= 50)
end)

case("a big generated program compiles and runs", function()
	local lines = { "local t = {}" }
	for i = 1, 3000 do
		local line = "t.field%d = function(a) return a + %d, 'text %d', %d.5 end"
		lines[#lines + 1] = line:format(i, i, i, i)
	end
	lines[#lines + 1] = "return t"
	local t = assert(load(table.concat(lines, "\n")))()
	for i = 1, 3000, 77 do
		local a, b, c = t["field" .. i](1)
		assert(a == i + 1 and b == "text " .. i and c == i + 0.5)
	end
end)

case("_ENV is an ordinary variable", function()
	local function f()
		local _ENV = { x = 1 }
		y = x + 1
		return _ENV
	end
	eq(f().y, 2)
	local function g(_ENV)
		return value
	end
	eq(g({ value = "from argument" }), "from argument")
	test.err("attempt to index a nil value (upvalue '_ENV')", function()
		local _ENV = nil
		return (function() return x end)()
	end)
end)

test.run()
