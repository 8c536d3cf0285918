"""What hostile servers do to our clients, as tables: client x kind of trouble. Each request
ends in time with an error that says what happened, the connection comes to its end, other
requests are served meanwhile, and memory stays bounded. That of DNS is in test_dns."""

import base64
import contextlib
import hashlib
import os
import re
import socket
import ssl
import threading
import time

from harness import LIMIT, Client, Node, until_it_works
from test_hostile_peers import ROOM, check_no_fault, descriptors, peak, reset_now
from test_tls import cert

# ------------------------------------------------------------------ kinds


def whole(s, data):
    s.sendall(data)
    until_end(s)


def cut_off(s, data):
    s.sendall(data)


def drip(s, data):
    """Byte by byte for ever."""
    s.settimeout(0.05)
    for i in range(LIMIT * 20):
        s.send(data[i % len(data):][:1])
        with contextlib.suppress(TimeoutError):
            if not s.recv(65536):
                return


def flood(s, data):
    """Without end, and without reading."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        s.sendall(data)
    raise AssertionError("the client took it all")


def close_half(s, data):
    s.sendall(data)
    s.shutdown(socket.SHUT_WR)
    until_end(s)


def reset(s, data):
    s.sendall(data)
    reset_now(s)


KINDS = {"malformed": whole, "truncated": cut_off, "oversized": whole, "slow": drip, "flood": flood,
         "half-closed": close_half, "reset": reset}


def until_end(s):
    with contextlib.suppress(ConnectionError):
        while s.recv(65536):
            pass


class Server:
    """Serves one connection: reads the request, then `run(socket)`."""

    def __init__(self, run, greet=None):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(LIMIT)
        self.port = self.listener.getsockname()[1]
        self.error = None
        self.thread = threading.Thread(target=self._serve, args=(run, greet), daemon=True)
        self.thread.start()

    def _serve(self, run, greet):
        try:
            s, _ = self.listener.accept()
            with s:
                s.settimeout(LIMIT)
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                run((greet or first_bytes)(s) or s)
        except ConnectionError:
            pass  # the client has ended it
        except Exception as e:  # for the main thread
            self.error = e

    def done(self):
        self.thread.join(LIMIT)
        assert not self.thread.is_alive(), "the client has not ended the connection"
        self.listener.close()
        if self.error:
            raise self.error


def first_bytes(s):
    s.recv(65536)


def tls_hello(s):
    """The server's side of a handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert("server.pem"), cert("server.key"))
    return context.wrap_socket(s, server_side=True)


def upgrade(s):
    text = s.recv(65536)
    key = re.search(rb"(?i)sec-websocket-key: *(\S+)", text).group(1)
    accept = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    s.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
              b"Sec-WebSocket-Accept: " + base64.b64encode(accept) + b"\r\n\r\n")


# ----------------------------------------------------------------- tables

