-- skynet.codecache and loadfile. With sharing off the module's functions do
-- nothing and every load reads the file.

local skynet = require "skynet"
local cache = require "skynet.codecache"
local test = require "testlib"

local shares = cache.mode() ~= nil

local function write(name, text)
	local f <close> = assert(io.open(name, "w"))
	f:write(text)
end

local file
local function load_value()
	return assert(loadfile(file))()
end

local function needs_sharing()
	if not shares then
		test.skip("sharing is off")
	end
end

test.case("loadfile is in the module", function()
	needs_sharing()
	test.eq(cache.loadfile, loadfile)
end)

test.case("a changed file gives the new code, a file that did not change the same", function()
	file = os.tmpname()
	write(file, "return 1")
	local old = assert(loadfile(file))
	test.eq(load_value(), 1)
	write(file, "return 2")
	test.eq(load_value(), 2)
	test.eq(old(), 1)
	write(file, "return 'longer'")
	test.eq(load_value(), "longer")
	if shares then
		test.eq(cache.mode(), "ON")
		test.eq(cache.users(file), 1)
		cache.clear()
		test.eq(cache.users(file), nil)
		test.eq(load_value(), "longer")
	end
end)

test.case("mode OFF does not touch the cache, EXIST stores nothing", function()
	needs_sharing()
	cache.clear()
	for _, mode in ipairs { "OFF", "EXIST" } do
		cache.mode(mode)
		test.eq(cache.mode(), mode)
		test.eq(load_value(), "longer")
		test.eq(cache.users(file), nil)
	end
	cache.mode "ON"
	local keep = assert(loadfile(file))
	test.eq(cache.users(file), 1)
	cache.mode "EXIST"
	test.eq(load_value(), "longer")
	write(file, "return 3")
	test.eq(load_value(), 3)
	cache.mode "ON"
	test.eq(keep(), "longer")
	test.eq(load_value(), 3)
end)

test.case("one file can be forgotten", function()
	needs_sharing()
	test.eq(cache.invalidate(file), true)
	test.eq(cache.invalidate(file), false)
	test.eq(cache.users(file), nil)
	test.eq(load_value(), 3)
	os.remove(file)
	test.eq(load_value(), 3)
	cache.invalidate(file)
	test.eq(loadfile(file), nil)
end)

test.case("an unknown mode is an argument error", function()
	needs_sharing()
	test.err(function() cache.mode "MAYBE" end, "invalid option")
	test.eq(cache.mode(), "ON")
end)

test.case("each load has upvalues and an environment of its own", function()
	local name = os.tmpname()
	write(name, "local n = 0 return function() n = n + 1 return n, marker end")
	local a, b = assert(loadfile(name))(), assert(loadfile(name))()
	test.ne(a, b)
	a()
	test.eq({ a() }, { 2, nil })
	test.eq({ b() }, { 1, nil })
	local c = assert(loadfile(name, "t", { marker = "env" }))()
	test.eq({ c() }, { 1, "env" })
	os.remove(name)
end)

test.case("a file that fails to load is tried again", function()
	local name = os.tmpname()
	write(name, "return (")
	local f, msg = loadfile(name)
	test.eq(f, nil)
	test.ok(msg)
	write(name, "return 'good'")
	test.eq(assert(loadfile(name))(), "good")
	os.remove(name)
	test.eq(loadfile(name .. ".none"), nil)
end)

test.case("services share the code of a file, and see its changes", function()
	local name = os.tmpname()
	write(name, "return 'first'")
	local mine = assert(loadfile(name))
	local helper = skynet.newservice("core_loader")
	test.eq(skynet.call(helper, "lua", name, "ON"), "first")
	if shares then
		test.eq(cache.users(name), 2)
	end
	write(name, "return 'second'")
	test.eq(skynet.call(helper, "lua", name, "OFF"), "second")
	test.eq(skynet.call(helper, "lua", name, "EXIST"), "second")
	test.eq(skynet.call(helper, "lua", name, "ON"), "second")
	test.eq(mine(), "first")
	test.eq(assert(loadfile(name))(), "second")
	skynet.send(helper, "lua", "quit")
	os.remove(name)
end)

test.case("where a file was found is remembered until the cache is cleared", function()
	needs_sharing()
	local dir = os.tmpname()
	os.remove(dir)
	os.execute("mkdir -p " .. dir .. "/a " .. dir .. "/b")
	local path = dir .. "/a/?.lua;" .. dir .. "/b/?.lua"
	local first, second = dir .. "/a/some/mod.lua", dir .. "/b/some/mod.lua"
	os.execute("mkdir -p " .. dir .. "/a/some " .. dir .. "/b/some")
	test.eq(package.searchpath("some.mod", path), nil)
	write(second, "return 'second'")
	test.eq(package.searchpath("some.mod", path), second)
	write(first, "return 'first'")
	test.eq(package.searchpath("some.mod", path), second)
	cache.mode "OFF"
	test.eq(package.searchpath("some.mod", path), first)
	cache.mode "EXIST"
	test.eq(package.searchpath("some.mod", path), second)
	cache.clear()
	test.eq(package.searchpath("some.mod", path), first)
	os.remove(first)
	test.eq(package.searchpath("some.mod", path), second)
	cache.mode "ON"
	os.execute("rm -r " .. dir)
end)

test.case("searchpath keeps the meaning of its arguments", function()
	local dir = os.tmpname()
	os.remove(dir)
	os.execute("mkdir -p " .. dir)
	write(dir .. "/x.y.lua", "")
	write(dir .. "/x-y.lua", "")
	local path = dir .. "/?.lua"
	for _ = 1, 2 do
		test.eq(package.searchpath("x.y", path, ""), dir .. "/x.y.lua")
		test.eq(package.searchpath("x.y", path, ".", "-"), dir .. "/x-y.lua")
		test.eq(package.searchpath("x.y", path), nil)
		local _, message = package.searchpath("x.y", path)
		test.match(message, "x/y%.lua")
	end
	test.err(function() package.searchpath("x") end, "#2")
	os.execute("rm -r " .. dir)
end)

test.case("a module that is nowhere is reported as in standard Lua", function()
	local message = test.err(function() require "no.such.module" end)
	test.match(message, "module 'no.such.module' not found:")
	test.match(message, "no field package.preload%['no.such.module'%]")
	test.match(message, "no file '[^']*no/such/module%.lua'")
	test.match(message, "no file '[^']*no/such/module%.so'")
	test.match(message, "no file '[^']*/no%.so'")
end)

test.run()
