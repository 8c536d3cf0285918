"""The gate in C (module `gate`), driven by a Lua service over text commands."""

import re

from harness import Client, Node, flood_of_lines, frame, free_port, wait_refused

ALSO_WITH = "socket_thread = 3"

# Logs the gate's reports; text from clients named `cmd ...` is run as a command
# of the gate, with FD replaced by the connection.
WATCHDOG = """
local skynet = require "skynet"
require "skynet.manager"
local core = require "skynet.core"
local gate
local first -- in mode `late` the first connection is started by the second
local function command(text) core.send(gate, skynet.PTYPE_TEXT, 0, text) end
skynet.register_protocol {
	name = "text", id = skynet.PTYPE_TEXT, unpack = skynet.tostring,
	dispatch = function(session, source, text)
		local fd, what = text:match "^(%d+) (%a+)"
		if what == "open" and MODE == "late" and not first then
			first = fd
		elseif what == "open" then
			command("start " .. (first or fd))
		end
		local cmd = text:match "^%d+ data cmd (.*)"
		if cmd == "die" then
			skynet.kill(gate)
		elseif cmd then
			command((cmd:gsub("FD", fd)))
		end
		local echo = text:match "^%d+ data echo (.*)"
		if echo then
			core.send(gate, skynet.PTYPE_CLIENT, 0, echo .. string.pack("<I4", fd))
		end
		local id, size = text:match "^%d+ data to (%d+) (%d+)"
		if id then
			core.send(gate, skynet.PTYPE_CLIENT, 0, ("x"):rep(size) .. string.pack("<I4", id))
		end
		-- Last: who has seen this line knows that the command is on its way.
		skynet.error("told", session, text)
	end,
}
local function agent(name, id)
	skynet.register_protocol {
		name = name, id = id, unpack = skynet.tostring,
		dispatch = function(session, source, text)
			skynet.ignoreret()
			skynet.error(name .. " got", session, skynet.address(source), text)
		end,
	}
end
agent("agent", skynet.PTYPE_CLIENT)
agent("tagged", 100)
skynet.start(function()
	skynet.register ".wd"
	gate = skynet.launch("gate", PARAM)
	skynet.error("gate", gate and skynet.address(gate), skynet.address(skynet.self()))
end)
"""


class Gate(Node):
    def __init__(self, header="S", watchdog=".wd", tail="0 4", mode="", param=None, config="",
                 host="127.0.0.1:"):
        self.port = free_port()
        if param is None:
            param = f"{header} {watchdog} {host}{self.port} {tail}"
        head = f'local MODE, PARAM = "{mode}", "{param}"\n'
        super().__init__('start = "wd"\n' + config,
                         files={"svc/wd.lua": head + WATCHDOG})
        m = self.wait_for(r"gate (\S+) :(\w+)$")
        self.gate, self.watchdog = m.group(1), m.group(2)

    def client(self, host="127.0.0.1"):
        start = len(self.text)
        c = Client(self.port, host)
        ip, port = c.sock.getsockname()[:2]
        address = re.escape(f"{ip}:{port}")
        c.fd = self.wait_for(rf"told 0 (\d+) open \1 {address}:0$", start=start).group(1)
        return c


def test_bad_parameters_fail_the_launch_with_a_line():
    for param, line in {
        "S .wd": "Invalid gate parm S .wd",
        "S .wd 127.0.0.1:7 0": "Need max connection",
        "S .wd 127.0.0.1:7 0 0": "Need max connection",
        "X .wd 127.0.0.1:7 0 4": "Invalid data header style",
        "S .nobody 127.0.0.1:7 0 4": "Invalid watchdog .nobody",
        "S .wd 127.0.0.1: 0 4": "Invalid gate address 127.0.0.1:",
        "S .wd 127.0.0.1:70000 0 4": "Invalid gate address 127.0.0.1:70000",
        "S .wd 127.0.0.1:7 0 4 0": "Invalid package limit 0: need 1 to 16777215",
        "S .wd 127.0.0.1:7 0 4 100 -1": "Invalid agent limit -1: need bytes, or 0 for no limit",
        "S .wd 127.0.0.1:7 0 4 100 16M": "Invalid agent limit 16M",
        "S .wd 127.0.0.1:7 0 4 16777216": "Invalid package limit 16777216",
        "S .wd 192.0.2.1:7000 0 4": "can't listen on 192.0.2.1:7000: Cannot assign requested address",
    }.items():
        with Gate(param=param) as n:
            assert n.gate == "nil", (param, n.text)
            assert line in n.text, (param, n.text)


def cut_client(port):
    c = Client(port)
    c.send(b"\0\5cut")
    return c


