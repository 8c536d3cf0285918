"""snax.msgserver (net.md 8.2; L5 to L8): handshakes, the matrix of retransmission,
limits, hostile peers. Clients speak through loginclient, which shares no code with it."""

import itertools
import re
import socket
import struct
import time

import loginclient as lc
from harness import LIMIT, Client, Node, Rate, frame, until_it_works

SECRET = bytes(range(1, 9))
MODERN_SECRET = bytes(range(32))

# Requests are words; `wait` is answered when another connection says `go`.
GATED = """
local skynet = require "skynet"
local msgserver = require "snax.msgserver"
local crypt = require "skynet.crypt"
local go, runs = {}, {}
local conf = CONF
local name = function(uid) return msgserver.username(uid, 1, "srv") end

function conf.login_handler(uid, secret)
	msgserver.login(name(uid), crypt.hexdecode(secret))
	return 1
end
function conf.logout_handler(uid) msgserver.logout(name(uid)) return "out" end
function conf.kick_handler(...) return "kick", ... end
function conf.register_handler(server, ip, port)
	skynet.error("registered", server, ip, port)
	skynet.error("name", msgserver.username("u@id", 7, "s#v"))
	skynet.error("parts", msgserver.userid(msgserver.username("u@id", 7, "s#v")))
	skynet.error("no name", msgserver.userid "u@id")
	return "registered", server
end
function conf.disconnect_handler(user)
	skynet.error("gone", (msgserver.userid(user)), msgserver.ip(user))
end

local word = {}
function word.wait()
	local token = {}
	go[#go + 1] = token
	skynet.error("waiting", #go)
	skynet.wait(token)
	return "waited"
end
function word.go()
	for _, token in ipairs(go) do skynet.wakeup(token) end
	go = {}
	return "went"
end
function word.fail() error "handler fails" end
function word.none() end
function word.table() return {} end
function word.max() return ("x"):rep(65530) end
function word.big() return ("x"):rep(65531) end
function word.kb() return ("x"):rep(1024) end
function word.ip(user) return msgserver.ip(user) or "none" end
function word.ip_bob() return msgserver.ip(name "bob") or "none" end
function word.logout(user) msgserver.logout(user) end
function word.logout_bob() msgserver.logout(name "bob") end
function conf.request_handler(user, msg)
	runs[msg] = (runs[msg] or 0) + 1
	local f = word[msg]
	if f then return f(user) end
	return msg .. runs[msg]
end
msgserver.start(conf)
"""
MAIN = """
local skynet = require "skynet"
skynet.start(function()
	local gate = skynet.newservice "gated"
	local function call(...) return skynet.call(gate, "lua", ...) end
	for _, uid in ipairs { "bob", "eve" } do call("login", uid, SECRET) end
	call("login", "new", MODERN)
	skynet.error("again", pcall(call, "login", "bob", SECRET))
	skynet.error("short", pcall(call, "login", "odd", "0102"))
	skynet.error("kick", call("kick", 1, 2))
	call("login", "tmp", SECRET)
	skynet.error("logout", call("logout", "tmp"))
	skynet.error("anew", call("login", "tmp", SECRET))
	skynet.error("other", pcall(call, "reboot"))
	skynet.error("noname", pcall(call, "open", { address = "127.0.0.1", port = 0 }))
	call "close"
	skynet.error("open", call("open", { address = "127.0.0.1", port = 0, servername = "srv" }))
end)
"""


class Gated(Node):
    def __init__(self, conf="{}"):
        main = MAIN.replace("SECRET", f'"{SECRET.hex()}"').replace(
            "MODERN", f'"{MODERN_SECRET.hex()}"')
        files = {"svc/gated.lua": GATED.replace("CONF", conf), "svc/go.lua": main}
        super().__init__('start = "go"\n', files=files)
        self.port = int(self.wait_for(r"registered srv 127\.0\.0\.1 (\d+)").group(1))
        self.wait_for("open registered srv$")

    def connect(self):
        c = lc.Game(self.port)
        c.addr = "127.0.0.1:%d" % c.sock.getsockname()[1]
        return c

    def join(self, index=1, uid=b"bob"):
        c = self.connect()
        try:
            status = c.hello(name(uid), index, SECRET)
            assert status == "200 OK", status
        except BaseException:
            c.close()
            raise
        return c


def name(uid):
    return lc.user_name(uid, b"srv", b"1")


def call(c, word, session):
    c.ask(word, session)
    return c.answer()


def test_commands_are_answered():
    with Gated() as n:
        n.wait_for("again false")
        n.wait_for("short false")
        n.wait_for("kick kick 1 2$")
        n.wait_for("logout out$")
        n.wait_for("anew 1$")
        n.wait_for("other false")
        n.wait_for("noname false")
        n.wait_for("the user is logged in already")
        n.wait_for("a secret has 8 or 32 bytes")
        n.wait_for("Invalid msgserver command reboot")
        n.wait_for("open needs a servername")


