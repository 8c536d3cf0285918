"""Calls of the system that fail: whatever the kernel answers, a node goes on, or says clearly
why it can't; and connections that are not concerned notice nothing."""

import http.client
import os
import re
import signal
import socket
import subprocess
import tempfile
import time

from claims import must_contain
from faults import Faults, FaultyNode, preload
from faultysubject import FILE, Doors, Subject, folder
from harness import LIMIT, LUA, OUT, Client, plain_env


# ------------------------------------------------------------------- accepting


def test_a_listener_that_may_not_accept_rests():
    # A firewall's EPERM leaves the connection where it is, and the listener ready.
    with Subject() as n:
        rule = n.faults.add("accept4", "EPERM", on=f"listen:{n.port['line']};")
        begin = time.monotonic()
        with Client(n.port["line"]) as c:
            n.wait_for(r"listener \d+ rests, it can't accept: Operation not permitted")
            n.gate()
            rule.wait(5)
            assert time.monotonic() - begin > 0.3, "it did not rest between five failures"
            rule.end()
            n.echo(c)
        n.ends_well()


def test_connections_that_vanish_do_not_disturb_the_listener():
    with Subject() as n:
        n.faults.add("accept4", "ECONNABORTED", on=f"listen:{n.port['line']};", count=20)
        n.line()
        assert "rests" not in n.text
        rule = n.faults.add("accept4", "ECONNABORTED", on=f"listen:{n.port['line']};")
        with Client(n.port["line"]) as c:
            n.wait_for(r"listener \d+ rests, it can't accept: Software caused connection abort")
            rule.end()
            n.echo(c)
        n.ends_well()


def test_a_connection_that_cannot_be_polled_is_closed():
    with Subject() as n:
        n.serves_all()
        before = len(n.descriptors())
        with Client(n.port["line"]) as other:
            n.echo(other)
            n.faults.add("epoll_ctl", "ENOSPC", on=f"add tcp:{n.port['line']}>")
            n.faults.add("epoll_ctl", "ENOSPC", on=f"add tcp:{n.port['gate']}>")
            for name in "line", "gate":
                with Client(n.port[name]) as c:
                    assert c.recv_eof() == b""
            n.echo(other)
        n.settles(before)
        n.ends_well()


# --------------------------------------------------------------------- polling


def test_waiting_for_the_network_fails_and_does_not_spin():
    with Subject() as n:
        n.line()
        rule = n.faults.add("epoll_wait", "ENOMEM")
        begin = time.monotonic()
        with Client(n.port["line"]) as c:
            rule.wait(40)
            n.wait_for("can't wait for the network: Cannot allocate memory")
            assert time.monotonic() - begin > 0.1, "it did not pause between failures"
            rule.end()
            n.echo(c)
        n.ends_well()


def test_interest_that_cannot_be_changed_is_registered_anew():
    with Subject() as n:
        rule = n.faults.add("epoll_ctl", "ENOMEM", on=f"mod tcp:{n.port['line']}>")
        n.line(b"x" * 4000000)
        assert rule.hit > 0
        n.ends_well()


def test_a_connection_that_cannot_be_polled_any_more_is_closed():
    with Subject() as n, Client(n.port["line"]) as other, Client(n.port["line"]) as c:
        n.echo(other)
        n.echo(c)
        one = f"tcp:{n.port['line']}>{c.sock.getsockname()[1]};"
        n.faults.add("epoll_ctl", "ENOMEM", on="mod " + one)
        n.faults.add("epoll_ctl", "ENOMEM", on="add " + one)
        c.send(b"x" * 4000000 + b"\n")
        c.recv_eof()
        n.echo(other)
        n.ends_well()


def test_a_wake_up_that_a_signal_interrupts_is_made_again():
    # The one worker sleeps in the poll, and the timer wakes it.
    with Subject(config="thread = 1") as n:
        rule = n.faults.add("write", "EINTR", on="eventfd", chance=0.5)
        while rule.hit < 5:
            assert n.ask("sleep") == "slept"
        n.ends_well()


# ------------------------------------------------------------------ connecting


def test_connect_interrupted_by_a_signal_goes_on():
    with Subject() as n:
        port = f">{n.port['line']};"
        n.faults.add("connect", "EINTR", on=port, count=1)
        assert n.ask("line") == "echo one"
        n.ends_well()