def test_a_flood_of_connections_is_no_flood_of_lines():
    with Gate(tail="0 1024") as n:
        flood_of_lines(n, lambda: cut_client(n.port), r"socket open: \w+", r"fd .* ended within a package")


def test_packages_reach_the_watchdog_and_empty_ones_do_not():
    with Gate() as n, n.client() as c:
        n.wait_for(f"socket open: {int(c.fd):x}$")
        c.send(frame(b"hello") + frame(b"") + frame(b"wor"))
        for byte in frame(b"ld"):
            c.send(bytes([byte]))
        n.wait_for(f"told {c.fd} {c.fd} data hello$")
        n.wait_for(f"told {c.fd} {c.fd} data wor$")
        n.wait_for(f"told {c.fd} {c.fd} data ld$")
        assert n.text.count(" data ") == 3, n.text


def test_data_sent_before_start_is_delivered_after_it():
    with Gate(mode="late") as n, n.client() as c:
        c.send(frame(b"early"))
        assert c.quiet()
        assert "early" not in n.text
        with n.client():
            n.wait_for(f"told {c.fd} {c.fd} data early$")


def test_forward_gives_packages_to_an_agent():
    with Gate() as n, n.client() as c:
        c.send(frame(f"cmd forward FD :{n.watchdog} :77".encode()))
        n.wait_for("data cmd forward")
        c.send(frame(b"to the agent"))
        n.wait_for(f"agent got {c.fd} :00000077 to the agent$")
        with n.client() as other:
            other.send(frame(f"cmd forward FD :{n.watchdog} :0".encode()))
            n.wait_for(f"told {other.fd} {other.fd} data cmd forward")
            other.send(frame(b"from the gate"))
            n.wait_for(f"agent got {other.fd} {n.gate} from the gate$")


def test_broker_gets_everything():
    with Gate() as n, n.client() as c, n.client() as d:
        c.send(frame(b"cmd broker .wd"))
        n.wait_for("data cmd broker")
        c.send(frame(b"from c"))
        d.send(frame(b"from d"))
        n.wait_for(f"agent got {c.fd} {n.gate} from c$")
        n.wait_for(f"agent got {d.fd} {n.gate} from d$")


def test_client_data_is_written_raw():
    with Gate() as n, n.client() as c:
        c.send(frame(b"echo raw bytes"))
        assert c.recv_exact(9) == b"raw bytes"
        # Too short, and for a connection that is not there.
        c.send(frame(b"echo "))
        n.wait_for(f"Invalid client message from {int(n.watchdog, 16):x}$")
        c.send(frame(b"cmd kick FD"))
        assert c.recv_eof() == b""
        n.wait_for(f"told 0 {c.fd} close$")


def test_data_for_a_connection_that_is_not_there():
    with Gate() as n, n.client() as c:
        c.send(frame(b"to 99999 5"))
        n.wait_for(f"Invalid client id 99999 from {int(n.watchdog, 16):x}$")
        c.send(frame(b"still here"))
        n.wait_for("data still here$")


def test_packages_carry_the_type_of_the_launch():
    with Gate(tail="100 4") as n, n.client() as c, n.client() as d:
        # A watchdog always gets text.
        c.send(frame(f"cmd forward FD :{n.watchdog} :77".encode()))
        n.wait_for("data cmd forward")
        c.send(frame(b"to the agent"))
        n.wait_for(f"tagged got {c.fd} :00000077 to the agent$")
        d.send(frame(b"cmd broker .wd"))
        n.wait_for("data cmd broker")
        for client, text in ((c, "from c"), (d, "from d")):
            client.send(frame(text.encode()))
            n.wait_for(f"tagged got {client.fd} {n.gate} {text}$")


def test_a_binding_may_be_a_port_or_an_address_of_ipv6():
    for host in ("", ":"):
        with Gate(host=host) as n, n.client() as c, n.client("127.0.0.2") as d:
            for client in (c, d):
                client.send(frame(b"hello"))
                n.wait_for(f"told {client.fd} {client.fd} data hello$")
    with Gate(host="::1:") as n, n.client("::1") as c:
        c.send(frame(b"six"))
        n.wait_for(f"told {c.fd} {c.fd} data six$")


def test_a_peer_that_reads_too_slowly_is_logged():
    with Gate() as n, n.client() as c, n.client() as d:
        d.send(frame(b"to %s %d" % (c.fd.encode(), 32 << 20)))
        peer = re.escape(f"127.0.0.1:{c.sock.getsockname()[1]}")
        backlog = n.wait_for(rf"fd \({c.fd}\) send buffer \((\d+)\)K to {peer}$").group(1)
        assert int(backlog) >= 1024
        left = 32 << 20
        while left > 0:
            left -= len(c.sock.recv(min(left, 1 << 20)))
        n.wait_for(rf"fd \({c.fd}\) send buffer \(0\)K to {peer}$")


