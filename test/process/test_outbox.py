"""What a callback sends is written soon, in the order of the calls, and not lost by what
the service does next."""

import os

from harness import Client, Node

SERVICE = """
local skynet = require "skynet"
local socket = require "skynet.socket"
local driver = require "skynet.socketdriver"
require "skynet.manager"

local mode = ...

-- Does not return before the file is there, or fails.
local function wait_for_file(name)
	local give_up = skynet.hpc() + 100e9
	repeat
		local f = io.open(name)
		if f then
			f:close()
			return
		end
	until skynet.hpc() > give_up
	error("nobody made " .. name)
end

if mode == "other" then
	skynet.start(function()
		skynet.dispatch("lua", function(_, _, verb, id, text)
			skynet.ignoreret()
			if verb == "send" then
				driver.send(id, text)
			else
				driver[verb](id)
			end
		end)
	end)
	return
end

local command = {}

-- One callback: the peer makes the file when it has read the line.
function command.stuck(id)
	driver.send(id, "soon\\n")
	wait_for_file("read-1")
	driver.send(id, "again\\n")
	wait_for_file("read-2")
	driver.send(id, "done\\n")
end

function command.shutdown(id)
	driver.send(id, "bye\\n")
	driver.shutdown(id)
	return true
end

function command.close(id)
	driver.send(id, "bye\\n")
	driver.close(id)
	return true
end

function command.abort(id)
	driver.send(id, "bye\\n")
	skynet.abort()
	return true
end

function command.exit(id)
	driver.send(id, "bye\\n")
	skynet.exit()
	return true
end

function command.other_shuts(id)
	local other = skynet.newservice("outbox", "other")
	driver.send(id, "bye\\n")
	skynet.send(other, "lua", "shutdown", id)
	return true
end

-- Two services in turn, on whatever workers.
function command.turns(id)
	local other = skynet.newservice("outbox", "other")
	for i = 1, 1000 do
		driver.send(id, "a" .. i .. " ")
		skynet.send(other, "lua", "send", id, "b" .. i .. " ")
		skynet.yield()
	end
	skynet.send(other, "lua", "send", id, "\\n")
end

-- More in one callback than may wait unsent, but not more than the peer takes.
function command.limited(id)
	assert(driver.option(id, { send_limit = 1000 }))
	for _ = 1, 20 do
		assert(driver.send(id, ("x"):rep(400)))
	end
	assert(driver.send(id, "\\n"))
end

-- To more sockets in one callback than are gathered at a time, several times each.
local everybody = {}

function command.join(id)
	everybody[#everybody + 1] = id
	driver.send(id, "joined\\n")
end

function command.all()
	for i = 1, 3 do
		for _, id in ipairs(everybody) do
			driver.send(id, i == 3 and "3\\n" or i .. " ")
		end
	end
end

-- More to one socket than is held back, in pieces smaller than that and one larger.
function command.much(id)
	for i = 1, 60 do
		driver.send(id, string.char(64 + i):rep(i == 30 and 100000 or 10000))
	end
	driver.send(id, "\\n")
end

-- Is refused again and again; says how much was not.
function command.flood(id)
	assert(driver.option(id, { send_limit = 200000, send_policy = "drop" }))
	local taken, refused = 0, 0
	local piece = ("x"):rep(9000)
	repeat
		if driver.send(id, piece) then
			taken = taken + #piece
		else
			refused = refused + 1
			skynet.yield()
		end
	until refused == 3000
	while not driver.send(id, taken .. "\\n") do
		skynet.sleep(1)
	end
end

skynet.start(function()
	local listener, _, port = socket.listen("127.0.0.1", 0)
	socket.start(listener, function(id)
		socket.start(id)
		repeat
			local line = socket.readline(id)
		until not line or command[line](id)
	end)
	skynet.error("port " .. port)
end)
"""


class Sender(Node):
    def __init__(self, threads=4, more=""):
        super().__init__('start = "outbox"\nluaservice = "./?.lua;" .. luaservice\n'
                         f'thread = {threads}\n{more}\n', files={"outbox.lua": SERVICE})


class Peer(Client):
    def __init__(self, node):
        super().__init__(int(node.wait_for(r"port (\d+)").group(1)))

    def ask(self, word):
        self.sock.sendall(word.encode() + b"\n")

    def line(self):
        pieces = [self.buf]
        while b"\n" not in pieces[-1]:
            data = self.sock.recv(65536)
            assert data, "the connection ended before " + repr(pieces[-1])
            pieces.append(data)
        self.buf = b"".join(pieces)
        line, _, self.buf = self.buf.partition(b"\n")
        return line.decode()

    def rest(self):
        """All until the connection ends, how ever it does."""
        data = self.buf
        try:
            while more := self.sock.recv(65536):
                data += more
        except ConnectionResetError:
            pass
        return data


def touch(node, name):
    with open(os.path.join(node.dir, name), "w"):
        pass


def see_a_long_callback(threads):
    with Sender(threads) as node, Peer(node) as peer:
        peer.ask("stuck")
        assert peer.line() == "soon"
        touch(node, "read-1")
        assert peer.line() == "again"
        touch(node, "read-2")
        assert peer.line() == "done"


def test_a_long_callback_holds_nothing_back_on_one_worker():
    see_a_long_callback(1)


def test_a_long_callback_holds_nothing_back_on_two_workers():
    see_a_long_callback(2)


def see_last_words(word):
    with Sender() as node, Peer(node) as peer:
        peer.ask(word)
        assert peer.rest() == b"bye\n"


def test_shutdown_after_a_send():
    see_last_words("shutdown")


def test_shutdown_by_another_service_after_a_send():
    see_last_words("other_shuts")


def test_close_after_a_send():
    see_last_words("close")


def test_exit_after_a_send():
    see_last_words("exit")


def test_abort_after_a_send():
    see_last_words("abort")


def test_services_that_send_in_turn_keep_their_order():
    for threads in (1, 4):
        with Sender(threads) as node, Peer(node) as peer:
            peer.ask("turns")
            words = peer.line().split()
            assert sorted(words) == sorted(f"{c}{i}" for c in "ab" for i in range(1, 1001))
            for c in "ab":
                assert [w for w in words if w[0] == c] == [f"{c}{i}" for i in range(1, 1001)]
            at = {w: i for i, w in enumerate(words)}
            # The other one sends because of a message that was sent after the first.
            assert all(at[f"a{i}"] < at[f"b{i}"] for i in range(1, 1001))


def test_a_limit_counts_only_what_the_peer_does_not_take():
    with Sender() as node, Peer(node) as peer:
        for _ in range(500):
            peer.ask("limited")
            assert peer.line() == "x" * 8000


def test_a_callback_may_send_to_many_sockets():
    with Sender() as node:
        peers = [Peer(node) for _ in range(100)]
        for peer in peers:
            peer.ask("join")
            assert peer.line() == "joined"
        peers[0].ask("all")
        for peer in peers:
            assert peer.line() == "1 2 3"
            peer.sock.close()


def test_a_callback_may_send_much_to_one_socket():
    with Sender() as node, Peer(node) as peer:
        peer.ask("much")
        assert peer.line() == "".join(chr(64 + i) * (100000 if i == 30 else 10000) for i in range(1, 61))


def test_what_was_not_refused_arrives():
    for more in ("", "socket_thread = 3"):
        with Sender(more=more) as node, Peer(node) as peer:
            peer.ask("flood")
            line = peer.line()
            assert line.startswith("x" * 9000)
            taken = line.lstrip("x")
            assert len(line) - len(taken) == int(taken)
