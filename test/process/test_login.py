"""snax.loginserver and examples/login, with the Lua client and one written in Python
from the protocol (net.md section 8; L1 to L4)."""

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import loginclient as lc
from harness import LIMIT, LUA, OUT, ROOT, Client, Node, Rate, free_port, plain_env

EX = os.path.join(ROOT, "examples")

TRANSCRIPT = """sceret is\t([0-9a-f]+)
200 .*
login ok, subid=\t1
connect
200 OK
===>\techo\t0
disconnect
connect again
200 OK
===>\tfake\t0
===>\tagain\t1
<===\ttrue\techo\t0
<===\ttrue\tagain\t1
disconnect
"""


class Example(Node):
    """The example as its configuration says, on free ports."""

    def __init__(self, extra=""):
        self.ports = {"LOGIN_PORT": str(free_port()), "GATE_PORT": str(free_port())}
        with open(os.path.join(EX, "config.login")) as f:
            text = f.read().replace('include "config.path"', f'include "{EX}/config.path"')
        text = re.sub(r"login_port = \d+", f"login_port = {self.ports['LOGIN_PORT']}", text)
        text = re.sub(r"gate_port = \d+", f"gate_port = {self.ports['GATE_PORT']}", text)
        text += f'lua_cpath = "{OUT}/luaclib/?.so"\ncpath = "{OUT}/cservice/?.so"\n' + extra
        self.folder = tempfile.mkdtemp(prefix="skynet-test-")
        path = os.path.join(self.folder, "config")
        with open(path, "w") as f:
            f.write(text)
        super().__init__(standard=False, cwd=ROOT, args=[path])
        self.wait_for("login server listen at : 127.0.0.1 " + self.ports["LOGIN_PORT"])
        self.wait_for("Listen on 0.0.0.0 " + self.ports["GATE_PORT"])
        self.wait_for(r"KILL self$")

    def __exit__(self, *args):
        super().__exit__(*args)
        shutil.rmtree(self.folder, ignore_errors=True)

    def client(self, *args):
        env = dict(plain_env(), **self.ports)
        script = f'package.cpath = "{OUT}/luaclib/?.so;" .. package.cpath arg = {{...}} ' \
                 f'dofile "{EX}/login/client.lua"'
        script_args = [LUA, "-e", script.replace("{...}", "{" + ",".join(map(repr, args)) + "}")]
        p = subprocess.run(script_args, cwd=ROOT, env=env, stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT)
        return p.returncode, p.stdout.decode()

    def login(self):
        return lc.Login(int(self.ports["LOGIN_PORT"]))

    def game(self):
        return lc.Game(int(self.ports["GATE_PORT"]))


def test_the_example_plays_its_transcript():
    with Example() as n:
        code, out = n.client()
        m = re.fullmatch(TRANSCRIPT, out)
        assert code == 0 and m, out
        n.wait_for(f"^hello@sample is login, secret is {m.group(1)}$")
        n.wait_for(r"hello is login$")
        n.wait_for(r"AFK\n(.|\n)*AFK$")
        # Logging in again kicks the first login.
        code, out = n.client()
        assert code == 0 and "200 Mg==" in out, out
        n.wait_for(r"hello is logout$")
        assert n.stop() == 0


def test_the_example_with_the_modern_suite():
    with Example('login_suite = "both"\n') as n:
        code, out = n.client("modern")
        assert code == 0 and re.fullmatch(TRANSCRIPT, out), out
        code, out = n.client()
        assert code == 0 and "200 Mg==" in out, out


TOKEN = f"{lc.b64(b'bob')}@{lc.b64(b'sample')}:{lc.b64(b'password')}".encode()


def play(n, game, secret, subid):
    name = lc.user_name(b"bob", b"sample", subid)
    assert game.hello(name, 1, secret) == "200 OK"
    game.ask(b"hi", 7)
    assert game.answer() == (b"hi", 1, 7)