def test_a_gate_that_ends_closes_all_it_has():
    with Gate() as n, n.client() as c, n.client() as d:
        c.send(frame(b"cmd die"))
        assert c.recv_eof() == b"" and d.recv_eof() == b""
        wait_refused(n.port)


def test_commands_are_exact():
    with Gate() as n, n.client() as c:
        for text in ("k FD", "nosuch 1", "startx FD"):
            c.send(frame(f"cmd {text}".encode()))
            n.wait_for(r"\[gate\] Unknown command : " + text.replace("FD", c.fd) + "$")
        for text in ("kick 99999", "start x", "kick", "forward FD", "forward", "broker"):
            c.send(frame(f"cmd {text}".encode()))
        c.send(frame(b"still here"))
        n.wait_for("data still here$")


def test_close_ends_the_listener_only():
    with Gate() as n, n.client() as c:
        c.send(frame(b"cmd close"))
        wait_refused(n.port)
        c.send(frame(b"served"))
        n.wait_for(f"told {c.fd} {c.fd} data served$")


def test_long_header_and_its_limit():
    with Gate(header="L") as n, n.client() as c, n.client() as d, n.client() as e:
        big = b"b" * 300000
        c.send(frame(big, ">I") + frame(b"after", ">I"))
        n.wait_for(f"told {c.fd} {c.fd} data after$")
        assert len(n.wait_for(f"told {c.fd} {c.fd} data (b+)$").group(1)) == len(big)
        for hostile, head in ((d, b"\x01\0\0\0"), (e, b"\xff\xff\xff\xff")):
            start = len(n.text)
            hostile.send(head + b"x" * 100)
            hostile.recv_eof()
            n.wait_for(rf"Recv socket message > 16M from {hostile.fd} \(127\.0\.0\.1:\d+\)$", start=start)
            n.wait_for(f"told 0 {hostile.fd} close$", start=start)
        assert "data x" not in n.text
        c.send(frame(b"fine", ">I"))
        n.wait_for(f"told {c.fd} {c.fd} data fine$")


def test_the_limit_may_be_lower():
    with Gate(tail="0 4 10") as n, n.client() as c, n.client() as d:
        c.send(frame(b"0123456789"))
        n.wait_for(f"told {c.fd} {c.fd} data 0123456789$")
        d.send(b"\0\x0b")
        assert d.recv_eof() == b""
        n.wait_for(rf"Recv socket message > 10 from {d.fd} \(127\.0\.0\.1:\d+\): "
                   "raise the sixth word of the launch$")
        n.wait_for(f"told 0 {d.fd} close$")


def test_exactly_max_connections_fit():
    with Gate(tail="0 2") as n, n.client() as c, n.client():
        with Client(n.port) as refused:
            assert refused.recv_eof() == b""
        c.close()
        n.wait_for(f"told 0 {c.fd} close$")
        with n.client():
            assert n.text.count(" open ") == 3, n.text


def test_packages_for_a_dead_agent_are_dropped_whole():
    # What two connections send keeps its order only on one loop.
    with Gate(config="socket_thread = 1\n") as n, n.client() as c, n.client() as d:
        c.send(frame(b"cmd forward FD :fffff :0"))
        n.wait_for("data cmd forward")
        c.send(frame(b"nobody") + frame(b"hears") + frame(b"back again")[:5])
        d.send(frame(f"cmd forward {c.fd} :{n.watchdog} :0".encode()))
        n.wait_for(f"told {d.fd} {d.fd} data cmd forward")
        c.send(frame(b"back again")[5:])
        n.wait_for(f"agent got {c.fd} {n.gate} back again$")
        assert "nobody" not in n.text and "hears" not in n.text


def test_a_gate_may_have_no_watchdog():
    with Gate(watchdog="!") as n:
        with Client(n.port) as c:
            n.wait_for(r"socket open: \w+$")
            c.send(frame(b"nobody"))
            assert c.quiet()
        assert "told" not in n.text


def test_reset_is_reported_as_close():
    with Gate() as n, n.client() as c:
        c.send(frame(b"half")[:3])
        c.reset()
        n.wait_for(f"told 0 {c.fd} close$")


def test_end_of_the_node_closes_connections():
    with Gate() as n, n.client() as c:
        c.send(b"\x00\x09unfin")
        assert n.stop() == 0
        assert c.recv_eof() == b""
