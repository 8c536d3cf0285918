"""The example game: the real client's transcript, the exact bytes on the wire,
hostile clients, and what is left when clients go."""

import contextlib
import os
import re
import signal
import socket
import struct
import subprocess
import threading
import time

from harness import LIMIT, LUA, OUT, ROOT, Client, Node, plain_env

ALSO_WITH = "socket_thread = 3"

HANDSHAKE = bytes.fromhex("000415020404")
SET_HELLO = bytes.fromhex("00145502080602" "10053f68656c6c6f053e776f726c64")
GET_HELLO = bytes.fromhex("000d5502060801c4056865076c6c6f")
# Header only: the request had a session, the protocol has no answer.
SET_DONE = bytes.fromhex("000415020106")
QUIT = bytes.fromhex("000415020a0a")
GOT_WORLD = bytes.fromhex("000d5502010801c405776f07726c64")
HEARTBEAT = bytes.fromhex("0003050104")
WELCOME_HEAD = bytes.fromhex("003f55020104" "01c4355765ff05")


class Game(Node):
    """The example server on free ports."""

    def __init__(self, **kw):
        super().__init__('start = "main"\ngate_port = 0\nconsole_port = 0\n', **kw)
        self.port = int(self.wait_for(r"Watchdog listen on 0\.0\.0\.0:(\d+)").group(1))
        self.console = int(self.wait_for(r"Start debug console at 127\.0\.0\.1:(\d+)").group(1))

    def command(self, line):
        """Output lines of one console command."""
        with Client(self.console) as c:
            c.send(line + "\n")
            return c.recv_until("<CMD OK>\n").decode().splitlines()[1:-1]

    def count(self, line, pattern):
        return sum(1 for x in self.command(line) if re.search(pattern, x))

    def wait_count(self, line, pattern, want):
        """Until that many output lines match; each look is a round trip."""
        end = time.monotonic() + LIMIT
        while (seen := self.count(line, pattern)) != want:
            assert time.monotonic() < end, f"{line}: {seen} lines match {pattern}, want {want}"
            time.sleep(0.005)


def package(client):
    head = client.recv_exact(2)
    return head + client.recv_exact(struct.unpack(">H", head)[0])


def reply(client):
    """The next package that is no heartbeat."""
    while True:
        p = package(client)
        if p != HEARTBEAT:
            return p


