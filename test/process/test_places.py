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
	local sproto = require "sproto"
	local sp = sproto.parse ".Leaf { s 0 : string } foo 1 { request Leaf response Leaf } .package { type 0 : integer }"
	tell("encode", function() local b = sp:encode("Leaf", { s = 5 }) return b end)
	tell("no table", function() local b = sp:encode("Leaf", 5) return b end)
	tell("decode", function() local v = sp:decode("Leaf", "xx") return v end)
	tell("pdecode", function() local v = sp:pdecode("Leaf", "xx") return v end)
	tell("request", function() local b = sp:request_encode("foo", { s = true }) return b end)
	tell("answer", function() local b = sp:response_encode("fo", {}) return b end)
	tell("query", function() local p = sp:queryproto "fo" return p end)
	tell("no colon", function() local b = sp.encode("Leaf", {}) return b end)
	tell("no object", function() local b = sproto.exist_type("Leaf") return b end)
	local attached = sp:host():attach(sp)
	tell("attached", function() local b = attached("foo", { s = 7 }) return b end)
	tell("unknown", function() local b = attached("fo", { s = 7 }) return b end)
	local httpd = require "http.httpd"
	local function respond(...) error(select(2, httpd.write_response(print, ...)), 0) end
	tell("no status", function() respond(nil, "x") end)
	tell("status", function() respond("OK", "x") end)
	tell("status 99", function() respond(99) end)
	tell("body", function() respond(200, {}) end)
	tell("header", function() respond(200, "x", "a: b") end)
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
                ("listen", "socket.listen", "Listen error: 10.9.8.7:1: Cannot assign requested address"),
                ("encode", '"encode"', r" ?Leaf\.s\[0\] is not a string \(Is a number\)"),
                ("no table", '"no table"', r"bad argument #2 to 'encode' \(table expected, got number\)"),
                ("decode", '"decode"', "decode error"),
                ("pdecode", '"pdecode"', "Invalid unpack stream"),
                ("request", '"request"', r" ?Leaf\.s\[0\] is not a string \(Is a boolean\)"),
                ("answer", '"answer"', "fo not found"),
                ("query", '"query"', "fo not found"),
                ("no colon", '"no colon"', "a sproto object is wanted: call its methods with a colon, .*"),
                ("no object", '"no object"', "a sproto object is wanted: call its methods with a colon, .*"),
                ("attached", '"attached"', r" ?Leaf\.s\[0\] is not a string \(Is a number\)"),
                ("unknown", '"unknown"', "fo not found"),
                ("no status", "httpd.write_response",
                 "httpd.write_response: the status must be a whole number from 100 to 999, such as 200"),
                ("status", "httpd.write_response", "httpd.write_response: the status must be .*"),
                ("status 99", "httpd.write_response", "httpd.write_response: the status must be .*"),
                ("body", "httpd.write_response",
                 "httpd.write_response: body must be a string, a function or nil, not a table"),
                ("header", "httpd.write_response",
                 "httpd.write_response: header must be a table or nil, not a string")):
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