def test_a_client_written_from_the_protocol_plays_with_both_suites():
    with Example('login_suite = "both"\n') as n:
        with n.login() as c, n.game() as g:
            assert c.classic(TOKEN) == "200 MQ=="
            # The server closes once the result is out.
            assert c.recv_eof() == b""
            play(n, g, c.secret, b"1")
        with n.login() as c, n.game() as g:
            assert c.modern(TOKEN) == "200 Mg=="
            assert c.recv_eof() == b""
            play(n, g, c.secret, b"2")


def test_the_vectors_of_the_protocol():
    a = bytes(range(1, 9))
    assert lc.hashkey(b"hello").hex() == "9930920fcbef1867"
    assert lc.hmac64(a, a[::-1]).hex() == "8b83c1fbaa76c63f"
    assert lc.dh_public(a).hex() == "984e1418283235ed"
    assert lc.b64(lc.des_encode(a, b"aGVsbG8=@c2FtcGxl:cGFzc3dvcmQ=")) == \
        "QfYltXU1B4WLg4bysttMPXkvDrYfNLaQe8lwyvvOJHQ="
    assert lc.b64(lc.hmac64(lc.hashkey(b"aGVsbG8=@c2FtcGxl#MQ==:1"), a)) == "E+KArsMhZWo="


# Accepts the token "uid@server"; login_handler waits for the command `go` if the uid
# begins with "slow", and refuses the uid "bad".
LOGIND = """
local skynet = require "skynet"
local loginserver = require "snax.loginserver"
local go = {}
local conf = CONF
conf.host, conf.port, conf.instance = "127.0.0.1", 0, INSTANCE
function conf.auth_handler(token)
	local uid, server = token:match "^(.*)@(.*)$"
	if server == "nan" then return server, 0 / 0 end
	if server == "nil" then return server end
	return server, assert(uid, "who are you?")
end
function conf.login_handler(server, uid, secret)
	skynet.error("handle", uid, server, #secret)
	if uid:find "^slow" then skynet.wait(go) end
	if uid == "bad" then error "you may not" end
	if uid == "none" then return nil end
	return 42
end
function conf.command_handler(cmd)
	skynet.wakeup(go)
	return cmd
end
loginserver(conf)
"""
MAIN = """
local skynet = require "skynet"
skynet.start(function()
	skynet.newservice "logind"
	skynet.newservice("debug_console", 0)
end)
"""


class Logind(Node):
    def __init__(self, conf="{}", instance="2"):
        script = LOGIND.replace("CONF", conf).replace("INSTANCE", instance)
        files = {"svc/logind.lua": script, "svc/go.lua": MAIN}
        super().__init__('start = "go"\n', files=files)
        self.port = int(self.wait_for(r"login server listen at : 127\.0\.0\.1 (\d+)").group(1))
        self.own = set()
        self.console = int(self.wait_for(r"debug console at 127\.0\.0\.1:(\d+)").group(1))

    def login(self):
        c = lc.Login(self.port)
        c.addr = "127.0.0.1:%d" % c.sock.getsockname()[1]
        return c

    def go(self):
        self.ask('call .login "go"')

    def ask(self, line):
        """What the console says to a line."""
        with Client(self.console) as c:
            self.own.add("127.0.0.1:%d" % c.sock.getsockname()[1])
            c.send(line + "\n")
            return c.recv_until("<CMD OK>").decode()

    def ids(self):
        """Peers of the node's connections, but for those of the console."""
        return set(re.findall(r"peer:(\S+)", self.ask("netstat"))) - self.own

    def wait_idle(self):
        end = time.monotonic() + LIMIT
        while self.ids():
            assert time.monotonic() < end, self.ids()
            time.sleep(0.02)


def test_results_and_what_is_logged():
    with Logind() as n:
        for token, result in ((b"joe@x", "200 NDI="), (b"none@x", "200 "),
                              (b"bad@x", "403 Forbidden"), (b"nobody", "401 Unauthorized")):
            with n.login() as c:
                assert c.classic(token) == result
                assert c.recv_eof() == b""
                n.wait_for(rf"connect from {c.addr} \(fd = \d+\)$")
                if result[0] != "2":
                    why = "you may not" if result[:3] == "403" else "who are you"
                    n.wait_for(rf"invalid client \(fd = \d+\) error = .*{why}.*{c.addr}")
        n.wait_for("handle joe x 8$")
        n.wait_idle()


