"""Every call of the system that serving clients makes fails in its turn, with whatever the kernel may
answer: a client may lose its connection, but nobody waits in vain, and other connections, and
those that come later, notice nothing."""

import http.client
import ssl
import time

from claims import must_contain
from faults import FaultyNode
from faultysubject import Doors, Subject, folder
from harness import frame

# Answers that mean "once more", and others.
AGAIN = "EINTR", "EAGAIN"
FAILURES = "EIO", "ENOMEM", "EPERM"
# The first so many calls of each kind while a client is served.
CALLS = 6
# Calls of a node at rest in 0.1 s; one that spins makes thousands.
FEW = 200


def rests(rule, what):
    """The calls that fail are not made again and again."""
    before, begin = rule.hit, time.monotonic()
    time.sleep(0.1)
    hit = rule.hit - before
    # On a busy machine it was a longer sleep.
    seconds = time.monotonic() - begin
    assert hit < FEW * seconds / 0.1, f"{hit} times {what} in {seconds} s"


class Sweep:
    """Makes calls of a node fail while clients do each of `scenes`, and watches a connection that
    is not concerned: `watch()` is a round on it."""

    def __init__(self, node, scenes, watch):
        self.node, self.scenes, self.watch = node, scenes, watch

    def once(self, scene):
        """Whether the client has got what it wanted."""
        try:
            scene()
            return True
        except TimeoutError:
            raise
        except (AssertionError, OSError, http.client.HTTPException, ssl.SSLError):
            return False

    def each(self, call, errors, on="", count=1):
        """The n-th call, and `count` in all, for each n. Gives how many clients got what they wanted, and
        how many did not."""
        good = bad = 0
        for error in errors:
            for scene in self.scenes:
                for first in range(1, CALLS + 1):
                    rule = self.node.faults.add(call, error, on=on, first=first, count=count)
                    try:
                        if self.once(scene):
                            good += 1
                        else:
                            bad += 1
                    except TimeoutError:
                        raise AssertionError(f"{scene.__name__} waits in vain: {call} {first} {error}") from None
                    hit = rule.hit
                    self.node.faults.clear()
                    self.watch()
                    if hit == 0:
                        break
        return good, bad

    def always(self, call, errors, on=""):
        """All of them fail for a while: the node does not try again and again."""
        for error in errors:
            rule = self.node.faults.add(call, error, on=on)
            for scene in self.scenes:
                self.once(scene)
            rests(rule, f"{call} {error}")
            self.node.faults.clear()
            self.watch()


def sweep_doors(test):
    """Of the gates, the gate in C, and the console."""
    with Doors() as n, n.client("agents") as c:
        def watch():
            c.send(frame(b"hello"))
            assert c.recv_exact(12) == frame(b"echo hello")

        watch()
        test(Sweep(n, [n.agents, n.tlsagents, n.wsagents, n.cgate, n.console], watch))
        n.ends_well()


def sweep_servers(test, *clients):
    """Of the servers of sockets, HTTP, WebSocket and TLS; or of those clients within the node."""
    with Subject() as n, n.client("line") as c:
        def ask(what):
            def scene():
                n.ask(what)
            scene.__name__ = what
            return scene

        n.echo(c)
        scenes = [ask(what) for what in clients] or [n.line, n.gate, n.web, n.websocket, n.tls]
        test(Sweep(n, scenes, lambda: n.echo(c)))
        n.ends_well()


def transfers(s):
    assert s.each("read", AGAIN, on="tcp:")[1] == 0
    assert s.each("write", AGAIN, on="tcp:")[1] == 0
    # What fails once is tried again by the loop.
    assert s.each("write", FAILURES, on="tcp:")[1] == 0
    for call, count in ("read", 1), ("write", 3):
        good, bad = s.each(call, FAILURES, on="tcp:", count=count)
        assert good > 0 and bad > 0, (call, good, bad)


def waiting(s):
    assert s.each("epoll_wait", AGAIN + FAILURES)[1] == 0
    assert s.each("epoll_ctl", FAILURES + ("ENOSPC",), on="mod ")[1] == 0
    assert s.each("read", AGAIN + FAILURES, on="eventfd")[1] == 0
    good, bad = s.each("epoll_ctl", FAILURES + ("ENOSPC",), on="add ")
    assert good > 0 and bad > 0, (good, bad)
    assert s.each("accept4", AGAIN + ("EPERM", "ECONNABORTED"))[1] == 0
    good, bad = s.each("accept4", ("EMFILE", "ENOMEM"))
    assert good > 0 and bad > 0, (good, bad)


def minor(s):
    for call, on in (("close", ""), ("setsockopt", ""), ("shutdown", ""), ("recv", ""), ("stat", ""), ("fcntl", ""),
                     ("ioctl", ""), ("getrandom", ""), ("getentropy", ""), ("madvise", ""), ("write", "pipe:")):
        assert s.each(call, ("EINTR", "EIO", "ENOSPC"), on=on)[1] == 0, call


