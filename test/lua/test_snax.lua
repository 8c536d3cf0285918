-- snax: interfaces, objects, life cycle, hotfix, profile.
-- config: logservice = "snlua"
-- config: logger = "rt_log"

local skynet = require "skynet"
local snax = require "skynet.snax"
local rt = require "rt"
local test = require "testlib"

local notices = {}
skynet.dispatch("lua", function(_, _, text)
	notices[#notices + 1] = text
end)

test.case("the interface numbers the methods in the order of definition", function()
	local i = snax.interface "snx"
	test.eq(i.name, "snx")
	test.eq(i.system, { init = 1, exit = 2, hotfix = 3, profile = 4 })
	test.eq(i.accept.post, 5)
	test.eq(i.response.get, 6)
	test.ok(i.accept.twin ~= i.response.twin)
	test.eq(snax.interface "snx", i)
end)

test.case("types don't see each other's globals, nor leave any here", function()
	snax.interface "snx"
	test.ok(snax.interface "snx2".response.locked)
	test.eq(rawget(_G, "helper_value"), nil)
	test.eq(rawget(_G, "accept"), nil)
end)

test.case("bad type files are refused with the reason", function()
	test.err(function() snax.interface "snaxbad/number" end, "accept method only support string")
	test.err(function() snax.interface "snaxbad/value" end, "accept.x must be function")
	test.err(function() snax.interface "snaxbad/twice" end, "accept.x duplicate definition")
	test.err(function() snax.interface "snaxbad/init" end, "init must be a function")
	test.err(function() snax.interface "no_such_type" end, "no_such_type")
end)

test.case("newservice runs init with its arguments and gives an object", function()
	local s = snax.newservice("snx", 1, nil, "a")
	test.eq(s.req.started(), { 1, nil, "a", n = 3 })
	test.eq(s.type, "snx")
	test.eq(tostring(s), string.format("[snx:%x]", s.handle))
	test.eq(skynet.call(".launcher", "lua", "LIST")[skynet.address(s.handle)], "snlua snaxd snx")
	snax.kill(s)
end)

test.case("post sends, req calls, all values travel", function()
	local s = snax.newservice "snx"
	test.eq(select("#", s.post.post(1)), 0)
	s.post.post "two"
	test.eq(s.req.posts(), { 1, "two" })
	test.eq(table.pack(s.req.get("x", nil, "y", nil)), { "x", nil, "y", nil, n = 4 })
	s.post.twin()
	test.eq(s.req.twin(), "twin")
	test.eq(s.req.count(), 101)
	snax.kill(s)
end)

test.case("an unknown method is refused when it is named", function()
	local s = snax.newservice "snx"
	test.err(function() return s.post.nosuch end, "post snx:nosuch no exist")
	test.err(function() return s.req.nosuch end, "request snx:nosuch no exist")
	test.err(function() return s.post.get end, "post snx:get no exist")
	test.err(function() skynet.call(s.handle, "snax", 99) end, "call failed")
	snax.kill(s)
end)

test.case("bind gives the same object; another type is refused", function()
	local s = snax.newservice "snx"
	test.ok(snax.bind(s.handle, "snx") == s)
	test.err(function() snax.bind(s.handle, "snx2") end, "assertion failed!")
	snax.kill(s)
end)

test.case("inside, the service knows itself and its folder", function()
	local s = snax.newservice "snx"
	local handle, name, path, value = s.req.self()
	test.eq(handle, s.handle)
	test.eq(name, "snx")
	test.match(path, "test/lua/service/snx/$")
	test.eq(value, 11)
	snax.kill(s)
end)

test.case("an erring method fails its caller and is still counted", function()
	local s = snax.newservice "snx"
	test.err(function() s.req.boom() end, "call failed")
	test.err(function() s.req.boom() end, "call failed")
	test.eq(snax.profile_info(s).boom.count, 2)
	test.eq(s.req.twin(), "twin")
	snax.kill(s)
end)

test.case("the profile counts CPU time, not waiting", function()
	local s = snax.newservice "snx"
	s.req.sleep(30)
	s.req.twin()
	local profile = snax.profile_info(s)
	test.eq(profile.sleep.count, 1)
	test.ok(profile.sleep.time < 0.3)
	test.eq(profile.twin.count, 1)
	test.eq(skynet.call(s.handle, "debug", "INFO").twin.count, 1)
	-- Methods of one name in both groups share it.
	s.post.twin()
	test.eq(snax.profile_info(s).twin.count, 2)
	snax.kill(s)
end)

-- A call that finds the service still dying fails in another way.
local function wait_until_gone(s)
	test.wait_for(function()
		local ok, err = pcall(s.req.twin)
		return not ok and err:find("call to invalid address", 1, true)
	end)
end

test.case("kill runs exit, then the service is gone", function()
	local s = snax.newservice "snx"
	test.eq(select("#", snax.kill(s, skynet.self())), 0)
	test.wait_for(function() return notices[1] end)
	test.eq(notices, { "snx exits" })
	wait_until_gone(s)
end)

test.case("an erring exit leaves the service running", function()
	local s = snax.newservice "snx"
	test.err(function() snax.kill(s, "refuse") end, "call failed")
	test.eq(s.req.twin(), "twin")
	snax.kill(s)
end)

test.case("a service ends itself with snax.exit", function()
	local s = snax.newservice "snx"
	test.err(function() s.req.leave() end, "call failed")
	wait_until_gone(s)
end)

test.case("a failed init fails newservice and leaves no service behind", function()
	test.err(function() snax.newservice("snx", "fail") end, "call failed")
	-- Those of the cases before may still be ending.
	test.wait_for(function()
		for _, description in pairs(skynet.call(".launcher", "lua", "LIST")) do
			if description == "snlua snaxd snx" then
				return false
			end
		end
		return true
	end)
end)

test.case("methods are refused before init, and init runs once", function()
	local handle = skynet.newservice("snaxd", "snx")
	local s = snax.bind(handle, "snx")
	test.err(function() s.req.twin() end, "Init first: call failed")
	test.err(function() snax.kill(s) end, "Never init: call failed")
	skynet.call(handle, "snax", 1)
	test.eq(s.req.twin(), "twin")
	test.err(function() skynet.call(handle, "snax", 1) end, "Already init: call failed")
	test.eq(s.req.twin(), "twin")
	snax.kill(s)
end)

test.case("unique and global services are one each per type", function()
	local query = {}
	skynet.fork(function() query.object = snax.queryservice "snx" end)
	skynet.sleep(1)
	test.eq(query.object, nil)
	local s = snax.uniqueservice("snx", "u")
	test.wait_for(function() return query.object end)
	test.ok(query.object == s)
	test.ok(snax.uniqueservice "snx" == s)
	local g = snax.globalservice "snx"
	test.ne(g.handle, s.handle)
	test.ok(snax.queryglobal "snx" == g)
	local list = skynet.call("SERVICE", "lua", "LIST")
	test.eq(list["snaxd.snx"], skynet.address(s.handle))
	test.eq(list["@snaxd.snx"], skynet.address(g.handle))
	test.eq(s.req.started(), { "u", n = 1 })
	snax.kill(s)
	snax.kill(g)
end)

test.case("a type whose top level uses modules works on both sides", function()
	local s = snax.newservice "snx2"
	test.eq(s.req.locked(5), 5)
	snax.kill(s)
end)

test.case("enablecluster accepts the same messages as class lua", function()
	local s = snax.newservice "snx"
	local id = snax.interface "snx".response.twin
	test.err(function() skynet.call(s.handle, "lua", id) end, "call failed")
	s.req.cluster()
	test.eq(skynet.call(s.handle, "lua", id), "twin")
	snax.kill(s)
end)

test.case("a hotfix reaches the live variables and returns what it likes", function()
	local s = snax.newservice "snx"
	s.req.get()
	local old, extra = snax.hotfix(s, [[
		local cnt
		function response.get(...)
			cnt = cnt + 1000
			return cnt
		end
		function hotfix(...)
			return cnt, ...
		end
	]], "extra")
	test.eq(old, 1)
	test.eq(extra, "extra")
	test.eq(s.req.get(), 1001)
	test.eq(s.req.count(), 1001)
	snax.kill(s)
end)

test.case("a hotfix reaches variables through local functions, on both sides", function()
	local s = snax.newservice "snx"
	snax.hotfix(s, [[
		local cnt
		local fresh = 5
		local function helper(n)
			cnt = cnt + n * 2
			return cnt + fresh
		end
		function response.add(n)
			return helper(n)
		end
	]])
	test.eq(s.req.add(10), 25)
	test.eq(s.req.count(), 20)
	snax.kill(s)
end)

test.case("a patch sees its own globals and the service's", function()
	local s = snax.newservice "snx"
	snax.hotfix(s, [[
		function patch_helper() return "patched " .. flag end
		function response.flag()
			flag = "set by patch"
			return patch_helper()
		end
	]])
	test.eq(s.req.flag(), "patched set by patch")
	snax.kill(s)
end)

test.case("a patch that does not fit, or fails, changes nothing", function()
	local s = snax.newservice "snx"
	local good = "function response.twin() return 'new' end\n"
	test.err(function()
		snax.hotfix(s, good .. "function response.newone() end")
	end, "Patch mismatch response.newone")
	test.err(function() snax.hotfix(s, good .. "x =") end, "patch")
	test.err(function() snax.hotfix(s, good .. "error 'at load'") end, "at load")
	test.err(function()
		snax.hotfix(s, good .. "function hotfix() error 'at the end' end")
	end, "at the end")
	test.eq(s.req.twin(), "twin")
	snax.kill(s)
end)

test.case("a local that could be either of two variables is refused", function()
	local s = snax.newservice "snx2"
	test.err(function()
		snax.hotfix(s, "local same function response.one() return same end")
	end, "ambiguity local value same")
	test.eq(s.req.one(), 1)
	snax.kill(s)
end)

test.case("two hotfixes in a row build on each other", function()
	local s = snax.newservice "snx"
	local patch = [[
		local cnt
		function response.get() cnt = cnt + %d return cnt end
	]]
	snax.hotfix(s, patch:format(10))
	test.eq(s.req.get(), 10)
	snax.hotfix(s, patch:format(100))
	test.eq(s.req.get(), 110)
	snax.kill(s)
end)

test.case("printf formats into the log", function()
	local mark = rt.mark()
	snax.printf("%s is %d", "this", 1)
	test.eq(rt.lines("this is", mark), { ("[%s] this is 1"):format(skynet.address(skynet.self())) })
end)

test.case("rawnewservice gives the handle of an initialised service", function()
	local handle = snax.rawnewservice("snx", 1, nil, "a")
	test.eq(math.type(handle), "integer")
	local s = snax.bind(handle, "snx")
	test.eq(s.handle, handle)
	snax.kill(s)
end)

test.case("the old module names lead to the new modules", function()
	-- Those of modules that a later release brings are not here yet.
	local names = {
		"crypt", "datacenter", "memory", "mqueue", "multicast", "profile", "sharedata", "sharemap",
		"snax", "stm",
	}
	for _, name in ipairs(names) do
		test.ok(require(name) == require("skynet." .. name), name)
	end
	-- The socket modules take the service's socket messages: only one of them.
	for _, name in ipairs { "netpack", "socketdriver" } do
		test.ok(require(name) == require("skynet." .. name), name)
	end
	test.ok(require "socket" == require "skynet.socket")
end)

test.run()
