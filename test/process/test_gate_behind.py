"""Gates whose agent is stuck: a peer that goes on sending fills no mailbox, it has to wait.
Nothing is lost, and when the agent goes on so does the connection."""

import os
import re
import signal
import ssl
import struct

from harness import LIMIT, Client, Node, frame, free_port
from test_hostile_peers import begin_tls, upgrade
from test_tls import cert

# The watchdog and agent of a gate, or the agent alone: says what it got when a package is `last`; hangs on the
# package `stick` until somebody writes to a FIFO.
AGENT = r"""
local skynet = require "skynet.manager"
local core = require "skynet.core"
local SERVICE, COMMAND, PORT, CERTS = ... -- of the gate in C: its agent limit
local n, wrong = 0, 0

local function take(text)
	if text == "stick" then
		io.open("fifo"):read()
	elseif text == "last" then
		skynet.error(string.format("got %d packages, %d wrong", n, wrong))
	else
		n = n + 1
		wrong = wrong + (string.unpack(">I4", text) == n and 0 or 1)
	end
end

skynet.register_protocol {
	name = "client", id = skynet.PTYPE_CLIENT, unpack = skynet.tostring,
	dispatch = function(_, _, text)
		skynet.ignoreret()
		take(text)
	end,
}

local function in_c()
	skynet.register_protocol {
		name = "text", id = skynet.PTYPE_TEXT, unpack = skynet.tostring,
		dispatch = function(_, gate, text)
			skynet.ignoreret()
			local fd, what, rest = text:match "^(%d+) (%a+) ?(.*)"
			if what == "open" then
				if COMMAND == "forward" then
					core.send(gate, skynet.PTYPE_TEXT, 0, string.format("forward %s %s :0", fd, skynet.address(skynet.self())))
				end
				core.send(gate, skynet.PTYPE_TEXT, 0, "start " .. fd)
			elseif what == "data" then
				take(rest)
			end
		end,
	}
	skynet.register ".wd"
	local agent_limit = CERTS and " 16777215 " .. CERTS or ""
	skynet.launch("gate", "S .wd 127.0.0.1:" .. PORT .. " 0 4" .. agent_limit)
end

local function in_lua()
	skynet.dispatch("lua", function(_, gate, _, what, fd, text)
		if what == "open" then
			skynet.send(gate, "lua", COMMAND, fd)
		elseif what == "data" then
			take(text)
		end
	end)
	local conf = { address = "127.0.0.1", port = PORT, agent_limit = 1000000 }
	if CERTS then
		conf.tls = { cert = CERTS .. "/server.pem", key = CERTS .. "/server.key" }
	end
	skynet.call(skynet.newservice(SERVICE), "lua", "open", conf)
end

skynet.start(function()
	if SERVICE then
		(SERVICE == "cgate" and in_c or in_lua)()
	end
	skynet.error "ready"
end)
"""
# More than the limits, what waits for the gate, and what the system buffers for both sides.
MOST = 64 * 1024 * 1024


def websocket_frame(data):
    size = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + struct.pack(">H", len(data))
    return b"\x82" + size + b"\0\0\0\0" + data


def push(c, pack, is_told):
    """Send packages until the gate has told that it takes no more, and does not: how many, and the rest of the last
    one."""
    n = 0
    c.sock.settimeout(1)
    while n * 1000 < MOST:
        data = b""
        for _ in range(50):
            n += 1
            data += pack(struct.pack(">I", n) + b"x" * 996)
        while data:
            try:
                data = data[c.sock.send(data):]
            except (TimeoutError, ssl.SSLWantWriteError):
                if is_told():
                    return n, data
    raise AssertionError(f"the gate took {n} packages for an agent that is stuck")


def stuck_agent(kind, pack=frame, begin=lambda c: None, limit=r"\d+"):
    port = free_port()
    with Node(f'start = "behind {kind.replace("PORT", str(port))}"\n', files={"svc/behind.lua": AGENT}) as n:
        os.mkfifo(n.path("fifo"))
        n.wait_for("ready$")
        with Client(port) as c:
            addr = "127.0.0.1:%d" % c.sock.getsockname()[1]
            begin(c)
            c.send(pack(b"stick"))
            with open(n.path("fifo"), "r+b", buffering=0) as fifo:  # does not wait for a reader
                told = rf"stop reading (\d+ of )?{re.escape(addr)} while more than {limit} bytes wait for :\w+"
                count, rest = push(c, pack, lambda: re.search(told, n.text))
                fifo.write(b"go on\n")
            c.sock.settimeout(LIMIT)
            c.send(rest + pack(b"last"))
            n.wait_for(f"got {count} packages, 0 wrong$")
        assert n.stop() == 0