def test_handshakes_are_made_by_8_slaves_by_default():
    for instance, slaves in (("nil", 8), ("3", 3)):
        with Logind(instance=instance) as n:
            # The master is one more of the same script.
            assert n.ask("list").count("snlua logind\n") == 1 + slaves


def test_a_flood_of_bad_logins_is_no_flood_of_lines():
    with Logind() as n:
        rate = Rate(n)
        for _ in range(1000):
            with n.login() as c:
                c.send("A\n")
                c.recv_eof()
        n.wait_idle()
        rate.check("connect from", 8 * 25)
        rate.check("invalid client", 25)


def test_many_may_come_at_once():
    with Logind("{ timeout = 6000 }") as n:
        n.signal(signal.SIGSTOP)
        try:
            waiting = [n.login() for _ in range(60)]
        finally:
            n.signal(signal.SIGCONT)
        for c in waiting:
            assert c.classic(b"joe@x")[:3] in ("200", "406")
            c.close()


def test_a_uid_that_is_none_is_refused():
    with Logind() as n:
        for server, uid in ((b"nan", "-?nan"), (b"nil", "nil")):
            with n.login() as c:
                assert c.classic(b"joe@" + server) == "403 Forbidden"
                assert c.recv_eof() == b""
                n.wait_for(rf"invalid client .*auth_handler gave no uid, but {uid} \({c.addr}\)")
        n.wait_idle()


def test_wrong_proofs_and_keys_are_refused():
    def wrong_proof(c):
        c.keys()
        c.say(lc.b64(b"x" * 8))
        return "challenge failed"

    def short_key(c):
        c.line()
        c.say(lc.b64(b"1234567"))
        return "Invalid client key"

    def modern_key(c):
        c.line()
        c.say(lc.b64(b"1" * 32))
        return "Invalid client key"

    def weak_key(c):
        c.line()
        c.say(lc.b64(b"\1" + b"\0" * 7))
        return "Invalid client key"

    def bad_text(c):
        c.line()
        c.say("A")
        return "Invalid base64 text"

    def bad_token(c):
        c.keys()
        c.say(lc.b64(lc.hmac64(c.challenge, c.secret)))
        c.say(lc.b64(b"12345"))
        return "Invalid des crypt text"

    def binary(c):
        c.line()
        c.send(bytes(range(256)) * 8)
        return ""

    with Logind() as n:
        for attack in (wrong_proof, short_key, modern_key, weak_key, bad_text, bad_token, binary):
            with n.login() as c:
                why = attack(c)
                assert b"401 Unauthorized\n" in c.recv_eof(), attack.__name__
                n.wait_for(rf"invalid client \(fd = \d+\) error = .*{why}.*{c.addr}")
        with n.login() as c:
            assert c.classic(b"joe@x") == "200 NDI="
        n.wait_idle()


def test_lost_connections_get_nothing_and_are_closed():
    def half_close(c):
        c.sock.shutdown(socket.SHUT_WR)
        c.recv_eof()

    def close(c):
        c.close()

    def reset(c):
        c.keys()
        c.send("half a li")
        c.reset()

    def flood(c):
        c.line()
        c.send("x" * 20000)
        assert b"401" not in c.recv_eof()

    with Logind() as n:
        for attack in (half_close, close, reset, flood):
            with n.login() as c:
                attack(c)
                n.wait_for(rf"invalid client \(fd = (\d+)\) error = .*socket error.*{c.addr}")
        n.wait_for(r"socket buffer overflow: fd=\d+ size=\d+")
        n.wait_for(r"auth failed: socket \(fd = \d+\) closed")
        n.wait_idle()


def test_slow_clients_are_closed_at_the_deadline():
    with Logind("{ timeout = 30 }") as n:
        with n.login() as silent, n.login() as slow:
            slow.line()
            end = time.monotonic() + LIMIT
            while time.monotonic() < end:
                try:
                    slow.send("A")
                except OSError:
                    break
                time.sleep(0.02)
            assert b"401" not in slow.recv_eof()
            silent.recv_eof()
            n.wait_for(r"auth failed: client is too slow \(fd = \d+\)")
            for c in (silent, slow):
                n.wait_for(rf"invalid client .* error = socket error \({c.addr}\)")
        n.wait_idle()