def test_failures_of_making_a_socket_reach_the_caller():
    with Subject() as n:
        for call, error, what, text in (
                ("socket", "EMFILE", "line", "Too many open files"),
                ("socket", "ENOBUFS", "listen", "No buffer space available"),
                ("bind", "EACCES", "listen", "Permission denied"),
                ("listen", "EADDRINUSE", "listen", "Address already in use"),
                ("getsockname", "ENOBUFS", "listen", "No buffer space available"),
                ("getsockname", "ENOBUFS", "udp", "No buffer space available"),
                ("connect", "EADDRNOTAVAIL", "line", "Cannot assign requested address"),
                ("connect", "EPERM", "line", "Operation not permitted"),
                ("poll", "ENOMEM", "line", "Cannot allocate memory"),
                ("getsockopt", "ENOBUFS", "line", "No buffer space available"),
                ("pthread_create", "EAGAIN", "line localhost", "Temporary failure in name resolution"),
                ("getaddrinfo", "EIO", "line localhost", "Input/output error")):
            # The control connection is there before the rule.
            with Client(n.port["ctl"]) as c:
                c.send("netstat\n")
                c.recv_until(b"\n")
                rule = n.faults.add(call, error)
                c.send(what + "\n")
                got = c.recv_until(b"\n").decode()
                rule.end()
            must_contain(got, text)
        n.ends_well()


def test_the_client_library_connects_though_a_signal_arrives():
    script = f"""
        package.cpath = "{OUT}/luaclib/?.so"
        local socket = require "client.socket"
        socket.send(socket.connect("127.0.0.1", tonumber(arg[1])), "hello")
    """
    with tempfile.NamedTemporaryFile(prefix="skynet-faults-") as f, socket.create_server(("127.0.0.1", 0)) as s:
        faults = Faults(f.name)
        for call in "connect", "send", "poll":
            faults.add(call, "EINTR", count=1)
        env = dict(plain_env(), LD_PRELOAD=preload(), FAULTS_FILE=f.name)
        subprocess.run([LUA, "-", str(s.getsockname()[1])], input=script, text=True, check=True, timeout=LIMIT, env=env)
        s.settimeout(LIMIT)
        with s.accept()[0] as c:
            assert c.recv(5) == b"hello"


# ------------------------------------------------------------------- datagrams


def test_a_datagram_socket_outlives_a_lack_of_memory_and_lost_peers():
    with Subject() as n:
        on = f"udp:{n.port['udp']}>"
        for error in "ECONNREFUSED", "EHOSTUNREACH", "EINTR":
            n.faults.add("recvfrom", error, on=on, count=3)
            n.datagrams()
        rule = n.faults.add("recvfrom", "ENOMEM", on=on)
        begin = time.monotonic()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.connect(("127.0.0.1", n.port["udp"]))
            s.settimeout(LIMIT)
            s.send(b"hello")
            rule.wait(4)
            assert time.monotonic() - begin > 0.25, "it did not rest between four failures"
            n.wait_for(r"udp \(\d+\) rests, it can't receive: Cannot allocate memory")
            rule.end()
            assert s.recv(100) == b"echo hello"
        for error in "ENOBUFS", "EPERM", "ENETUNREACH":
            rule = n.faults.add("sendto", error, on=on, count=2)
            n.datagrams()
            assert rule.hit == 2
        n.ends_well()


def test_a_datagram_socket_that_ends_by_an_error_can_be_closed():
    with Subject() as n:
        n.serves_all()
        before = len(n.descriptors())
        rule = n.faults.add("epoll_ctl", "ENOSPC", on="add udp:")
        assert n.ask("udp") == "bound"
        rule.end()
        rule = n.faults.add("recvfrom", "EIO", on=f"udp:{n.port['udp']}>")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.sendto(b"hello", ("127.0.0.1", n.port["udp"]))
            n.wait_for("socket: error on .* Input/output error")
        n.settles(before - 1)
        assert n.ask("close udp") == "closed"
        assert n.stop() == 0


# ------------------------------------------------------------------- transfers


def test_short_and_interrupted_transfers_lose_nothing():
    for rules in ([dict(limit=1, on="tcp:", chance=0.5, seed=3)],
                  [dict(error="EINTR", on="tcp:", chance=0.3, seed=5)],
                  [dict(error="EAGAIN", on="tcp:", chance=0.3, seed=9)]):
        calls = ("read", "write", "writev", "sendmsg", "recv")
        with Subject([dict(r, call=call) for call in calls for r in rules]) as n:
            n.serves_all()
            n.ends_well()


def test_close_is_never_made_twice():
    # Which FaultyNode checks at its end.
    with Subject([dict(call="close", error="EINTR", chance=0.5), dict(call="close", error="EIO", chance=0.5, seed=2)]) as n:
        n.serves_all()
        n.ends_well()


# ----------------------------------------------------------------------- files


