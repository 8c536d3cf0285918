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

test.case("a file is read once until the cache is cleared", function()
	needs_sharing()
	file = os.tmpname()
	test.eq(cache.mode(), "ON")
	write(file, "return 1")
	test.eq(load_value(), 1)
	write(file, "return 2")
	test.eq(load_value(), 1)
	cache.clear()
	test.eq(load_value(), 2)
end)

test.case("mode OFF always reads, and does not touch the cache", function()
	needs_sharing()
	cache.mode "OFF"
	write(file, "return 3")
	test.eq(load_value(), 3)
	cache.mode "ON"
	test.eq(load_value(), 2)
end)

test.case("mode EXIST uses what is there and stores nothing", function()
	needs_sharing()
	cache.mode "EXIST"
	test.eq(cache.mode(), "EXIST")
	test.eq(load_value(), 2)
	cache.clear()
	test.eq(load_value(), 3)
	write(file, "return 4")
	test.eq(load_value(), 4)
	cache.mode "ON"
	test.eq(load_value(), 4)
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

test.case("a second service gets the code of the first", function()
	needs_sharing()
	local name = os.tmpname()
	write(name, "return 'first'")
	assert(loadfile(name))
	write(name, "return 'second'")
	local helper = skynet.newservice("core_loader")
	test.eq(skynet.call(helper, "lua", name, "ON"), "first")
	test.eq(skynet.call(helper, "lua", name, "OFF"), "second")
	cache.clear()
	test.eq(skynet.call(helper, "lua", name, "ON"), "second")
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