def test_an_agent_of_a_gate():
    stuck_agent("gate forward PORT")


def test_a_watchdog():
    stuck_agent("gate accept PORT")


def test_an_agent_of_a_gate_with_tls():
    certs = os.path.dirname(cert("ca.pem"))
    stuck_agent(f"gate forward PORT {certs}", begin=begin_tls)


def test_an_agent_of_a_websocket_gate():
    stuck_agent("wsgate forward PORT", pack=websocket_frame, begin=upgrade)


def test_an_agent_of_a_websocket_gate_whose_client_pings_after_every_message():
    ping = b"\x89\x80\0\0\0\0"
    stuck_agent("wsgate forward PORT", pack=lambda data: websocket_frame(data) + ping, begin=upgrade)


def test_an_agent_of_a_websocket_gate_with_tls():
    def begin(c):
        begin_tls(c)
        upgrade(c)

    certs = os.path.dirname(cert("ca.pem"))
    stuck_agent(f"wsgate forward PORT {certs}", pack=websocket_frame, begin=begin)


def test_an_agent_of_the_gate_in_c():
    stuck_agent("cgate forward PORT")


def test_the_gate_in_c_is_told_how_much_may_wait():
    stuck_agent("cgate forward PORT 1000000", limit="1000000")


def test_the_gate_in_c_is_told_that_any_number_may_wait():
    # More than its preset and what the system buffers.
    count = 48000
    port = free_port()
    with Node(f'start = "behind cgate forward {port} 0"\n', files={"svc/behind.lua": AGENT}) as n:
        os.mkfifo(n.path("fifo"))
        n.wait_for("ready$")
        with Client(port) as c, open(n.path("fifo"), "r+b", buffering=0) as fifo:
            c.send(frame(b"stick"))
            c.send(b"".join(frame(struct.pack(">I", i + 1) + b"x" * 996) for i in range(count)) + frame(b"last"))
            fifo.write(b"go on\n")
            n.wait_for(f"got {count} packages, 0 wrong$")
        assert "stop reading" not in n.text
        assert n.stop() == 0


def test_a_watchdog_of_the_gate_in_c():
    stuck_agent("cgate start PORT")


# A websocket gate with a low rate; says how many bytes wait for its agent, again and again.
SLOW = r"""
local skynet = require "skynet"
local netpack = require "skynet.netpack"
local PORT = ...

skynet.start(function()
	local gate = skynet.newservice "wsgate"
	local agent = skynet.newservice "behind"
	skynet.dispatch("lua", function(_, _, _, what, fd)
		if what == "open" then
			skynet.send(gate, "lua", "forward", fd, 0, agent)
		end
	end)
	local turn = 0
	local function tell()
		turn = turn + 1
		skynet.error(string.format("turn %d, waiting: %d", turn, netpack.waiting(agent)))
		skynet.timeout(10, tell)
	end
	skynet.call(gate, "lua", "open", { address = "127.0.0.1", port = PORT, agent_limit = 1000,
		package_rate = 20, package_burst = 15 })
	tell()
	skynet.error "open"
end)
"""


def test_the_end_of_a_rate_pause_is_not_the_end_of_the_wait_for_an_agent():
    port = free_port()
    files = {"svc/slow.lua": SLOW, "svc/behind.lua": AGENT}
    with Node(f'start = "slow {port}"\n', files=files) as n:
        os.mkfifo(n.path("fifo"))
        n.wait_for("open$")
        with Client(port) as c:
            upgrade(c)
            data = [b"stick"] + [struct.pack(">I", i + 1) + b"x" * 996 for i in range(40)] + [b"last"]
            # All of it is there at once: before the rate is reached no time must pass.
            n.signal(signal.SIGSTOP)
            c.send(b"".join(map(websocket_frame, data)))
            n.signal(signal.SIGCONT)
            with open(n.path("fifo"), "r+b", buffering=0) as fifo:
                n.wait_for("stop reading .* wait for")
                n.wait_for("slow down .* package_rate of 20")
                # The pauses of 40 packages are over by then.
                turn = n.text.count("waiting: ") + 25
                waiting = int(n.wait_for(rf"turn {turn}, waiting: (\d+)$")[1])
                # No more than between two looks at the agent.
                assert waiting < 17 * 1100, waiting
                fifo.write(b"go on\n")
            n.wait_for("got 40 packages, 0 wrong$")
        assert n.stop() == 0
