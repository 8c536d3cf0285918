"""Limits of sockets as the configuration sets them, and what the log says of them."""

import socket

from claims import must_contain
from harness import LIMIT, Node, Rate, run_node

SERVICE = """
local skynet = require "skynet"
local socket = require "skynet.socket"
skynet.start(function()
	local id, _, port = socket.listen("127.0.0.1", 0)
	socket.start(id, function(new)
		socket.start(new)
		local block = ("x"):rep(1024 * 1024)
		while socket.write(new, block) do
			skynet.sleep(0)
		end
		skynet.error("write refused")
		socket.close(new)
	end)
	skynet.error("port " .. port)
end)
"""


def node(config):
    return Node(f'start = "flood"\nluaservice = "./?.lua;" .. luaservice\n{config}\n',
                files={"flood.lua": SERVICE})


def port_of(n):
    return int(n.wait_for(r"port (\d+)").group(1))


def ended(s):
    s.settimeout(LIMIT)
    try:
        return s.recv(1) == b""
    except ConnectionError:
        return True


def test_bad_values_end_the_start():
    for config, text in (
            ("socket_send_limit = -1", "should be an integer, 0 to 4294967295"),
            ("socket_idle = 'x'", "should be a number of seconds, 0 to 2147483"),
            ("socket_nodelay = 1", "should be true or false"),
            ("socket_send_policy = 'wait'", 'should be "close" or "drop"')):
        code, out = run_node(config)
        assert code == 1, out
        must_contain(out, "config:", "Invalid " + config.split(" ")[0], text)


def test_a_peer_that_never_reads_is_closed_by_default():
    with node("") as n:
        with socket.create_connection(("127.0.0.1", port_of(n))) as s:
            m = n.wait_for(r"close \d+ of :\w+: its peer 127\.0\.0\.1:(\d+) reads too slowly, "
                           r"more than 67108864 bytes unsent; raise its send_limit")
            assert int(m.group(1)) == s.getsockname()[1]
            n.wait_for("write refused")


def test_defaults_come_from_the_configuration():
    with node("socket_max_connections = 1\nsocket_send_limit = 2000000") as n:
        port = port_of(n)
        with socket.create_connection(("127.0.0.1", port)):
            n.wait_for("more than 2000000 bytes unsent")
            n.wait_for("write refused")


def test_refusals_are_logged_once_a_second():
    with node("socket_max_per_peer = 1\nsocket_send_limit = 0") as n:
        port = port_of(n)
        with socket.create_connection(("127.0.0.1", port)) as first:
            assert first.recv(1) == b"x"
            rate = Rate(n)
            for _ in range(20):
                with socket.create_connection(("127.0.0.1", port)) as s:
                    assert ended(s)
            n.wait_for(r"listener \d+ \(127\.0\.0\.1:%d\) refuses 127\.0\.0\.1:\d+: "
                       "its max_per_peer is 1; raise it" % port)
            rate.check("refuses", 1)