def test_names_of_users():
    with Gated() as n:
        n.wait_for(re.escape(f"name {lc.b64(b'u@id')}@{lc.b64(b's#v')}#{lc.b64(b'7')}") + "$")
        n.wait_for("parts u@id 7 s#v$")
        n.wait_for(r"no name$")


def test_a_configuration_is_checked():
    for key in ("expired_number", "cache_bytes", "cache_age", "max_pending", "handshake_timeout", "max_backlog"):
        for value in ("0", "'x'", "1.5"):
            text = GATED.replace("CONF", "{ %s = %s }" % (key, value))
            with Node('start = "gated"', files={"svc/gated.lua": text}) as n:
                n.wait_for(f"msgserver: {key} must be a whole number above 0, not " + value.strip("'"))
    with Gated("{ max_backlogs = 5, my_own = 6 }") as n:
        n.wait_for("msgserver option 'max_backlogs' does not exist, did you mean 'max_backlog'[?]")
        assert "my_own" not in n.text


def test_handshakes_and_their_refusals():
    with Gated() as n:
        good, bad = name(b"bob"), lc.b64(b"12345678")
        n.join(2).close()
        cases = [
            (b"garbage", "404 User Not Found"),
            (b"", "404 User Not Found"),
            (f"{name(b'who')}:1:{bad}".encode(), "404 User Not Found"),
            (f"{good}:1:2:{bad}".encode(), "404 User Not Found"),
            (f"{good}:x:{bad}".encode(), "400 Bad Request"),
            (f"{good}:0x10:{bad}".encode(), "400 Bad Request"),
            (f"{good}:1e300:{bad}".encode(), "400 Bad Request"),
            (f"{good}:3.0:{bad}".encode(), "400 Bad Request"),
            (f"{good}:-3:{bad}".encode(), "400 Bad Request"),
            (f"{good}::{bad}".encode(), "400 Bad Request"),
            (f"{good}:9007199254740992:{bad}".encode(), "400 Bad Request"),
            (f"{good}:99999999999999999999:{bad}".encode(), "400 Bad Request"),
            (f"{good}:3:A".encode(), "400 Bad Request"),
            (f"{good}:2:{bad}".encode(), "403 Index Expired"),
            (f"{good}:1:{bad}".encode(), "403 Index Expired"),
            (f"{good}:0:{bad}".encode(), "403 Index Expired"),
            (f"{good}:3:{bad}".encode(), "401 Unauthorized"),
            (f"{good}:3:".encode(), "401 Unauthorized"),
        ]
        for payload, want in cases:
            with n.connect() as c:
                c.put(payload)
                got = c.package().decode()
                assert got == want, (payload, got)
                assert c.recv_eof() == b""
                n.wait_for(f"msgserver: {c.addr} refused, {want}$")
        # None of them did harm.
        with n.join(3) as c:
            assert call(c, b"hi", 1) == (b"hi1", 1, 1)


def test_a_modern_secret_wants_a_modern_proof():
    with Gated() as n:
        with n.connect() as c:
            assert c.hello(name(b"new"), 1, MODERN_SECRET) == "200 OK"
            assert call(c, b"hi", 1) == (b"hi1", 1, 1)
        with n.connect() as c:
            assert c.hello(name(b"new"), 2, MODERN_SECRET[:8]) == "401 Unauthorized"


def test_answers():
    with Gated() as n, n.join() as c:
        assert call(c, b"fail", 1) == (b"", 0, 1)
        n.wait_for("handler fails")
        assert call(c, b"none", 2) == (b"", 1, 2)
        assert call(c, b"table", 3) == (b"", 0, 3)
        n.wait_for("msgserver: the answer to .* is a table")
        assert call(c, b"max", 4) == (b"x" * 65530, 1, 4)
        assert call(c, b"big", 5) == (b"", 0, 5)
        n.wait_for("msgserver: the answer to .* is too large, 65531 bytes")
        # The session is not spoilt.
        assert call(c, b"", 5) == (b"1", 1, 5)
        assert call(c, b"hi", 0xffffffff) == (b"hi1", 1, 0xffffffff)
        assert call(c, b"ip", 6) == (c.addr.encode(), 1, 6)


def test_answers_come_as_they_are_ready():
    with Gated() as n, n.join() as c:
        c.ask(b"wait", 1)
        assert call(c, b"go", 2) == (b"went", 1, 2)
        assert c.answer() == (b"waited", 1, 1)


