-- config: logservice = "snlua"
-- config: logger = "rt_log"
-- skynet.manager: launching, naming, ending, forwarding.

local skynet = require "skynet"
local manager = require "skynet.manager"
local test = require "testlib"
local rt = require "rt"

test.case("the module is the skynet table", function()
	test.eq(rawequal(manager, skynet), true)
end)

test.case("requiring the module adds its functions, and nothing else does", function()
	local s = skynet.newservice "core_libs"
	local r = skynet.call(s, "lua", "manager")
	test.match(r.where, "Invalid name")
	r.where = nil
	test.eq(r, { is_skynet = true, launch = "function", same = true, listed = "function" })
	skynet.send(s, "lua", "quit")
end)

test.case("launch creates services that the launcher does not know", function()
	test.eq(select("#", skynet.launch "nosuch_module"), 0)
	local h = skynet.launch("snlua", "rt_agent", 1)
	test.ok(h)
	test.wait_for(function() return pcall(rt.run, h, "skynet.ret()") end)
	test.eq(skynet.call(".launcher", "lua", "LIST")[skynet.address(h)], nil)
	skynet.kill(h)
end)

test.case("register and name tell whether they succeeded", function()
	local agent = rt.agent()
	test.eq(skynet.register ".tm_self", true)
	test.eq(skynet.localname ".tm_self", skynet.self())
	test.eq(rt.run(agent, "skynet.retpack(skynet.register '.tm_self')"), false)
	test.eq(skynet.localname ".tm_self", skynet.self())
	test.eq(skynet.name(".tm_agent", agent), true)
	test.eq(skynet.localname ".tm_agent", agent)
	test.eq(skynet.name(".tm_agent", skynet.self()), false)
	test.eq(skynet.name(".tm_text", skynet.address(agent)), true)
	test.eq(skynet.name(".tm_nobody", 0xffff), false)
	test.eq(skynet.localname ".tm_nobody", nil)
	skynet.kill(agent)
	rt.wait_gone(agent)
	test.eq(skynet.localname ".tm_agent", nil)
end)

test.case("global names are checked", function()
	test.err(function() skynet.register "123" end, "assertion failed!")
	test.err(function() skynet.register "sixteen bytes ab" end, "assertion failed!")
	test.err(function() skynet.register ":abc" end)
	test.err(function() skynet.name(":abc", 5) end)
	test.err(function() skynet.name("0x10", 5) end, "assertion failed!")
	skynet.register "fifteen_bytes_x"
	test.eq(require "skynet.harbor".queryname "fifteen_bytes_x", skynet.self())
end)

test.case("sends and calls to a global name wait until it is known", function()
	local agent = rt.agent()
	skynet.send("TM_LATER", "lua", "SHARED.sent = true")
	local r = rt.start(rt.run, "TM_LATER", "skynet.retpack(SHARED.sent)")
	skynet.yield()
	test.ok(not r.done)
	skynet.name("TM_LATER", agent)
	test.eq({ rt.join(r) }, { true, true })
	skynet.kill(agent)
end)

test.case("kill by handle, text and name", function()
	local from = rt.mark()
	local list = { rt.agent(), rt.agent(), rt.agent() }
	skynet.name(".tm_kill", list[3])
	skynet.kill(list[1])
	skynet.kill(skynet.address(list[2]))
	skynet.kill ".tm_kill"
	for _, h in ipairs(list) do
		rt.wait_gone(h)
		test.wait_for(function()
			return skynet.call(".launcher", "lua", "LIST")[skynet.address(h)] == nil
		end)
	end
	skynet.kill(0xfffe)
	skynet.kill ".nobody"
	skynet.kill "nonsense"
	rt.logged("error: Can't convert nonsense to handle", from)
end)

test.case("a kill during the launch fails newservice", function()
	local r = rt.start(skynet.newservice, "rt_start", "suspended")
	local h
	test.wait_for(function()
		h = skynet.localname ".rt_start_suspended"
		return h
	end)
	skynet.kill(h)
	local ok, err = rt.join(r)
	test.eq(ok, false)
	test.match(err, "call failed$")
end)

test.case("forward_type hands messages of a type over with their memory", function()
	local h = skynet.newservice("rt_forward", "forward")
	test.eq({ skynet.call(h, "lua", 1, "two") }, { 1, "two" })
	test.eq(select("#", skynet.call(h, "debug", "PING")), 0)
	skynet.register_protocol { name = "forward", id = 20, pack = skynet.pack, unpack = skynet.unpack }
	-- An error in the forwarding service is reported as usual.
	local from = rt.mark()
	rt.call_failed(skynet.call, h, "debug", "nosuch")
	rt.logged("lua call", from)
	skynet.send(h, "debug", "EXIT")
	rt.wait_gone(h)
end)

test.case("filter sees every message first and may change it", function()
	local h = skynet.newservice("rt_forward", "filter")
	test.eq({ skynet.call(h, "lua", "hello", 1) }, { "hello", 1 })
	local seen = skynet.call(h, "lua", "seen")
	test.ok(seen[skynet.PTYPE_LUA] >= 2)
	local from = rt.mark()
	rt.call_failed(skynet.call, h, "lua", "fail")
	rt.logged("as asked", from)
	rt.call_failed(skynet.call, h, "debug", "EXIT")
	rt.wait_gone(h)
end)

test.run()