# kind -> what the server sends, what the error says, and how the connection begins.
OK = b"HTTP/1.1 200 OK\r\n"
HTTP = {
    "malformed": (b"garbage\r\n\r\n", "Invalid HTTP response header"),
    "truncated": (OK + b"Content-Length: 9\r\n\r\nabc", "ended too early"),
    "oversized": (OK + b"A: " + b"x" * 100000, "Recv header failed"),
    "slow": (OK + b"A: " + b"x" * 5000, "timeout in phase header"),
    "flood": (OK + b"\r\n" + b"x" * 65536, "too large"),
    "half-closed": (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab", "ended too early"),
    "reset": (OK + b"Content-Length: 9\r\n\r\nabc", "read failed|ended too early"),
}
# Without a limit of the body, whose sender's time is limited.
HTTPC = dict(HTTP, slow=(OK + b"A: " + b"x" * 5000, "read failed"))
del HTTPC["flood"]
TLS = {
    "malformed": (b"HTTP/1.1 400 Bad\r\n\r\n", "SSL_do_handshake error.*wrong version number", first_bytes),
    "truncated": (b"\x16\x03\x03\x00\x50\x02\x00", "closed the connection during the TLS handshake", first_bytes),
    "oversized": (b"\x16\x03\x03\xff\xff" + b"x" * 66000, "SSL_do_handshake error", first_bytes),
    "slow": (b"\x16\x03\x03\x40\x00\x02\x00" + b"x" * 2000, "timeout", first_bytes),
    "flood": (b"\x16\x03\x03\x40\x00" + b"z" * 0x4000, "SSL_do_handshake error", first_bytes),
    "half-closed": (b"\x16\x03\x03\x00\x50\x02\x00", "closed the connection during the TLS handshake", first_bytes),
    "reset": (b"\x16\x03\x03\x00\x50\x02\x00", "closed the connection during the TLS handshake|reset", first_bytes),
}
WEBSOCKET = {
    "malformed": (b"\xf1\x02hi", "reserved", upgrade),
    "truncated": (b"\x81\x50half", r"Socket Error", upgrade),
    "oversized": (b"\x81\x7f" + b"\1" * 8, "payload_len is too large", upgrade),
    "slow": (b"HTTP/1.1 101 Switching Protocols\r\nA: " + b"x" * 5000, "websocket handshake timeout"),
    "flood": (b"HTTP/1.1 101 Switching Protocols\r\nA: " + b"x" * 65536, "header too long"),
    "half-closed": (b"\x81\x50half", r"Socket Error", upgrade),
    "reset": (b"\x81\x50half", r"Socket Error", upgrade),
}
CHANNEL = {
    "truncated": (b"half a li", "Error: socket"),
    "slow": (b"x", "Error: socket"),
    "flood": (b"x" * 65536, "Error: socket"),
    "half-closed": (b"half a li", "Error: socket"),
    "reset": (b"half a li", "Error: socket"),
}
SIZED = {
    "malformed": (b"nonsense\n", "no length"),
    "oversized": (b"99999999999999\nabc", "Error: socket"),
    "truncated": (b"100\nabc", "Error: socket"),
}


class World(Node):
    def __init__(self):
        super().__init__(f'start = "hostile_client {os.path.dirname(cert("ca.pem"))}"\nenablessl = true\n')
        self.port = int(self.wait_for(r"port (\d+)").group(1))

    def ask(self, kind, port):
        c = Client(self.port)
        c.send(f"{kind} {port}\n")
        return c


def good(*args):
    """A request to a server that behaves."""
    until_it_works(lambda: good_once(*args))


def good_once(node, kind, answer, greet):
    server = Server(answer, greet)
    with node.ask(kind, server.port) as c:
        assert c.recv_until("\n").startswith(b"ok "), c.buf
    server.done()


def run_table(kind, table, answer, greet=None):
    with World() as node:
        good(node, kind, answer, greet)
        open_before, most_before = descriptors(node), peak(node)
        for trouble, cell in table.items():
            data, error, begin = (*cell, None)[:3]
            end = time.monotonic() + LIMIT
            while True:
                server = Server(lambda s, f=KINDS[trouble], d=data: f(s, d), begin)
                with node.ask(kind, server.port) as c:
                    good(node, kind, answer, greet)
                    text = c.recv_until("\n").decode()
                server.done()
                good(node, kind, answer, greet)
                if re.match("failed .*(" + error + ")", text):
                    break
                # The client's limits are tight: on a busy machine they end it before the trouble has come.
                assert re.search("time", text) and time.monotonic() < end, (trouble, text)
        wait_closed(node, open_before)
        assert peak(node) - most_before < ROOM, (most_before, peak(node))
        check_no_fault(node.text)
        assert node.stop() == 0


def wait_closed(node, want):
    end = time.monotonic() + LIMIT
    while descriptors(node) > want:
        assert time.monotonic() < end, "a connection is left"
        time.sleep(0.02)


def say(text):
    return lambda s: s.sendall(text)


def test_fetch():
    run_table("http", HTTP, say(OK + b"Content-Length: 2\r\nConnection: close\r\n\r\nhi"))


def test_httpc():
    run_table("httpc", HTTPC, say(OK + b"Content-Length: 2\r\n\r\nhi"))


def test_tls():
    run_table("tls", TLS, say(b"hi\n"), tls_hello)


def test_websocket():
    run_table("websocket", WEBSOCKET, say(b"\x81\x02hi"), upgrade)


def test_a_flood_of_messages_waits_for_who_reads_them():
    with World() as node:
        most = peak(node)

        def lazy():
            server = Server(lambda s: flood(s, b"\x82\x7e\x04\x00" + b"x" * 1024), upgrade)
            with node.ask("lazy", server.port) as c:
                good(node, "websocket", say(b"\x81\x02hi"), upgrade)
                text = c.recv_until("\n")
            server.done()
            assert text.startswith(b"ok x"), text
        until_it_works(lazy)
        assert peak(node) - most < ROOM, (most, peak(node))


def test_channels():
    run_table("channel", CHANNEL, say(b"hi\n"))
    run_table("sized", SIZED, say(b"2\nhi"))