def test_retransmission():
    with Gated() as n:
        with n.join(1) as c:
            assert call(c, b"a", 1) == (b"a1", 1, 1)
            # The same connection: sessions may be used again.
            assert call(c, b"a", 1) == (b"a2", 1, 1)
        with n.join(2) as c:
            # A later connection gets the answer again, whatever it asks, but once.
            assert call(c, b"fake", 1) == (b"a2", 1, 1)
            assert call(c, b"a", 1) == (b"a3", 1, 1)
            assert call(c, b"b", 2) == (b"b1", 1, 2)
        with n.join(3) as c:
            assert call(c, b"x", 1) == (b"a3", 1, 1)
            assert call(c, b"x", 2) == (b"b1", 1, 2)


def test_an_answer_is_kept_for_a_client_that_was_away():
    with Gated() as n:
        with n.join(1) as c:
            c.ask(b"wait", 9)
            n.wait_for("waiting 1$")
        n.wait_for("gone bob")
        with n.join(1, b"eve") as e:
            assert call(e, b"go", 1) == (b"went", 1, 1)
        with n.join(2) as c:
            assert call(c, b"fake", 9) == (b"waited", 1, 9)


def test_a_pending_answer_goes_to_the_newest_connection():
    with Gated() as n, n.join(1, b"eve") as e:
        with n.join(1) as old, n.join(2) as new:
            new.ask(b"wait", 9)
            n.wait_for("waiting 1$")
            assert old.recv_eof() == b""
            with n.join(3) as newest:
                newest.ask(b"wait", 9)
                assert call(newest, b"hi", 1) == (b"hi1", 1, 1)
                call(e, b"go", 1)
                assert newest.answer() == (b"waited", 1, 9)
                assert newest.quiet()


def test_a_session_repeated_while_pending():
    with Gated() as n, n.join(1, b"eve") as e:
        with n.join(1) as c:
            c.ask(b"wait", 9)
            c.ask(b"wait", 9)
            assert call(c, b"hi", 1) == (b"hi1", 1, 1)
            call(e, b"go", 1)
            assert c.answer() == (b"waited", 1, 9)
            assert c.quiet()
        n.wait_for("gone bob")
        with n.join(2) as c:
            for _ in range(3):
                c.ask(b"wait", 10)
            assert c.recv_eof() == b""
            n.wait_for(rf"Invalid package Conflict session 0000000a : wait\\x00\\x00\\x00\\x0a "
                       rf"\({c.addr}\)$")
        # A repeat on each of two connections is no conflict.
        with n.join(3) as c:
            c.ask(b"wait", 10)
            assert call(c, b"hi", 1)[1] == 1
            call(e, b"go", 2)
            assert c.answer() == (b"waited", 1, 10)


def test_one_connection_per_user():
    with Gated() as n, n.join(1, b"eve") as e:
        first = n.join(1)
        second = n.join(2)
        assert first.recv_eof() == b""
        first.close()
        assert call(second, b"ip", 1) == (second.addr.encode(), 1, 1)
        # Only the end of the current one is told, while its address is known.
        second.close()
        n.wait_for(f"gone bob {second.addr}$")
        assert n.text.count("gone bob") == 1
        end = time.monotonic() + LIMIT
        session = 1
        while call(e, b"ip_bob", session)[0] != b"none":
            session += 1
            assert time.monotonic() < end
        with n.join(3) as c:
            call(e, b"logout_bob", 0)
            assert c.recv_eof() == b""
        with n.connect() as c:
            assert c.hello(name(b"bob"), 4, SECRET) == "404 User Not Found"
        assert n.text.count("gone bob") == 1


def test_a_user_who_logs_out_in_a_request_is_closed():
    with Gated() as n, n.join() as c:
        c.ask(b"logout", 1)
        assert c.recv_eof() == b""


def kept(n, index, sessions):
    """Which of the sessions are answered from the cache on a new connection."""
    with n.join(index) as c:
        return [s for s in sessions if call(c, b"again", s)[0][:5] != b"again"]


def test_the_last_answers_are_kept_up_to_a_number():
    with Gated("{ expired_number = 4 }") as n:
        with n.join(1) as c:
            for s in range(1, 21):
                call(c, b"a", s)
        # From the newest on, for what is not kept is asked anew.
        assert kept(n, 2, range(20, 15, -1)) == [20, 19, 18, 17]


def test_128_answers_are_kept_by_default():
    with Gated() as n:
        with n.join(1) as c:
            for s in range(1, 200):
                call(c, b"a", s)
        assert kept(n, 2, range(199, 70, -1)) == list(range(199, 71, -1))