def lasting(s):
    for call, on in (("read", "tcp:"), ("write", "tcp:"), ("read", "eventfd"), ("write", "pipe:"), ("epoll_ctl", "add tcp:"),
                     ("epoll_ctl", "mod "), ("close", "tcp:"), ("setsockopt", ""), ("stat", ""), ("openat", ""), ("pread", "")):
        s.always(call, ("EIO", "ENOMEM"), on=on)


def test_transfers_of_gates_fail():
    sweep_doors(transfers)


def test_transfers_of_servers_fail():
    sweep_servers(transfers)


def test_waiting_of_gates_fails():
    sweep_doors(waiting)


def test_waiting_of_servers_fails():
    sweep_servers(waiting)


def test_minor_calls_of_gates_fail():
    sweep_doors(minor)


def test_minor_calls_of_servers_fail():
    sweep_servers(minor)


def test_what_fails_for_ever_is_not_tried_again_and_again():
    sweep_doors(lasting)
    sweep_servers(lasting)


def test_calls_of_clients_fail():
    def calls(s):
        for call, on in (("socket", ""), ("connect", ""), ("getsockopt", ""), ("setsockopt", ""), ("read", "tcp:"), ("write", "tcp:"),
                         ("epoll_ctl", "add "), ("epoll_ctl", "mod "), ("bind", ""), ("listen", ""), ("getsockname", ""), ("poll", "")):
            s.each(call, ("EINTR", "EIO"), on=on)
        s.each("accept4", ["EIO"])
        s.each("recvfrom", ("EINTR", "ECONNREFUSED"))
        s.each("sendto", ("EINTR", "ENOBUFS"))

    sweep_servers(calls, "line", "channel", "http", "ws", "context", "kcp", "listen", "udp")


def test_files_are_sent_or_refused():
    with Subject() as n:
        def file():
            status, _ = n.get("/files/file.txt")
            assert status in (200, 500)

        s = Sweep(n, [file], lambda: n.get("/hello"))
        for call in "openat", "fstat", "pread", "close", "writev", "write", "sendmsg":
            s.each(call, ("EINTR", "EIO", "EMFILE", "ENOMEM"))
        n.ends_well()


def test_a_wake_up_that_cannot_be_taken_back_does_not_spin():
    # The one worker sleeps in the poll, and the timer wakes it.
    with Subject(config="thread = 1") as n:
        rule = n.faults.add("read", "EIO", on="eventfd")
        while rule.hit == 0:
            assert n.ask("sleep") == "slept"
        rests(rule, "reads of the eventfd")
        n.wait_for("can't wait for the network: Input/output error")
        n.ends_well()


# ------------------------------------------------------------------------- TLS


def test_certificates_that_cannot_be_read_are_an_error():
    with Subject() as n:
        assert n.ask("context") == "trusted"
        for call, error, reason in ("fopen", "EMFILE", "Too many open files"), ("read", "EIO", "Input/output error"):
            for name in "server.pem", "ca.pem":
                rule = n.faults.add(call, error, on=name)
                must_contain(n.ask("context"), f"tls: can't read {folder()}/{name}: {reason}")
                rule.end()
            rule = n.faults.add(call, error, on="server.key")
            must_contain(n.ask("context"), f"with the key {folder()}/server.key: ")
            n.faults.clear()
        # What OpenSSL would take for all that there is to trust.
        with open(f"{folder()}/ca.pem", encoding="ascii") as f:
            one = f.read()
        with open(f"{folder()}/two-ca.pem", "w", encoding="ascii") as f:
            f.write(one + "#" * 8192 + "\n" + one)
        rule = n.faults.add("read", "EIO", on="two-ca.pem", first=2)
        must_contain(n.ask("context two-ca.pem"), "Input/output error")
        rule.end()
        assert n.ask("context two-ca.pem") == "trusted"
        n.ends_well()


def test_without_randomness_nothing_is_secret():
    rules = [dict(call="getrandom", error="ENOSYS"), dict(call="getentropy", error="ENOSYS"), dict(call="open", error="EMFILE", on="random"),
             dict(call="fopen", error="EMFILE", on="random")]
    script = """
local skynet = require "skynet"
local crypt = require "skynet.crypt"
skynet.start(function()
	skynet.error("random", pcall(crypt.randomkey))
	skynet.error("service is up")
end)
"""
    with FaultyNode('start = "up"', rules, files={"svc/up.lua": script}) as n:
        n.wait_for(r"random false .*no random bytes from the system \(Function not implemented\)")
        n.wait_for("service is up")
        assert n.stop() == 0
