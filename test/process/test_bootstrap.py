"""How a node starts, and what happens when a part of that fails."""

import signal

from claims import must_contain
from harness import Node, run_node

SCRIPTS = {
    "svc/hello.lua": """
local skynet = require "skynet"
local words = table.concat({...}, "|")
skynet.start(function() skynet.error("hello " .. words) end)
""",
    "svc/broken.lua": """
local skynet = require "skynet"
skynet.start(function() error "broken as asked" end)
""",
    "svc/leaves.lua": """
local skynet = require "skynet"
skynet.start(function() skynet.error "leaving"; skynet.exit() end)
""",
}


def test_start_key_may_have_arguments():
    with Node('start = "hello 1 2"', files=SCRIPTS) as n:
        n.wait_for(r"hello 1\|2$")
        n.wait_for(r"KILL self")
        assert n.stop() == 0


def test_failing_start_script_leaves_the_node_up_by_default():
    with Node('start = "broken"', files=SCRIPTS) as n:
        n.wait_for(r"bootstrap: start script 'broken' failed: .*call failed \(the node stays up\)")
        n.wait_for(r"\[:00000002\] KILL self")
        assert n.proc.poll() is None
        n.signal(signal.SIGTERM)
        assert n.wait_exit() == 0


def test_failing_start_script_ends_the_node_when_configured():
    code, text = run_node('start = "broken"\nstart_failure = "abort"', files=SCRIPTS)
    assert code == 1, (code, text)
    assert "bootstrap: start script 'broken' failed" in text, text


def test_missing_start_script_ends_the_node_when_configured():
    code, text = run_node('start = "nosuch"\nstart_failure = "abort"', files=SCRIPTS)
    assert code == 1, (code, text)
    assert "start script 'nosuch' failed" in text, text


def test_start_script_that_exits_is_no_failure():
    with Node('start = "leaves"\nstart_failure = "abort"', files=SCRIPTS) as n:
        n.wait_for("leaving")
        n.wait_for(r"\[:00000002\] KILL self")
        assert n.stop() == 0


def test_standalone_on_a_single_node_is_refused():
    code, text = run_node('standalone = "0.0.0.0:2013"\nstart = "main"')
    assert code == 1, (code, text)
    assert "standalone" in text, text


def test_harbor_network_is_refused_with_one_clear_line():
    code, text = run_node('harbor = 1\nstart = "main"')
    assert code == 1, (code, text)
    lines = [line for line in text.splitlines() if "harbor" in line and "0" in line]
    assert lines, text


def test_a_lua_path_without_the_framework_ends_the_node():
    code, text = run_node('lua_path = "./nowhere/?.lua"')
    assert code == 1, text
    must_contain(text, "module 'skynet.hooks' not found", "no file './nowhere/skynet/hooks.lua'",
                 "the bootstrap service failed, the node ends")