def test_the_last_answers_are_kept_up_to_a_size():
    with Gated("{ cache_bytes = 4000 }") as n:
        with n.join(1) as c:
            for s in range(1, 11):
                call(c, b"kb", s)
        assert kept(n, 2, range(10, 6, -1)) == [10, 9, 8]
    # An answer that is too large by itself still gets to its client.
    with Gated("{ cache_bytes = 100 }") as n, n.join(1) as c:
        assert call(c, b"kb", 1) == (b"x" * 1024, 1, 1)


def test_answers_are_kept_for_a_time():
    with Gated("{ cache_age = 5 }") as n:
        with n.join(1) as c:
            call(c, b"a", 1)
        end = time.monotonic() + LIMIT
        index = 2
        while kept(n, index, [1]):
            index += 1
            assert time.monotonic() < end


def test_many_pending_requests_close_the_connection():
    with Gated("{ max_pending = 8 }") as n:
        with n.join(1) as c:
            for s in range(9):
                c.ask(b"wait", s)
            assert c.recv_eof() == b""
            n.wait_for(rf"Invalid package too many requests : .*{c.addr}")
        n.wait_for("gone bob")
        with n.join(1, b"eve") as e:
            assert call(e, b"go", 1) == (b"went", 1, 1)
        with n.join(2) as c:
            assert call(c, b"hi", 100) == (b"hi1", 1, 100)


def test_a_flood_of_strangers_is_no_flood_of_lines():
    with Gated() as n:
        rate = Rate(n)
        for _ in range(1000):
            with Client(n.port) as c:
                c.send(frame(b"garbage"))
                assert c.recv_eof() == frame(b"404 User Not Found")
        n.wait_for("msgserver: .* refused", start=rate.mark)
        rate.check("refused", 100)


def test_a_flood_of_requests_that_fail_is_no_flood_of_lines():
    with Gated() as n, n.join() as c:
        rate, session = Rate(n), 0
        left_out = (rf"msgserver: request of \S+ at {re.escape(c.addr)}: .*handler fails.*more of that kind",
                    r"the answer to \S+ is a table \(and \d+ more of that kind")
        while not all(re.search(line, n.text) for line in left_out):
            assert time.monotonic() < rate.begin + LIMIT, n.text[-2000:]
            for _ in range(150):
                session += 2
                assert call(c, b"fail", session) == (b"", 0, session)
                assert call(c, b"table", session + 1) == (b"", 0, session + 1)
        for line in "handler fails", "is a table":
            rate.check(line, 100)


def test_hostile_connections_leave_others_alone():
    def half_package(c):
        c.send(b"\0")
        c.sock.shutdown(socket.SHUT_WR)

    def empty(c):
        pass

    def reset(c):
        c.send(b"\xff\xffabc")
        c.reset()

    with Gated() as n, n.join() as good:
        for attack in (half_package, empty, reset):
            with n.connect() as c:
                attack(c)
        for payload in (b"", b"a", b"abc"):
            with n.join(1 + len(payload), b"eve") as c:
                c.put(payload)
                assert c.recv_eof() == b""
                n.wait_for(rf"Invalid package too short : {payload.decode()} \({c.addr}\)$")
        with n.join(9, b"eve") as c:
            for byte in struct.pack(">H", 6) + b"hi" + struct.pack(">I", 3):
                c.send(bytes([byte]))
            assert c.answer() == (b"hi1", 1, 3)
            c.reset()
        n.wait_for(r"msgserver: error on 127\.0\.0\.1:\d+ : Connection reset by peer")
        assert call(good, b"ok", 1) == (b"ok1", 1, 1)


def test_a_flood_of_requests_is_answered_in_bounds():
    with Gated() as n, n.join() as c:
        frame = struct.pack(">H", 6) + b"hi"
        c.send(b"".join(frame + struct.pack(">I", s) for s in range(20000)))
        for s in range(20000):
            assert c.answer()[1:] == (1, s)


def test_a_client_that_does_not_read_is_closed():
    with Gated() as n, n.join(1, b"eve") as good, n.join() as c:
        try:
            for s in range(1000):
                c.ask(b"max", s)
        except OSError:
            pass
        n.wait_for(rf"msgserver: {c.addr} does not read, \d+ KiB wait for it$")
        n.wait_for("gone bob")
        assert call(good, b"ok", 1) == (b"ok1", 1, 1)


def test_silent_connections_are_closed():
    index = itertools.count(1)
    with Gated("{ handshake_timeout = 50 }") as n, until_it_works(lambda: n.join(next(index))) as good:
        with n.connect() as silent, n.connect() as slow:
            slow.send(b"\0\5ab")
            for c in (silent, slow):
                assert c.recv_eof() == b""
                n.wait_for(f"msgserver: {c.addr} did not say who it is$")
        assert call(good, b"ok", 1) == (b"ok1", 1, 1)
        assert re.search(f"{good.addr} did not say", n.text) is None