def test_a_file_that_cannot_be_opened_now_is_not_missing():
    with Subject() as n:
        for error, status in (("EMFILE", 500), ("EIO", 500), ("ENOMEM", 500), ("ENOENT", 404), ("EACCES", 404)):
            rule = n.faults.add("openat", error, on="file.txt")
            assert n.get("/files/file.txt")[0] == status
            rule.end()
        n.wait_for("can't open .*/file.txt: Too many open files")
        for call, arguments in (("openat", dict(error="EINTR", count=3)), ("pread", dict(error="EINTR", count=3)),
                                ("pread", dict(limit=1000))):
            rule = n.faults.add(call, **arguments)
            assert n.get("/files/file.txt") == (200, FILE)
            assert rule.hit > 0
            rule.end()
        n.ends_well()


def test_a_file_that_cannot_be_read_ends_the_answer():
    with Subject() as n:
        rule = n.faults.add("pread", "EIO", first=2)
        try:
            n.get("/files/file.txt")
            raise AssertionError("a whole answer")
        except http.client.IncompleteRead:
            pass
        n.wait_for("pread: Input/output error")
        rule.end()
        rule = n.faults.add("fstat", "EIO")
        status, _ = n.get("/files/file.txt")
        # The thread checker has a way of its own for this call.
        assert status == (500 if rule.hit else 200), status
        n.ends_well()


