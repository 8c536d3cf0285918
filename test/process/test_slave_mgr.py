"""The service manager of a node that is not the master: global services are
asked from SERVICE, which a script plays here."""

from harness import Node

# A bootstrap of its own: no key `standalone`, and the fake master first.
BOOT = """
local skynet = require "skynet"
require "skynet.manager"
skynet.start(function()
	skynet.name(".launcher", skynet.launch("snlua", "launcher"))
	skynet.name(".cslave", skynet.newservice "cdummy")
	skynet.name("SERVICE", skynet.newservice "master")
	skynet.error("manager", skynet.address(skynet.newservice "service_mgr"))
	local x = skynet.uniqueservice(true, "x", 1)
	skynet.error("same", x == skynet.uniqueservice(true, "x"), x == skynet.queryservice(true, "x"))
	skynet.error("local differs", x ~= skynet.uniqueservice "x")
	skynet.error("y", skynet.queryservice(true, "y") == x)
	skynet.error("bad", pcall(skynet.uniqueservice, true, "bad"))
	local list = skynet.call(".service", "lua", "LIST")
	skynet.error("list", list.x, list["@x"], list["@y"])
	skynet.error "done"
end)
"""
MASTER = """
local skynet = require "skynet"
local handle
skynet.start(function()
	handle = skynet.newservice "x"
	skynet.dispatch("lua", function(_, _, cmd, name, ...)
		skynet.error("asked", cmd, name, ...)
		if name == "@bad" then
			skynet.retpack(nil, "the master says no")
		else
			skynet.retpack(cmd == "REPORT" or handle)
		end
	end)
end)
"""


def test_global_services_are_asked_from_the_master_once():
    x = 'require "skynet".start(function() end)'
    with Node('bootstrap = "snlua boot"\n',
              files={"svc/boot.lua": BOOT, "svc/master.lua": MASTER, "svc/x.lua": x}) as n:
        n.wait_for("done$")
        n.wait_for(r"asked REPORT \d+$")
        n.wait_for("asked LAUNCH @x 1$")
        n.wait_for("same true true$")
        n.wait_for("local differs true$")
        n.wait_for("asked QUERY @y$")
        n.wait_for("y true$")
        n.wait_for("bad false .*the master says no")
        n.wait_for(r"list (:\w+) (?!\1)(:\w+) \2$")
        assert n.text.count("asked LAUNCH @x") == 1, n.text
