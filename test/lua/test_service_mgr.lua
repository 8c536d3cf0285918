-- Unique services: one launch per name, waiting, failures, cycles, LIST.
-- config: logservice = "snlua"
-- config: logger = "rt_log"

local skynet = require "skynet"
require "skynet.manager"
local core = require "skynet.core"
local rt = require "rt"
local test = require "testlib"

local function manager(...)
	return skynet.call(".service", "lua", ...)
end

test.case("uniqueservice launches once", function()
	local handle = skynet.uniqueservice("sv_helper", "plain", "first")
	test.eq(skynet.uniqueservice("sv_helper", "plain", "second"), handle)
	test.eq(skynet.call(handle, "lua", "words"), { "plain", "first" })
	test.eq(skynet.queryservice "sv_helper", handle)
	test.eq(manager("LIST").sv_helper, skynet.address(handle))
end)

test.case("the global registry is another one", function()
	local handle = skynet.uniqueservice(true, "sv_helper")
	test.ne(handle, skynet.uniqueservice "sv_helper")
	test.eq(skynet.queryservice(true, "sv_helper"), handle)
	test.eq(manager("LIST")["@sv_helper"], skynet.address(handle))
end)

test.case("x and @x are different instances of the script x", function()
	test.eq(skynet.uniqueservice "@sv_helper", skynet.uniqueservice(true, "sv_helper"))
end)

test.case("queryservice waits for the launch", function()
	local first = rt.start(skynet.queryservice, "sv_later")
	local second = rt.start(skynet.queryservice, "sv_later")
	test.wait_for(function()
		local text = manager("LIST").sv_later
		return text and select(2, text:gsub(skynet.address(skynet.self()), "")) == 2
	end)
	test.match(manager("LIST").sv_later, "^Querying:\n:%x+ ")
	test.eq(first.done, nil)
	local handle = skynet.uniqueservice "sv_later"
	test.eq(select(2, rt.join(first)), handle)
	test.eq(select(2, rt.join(second)), handle)
end)

test.case("concurrent launches of one name give one service", function()
	local results = {}
	for i = 1, 5 do
		results[i] = rt.start(skynet.uniqueservice, "@sv_later")
	end
	local _, handle = rt.join(results[1])
	for i = 2, 5 do
		test.eq(select(2, rt.join(results[i])), handle)
	end
end)

test.case("a failed launch fails all who wait, is listed, and may be retried", function()
	local results = {}
	for i = 1, 3 do
		results[i] = rt.start(skynet.uniqueservice, "sv_flaky")
	end
	for i = 1, 3 do
		local ok, err = rt.join(results[i])
		test.eq(ok, false)
		test.match(err, "call failed")
	end
	test.match(manager("LIST").sv_flaky, "^Error: .*call failed$")
	test.err(function() skynet.queryservice "sv_flaky" end, "call failed")
	skynet.setenv("sv_flaky_works", "yes")
	local handle = skynet.uniqueservice "sv_flaky"
	test.eq(skynet.queryservice "sv_flaky", handle)
	test.eq(manager("LIST").sv_flaky, skynet.address(handle))
end)

test.case("a unique service that exits in its start gives everybody the same error", function()
	local results = {}
	for i = 1, 3 do
		results[i] = rt.start(skynet.uniqueservice, "@sv_helper_exits")
	end
	for i = 1, 3 do
		local ok, err = rt.join(results[i])
		test.eq(ok, false)
		test.match(err, "exited during its start")
	end
end)

test.case("the handle of a dead service is not given out", function()
	local handle = skynet.uniqueservice "sv_later"
	core.command("KILL", skynet.address(handle))
	test.wait_for(function() return manager("LIST").sv_later == nil end)
	local again = skynet.uniqueservice "sv_later"
	test.ne(again, handle)
	test.eq(skynet.queryservice "sv_later", again)
end)

test.case("queryservice of a dead service waits for the next launch", function()
	local handle = skynet.uniqueservice "sv_later"
	core.command("KILL", skynet.address(handle))
	test.wait_for(function() return manager("LIST").sv_later == nil end)
	local query = rt.start(skynet.queryservice, "sv_later")
	skynet.sleep(1)
	test.eq(query.done, nil)
	local again = skynet.uniqueservice "sv_later"
	test.eq(select(2, rt.join(query)), again)
end)

test.case("a service that asks for itself while it starts gets an error", function()
	local handle = skynet.uniqueservice("sv_cycle", "sv_cycle")
	test.match(skynet.call(handle, "lua"), "wait for each other: sv_cycle %-> sv_cycle")
end)

test.case("two services that wait for each other in their start are told", function()
	local first = rt.start(skynet.uniqueservice, "@sv_cycle", "sv_cycle2")
	local _, handle = rt.join(first)
	local other = skynet.queryservice "sv_cycle2"
	local mine, its = skynet.call(handle, "lua"), skynet.call(other, "lua")
	local text = tostring(mine) .. tostring(its)
	test.match(text, "wait for each other")
end)

test.case("LIST shows where an unfinished launch hangs", function()
	local launch = rt.start(skynet.uniqueservice, "@sv_slow")
	local text
	-- Its trace is there once it waits, and has come in time.
	test.wait_for(function()
		text = manager("LIST")["@sv_slow"]
		return text and text:find "sv_slow%.lua"
	end)
	test.match(text, "\nLaunching from :%x+\n")
	local handle = text:match "^Init as :(%x+)"
	skynet.send(tonumber(handle, 16), "lua", "go")
	test.eq(rt.join(launch), true)
end)

test.case("unknown and missing commands are answered", function()
	test.eq(table.pack(manager "nosuch"), { nil, "Invalid command nosuch", n = 2 })
	test.eq(table.pack(manager "launch"), { nil, "Invalid command launch", n = 2 })
	test.eq((select(2, manager())), "Invalid command nil")
	test.eq((manager("LAUNCH", {})), nil)
end)

test.case("the service manager is there once", function()
	local mark = rt.mark()
	test.eq(skynet.newservice "service_mgr", nil)
	rt.logged("%.service is already register by :00000007$", mark)
	test.eq(skynet.localname ".service", 7)
	test.eq(require "skynet.harbor".queryname "SERVICE", 7)
end)

test.case("a reporting manager's entries are listed with its node", function()
	local slave = skynet.newservice("sv_manager")
	skynet.call(slave, "lua", "report")
	test.eq(manager("LIST")["x@0"], "some text")
	skynet.kill(slave)
	test.eq(manager("LIST")["x@0"], nil)
end)

test.run()
