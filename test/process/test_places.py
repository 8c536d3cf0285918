"""Errors that reach a user through the framework name his own line, not the framework's."""

import re

from harness import Node

USER = """
local skynet = require "skynet"
local socket = require "skynet.socket"
local function tell(line, f, ...)
	local _, message = pcall(f, ...)
	skynet.error(line, message)
end
skynet.start(function()
	tell("service", function()
		local s = skynet.newservice "refuses"
		return s
	end)
	tell("unique", function()
		local s = skynet.uniqueservice "refuses"
		return s
	end)
	tell("nameless", function()
		local s = skynet.uniqueservice()
		return s
	end)
	tell("module", function()
		local s = skynet.newservice "lacks"
		return s
	end)
	tell("data", function()
		local v = require "skynet.sharedata".query "nothing"
		return v
	end)
	tell("listen", function()
		local id = socket.listen("10.9.8.7", 1)
		return id
	end)
	tell("gone", function()
		require "skynet.manager"
		local snax = require "skynet.snax"
		local s = snax.newservice "object"
		skynet.kill(s.handle)
		local v = s.req.echo()
		return v
	end)
	skynet.error "all told"
end)
"""
FILES = {
    "svc/user.lua": USER,
    "svc/refuses.lua": "local skynet = require 'skynet'\nskynet.start(function() error 'my reason' end)\n",
    "svc/object.lua": "function response.echo() end\n",
    "svc/lacks.lua": "require 'no.such.module'\n",
}


def line_of(text):
    return next(n for n, line in enumerate(USER.split("\n"), 1) if text in line)


def test_the_place_is_the_users():
    with Node('start = "user"\nsnax = "./svc/?.lua"', files=FILES) as n:
        n.wait_for("all told")
        for name, call, reason in (
                ("service", 'newservice "refuses"', r"\./svc/refuses\.lua:2: my reason: call failed"),
                ("unique", 'uniqueservice "refuses"', r"\./svc/refuses\.lua:2: my reason: call failed"),
                ("nameless", "uniqueservice()", "service name must be a string, got nil"),
                ("module", 'newservice "lacks"', "module 'no.such.module' not found: call failed"),
                ("data", 'query "nothing"', "no shared data 'nothing': call failed"),
                ("gone", "s.req.echo()", r"call to invalid address :[0-9a-f]{8}"),
                ("listen", "socket.listen", "Listen error: 10.9.8.7:1: Cannot assign requested address")):
            want = rf"\] {name} \./svc/user\.lua:{line_of(call)}: {reason}$"
            assert re.search(want, n.text, re.M), (want, n.text)


def test_what_waits_too_early_is_placed_and_told_where_it_may():
    files = {"svc/early.lua": "local skynet = require 'skynet'\nlocal s = skynet.newservice 'x'\nskynet.start(print)\n"}
    with Node('start = "early"', files=files) as n:
        n.wait_for(r"lua loader error : \./svc/early\.lua:2: attempt to yield from outside a coroutine "
                   r"\(skynet\.call\), wait inside skynet\.start$")


def test_the_module_with_the_missing_function_is_named():
    script = """
local skynet = require "skynet"
skynet.start(function()
	skynet.fork(function() skynet.kill(5) end)
	skynet.fork(function() local t = {} t.kilt(5) end)
	skynet.fork(function() require "skynet.manager" local t = {} t.name(5) end)
	skynet.sleep(0)
	skynet.error "all failed"
end)
"""
    with Node('start = "forgets"', files={"svc/forgets.lua": script}) as n:
        n.wait_for("all failed")
        hint = r""", skynet\.kill comes with require "skynet\.manager"$"""
        assert re.search(r"svc/forgets\.lua:4: attempt to call a nil value \(field 'kill'\)" + hint, n.text, re.M), n.text
        assert n.text.count("comes with require") == 1, n.text
    files = {"svc/named.lua": "local skynet = require 'skynet'\nskynet.start(function() skynet.register '.x' end)\n"}
    with Node('start = "named"', files=files) as n:
        n.wait_for(r"""init service failed: \./svc/named\.lua:2: .*, skynet\.register comes with require "skynet\.manager"$""")
        n.wait_for(r"""start script 'named' failed: .*, skynet\.register comes with require "skynet\.manager": call failed \(""")


def test_a_preload_that_is_not_there_is_named():
    with Node('preload = "./no/such.lua"') as n:
        n.wait_for(r"lua loader error : preload: cannot open \./no/such\.lua: No such file or directory")
