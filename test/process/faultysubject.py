"""A node with faults_subject, and clients of what it serves, for tests of failing system calls."""

import base64
import http.client
import os
import socket
import ssl
import subprocess
import tempfile
import time

from faults import FaultyNode
from harness import LIMIT, ROOT, Client, frame, free_port

PORTS = ("gate", "line", "http", "ws", "tls", "udp", "kcp", "ctl")
FILE = b"abc" * 100000
_made = []


def folder():
    """Certificates, and a file to serve; made at the first use."""
    if not _made:
        made = tempfile.TemporaryDirectory(prefix="skynet-syscalls-")
        subprocess.run([os.path.join(ROOT, "test/lib/make_certs.sh"), made.name], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.mkdir(os.path.join(made.name, "www"))
        with open(os.path.join(made.name, "www", "file.txt"), "wb") as f:
            f.write(FILE)
        _made.append(made)
    return _made[0].name


class Server(FaultyNode):
    """A node that echoes in many ways at the ports in `port`, and a client of each. `patience` is how long
    a client waits for what comes next, in seconds."""

    def __init__(self, config, rules=()):
        self.patience, self.port = LIMIT, {}
        super().__init__(f"thread = 2\n{config}", rules=rules)

    def await_start(self, names, line):
        """Learn the ports; a node that does not say them is ended."""
        try:
            for name in names:
                self.port[name] = int(self.wait_for(rf"port {name} (\d+)").group(1))
            self.wait_for(line)
        except AssertionError:
            self.proc.kill()
            raise

    def client(self, name):
        return Client(self.port[name], limit=self.patience)

    def echo(self, c, text=b"hello"):
        """A line goes to and fro on a connection to `line`."""
        c.send(text + b"\n")
        want = b"echo " + text + b"\n"
        got = c.recv_exact(len(want))
        assert got == want, (got[:100], want[:100])

    def line(self, text=b"hello"):
        with self.client("line") as c:
            self.echo(c, text)

    def package(self, name):
        """A package goes to a gate and comes back."""
        with self.client(name) as c:
            c.send(frame(b"hello"))
            assert c.recv_exact(12) == frame(b"echo hello")

    def get(self, path):
        h = http.client.HTTPConnection("127.0.0.1", self.port["http"], timeout=self.patience)
        try:
            h.request("GET", path)
            answer = h.getresponse()
            return answer.status, answer.read()
        finally:
            h.close()

    def file(self):
        status, body = self.get("/files/file.txt")
        assert status == 200 and body == FILE, (status, len(body))

    def web(self):
        assert self.get("/hello") == (200, b"hello\n")
        self.file()

    def message(self, name):
        """A message goes to a WebSocket server and comes back."""
        with self.client(name) as c:
            key = base64.b64encode(bytes(16)).decode()
            c.send("GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                   f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n")
            assert c.recv_until(b"\r\n\r\n").startswith(b"HTTP/1.1 101")
            c.send(b"\x81\x83\0\0\0\0one")
            assert c.recv_exact(10) == b"\x81\x08echo one"

    def secretly(self, name, text, want):
        """Bytes go to a TLS server, and others come back."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection(("127.0.0.1", self.port[name]), timeout=self.patience) as raw:
            with context.wrap_socket(raw) as s:
                s.sendall(text)
                got = b""
                while len(got) < len(want):
                    more = s.recv(100)
                    assert more, got
                    got += more
                assert got == want, got

    def ends_well(self):
        """No rule is in force any more, and nothing has come of those that were."""
        self.faults.clear()
        self.serves_all()
        assert self.stop() == 0


class Subject(Server):
    """A node with faults_subject, and clients of what it serves."""

    def __init__(self, rules=(), config=""):
        udp = free_port()
        super().__init__(f'start = "faults_subject {folder()} {folder()}/www {udp}"\n{config}', rules)
        self.await_start(("gate", "line", "http", "ws", "tls", "udp", "kcp", "ctl"), "subject is up")

    def ask(self, request):
        """What the node gets when it does that as a client."""
        with self.client("ctl") as c:
            c.send(request + "\n")
            return c.recv_until(b"\n")[:-1].decode()

    def gate(self):
        self.package("gate")

    def websocket(self):
        self.message("ws")

    def tls(self):
        self.secretly("tls", b"hello\n", b"echo hello\n")

    def datagrams(self):
        """One that is lost is sent again."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.connect(("127.0.0.1", self.port["udp"]))
            s.settimeout(0.5)
            end = time.monotonic() + self.patience
            while True:
                s.send(b"hello")
                try:
                    assert s.recv(100) == b"echo hello"
                    return
                except TimeoutError:
                    assert time.monotonic() < end, "no answer"

    def serves_all(self):
        """Every server and every client of the node works."""
        self.line()
        self.line(b"x" * 200000)
        self.gate()
        self.web()
        self.websocket()
        self.tls()
        self.datagrams()
        for what, want in (("line", "echo one"), ("channel", "echo one"), ("http", "200 hello "), ("tls", "echo one"),
                           ("ws", "echo one"), ("kcp", "echo one"), ("listen", "listened"), ("udp", "bound"),
                           ("line localhost", "echo one")):
            got = self.ask(what)
            assert got == want, (what, got)


class Doors(Server):
    """A node with faults_doors: gates with an agent for each client, the gate in C, the debug console."""

    def __init__(self, rules=(), config=""):
        super().__init__(f'start = "faults_doors doors {folder()} {free_port()}"\n{config}', rules)
        self.await_start(("agents", "tlsagents", "wsagents", "cgate"), "doors are open")
        self.port["console"] = int(self.wait_for(r"Start debug console at \S+:(\d+)").group(1))

    def agents(self):
        self.package("agents")

    def tlsagents(self):
        self.secretly("tlsagents", frame(b"hello"), frame(b"echo hello"))

    def wsagents(self):
        self.message("wsagents")

    def cgate(self):
        self.package("cgate")

    def console(self):
        with self.client("console") as c:
            c.send("list\n")
            assert b"cgate" in c.recv_until(b"<CMD OK>\n")

    def serves_all(self):
        """Every server of the node works."""
        self.agents()
        self.tlsagents()
        self.wsagents()
        self.cgate()
        self.console()