def test_folders_that_are_asked_for_hold_no_descriptors():
    os.makedirs(os.path.join(folder(), "www", "sub"), exist_ok=True)
    with Subject() as n, Client(n.port["http"]) as c:
        for i in range(200):
            c.send("GET /files/sub HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b" 301 " in c.recv_until(b"\r\n\r\n")
            if i == 0:
                before = len(n.descriptors())
        n.settles(before)
        n.ends_well()


def test_a_hosts_file_that_cannot_be_read_is_not_taken_for_empty():
    with open(os.path.join(folder(), "hosts"), "w") as f:
        f.write("192.0.2.7 known\n")
    with Subject() as n:
        for call, error in (("fopen", "EMFILE"), ("read", "EIO"), ("stat", "EIO")):
            rule = n.faults.add(call, error, on="/hosts")
            assert "Call dns.server first" in n.ask("hosts known"), (call, error)
            rule.end()
        # The others come within the same second.
        n.wait_for("dns: can't read .*/hosts: Too many open files")
        assert n.ask("hosts known") == "192.0.2.7"
        rule = n.faults.add("stat", "EIO", on="/hosts")
        assert n.ask("hosts known") == "192.0.2.7"
        assert rule.hit > 0
        n.ends_well()


LOGGED = """
local skynet = require "skynet"
local core = require "skynet.core"
skynet.start(function()
	skynet.dispatch("lua", function() end)
	core.command("LOGON", skynet.address(skynet.self()))
	while true do
		skynet.send(skynet.self(), "lua", "x")
		skynet.sleep(1)
	end
end)
"""


def test_logs_that_cannot_be_written_say_so_once_and_go_on():
    with FaultyNode('start = "logged"\nlogpath = "."\nlogger = "./node.log"', files={"svc/logged.lua": LOGGED}) as n:
        def text():
            try:
                with open(n.path("node.log"), encoding="utf-8") as f:
                    return f.read()
            except FileNotFoundError:
                return ""

        def await_text(what):
            end = time.monotonic() + LIMIT
            while what not in text():
                assert time.monotonic() < end, text()
                time.sleep(0.01)

        await_text("Open log file")
        name = re.search(r"Open log file \./(\w+\.log)", text()).group(1)
        rule = n.faults.add("write", "ENOSPC", on=name)
        rule.wait(10)
        await_text("error: can't write the message log: No space left on device")
        rule.end()
        size = os.path.getsize(n.path(name))
        while os.path.getsize(n.path(name)) == size:
            time.sleep(0.01)
        assert text().count("can't write") == 1, text()
        rule = n.faults.add("write", "EIO", on="/node.log")
        n.signal(signal.SIGTERM)
        n.wait_for(r"^logger: can't write ./node.log: Input/output error$")
        assert n.wait_exit() == 0


COUNTING = """
local skynet = require "skynet"
skynet.start(function()
	for i = 1, math.huge do
		skynet.error("line " .. i)
		skynet.sleep(1)
	end
end)
"""


def test_lines_that_a_log_file_lacks_are_counted_where_they_are_missing():
    with FaultyNode('start = "counting"\nlogger = "./node.log"', files={"svc/counting.lua": COUNTING}) as n:
        def await_match(pattern):
            end = time.monotonic() + LIMIT
            while True:
                try:
                    with open(n.path("node.log"), encoding="utf-8") as f:
                        text = f.read()
                except FileNotFoundError:
                    text = ""
                found = re.search(pattern, text, re.M)
                if found:
                    return found
                assert time.monotonic() < end, text[-2000:]
                time.sleep(0.01)

        await_match("line 3$")
        for error, reason in ("ENOSPC", "No space left on device"), ("EIO", "Input/output error"):
            rule = n.faults.add("write", error, on="/node.log")
            rule.wait(3)
            rule.end()
            found = await_match(r"line (\d+)\n\n\S+ \S+ \[:00000001\] error: (\d+) lines are missing here: "
                                rf"{reason}\n\S+ \S+ \[:\w+\] line (\d+)$")
            before, missing, after = map(int, found.groups())
            assert missing >= 3 and after - before - 1 == missing, found.group(0)
        assert n.text.count("logger: can't write ./node.log: No space left on device\n") == 1
        rule = n.faults.add("fopen", "EMFILE", on="/node.log")
        os.rename(n.path("node.log"), n.path("old.log"))
        n.signal(signal.SIGHUP)
        rule.wait()
        rule.end()
        # It is tried again in a second.
        await_match("line")
        with open(n.path("old.log"), encoding="utf-8") as f:
            assert "error: Can't reopen log file (Too many open files), keep the old one" in f.read()
        assert n.stop() == 0


READING = """
local skynet = require "skynet"
skynet.start(function()
	for _, read in ipairs { require "sprotoloader".register_bundle, require "sprotoparser".parse_files,
			require "skynet.protobuf".loadfile } do
		skynet.error("read", pcall(read, "./schema"))
	end
	skynet.error "service is up"
end)
"""


SEARCHING = """
local skynet = require "skynet"
package.path = "./a/?.lua;./b/?.lua;" .. package.path
skynet.start(function()
	skynet.error("name", pcall(require, "name"))
	skynet.error("again", pcall(require, "name"))
	skynet.error("path", pcall(package.searchpath, "name", package.path))
	skynet.error("other", pcall(require, "other.name"))
	skynet.error("service is up")
end)
"""


def test_a_module_that_cannot_be_opened_is_not_replaced_by_another():
    files = {"svc/searching.lua": SEARCHING, "a/name.lua": "return 'a'", "b/name.lua": "return 'b'",
             "a/other/name.lua": "return 'other'"}

    def found(*rules):
        with FaultyNode('start = "searching"', rules, files=files) as n:
            n.wait_for("service is up")
            assert n.stop() == 0
            return dict(re.findall(r"\] (name|again|path|other) (.*)$", n.text, re.M)), n.text

    for call in "open", "fopen":
        for error in "EIO", "EMFILE":
            got, text = found(dict(call=call, error=error, on="./a/name", count=1))
            assert got["name"] == "true a ./a/name.lua" and got["path"] == "true ./a/name.lua", (got, text)
    for error, reason in ("EIO", "Input/output error"), ("EMFILE", "Too many open files"):
        got, text = found(dict(call="open", error=error, on="./a/name"), dict(call="open", error=error, on="./a/other"))
        for what in "name", "again", "path":
            assert got[what].startswith("false "), (got, text)
            must_contain(got[what], f"can't open ./a/name.lua: {reason}")
        must_contain(got["other"], f"can't open ./a/other/name.lua: {reason}")
    # What may not be read is passed over, as Lua does.
    got, text = found(dict(call="open", error="EACCES", on="./a/name"), dict(call="open", error="EACCES", on="./a/other"))
    assert got["name"] == "true b ./b/name.lua" and got["path"] == "true ./b/name.lua", (got, text)
    must_contain(got["other"], "false ")


def test_schemas_that_cannot_be_read_say_why():
    for call, error, reason in ("fopen", "EMFILE", "Too many open files"), ("read", "EIO", "Input/output error"):
        rule = dict(call=call, error=error, on="/schema")
        with FaultyNode('start = "reading"', [rule], files={"svc/reading.lua": READING, "schema": "x" * 10000}) as n:
            n.wait_for("service is up")
            for what in "Can't open sproto file", "Can't open sproto file", "protobuf: can't open":
                assert re.search(rf"read false .*{what} ./schema: {reason}", n.text), n.text
            assert n.stop() == 0
    with Doors() as n, n.client("console") as c:
        path = os.path.join(folder(), "www", "file.txt")
        for call, error, reason in ("fopen", "EMFILE", "Too many open files"), ("read", "EIO", "Input/output error"):
            rule = n.faults.add(call, error, on=path)
            c.send(f"inject .cgate {path}\n")
            must_contain(c.recv_until("<CMD OK>\n").decode(), f"Can't open {path}: {reason}\n")
            rule.end()
        n.ends_well()


def test_input_that_cannot_be_waited_for_is_told():
    rule = dict(call="epoll_ctl", error="EPERM", on="add pipe:")
    with FaultyNode('start = "console"', [rule], stdin=subprocess.PIPE) as n:
        n.wait_for("console: can't read standard input: bind fd 0: Operation not permitted")
        assert n.stop() == 0


# --------------------------------------------------------------- start and end

UP = """
local skynet = require "skynet"
require "skynet.manager"
skynet.start(function()
	skynet.error "service is up"
	skynet.abort()
end)
"""


def start(config="", **rule):
    """A node that starts and ends, with one rule; gives its status and output."""
    text = f'start = "up"\nthread = 2\n{config}'
    with FaultyNode(text, [rule], files={"svc/up.lua": UP}) as n:
        return n.wait_exit(), n.text


def test_a_start_that_fails_ends_with_one_clear_line():
    for rule, line in (
            (dict(call="open", error="EMFILE", count=1), "cannot open .*config: Too many open files"),
            (dict(call="read", error="EIO", count=1), "cannot read .*config: Input/output error"),
            (dict(call="epoll_create1", error="EMFILE"), "socket-server error: create failed: Too many open files"),
            (dict(call="eventfd", error="ENFILE"), "socket-server error: create failed: Too many open files in system"),
            (dict(call="epoll_ctl", error="ENOMEM"), "socket-server error: create failed: Cannot allocate memory"),
            (dict(call="open", error="EMFILE", on="svc/up.lua"), "svc/up.lua: Too many open files"),
            *[(dict(call="pthread_create", error="EAGAIN", first=i),
               r"Can't create thread \d+: Resource temporarily unavailable") for i in range(1, 6)]):
        code, text = start('start_failure = "abort"', **rule)
        assert code == 1, (rule, code, text)
        assert re.search(line, text), (rule, text)


def test_a_start_survives_what_it_can_do_without():
    for rule in (dict(call="getrandom", error="ENOSYS"), dict(call="madvise", error="ENOMEM"), dict(call="munmap", error="ENOMEM"),
                 dict(call="fstat", error="EIO"), dict(call="close", error="EIO"), dict(call="sem_wait", error="EINTR", count=20),
                 dict(call="read", limit=1), dict(call="write", limit=1, on="pipe:"), dict(call="write", error="EINTR", chance=0.5),
                 dict(call="poll", error="ENOMEM")):
        code, text = start(**rule)
        assert code == 0 and "service is up" in text, (rule, code, text)


def test_a_daemon_that_cannot_start_says_why():
    for rule, line in (
            (dict(call="pipe", error="EMFILE"), "Can't daemonize: Too many open files"),
            (dict(call="fork", error="EAGAIN"), "Can't daemonize: Resource temporarily unavailable"),
            (dict(call="setsid", error="EPERM"), "Can't daemonize: Operation not permitted"),
            (dict(call="open", error="EMFILE", on="/dev/null", count=1), "Can't daemonize, /dev/null: Too many open files"),
            (dict(call="flock", error="ENOLCK"), "Can't lock pidfile: No locks available"),
            (dict(call="pwrite", error="ENOSPC"), "Can't write pid to pidfile .*: No space left on device"),
            (dict(call="pwrite", limit=1), "Can't write pid to pidfile .*: No space left on device"),
            (dict(call="pthread_create", error="EAGAIN", first=3), r"Can't create thread \d+: Resource temporarily unavailable")):
        with FaultyNode('start = "up"\nthread = 2\ndaemon = "./pid"', [rule], files={"svc/up.lua": UP}) as n:
            assert n.wait_exit() == 1, rule
            assert re.search(line, n.text), (rule, n.text)
            # Who could not lock it does not know whose it is.
            assert rule["call"] == "flock" or not os.path.exists(n.path("pid")), rule


def test_a_daemon_starts_though_signals_arrive():
    rules = [dict(call=call, error="EINTR", on=on, count=3) for call, on in
             (("flock", ""), ("waitpid", ""), ("read", "pipe:"), ("write", "pipe:"), ("dup2", ""))]
    with FaultyNode('start = "up"\nthread = 2\ndaemon = "./pid"', rules, files={"svc/up.lua": UP}) as n:
        assert n.wait_exit() == 0, n.text
        end = time.monotonic() + LIMIT
        while os.path.exists(n.path("pid")):
            assert time.monotonic() < end, "the daemon does not end"
            time.sleep(0.01)
