-- config: logservice = "snlua"
-- config: logger = "rt_log"
-- Global names and skynet.harbor on a single node.

local skynet = require "skynet"
require "skynet.manager"
local harbor = require "skynet.harbor"
local rt = require "rt"
local test = require "testlib"

test.case("queryname waits for the name", function()
	local handle = skynet.newservice "sv_helper"
	local queries = { rt.start(harbor.queryname, "LATER"), rt.start(harbor.queryname, "LATER") }
	skynet.call(".cslave", "debug", "PING")
	test.eq(queries[1].done, nil)
	skynet.name("LATER", handle)
	for _, query in ipairs(queries) do
		test.wait_for(function() return query.done end)
		test.eq(query.value, handle)
	end
	test.eq(harbor.queryname "LATER", handle)
end)

test.case("queryname of a local name is answered at once", function()
	test.eq(harbor.queryname ".launcher", 3)
	test.eq(harbor.queryname ".no_such_name", nil)
end)

test.case("a call and a send by a name not registered yet are delivered later", function()
	local handle = skynet.newservice "sv_helper"
	local call = rt.start(skynet.call, "SOON", "lua", "echo", "hello")
	skynet.send("SOON", "lua", "echo", "nobody hears")
	skynet.call(".cslave", "debug", "PING")
	test.eq(call.done, nil)
	harbor.globalname("SOON", handle)
	test.wait_for(function() return call.done end)
	test.eq(call.value, "hello")
	test.ok(skynet.call(handle, "debug", "STAT").message >= 4)
	test.eq(skynet.call("SOON", "lua", "echo", 1), 1)
end)

test.case("a name that nobody registers is told once, with what waits for it", function()
	local from, handle = rt.mark(), skynet.newservice "sv_helper"
	local text = "no service has registered the name %s so far, what is sent to it waits"
	skynet.send("TYPO", "lua", "echo", 1)
	skynet.send("TYPO", "lua", "echo", 2)
	local query = rt.start(harbor.queryname, "NOBODY")
	skynet.send("IN_TIME", "lua", "echo", 3)
	harbor.globalname("IN_TIME", handle)
	rt.logged(text:format "TYPO", from)
	rt.logged(text:format "NOBODY", from)
	test.eq(#rt.lines("so far, what is sent to it waits", from), 2)
	harbor.globalname("NOBODY", skynet.self())
	test.eq(select(2, rt.join(query)), skynet.self())
	-- Names that there are now are no longer kept as missing ones.
	local ok, kept = skynet.call(".cslave", "debug", "RUN",
		"for name in pairs(_P.text.awaited) do print(name) end")
	test.eq({ ok, kept }, { true, "TYPO" })
end)

test.case("globalname names the own service unless told otherwise", function()
	harbor.globalname "OWN_NAME"
	test.eq(harbor.queryname "OWN_NAME", skynet.self())
end)

test.case("a taken global name keeps its owner", function()
	local handle = skynet.newservice "sv_helper"
	local from = rt.mark()
	test.eq(skynet.name("OWN_NAME", handle), true)
	test.eq(harbor.queryname "OWN_NAME", skynet.self())
	rt.logged(string.format("global name OWN_NAME is %s's, %s does not get it",
		skynet.address(skynet.self()), skynet.address(handle)), from)
	-- Whoever has to know asks with a call.
	rt.call_failed(skynet.call, ".cslave", "lua", "REGISTER", "OWN_NAME", handle)
	skynet.call(".cslave", "lua", "REGISTER", "NEW_NAME", handle)
	test.eq(harbor.queryname "NEW_NAME", handle)
	skynet.kill(handle)
end)

test.case("global names are checked where they are given", function()
	test.err(function() skynet.register "123" end, "assertion failed!")
	test.err(function() skynet.register "sixteen_bytes_xx" end, "assertion failed!")
	test.err(function() skynet.register ":abc" end)
	skynet.register "fifteen_bytes_x"
	test.eq(harbor.queryname "fifteen_bytes_x", skynet.self())
end)

test.case("no other node: link returns, connect and linkmaster raise", function()
	harbor.link(3)
	test.err(function() harbor.connect(2) end,
		"Can't connect to other harbor in single node mode: call failed")
	test.err(function() harbor.linkmaster() end, "call failed")
	test.err(function() skynet.call(".cslave", "lua", "NOSUCH") end, "call failed")
end)

test.case("handles of other nodes: a call fails, a send is dropped", function()
	test.err(function() skynet.call(0x05000001, "lua", "x") end, "call failed")
	skynet.send(0x05000001, "lua", "x")
	test.eq({ skynet.harbor(0x05000001) }, { 5, true })
	test.eq({ skynet.harbor(skynet.self()) }, { 0, false })
end)

test.run()