def test_a_login_in_progress_refuses_the_same_uid():
    with Logind() as n:
        with n.login() as first, n.login() as second, n.login() as other:
            first.keys()
            first.say(lc.b64(lc.hmac64(first.challenge, first.secret)))
            first.say(lc.b64(lc.des_encode(first.secret, b"slow@x")))
            n.wait_for("handle slow x")
            assert second.classic(b"slow@x") == "406 Not Acceptable"
            assert second.recv_eof() == b""
            n.wait_for(rf"error = User slow is already login \({second.addr}\)")
            assert other.classic(b"joe@x").startswith("200")
            n.go()
            assert first.line() == "200 NDI="
        n.wait_idle()


def test_multilogin_allows_both():
    with Logind("{ multilogin = true }") as n:
        with n.login() as first, n.login() as second:
            for c in (first, second):
                start = len(n.text)
                c.keys()
                c.say(lc.b64(lc.hmac64(c.challenge, c.secret)))
                c.say(lc.b64(lc.des_encode(c.secret, b"slow@x")))
                n.wait_for("handle slow x", start=start)
                if c is first:
                    n.go()
                    assert c.line() == "200 NDI="
            n.go()
            assert second.line() == "200 NDI="


def test_too_many_connections_are_refused():
    with Logind("{ maxclient = 2 }") as n:
        with n.login() as first, n.login() as second, n.login() as third:
            first.line()
            second.line()
            assert third.recv_eof() == b""
            n.wait_for(f"login server: refuse {third.addr}, 2 clients are connected")
            first.close()
            n.wait_for(rf"invalid client .*{first.addr}")
            with n.login() as fourth:
                assert fourth.classic(b"joe@x") == "200 NDI="


def test_the_modern_suite_with_an_identity():
    # Ed25519 test 1 of RFC 8032.
    secret = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
    public = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    conf = '{ suite = "modern", identity = require "skynet.crypt".hexdecode "%s" }' % secret
    with Logind(conf) as n:
        with n.login() as c:
            assert c.modern(b"joe@x", public) == "200 NDI="
            n.wait_for("handle joe x 32$")
        with n.login() as c:
            assert c.modern(b"bad@x", public) == "403 Forbidden"
        # The classic suite is not offered.
        with n.login() as c:
            c.line()
            c.say(lc.b64(b"12345678"))
            assert c.recv_eof() == b"401 Unauthorized\n"
        # A forged token, one that is too short, a key whose shared value is known.
        for token in (b"x" * 40, b"x"):
            with n.login() as c:
                c.line()
                c.say(lc.b64(lc.x25519_public(b"k" * 32)))
                c.line()
                c.say(lc.b64(token))
                assert c.recv_eof() == b"401 Unauthorized\n"
                n.wait_for(rf"challenge failed.*{c.addr}")
        with n.login() as c:
            c.line()
            c.say(lc.b64(b"\0" * 32))
            assert b"401 Unauthorized\n" in c.recv_eof()


def test_a_configuration_is_checked():
    for conf, why in (("{ suite = 'new' }", "suite must be classic, modern or both"),
                      ("{ identity = 'x' }", "identity must be 32 bytes"),
                      ("{ identity = 5 }", "identity must be 32 bytes"),
                      ("{ timeout = 'x' }", "timeout must be a whole number above 0"),
                      ("{ maxclient = 0 }", "maxclient must be a whole number above 0"),
                      ("{ name = 5 }", "name must be a text")):
        files = {"svc/logind.lua": LOGIND.replace("CONF", conf)}
        with Node('start = "logind"\n',
                  files=files) as n:
            n.wait_for("login server: " + why)
    slip = "login server option 'max_client' does not exist, did you mean 'maxclient'[?]"
    with Node('start = "logind"', files={"svc/logind.lua": LOGIND.replace("CONF", "{ max_client = 5, mine = 6 }")}) as n:
        n.wait_for(slip)
        assert n.text.count("does not exist") == n.text.count("max_client"), n.text
