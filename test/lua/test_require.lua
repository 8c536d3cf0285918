-- config: logservice = "snlua"
-- config: logger = "rt_log"
-- require in services: modules whose loading yields.

local skynet = require "skynet"
require "skynet.manager"
local test = require "testlib"
local rt = require "rt"

-- Modules are files of a folder made for this run.
local folder = os.tmpname()
os.remove(folder)
package.path = package.path .. ";" .. folder .. "_?.lua"
local files = {}

local function module(name, text)
	local path = folder .. "_" .. name .. ".lua"
	local f = assert(io.open(path, "w"))
	f:write(text)
	f:close()
	files[#files + 1] = path
end

RUNS = {}

test.case("two tasks share one load of a slow module", function()
	module("slow", [[
		local skynet = require "skynet"
		RUNS.slow = (RUNS.slow or 0) + 1
		skynet.init(function() skynet.sleep(3) end)
		return { name = ... }
	]])
	local a = rt.start(require, "slow")
	local b = rt.start(require, "slow")
	skynet.yield()
	test.eq(package.loaded.slow, nil)
	rt.join(a)
	rt.join(b)
	test.eq(rawequal(a.value, b.value), true)
	test.eq(a.value.name, "slow")
	test.eq(RUNS.slow, 1)
	test.eq(rawequal(require "slow", a.value), true)
end)

test.case("a failing init fails both, and the next require tries again", function()
	module("bad", [[
		local skynet = require "skynet"
		RUNS.bad = (RUNS.bad or 0) + 1
		skynet.init(function() skynet.sleep(1) error "init of bad" end)
		return {}
	]])
	local a = rt.start(require, "bad")
	local b = rt.start(require, "bad")
	rt.join(a)
	rt.join(b)
	test.match(a.value, "init of bad")
	test.match(b.value, "require bad failed")
	test.err(function() require "bad" end, "init of bad")
	test.eq(RUNS.bad, 2)
end)

test.case("nothing becomes true, false stays false", function()
	module("nothing", "RUNS.nothing = (RUNS.nothing or 0) + 1")
	module("falsy", "RUNS.falsy = (RUNS.falsy or 0) + 1 return false")
	for _ = 1, 2 do
		test.eq(require "nothing", true)
		test.eq(require "falsy", false)
	end
	test.eq({ RUNS.nothing, RUNS.falsy }, { 1, 1 })
end)

test.case("circles are reported, in one task and across tasks", function()
	module("ca", "return require 'cb'")
	module("cb", "return require 'ca'")
	test.err(function() require "ca" end, "circular dependency")
	local text = [[
		local skynet = require "skynet"
		skynet.init(function() skynet.sleep(2) require "%s" end)
	]]
	module("da", text:format "db")
	module("db", text:format "da")
	local a, b = rt.start(require, "da"), rt.start(require, "db")
	rt.join(a)
	rt.join(b)
	test.ok(not a.ok and not b.ok)
	test.ok(tostring(a.value):find "circular dependency" or tostring(b.value):find "circular dependency")
end)

test.case("a missing module gives the standard message", function()
	local err = test.err(function() require "rt.no.such" end, "module 'rt.no.such' not found:")
	test.match(err, "no field package.preload%['rt.no.such'%]")
	test.match(err, "no file")
end)

test.case("what this version does not have is told as such", function()
	local cache = require "skynet.codecache"
	if not cache.mode() then
		test.skip "sharing is off"
	end
	for _, mode in ipairs { "ON", "OFF" } do
		cache.mode(mode)
		for _, name in ipairs { "skynet.cluster", "skynet.cluster.core", "skynet.db.redis" } do
			local message = test.err(function() require(name) end, "module '" .. name .. "' not found:")
			test.match(message, "\n\tthis version of the framework does not have '" .. name .. "' yet\n\tno file '")
		end
		test.ok(not test.err(function() require "skynet.clusters" end):find "this version")
	end
	cache.mode "ON"
end)

test.case("a module that does not compile gives its error", function()
	module("syntax", "return =")
	test.err(function() require "syntax" end, "unexpected symbol")
end)

test.case("preload comes before a file of the same name", function()
	module("pre", "return 'file'")
	package.preload.pre = function() return "preloaded" end
	test.eq(require "pre", "preloaded")
end)

test.case("nested modules are complete before the outer one goes on", function()
	module("inner", [[
		local skynet = require "skynet"
		local M = {}
		skynet.init(function() skynet.sleep(1) M.ready = true end)
		return M
	]])
	module("outer", [[
		local skynet = require "skynet"
		local order = { "outer chunk" }
		skynet.init(function()
			order[#order + 1] = "outer init"
			skynet.init(function() order[#order + 1] = "added init" end)
		end)
		order[#order + 1] = tostring(require "inner".ready)
		return order
	]])
	test.eq(require "outer", { "outer chunk", "true", "outer init", "added init" })
end)

test.case("the chunk gets its name and file", function()
	module("names", "return { ... }")
	test.eq(require "names", { "names", folder .. "_names.lua" })
end)

test.case("killing the loader lets others load", function()
	module("killed", [[
		local skynet = require "skynet"
		RUNS.killed = (RUNS.killed or 0) + 1
		if RUNS.killed == 1 then
			skynet.init(function() skynet.wait() end)
		end
		return "loaded"
	]])
	local a = rt.start(require, "killed")
	local b = rt.start(require, "killed")
	skynet.yield()
	skynet.killthread(a.co)
	rt.join(b)
	test.match(b.value, "require killed failed")
	test.eq(require "killed", "loaded")
end)

-- Loading on the main thread of a service; twice, as the second one finds what the
-- first one has found out.
local function in_main_chunk(how, check)
	for _ = 1, 2 do
		local s = skynet.newservice("rt_mainload", how, folder)
		check(skynet.call(s, "lua", "quit"))
	end
end

test.case("the main thread loads as the standard function does", function()
	os.execute("mkdir -p " .. folder)
	local function write(name, text)
		local f = assert(io.open(folder .. "/" .. name .. ".lua", "w"))
		f:write(text)
		f:close()
	end
	write("ml_plain", "return { ... }")
	write("ml_nothing", "")
	write("ml_falsy", "return false")
	write("ml_set", "package.loaded[...] = 'set'")
	write("ml_raises", "error 'raised'")
	write("ml_syntax", "return =")
	write("ml_yields", "coroutine.yield()")
	write("ml_init", [[
		local skynet = require "skynet"
		return function(order)
			skynet.init(function() table.insert(order, "first") end)
		end
	]])
	in_main_chunk("plain", function(r)
		test.eq(r, { name = "ml_plain", file = folder .. "/ml_plain.lua", again = 1, same = true,
			nothing = true, falsy = false, set = "set" })
	end)
end)

test.case("searchers of the service's own are asked in their order", function()
	in_main_chunk("first", function(r)
		test.eq(r, { value = { "mine", "ml_plain", "datum" }, datum = "datum" })
	end)
	in_main_chunk("second", function(r) test.eq(r.value, "second") end)
	in_main_chunk("replaced", function(r) test.eq(r.value, "replaced") end)
	in_main_chunk("none", function(r) test.match(r.value, "'package.searchers' must be a table") end)
	in_main_chunk("preload", function(r)
		test.eq(r, { value = { "preloaded", "ml_plain", ":preload:" }, datum = ":preload:" })
	end)
	in_main_chunk("path", function(r)
		test.match(r.value, "module 'ml_plain' not found:\n\tno field package.preload%['ml_plain'%]\n"
			.. "\tno file './no/ml_plain.lua'")
	end)
end)

test.case("errors on the main thread are the standard ones", function()
	in_main_chunk("broken", function(r)
		test.match(r.raises, "ml_raises.lua:1: raised$")
		test.match(r.syntax, "^error loading module 'ml_syntax' from file '.*unexpected symbol")
		test.match(r.missing, "^module 'ml_missing' not found:\n\tno field package.preload")
		test.match(r.argument, "bad argument #1 to '?.*string expected, got no value")
		test.match(r.yields, "attempt to yield")
	end)
end)

test.case("init functions of the main chunk run in order, once, and may yield", function()
	in_main_chunk("init", function(r)
		test.eq(r.order, { "first", "yields", "last" })
		test.match(r.bad, "bad argument #1 to 'skynet.init' %(function expected, got number%): assertion failed!$")
		test.match(r.twice, "module init functions have run already")
	end)
end)

test.case("a changed module is seen by the next service", function()
	local name = folder .. "/ml_plain.lua"
	for i = 1, 3 do
		local f = assert(io.open(name, "w"))
		f:write("return { 'version " .. i .. "' }")
		f:close()
		local s = skynet.newservice("rt_mainload", "plain", folder)
		test.eq(skynet.call(s, "lua", "quit").name, "version " .. i)
	end
	os.execute("rm -r " .. folder)
end)

test.case("files are removed", function()
	for _, path in ipairs(files) do
		os.remove(path)
	end
end)

test.run()
