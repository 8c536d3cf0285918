"""The gate as outside clients see it: resets, splits, many frames, the end of
the gate, and what its log says."""

import contextlib
import re

from harness import Client, Node, frame, wait_refused

ALSO_WITH = "socket_thread = 3"

# Logs what the gate tells; `accept` opens every connection at once.
WATCHDOG = """
local skynet = require "skynet"
require "skynet.manager"
local gate
local SOCKET = {}
function SOCKET.open(fd, addr)
	skynet.error("open", fd, addr)
	if MODE ~= "hold" then skynet.call(gate, "lua", "accept", fd) end
end
function SOCKET.data(fd, text)
	skynet.error("data", fd, #text, text:sub(1, 20))
	if text == "kick" then skynet.call(gate, "lua", "kick", fd) end
	if text == "end" then skynet.kill(gate) end
	if text == "exit" then skynet.send(gate, "debug", "EXIT") end
end
function SOCKET.close(fd) skynet.error("close", fd) end
SOCKET["error"] = function(fd, text) skynet.error("error", fd, text) end
skynet.start(function()
	skynet.dispatch("lua", function(_, _, _, what, ...) SOCKET[what](...) end)
	gate = skynet.newservice "gate"
	local _, port = skynet.call(gate, "lua", "open",
		{ address = "127.0.0.1", port = 0, maxclient = 3, watchdog = skynet.self() })
	skynet.error("port", port)
end)
"""


class Gate(Node):
    def __init__(self, mode="accept"):
        super().__init__('start = "wd"\n',
                         files={"svc/wd.lua": f'local MODE = "{mode}"\n' + WATCHDOG})
        self.port = int(self.wait_for(r"port (\d+)").group(1))

    def client(self):
        start = len(self.text)
        c = Client(self.port)
        c.fd = self.wait_for(r"open (\d+) 127\.0\.0\.1:%d$" % c.sock.getsockname()[1],
                             start=start).group(1)
        return c


def test_listen_is_logged():
    with Gate() as n:
        n.wait_for(r"\[:\w+\] Listen on 127\.0\.0\.1 0$")


def test_frames_in_any_split():
    with Gate() as n, n.client() as c:
        for byte in frame(b"split"):
            c.send(bytes([byte]))
        n.wait_for(f"data {c.fd} 5 split$")
        c.send(b"".join(frame(b"m%d" % i) for i in range(500)))
        n.wait_for(f"data {c.fd} 4 m499$")
        seen = [line for line in n.text.splitlines() if f"data {c.fd} " in line][1:]
        assert [s.split()[-1] for s in seen] == [f"m{i}" for i in range(500)], seen
        c.send(frame(b"x" * 65535))
        n.wait_for(f"data {c.fd} 65535 x+$")


def test_reset_is_an_error_then_a_close():
    with Gate() as n, n.client() as c:
        c.reset()
        n.wait_for(f"error {c.fd} Connection reset by peer$")
        n.wait_for(f"close {c.fd}$")
        assert n.text.index(f"error {c.fd}") < n.text.index(f"close {c.fd}")


# A gate that closes a connection at its first package.
CLOSER = {"svc/closer.lua": """
local skynet = require "skynet"
local gateserver = require "snax.gateserver"
local netpack = require "skynet.netpack"
local handler = {}
function handler.open(_, conf) skynet.error("port", conf.port) end
function handler.connect(fd) gateserver.openclient(fd) end
function handler.message(fd, msg, sz)
	skynet.error("got", netpack.tostring(msg, sz))
	gateserver.closeclient(fd)
end
function handler.disconnect() skynet.error "gone" end
gateserver.start(handler)
""", "svc/go.lua": """
local skynet = require "skynet"
skynet.start(function()
	skynet.call(skynet.newservice "closer", "lua", "open", { address = "127.0.0.1", port = 0 })
end)
"""}


def test_packages_behind_a_close_are_dropped_with_a_log_line():
    with Node('start = "go"', files=CLOSER) as n:
        with Client(int(n.wait_for(r"port (\d+)").group(1))) as c:
            c.send(frame(b"first") + frame(b"late 1") + frame(b"late 2"))
            assert c.recv_eof() == b""
        n.wait_for("gone")
        for i in (1, 2):
            n.wait_for(rf"Drop message from fd \(\d+\) : late {i}$")
        assert n.text.count("] got ") == 1, n.text


def test_a_flood_behind_a_close_is_not_even_cut():
    with Node('start = "go"', files=CLOSER) as n:
        port = int(n.wait_for(r"port (\d+)").group(1))

        def flood():
            with Client(port) as c:
                with contextlib.suppress(OSError):
                    c.send(frame(b"x") * 100000)
                    c.recv_eof()
        flood()
        n.wait_for("gone")
        # The lines of that second are used up; the next ones tell how many were left out:
        # one of each flood, not all 100000.
        floods = 0
        while not (m := re.search(r"\(and (\d+) more of that kind before\)", n.text)):
            flood()
            floods += 1
        assert int(m.group(1)) < 100 * floods, (m.group(), floods)
        assert n.stop() == 0


def test_closed_gate_ends_its_connections():
    for word in (b"end", b"exit"):
        with Gate() as n, n.client() as c, n.client() as other:
            c.send(frame(word))
            assert c.recv_eof() == b""
            assert other.recv_eof() == b""
            # The listener goes with it; a refused connection proves that.
            wait_refused(n.port)
            assert n.stop() == 0


def test_connections_beyond_maxclient_are_refused_and_logged():
    with Gate("hold") as n, n.client(), n.client(), n.client() as last:
        with Client(n.port) as refused:
            assert refused.recv_eof() == b""
        n.wait_for(r"gateserver: refuse 127\.0\.0\.1:\d+, 3 clients are connected")
        assert n.text.count("] open ") == 3
        last.send(frame(b"unread"))
        assert last.quiet()
        assert "] data " not in n.text


def test_stop_with_open_connections_is_orderly():
    with Gate() as n, n.client() as c:
        c.send(b"\x00\x09unfin")
        assert n.stop() == 0
        assert c.recv_eof() == b""
