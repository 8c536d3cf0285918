-- What a single node looks like after its bootstrap.
-- config: some_key = "a value"

local skynet = require "skynet"
local test = require "testlib"

test.case("the system services have their handles and names", function()
	test.eq(skynet.localname ".logger", 1)
	test.eq(skynet.localname ".launcher", 3)
	test.eq(skynet.localname ".cslave", 4)
	test.eq(skynet.localname ".service", 7)
	local harbor = require "skynet.harbor"
	test.eq(harbor.queryname "DATACENTER", 6)
	test.eq(harbor.queryname "SERVICE", 7)
end)

test.case("a single node is stand-alone", function()
	test.eq(skynet.getenv "standalone", "true")
	test.eq(skynet.getenv "harbor", "0")
	test.eq(skynet.getenv "some_key", "a value")
end)

test.case("bootstrap leaves when its work is done", function()
	test.wait_for(function()
		return not pcall(skynet.call, 2, "debug", "PING")
	end)
end)

test.case("launcher and data centre serve at once", function()
	local list = skynet.call(".launcher", "lua", "LIST")
	test.eq(list[":00000004"], "snlua cdummy")
	test.eq(list[":00000006"], "snlua datacenterd")
	test.eq(list[":00000007"], "snlua service_mgr")
	test.eq(list[skynet.address(skynet.self())], "snlua test_bootstrap")
end)

test.run()
