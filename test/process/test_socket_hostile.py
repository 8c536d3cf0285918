"""Peers that mean harm, or are just broken: what they cost is bounded, others do not
notice, and what they took comes back."""

import os
import re
import resource
import socket
import struct
import threading
import time

import harness
from harness import Client, Node, flood_of_lines, reset

ALSO_WITH = "socket_thread = 3"

LIMIT = 1024 * 1024
SERVICE = """
local skynet = require "skynet"
local socket = require "skynet.socket"
local memory = require "skynet.memory"

local worst = 0
local block = ("x"):rep(100000)
local command = {}

function command.echo(id, text)
	socket.write(id, text .. "\\n")
end

-- Sends until it is refused.
function command.push(id)
	local since = skynet.now()
	while socket.write(id, block) do
		for _, v in ipairs(socket.netstat()) do
			worst = math.max(worst, v.wbuffer or 0)
		end
		skynet.sleep(0)
	end
	skynet.error("refused", id)
	return "end"
end

function command.stat(id)
	collectgarbage()
	collectgarbage()
	socket.write(id, string.format("%d %d %.0f\\n", #socket.netstat(), worst,
		memory.total() + collectgarbage "count" * 1024))
end

skynet.start(function()
	local listener, _, port = socket.listen("127.0.0.1", 0, 1024)
	socket.start(listener, function(id)
		socket.start(id)
		repeat
			local line = socket.readline(id)
			local word, rest = (line or ""):match "^(%a+) ?(.*)$"
		until not line or (command[word] or command.echo)(id, rest) == "end"
		socket.close(id)
	end)
	skynet.error("port " .. port)
end)
"""


class Victim(Node):
    def __init__(self, **more):
        super().__init__(f'start = "victim"\nluaservice = "./?.lua;" .. luaservice\n'
                         f'socket_send_limit = {LIMIT}\n', files={"victim.lua": SERVICE}, **more)

    def port(self):
        return int(self.wait_for(r"port (\d+)").group(1))


class Friend(Client):
    """A peer that behaves."""

    def echo(self, text):
        self.sock.sendall(b"echo " + text + b"\n")
        assert self.line() == text

    def line(self):
        while b"\n" not in self.buf:
            data = self.sock.recv(65536)
            assert data, "the node closed a good connection"
            self.buf += data
        line, self.buf = self.buf.split(b"\n", 1)
        return line

    def stat(self):
        """Sockets of the node, most bytes that ever waited for one peer, bytes in use."""
        self.sock.sendall(b"stat\n")
        return [int(n) for n in self.line().split()]

    def wait_for_sockets(self, want, bytes_before):
        """Until only so many are left and memory is back to a mebibyte more."""
        end = time.monotonic() + harness.LIMIT
        while True:
            sockets, _, used = self.stat()
            if sockets == want and used < bytes_before + 1024 * 1024:
                return
            assert time.monotonic() < end, f"{sockets} sockets, {used} bytes, was {bytes_before}"
            time.sleep(0.005)


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=harness.LIMIT)


def test_slow_readers_cost_no_more_than_their_limit():
    with Victim() as node:
        port = node.port()
        friend = Friend(port)
        friend.echo(b"before")
        _, _, before = friend.stat()
        slow = [connect(port) for _ in range(20)]
        for s in slow:
            s.sendall(b"push\n")
        for i in range(50):
            friend.echo(b"meanwhile %d" % i)
        at = 0
        for _ in slow:
            at = node.wait_for(r"refused \d+", start=at).end()
        _, worst, _ = friend.stat()
        assert LIMIT / 2 < worst <= LIMIT, worst
        # Nobody had to close them: listener and friend are left.
        friend.wait_for_sockets(2, before)
        for s in slow:
            s.close()


def test_a_peer_that_closed_its_half_gets_all_its_answers():
    with Victim() as node:
        port = node.port()
        friend = Friend(port)
        _, _, before = friend.stat()
        peers = [connect(port) for _ in range(100)]
        for s in peers:
            s.sendall(b"one\ntwo\nhalf a li")
            s.shutdown(socket.SHUT_WR)
        for s in peers:
            text = b""
            while True:
                data = s.recv(1000)
                if not data:
                    break
                text += data
            assert text == b"\n\n", text
            s.close()
        friend.wait_for_sockets(2, before)


def test_resets_in_the_middle_of_a_message_disturb_nobody():
    with Victim() as node:
        port = node.port()
        friend = Friend(port)
        friend.echo(b"before")
        _, _, before = friend.stat()
        for i in range(200):
            s = connect(port)
            s.sendall(b"echo half a message" * (i % 3))
            reset(s)
            if i % 20 == 0:
                friend.echo(b"meanwhile %d" % i)
        friend.wait_for_sockets(2, before)