class RealClient:
    """examples/client.lua under the plain interpreter."""

    def __init__(self, port):
        find = f'package.cpath = "{OUT}/luaclib/?.so"'
        self.proc = subprocess.Popen([LUA, "-e", find, "examples/client.lua", "127.0.0.1", str(port)],
                                     cwd=ROOT, env=plain_env(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                     stderr=subprocess.STDOUT)
        self.timer = threading.Timer(LIMIT, self.proc.kill)
        self.timer.start()

    def say(self, line):
        self.proc.stdin.write(line.encode() + b"\n")
        self.proc.stdin.flush()

    def line(self):
        text = self.proc.stdout.readline().decode()
        assert text, "the client ended"
        return text.rstrip("\n")

    def answer(self):
        """The next line that is no heartbeat."""
        while True:
            text = self.line()
            if text != "REQUEST\theartbeat":
                return text

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.timer.cancel()
        if self.proc.poll() is None:
            self.proc.kill()
        self.proc.wait()
        self.proc.stdin.close()
        self.proc.stdout.close()


def test_start_up_log():
    with Game() as n:
        order = [n.text.index(s) for s in (
            "Server start", "Start debug console at", "Listen on 0.0.0.0 0", "Watchdog listen on")]
        assert order == sorted(order), n.text
        assert n.stop() == 0


def test_transcript_of_the_real_client():
    with Game() as n, RealClient(n.port) as c:
        assert c.answer() == "Request:\t1"
        assert c.answer() == "Request:\t2"
        assert c.answer() == "RESPONSE\t1"
        assert c.answer() == "msg\tWelcome to skynet, I will send heartbeat every 5 sec."
        assert c.answer() == "RESPONSE\t2"
        c.say("hello")
        assert c.answer() == "Request:\t3"
        assert c.answer() == "RESPONSE\t3"
        assert c.answer() == "result\tworld"
        c.say("unknown")
        assert c.answer() == "Request:\t4"
        assert c.answer() == "RESPONSE\t4"
        while c.line() != "REQUEST\theartbeat":
            pass
        c.say("quit")
        assert c.answer() == "Request:\t5"
        rest = c.proc.stdout.read().decode()
        # All there is, but for a heartbeat.
        assert rest.replace("REQUEST\theartbeat\n", "") == "Server closed\n", rest
        assert c.proc.wait() == 1
        n.wait_for(r"New client from : 127\.0\.0\.1:\d+")
        n.wait_for(r"^set\thello\tworld$")
        n.wait_for(r"^get\thello$")
        n.wait_for(r"^socket close\t\d+$")
        n.wait_count("list", "snlua agent", 0)


def test_exact_bytes():
    with Game() as n, Client(n.port) as c:
        c.send(HANDSHAKE + SET_HELLO + GET_HELLO)
        welcome = reply(c)
        assert welcome.startswith(WELCOME_HEAD), welcome.hex()
        assert len(welcome) == 0x3f + 2
        assert reply(c) == SET_DONE
        assert reply(c) == GOT_WORLD
        # One byte at a time is the same.
        for byte in GET_HELLO:
            c.send(bytes([byte]))
        assert reply(c) == GOT_WORLD
        assert package(c) == HEARTBEAT
        c.send(QUIT)
        assert c.recv_eof().replace(HEARTBEAT, b"") == b""
        n.wait_for(r"^socket close\t\d+$")


def test_hostile_frames_close_their_connection_only():
    with Game() as n, Client(n.port) as good:
        good.send(HANDSHAKE)
        reply(good)
        hostile = [
            b"\xff\xff" + os.urandom(65535),
            b"\x00\x00",
            b"\x00\x04\xff\xff\xff\xff",
            b"\x00\x08" + b"\x00" * 8,
            b"\x00\x04\x15\x02\x7e\x04",
            b"\x00\x04\x05\x02\x04\x04",
        ]
        for data in hostile:
            mark = len(n.text)
            with Client(n.port) as c:
                with contextlib.suppress(OSError):  # it may have ended already
                    c.send(data)
                    c.sock.shutdown(socket.SHUT_WR)
                c.recv_eof()
            n.wait_for(r"^socket (close|error)\t\d+", start=mark)
        # A frame that never completes.
        mark = len(n.text)
        with Client(n.port) as c:
            c.send(b"\x10\x00" + b"x" * 100)
        n.wait_for(r"^socket (close|error)\t\d+", start=mark)
        n.wait_count("list", "snlua agent", 1)
        good.send(SET_HELLO + GET_HELLO)
        reply(good)
        assert reply(good) == GOT_WORLD


def test_garbage_is_told_in_the_log():
    with Game() as n, Client(n.port) as c:
        c.send(b"\x00\x04\xff\xff\xff\xff")
        c.recv_eof()
        n.wait_for(r"bad package from fd \(\d+\)")


def test_sixty_four_clients_fit():
    with Game() as n:
        clients = []
        try:
            for _ in range(64):
                c = Client(n.port)
                clients.append(c)
                c.send(HANDSHAKE)
            for c in clients:
                assert reply(c).startswith(WELCOME_HEAD)
            with Client(n.port) as refused:
                assert refused.recv_eof() == b""
            assert n.count("list", "snlua agent") == 64
            for c in clients:
                c.send(SET_HELLO + GET_HELLO)
            for c in clients:
                reply(c)
                assert reply(c) == GOT_WORLD
        finally:
            for c in clients:
                c.close()
        n.wait_count("list", "snlua agent", 0)
        with Client(n.port) as c:
            c.send(HANDSHAKE)
            assert reply(c).startswith(WELCOME_HEAD)


def test_killing_the_client_leaves_nothing_behind():
    with Game() as n:
        # Not those of the console: the last look may still have its connection.
        pattern = "address:" + n.wait_for(r"^\[(:[0-9a-f]{8})\] Listen on").group(1)
        # The listener, which is listed when its loop has started it.
        before = 1
        n.wait_count("netstat", pattern, before)
        agents = n.count("list", "snlua agent")
        with RealClient(n.port) as c:
            while c.line() != "RESPONSE\t2":
                pass
            n.wait_count("netstat", pattern, before + 1)
            n.wait_count("list", "snlua agent", agents + 1)
            c.proc.send_signal(signal.SIGKILL)
            c.proc.wait()
        n.wait_count("list", "snlua agent", agents)
        n.wait_count("netstat", pattern, before)


def test_reset_connection_is_cleaned_up():
    with Game() as n, Client(n.port) as c:
        c.send(HANDSHAKE)
        reply(c)
        c.reset()
        n.wait_for(r"^socket error\t\d+\tConnection reset by peer$")
        n.wait_for(r"^socket close\t\d+$")
        n.wait_count("list", "snlua agent", 0)


def test_connect_and_leave_at_once():
    with Game() as n:
        for i in range(20):
            with Client(n.port) as c:
                if i % 2:
                    c.reset()
        n.wait_count("list", "snlua agent", 0)
        with Client(n.port) as c:
            c.send(HANDSHAKE)
            assert reply(c).startswith(WELCOME_HEAD)


def test_port_in_use_fails_the_start_with_a_reason():
    with socket.socket() as s:
        s.bind(("0.0.0.0", 0))
        s.listen()
        port = s.getsockname()[1]
        with Node(f'start = "main"\ngate_port = {port}\nconsole_port = 0\n') as n:
            n.wait_for(rf"Listen error: 0\.0\.0\.0:{port}: Address already in use")
            n.wait_for(r"start script 'main' failed")
            assert n.stop() == 0
