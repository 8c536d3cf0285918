"""What hostile peers do to each server, as tables: protocol x kind of trouble. Of each it is
claimed that a line of the log has the peer's address and says what happened, that the
connection comes to its end, that others are served meanwhile, and that memory stays bounded.

A line of one kind is written once a second at most, so an attack is repeated until its
own is there."""

import contextlib
import os
import re
import socket
import ssl
import struct
import time

import loginclient as lc
from harness import LIMIT, VARIANT, Client, Node, frame, free_port, until_it_works
from test_login import Logind
from test_msgserver import SECRET, Gated, name
from test_tls import cert

# Memory that a flood of one peer may cost, KiB.
ROOM = 48 * 1024
# How long an attack's line is awaited, when the server has come to the others, before it is
# tried again: longer than a second.
PATIENCE = 1.2


def peak(node):
    """Most memory that the node ever had, KiB; 0 under sanitizers, which keep what is freed."""
    if VARIANT != "release":
        return 0
    with open(f"/proc/{node.proc.pid}/status") as f:
        return int(re.search(r"VmHWM:\s+(\d+)", f.read()).group(1))


def descriptors(node):
    return len(os.listdir(f"/proc/{node.proc.pid}/fd"))


def reset_now(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


class Conn(Client):
    def __init__(self, port):
        super().__init__(port)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.addr = "127.0.0.1:%d" % self.sock.getsockname()[1]

    def push(self, data):
        """Send; a server that ends the connection meanwhile is no error."""
        with contextlib.suppress(OSError):
            self.send(data)


# ------------------------------------------------------------------ kinds


def send_whole(c, data):
    c.push(data)
    c.recv_eof()


def cut_off(c, data):
    c.push(data)
    c.close()


def drip(c, data):
    """Byte by byte for ever, until the server has enough."""
    with contextlib.suppress(OSError):
        for i in range(LIMIT * 20):
            c.send(data[i % len(data):][:1])
            if not c.quiet(0.05) and not c.sock.recv(65536):
                return


def flood(c, data):
    """Send and read nothing until the server ends it."""
    c.sock.settimeout(0.1)
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        try:
            c.sock.send(data)
        except TimeoutError:
            pass
        except OSError:
            return
    raise AssertionError("a flood goes on")


def close_half(c, data):
    c.push(data)
    with contextlib.suppress(OSError):
        c.sock.shutdown(socket.SHUT_WR)
    c.recv_eof()


def reset(c, data):
    c.push(data)
    reset_now(c.sock)


KINDS = {"malformed": send_whole, "truncated": cut_off, "oversized": send_whole, "slow": drip,
         "flood": flood, "half-closed": close_half, "reset": reset}

# -------------------------------------------------------------- protocols


def talk_frames(c):
    c.send(frame(b"hello"))
    assert c.recv_exact(7) == frame(b"hello")


def talk_http(c):
    c.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello")
    assert c.recv_until("hello").startswith(b"HTTP/1.1 200")


def talk_lines(c):
    c.send("hello\n")
    assert c.recv_until("\n") == b"hello\n"


def talk_console(c):
    c.send("service\n")
    c.recv_until("<CMD OK>")


def ws_frame(data, first=0x81):
    return bytes([first, 0x80 | len(data)]) + b"\0\0\0\0" + data


UPGRADE = (b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")


def upgrade(c):
    c.send(UPGRADE)
    assert b" 101 " in c.recv_until("\r\n\r\n")


def talk_ws(c):
    c.send(ws_frame(b"hello"))
    assert c.recv_exact(7)[2:] == b"hello"


def begin_tls(c):
    context = ssl.create_default_context(cafile=cert("ca.pem"))
    c.sock = context.wrap_socket(c.sock, server_hostname="localhost")


RESET = "Connection reset by peer"
TOO_SLOW = r"close \d+ of :\w+: its peer {a} reads too slowly"
OVERFLOW = r"socket buffer overflow: fd=\d+ size=\d+ peer={a}"
CUT = r"gateserver: \d+ of {a} ended within a package"

# kind -> bytes, the log line with {a} for the peer's address. A third value: sent on a
# connection that has begun as the protocol wants it. What is not there has no such kind,
# or is served: see the tests below.
GATE = {
    "malformed": (b"\xff" * 3000, r"close \d+ of {a}: a package of 65535 bytes is too large"),
    "truncated": (b"\0\x09unfin", CUT),
    "oversized": (b"\x03\xe9" + b"x" * 1001, r"close \d+ of {a}: a package of 1001 bytes is too large"),
    "slow": (b"\x03\x00" + b"x" * 100, r"close silent connection \d+ of {a}: no first package"),
    "flood": (frame(b"x" * 10) * 1000, r"close \d+ of {a}: it sends more than its package_rate"),
    "half-closed": (b"\0", CUT),
    "reset": (b"\0\x09unfin", r"gateserver: \d+ of {a}: " + RESET),
}
CGATE = {
    "malformed": (b"\xff" * 3000, r"Recv socket message > 1000 from \d+ \({a}\)"),
    "truncated": (b"\0\x09unfin", r"fd \(\d+\) of {a} ended within a package"),
    "oversized": (b"\x03\xe9" + b"x" * 1001, r"Recv socket message > 1000 from \d+ \({a}\)"),
    "flood": (frame(b"x" * 900) * 100, TOO_SLOW),
    "half-closed": (b"\0", r"fd \(\d+\) of {a} ended within a package"),
    "reset": (b"\0\x09unfin", r"fd \(\d+\) of {a}: " + RESET),
}


def tls_table(failed, late):
    return {
        "malformed": (b"GET / HTTP/1.1\r\n\r\n", failed + ".*wrong version number|" + failed + ".*http request"),
        "truncated": (b"\x16\x03\x01\x02\x00\x01\x00", failed + ".*closed the connection"),
        "oversized": (b"\x16\x03\x01\xff\xff" + b"a" * 66000, failed + ".*SSL_do_handshake error"),
        "slow": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"r" * 1000, late),
        "flood": (b"\x16\x03\x01\x40\x00" + b"z" * 0x4000, failed + ".*SSL_do_handshake error"),
        "half-closed": (b"\x16\x03\x01\x02\x00\x01\x00", failed + ".*closed the connection"),
        "reset": (b"\x16\x03\x01\x02\x00\x01\x00", failed),
    }


HTTP = {
    "malformed": (b"GET / HTTP/1.1\r\nHost: h\r\nno colon\r\n\r\n", r"http: {a}: .* \(400\)"),
    "truncated": (b"GET / HT", "http: {a}: connection lost in a header"),
    "oversized": (b"GET / HTTP/1.1\r\nHost: h\r\nA: " + b"x" * 20000, r"http: {a}: .* \(431\)"),
    "slow": (b"GET / HTTP/1.1\r\nHost: " + b"h" * 1000, "http: {a}: no complete header in time"),
    "flood": (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 900\r\n\r\n" + b"x" * 900,
              "http: {a}: peer does not take the response"),
    "half-closed": (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc",
                    "http: {a}: connection lost in a request body"),
    "reset": (b"GET / HT", "http: {a}: connection lost in a header"),
}


def ws_table(failed, cut, late, flooded, lost):
    return {
        "malformed": (b"\x81\x01x", failed, upgrade),
        "truncated": (ws_frame(b"x" * 50)[:20], cut, upgrade),
        "oversized": (b"\x81\xff" + b"\1" * 12, failed, upgrade),
        "slow": (UPGRADE[:-4] + b"\r\nA: " + b"x" * 2000, late),
        "flood": (ws_frame(b"x" * 100) * 100, flooded, upgrade),
        "half-closed": (ws_frame(b"x" * 50)[:3], cut, upgrade),
        "reset": (ws_frame(b"x" * 50)[:20], lost, upgrade),
    }


WEBSOCKET = ws_table(r"websocket: close \d+ of {a}: ", r"websocket: close \d+ of {a}: it ended within a message",
                     r"websocket: no upgrade on \d+ in time from {a}", TOO_SLOW,
                     r"websocket: close \d+ of {a}: it ended within a message")
WSGATE = ws_table("wsgate: close {a}: ", "wsgate: {a} ended within a message", "wsgate: no upgrade from {a} in time",
                  "wsgate: close {a}: it sends more than its package_rate", "wsgate: {a}: " + RESET)
# What is no upgrade is refused in the same way by both.
WEBSOCKET_REQUEST = {
    "malformed": (b"GET / HTTP/1.1\r\nHost: h\r\nno colon\r\n\r\n", r"websocket: close \d+ of {a}: refused with 400"),
    "truncated": (UPGRADE[:-9], r"websocket: close \d+ of {a}: its request has no end"),
    "oversized": (b"GET / HTTP/1.1\r\nA: " + b"x" * 9000, r"websocket: close \d+ of {a}: refused with 413"),
}
WSGATE_REQUEST = {
    "truncated": (UPGRADE[:-9], "wsgate: {a} ended within its request"),
    "malformed": (b"GET / HTTP/1.1\r\nHost: h\r\nno colon\r\n\r\n", "wsgate: refuse {a}: .*400"),
    "oversized": (b"GET / HTTP/1.1\r\nA: " + b"x" * 9000, "wsgate: refuse {a}: .*413"),
}
LINES = {
    "oversized": (b"x" * 30000, OVERFLOW),
    "flood": (b"x" * 900 + b"\n", TOO_SLOW + "|" + OVERFLOW),
    "reset": (b"half a line", r"socket: error on \d+ " + RESET),
}
CONSOLE = {
    "malformed": (b"GET /list HTTP/1.1\r\nno colon\r\n\r\n", "debug_console: {a}: 400 Bad Request"),
    "truncated": (b"lis", "{a} disconnect"),
    "oversized": (b"x" * 70000, OVERFLOW),
    "slow": (b"GET /list HTTP/1.1\r\nA: " + b"x" * 2000, "debug_console: {a}: no complete request in time"),
    "flood": (b"help\n" * 100, TOO_SLOW + "|" + OVERFLOW),
    "half-closed": (b"lis", "{a} disconnect"),
    "reset": (b"lis", "{a} disconnect"),
}
LOST = r"invalid client \(fd = \d+\) error = socket error \({a}\)"
LOGIN = {
    "malformed": (b"A\n", r"invalid client \(fd = \d+\) error = .*Invalid base64 text.*\({a}\)"),
    "truncated": (b"AAAA", LOST),
    "oversized": (b"x" * 20000, LOST),
    "slow": (b"A", LOST),
    "flood": (b"x" * 65536, LOST),
    "half-closed": (b"AAAA", LOST),
    "reset": (b"AAAA", LOST),
}
MSGSERVER = {
    "malformed": (frame(b"garbage"), "msgserver: {a} refused, 404 User Not Found"),
    "truncated": (b"\0\x09unfin", CUT),
    "oversized": (frame(b"x" * 65535), "msgserver: {a} refused, 404 User Not Found"),
    "slow": (b"\x03\x00" + b"x" * 1000, "msgserver: {a} did not say who it is"),
    "flood": (b"".join(frame(b"max" + struct.pack(">I", i)) for i in range(1000)),
              "msgserver: {a} does not read|Invalid package too many requests .*{a}", "join"),
    "half-closed": (b"\0", CUT),
    "reset": (b"\0\x09unfin", "msgserver: error on {a} : " + RESET),
}


class World(Node):
    """A node with everything; `ports` by name."""

    def __init__(self):
        certs = os.path.dirname(cert("ca.pem"))
        super().__init__(f'start = "hostile_target {certs} {free_port()}"\nsocket_send_limit = 1048576\n'
                         "socket_linger = 1\n"
                         "debug_console_timeout = 1\nenablessl = true\n")
        self.ports = {"console": int(self.wait_for(r"debug console at 127\.0\.0\.1:(\d+)").group(1))}
        self.ports.update((m[0], int(m[1])) for m in re.findall(r"port (\w+) (\d+)$", self.text, re.M))


def behave(port, begin, talk):
    """A connection that was served."""
    def once():
        c = Conn(port)
        try:
            begin(c)
            talk(c)
        except BaseException:
            c.close()
            raise
        return c
    return until_it_works(once)


def attempt(node, port, kind, cell, begin, others):
    """Whether the attack's line is there once `others` were served after it."""
    data, line, start = (*cell, None)[:3]
    c = Conn(port)
    try:
        if start:
            (begin or start)(c)
    except (OSError, AssertionError):
        c.close()
        return False
    mark = len(node.text)
    KINDS[kind](c, data)
    c.close()
    others()
    try:
        node.wait_for(line.replace("{a}", re.escape(c.addr)), limit=PATIENCE, start=mark)
        return True
    except AssertionError:
        return False


# A watchdog that accepts a connection which has ended meanwhile is told so.
GONE = re.compile(r"^\[:\w+\] lua call .* no connection \d+(: call failed)?\n"
                  r"stack traceback:\n(\t.*\n)+", re.M)


def check_no_fault(text):
    assert "stack traceback" not in GONE.sub("", text), text


def run_table(node, port, table, talk, begin=lambda c: None, start=None):
    """All attacks of a table, beside a connection that behaves."""
    good = behave(port, begin, talk)
    open_before = descriptors(node)
    most_before = peak(node)
    said = len(node.text)
    for kind, cell in table.items():
        end = time.monotonic() + LIMIT
        while not attempt(node, port, kind, cell, start, lambda: talk(good)):
            assert time.monotonic() < end, f"{kind}: no line {cell[1]} in\n{node.text[-3000:]}"
            talk(good)
    end = time.monotonic() + LIMIT
    while descriptors(node) > open_before:
        assert time.monotonic() < end, "a connection is left"
        time.sleep(0.02)
    assert peak(node) - most_before < ROOM, (most_before, peak(node))
    check_no_fault(node.text[said:])
    behave(port, begin, talk).close()
    good.close()


def world_table(name_, *tables, **how):
    with World() as node:
        for table in tables:
            run_table(node, node.ports[name_], table, **how)
        assert node.stop() == 0


def test_the_gate():
    world_table("gate", GATE, talk=talk_frames)


def test_the_gate_in_c():
    world_table("cgate", CGATE, talk=talk_frames)


def test_a_slow_package_is_a_package_for_the_gate_in_c():
    with World() as node, Conn(node.ports["cgate"]) as c:
        for byte in frame(b"slow"):
            c.send(bytes([byte]))
            assert not c.buf
        assert c.recv_exact(6) == frame(b"slow")


def test_a_gate_with_tls():
    world_table("tlsgate", tls_table("TLS handshake with {a} failed: ", "TLS handshake with {a} takes too long"),
                talk=talk_frames, begin=begin_tls)


def test_tls():
    world_table("tls", tls_table("tls: {a}: ", "tls: {a}: timeout"), talk=talk_lines, begin=begin_tls)


def test_https():
    world_table("https", tls_table("http: {a}: TLS: ", "http: {a}: TLS: timeout"), talk=talk_http, begin=begin_tls)


def test_http():
    world_table("http", HTTP, talk=talk_http)


def test_websocket():
    world_table("websocket", WEBSOCKET, WEBSOCKET_REQUEST, talk=talk_ws, begin=upgrade)


def test_the_websocket_gate():
    world_table("wsgate", WSGATE, WSGATE_REQUEST, talk=talk_ws, begin=upgrade)


def test_plain_sockets():
    world_table("socket", LINES, talk=talk_lines)


def test_the_debug_console():
    world_table("console", CONSOLE, talk=talk_console)


def test_the_login_server():
    with Logind("{ timeout = 100 }") as node:
        def login():
            with node.login() as c:
                assert c.classic(b"joe@x") == "200 NDI="

        def talk(_):
            until_it_works(login)
        run_table(node, node.port, LOGIN, talk, begin=lambda c: c.close())


def test_the_message_server():
    with Gated("{ handshake_timeout = 100 }") as node:
        index = [0]

        def join(c, uid=b"eve"):
            c.__class__ = type("Game", (Conn, lc.Game), {})
            index[0] += 1
            assert c.hello(name(uid), index[0], SECRET) == "200 OK"

        def talk(c):
            c.ask(b"hi", 1)
            assert c.answer()[1] == 1
        run_table(node, node.port, MSGSERVER, talk, begin=lambda c: join(c, b"bob"), start=join)