def test_a_flood_of_resets_is_no_flood_of_lines():
    with Victim() as node:
        port = node.port()

        def broken():
            s = connect(port)
            # It is read: what ends earlier is no error.
            s.sendall(b"echo x\n")
            assert s.recv(2) == b"x\n"
            s.sendall(b"half a line")
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return s
        flood_of_lines(node, broken, r"socket: error on \d+ Connection reset by peer( peer=\S+)?")
        Friend(port).echo(b"served")


def test_running_out_of_descriptors_is_told_and_passes():
    with Victim(wrapper=("prlimit", "--nofile=64:64")) as node:
        port = node.port()
        friend = Friend(port)
        friend.echo(b"before")
        _, _, before = friend.stat()
        broken = Friend(port)
        broken.echo(b"before")
        peers = [connect(port) for _ in range(100)]
        m = node.wait_for(r"listener \d+ rests, refusing 127\.0\.0\.1:(\d+): Too many open files; "
                          r"raise the limit of descriptors")
        # Who is refused sees the end of the connection.
        refused = [s for s in peers if s.getsockname()[1] == int(m.group(1))]
        assert not refused or refused[0].recv(1) == b""
        friend.echo(b"meanwhile")
        # Nothing needs a descriptor to deal with the end of a connection.
        broken.sock.sendall(b"half a line")
        reset(broken.sock)
        node.wait_for(r"socket: error on \d+ Connection reset by peer")
        for s in peers:
            s.close()
        friend.wait_for_sockets(2, before)
        assert "can't look for" not in node.text, node.text
        # Of those that were not accepted yet some may be before it, and take all once more.
        for _ in range(20):
            late = Friend(port)
            try:
                late.echo(b"after")
                break
            except (ConnectionError, AssertionError):
                friend.wait_for_sockets(2, before)
        else:
            raise AssertionError("nobody is served any more:\n" + node.text)
        assert node.text.count("rests, refusing") < 20, node.text


WANTING = """
local skynet = require "skynet"
local socket = require "skynet.socket"

local function can_open()
	local f = io.open "/dev/null"
	return f and f:close()
end

local function wait_until(there_are)
	while (can_open() ~= nil) ~= there_are do
		skynet.sleep(1)
	end
end

local function try(what, f, ...)
	local ok, result, why = pcall(f, ...)
	skynet.error("try " .. what, tostring(ok and (why or result) or result):match "[^\\n]*")
end

local function try_all()
	try("name", socket.open, "localhost", PORT)
	try("addresses", socket.resolve, "localhost")
	try("module", require, "http.url")
	skynet.error "tried"
end

skynet.start(function()
	local _ = socket.resolve -- its module is loaded
	skynet.error "ready"
	wait_until(false)
	try_all()
	wait_until(true)
	try_all()
end)
"""


def test_errors_for_want_of_descriptors_say_so():
    with socket.create_server(("127.0.0.1", 0)) as server:
        text = WANTING.replace("PORT", str(server.getsockname()[1]))
        with Node('start = "wanting"\n', files={"svc/wanting.lua": text}) as node:
            node.wait_for("ready$")
            before = resource.prlimit(node.proc.pid, resource.RLIMIT_NOFILE)
            end = time.monotonic() + harness.LIMIT
            while not re.search("tried$", node.text, re.M):
                # As many as it has; there may have been one just now that is gone.
                fds = len(os.listdir(f"/proc/{node.proc.pid}/fd"))
                resource.prlimit(node.proc.pid, resource.RLIMIT_NOFILE, (fds, before[1]))
                assert time.monotonic() < end, node.text
                time.sleep(0.02)
            for line in ("try name Too many open files$", "try addresses .*Too many open files$",
                         "try module .*can't look for module 'http.url': Too many open files$"):
                node.wait_for(line)
            mark = len(node.text)
            resource.prlimit(node.proc.pid, resource.RLIMIT_NOFILE, before)
            node.wait_for("tried$", start=mark)
            assert "Too many" not in node.text[mark:], node.text


def flood(port, chunk):
    """Send without reading until the node ends it."""
    try:
        with connect(port) as s:
            while True:
                s.sendall(chunk)
    except OSError:
        pass


def test_floods_are_ended_and_the_others_served():
    with Victim() as node:
        port = node.port()
        friend = Friend(port)
        friend.echo(b"before")
        _, _, before = friend.stat()
        # Answers that nobody reads; a line that never ends.
        chunks = [b"echo " + b"y" * 1000 + b"\n", b"z" * 65536] * 3
        threads = [threading.Thread(target=flood, args=(port, c), daemon=True) for c in chunks]
        for t in threads:
            t.start()
        for i in range(100):
            friend.echo(b"meanwhile %d" % i)
        for t in threads:
            t.join(harness.LIMIT)
            assert not t.is_alive(), "a flood goes on"
        friend.wait_for_sockets(2, before)
