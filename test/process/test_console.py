"""The debug console over real sockets: lines, HTTP, limits, and every command."""

import contextlib
import os
import re
import subprocess
import threading
import time

from harness import LIMIT, VARIANT, Client, Node, Skip, flood_of_lines

SCRIPTS = {
    "svc/start.lua": """
local skynet = require "skynet"
skynet.start(function()
	skynet.newservice("debug_console", 0)
	skynet.error("target at " .. skynet.address(skynet.newservice "target"))
end)
""",
    "svc/target.lua": """
local skynet = require "skynet"
require "skynet.manager"
local CMD = {}
local waiting = {}
function CMD.echo(...) return ... end
function CMD.block() skynet.wait(waiting) end
function CMD.spin() while true do end end
skynet.info_func(function(...) return {"info", ...} end)
skynet.start(function()
	skynet.register ".target"
	skynet.dispatch("lua", function(_, _, cmd, ...) skynet.retpack(CMD[cmd](...)) end)
end)
""",
    "svc/bad.lua": "error 'bad'",
    "svc/leaves.lua": 'local skynet = require "skynet" skynet.start(function() skynet.exit() end)',
    "svc/lazy.lua": 'local skynet = require "skynet" skynet.start(function() skynet.wait {} end)',
    "svc/mute.lua": """
local skynet = require "skynet"
skynet.start(function()
	skynet.dispatch("debug", function() skynet.ignoreret() end)
end)
""",
    "snx1.lua": "function init() end function response.hi() return 1 end",
    "patch.lua": "print('patched', ...) function _P.lua.CMD.extra(x) return 'extra ' .. x end",
    "broken.lua": "print 'before' error 'broken patch'",
}


class Console(Client):
    """One console connection."""

    def __init__(self, node, banner=True):
        m = node.wait_for(r"Start debug console at (\S+):(\d+)")
        super().__init__(int(m.group(2)), m.group(1))
        if banner:
            assert self.recv_until("\n") == b"Welcome to skynet console\n"

    def run(self, line):
        """Lines of output and the terminator."""
        self.send(line + "\n")
        out = []
        while True:
            text = self.recv_until("\n").decode()[:-1]
            if text in ("<CMD OK>", "<CMD Error>"):
                return out, text
            out.append(text)

    def ok(self, line):
        out, end = self.run(line)
        assert end == "<CMD OK>", (line, out)
        return out

    def fails(self, line, text):
        out, end = self.run(line)
        assert end == "<CMD Error>", (line, out)
        assert text in "\n".join(out), (line, out)
        return out


def start(extra="", **kw):
    node = Node('start = "start"\nlogpath = "."\n'
                'snax = snax .. ";./?.lua"\n' + extra, files=SCRIPTS, **kw)
    node.target = node.wait_for(r"target at :(\w+)").group(1)
    return node


def test_banner_list_and_unknown_command():
    with start() as n, Console(n) as c:
        out = c.ok("list")
        assert out == sorted(out) and len(out) >= 5, out
        assert f":{n.target}\tsnlua target" in out, out
        out, end = c.run("nosuch")
        assert (out, end) == (["Invalid command, type help for command list", ""], "<CMD Error>")
        # Empty, blank and CR-only lines are no commands; a CR at the end is harmless.
        c.send("\n\r\n   \n")
        assert c.ok("list\r") == c.ok("list")
        n.wait_for(r"127\.0\.0\.1:\d+ connected")
        c.close()
        n.wait_for(r"127\.0\.0\.1:\d+ disconnect")


def test_help_names_every_command():
    with start() as n, Console(n) as c:
        names = {line.split("\t")[0] for line in c.ok("help")}
        want = """help list stat mem gc info exit kill start log snax service task uniqtask killtask
            inject dbgcmd ping call trace debug logon logoff signal clearcache cmem jmem memory memquota memtop
            memsnap memdiff memsites mallctl trim netstat
            dumpheap profactive getenv setenv""".split()
        assert names == set(want), names ^ set(want)


def test_addresses():
    with start() as n, Console(n) as c:
        for address in (n.target, n.target.lstrip("0"), ":" + n.target, ".target"):
            (cs,) = c.ok("ping " + address)
            assert cs.isdigit(), cs
        c.fails("ping fff", "call to invalid address :00000fff")
        c.fails("ping zzz", "Need an address")
        c.fails("ping :zzz", "Need an address")
        c.fails("ping .zzz", "Not a valid name")
        c.fails("ping", "Need an address")


def test_start_kill_exit():
    with start() as n, Console(n) as c:
        (line,) = c.ok("start target")
        address, script = line.split("\t")
        assert re.fullmatch(r":\w{8}", address) and script == "target", line
        assert c.ok("start nosuch") == ["Failed"]
        assert c.ok("start bad") == ["Failed"]
        assert c.ok("start leaves") == ["Exit"]
        assert c.ok("log leaves") == ["Failed"]
        assert c.ok("kill " + address) == [address + "\tsnlua target"]
        assert c.ok("kill fff") == [":00000fff\tnil"]
        (line,) = c.ok("start target x")
        address = line.split("\t")[0]
        assert c.ok("exit " + address) == []
        until = time.monotonic() + LIMIT
        while True:
            # While it is going it may still refuse by itself.
            out, end = c.run("ping " + address)
            if "call to invalid address" in "\n".join(out):
                break
            assert time.monotonic() < until, out
        assert end == "<CMD Error>", out
        assert not any(address in line for line in c.ok("list"))
        (line,) = c.ok("snax snx1")
        assert line.endswith("\tsnx1"), line
        assert c.ok("snax nosuch") == ["Failed"]


def test_stat_mem_gc():
    with start() as n, Console(n) as c:
        stat = [line for line in c.ok(f"stat {LIMIT * 100}") if n.target in line]
        assert re.fullmatch(rf":{n.target}\tcpu:\S+\tmessage:\d+\tmqlen:\d+\ttask:\d+", stat[0]), stat
        for cmd in ("mem", "gc"):
            (line,) = [line for line in c.ok(f"{cmd} {LIMIT * 100}") if n.target in line]
            assert re.fullmatch(rf":{n.target}\t\d+\.\d\d Kb \(snlua target\)", line), line
        (mute,) = c.ok("start mute")
        address = mute.split("\t")[0]
        assert address + "\tTIMEOUT" in c.ok("stat 10")
        assert address + "\tTIMEOUT (snlua mute)" in c.ok("mem 10")
        c.fails("stat abc", "Need a number")


def test_info_call_dbgcmd():
    with start() as n, Console(n) as c:
        assert c.ok("info .target a b") == ["1\tinfo", "2\ta", "3\tb"]
        assert c.ok('call .target "echo",1,nil,{x=1}') == ["1\t1", "3\tx:1", "n\t3"]
        c.fails('call .target "echo", os.time()', "os")
        c.fails("call .target", "need arguments")
        c.fails("call .target ) (", "Invalid arguments")
        c.fails('call .target "nosuch"', "call failed")
        (mem,) = c.ok("dbgcmd .target MEM")
        assert float(mem) > 0
        assert c.ok("dbgcmd .target SUPPORT lua") == ["true"]
        assert c.ok("dbgcmd .target PING") == []
        c.fails("dbgcmd .target NOSUCH", "call failed")


def test_a_service_in_c_is_not_asked_for_what_it_never_answers():
    with start() as n, Console(n) as c:
        for line in ("info :1", "task :1", "task :1 5", "uniqtask :1", "killtask :1 thread", f"inject :1 {n.config}",
                     "dbgcmd :1 MEM", "ping :1", "trace :1", "debug :1"):
            c.fails(line, ":00000001 is no Lua service")
        c.fails("exit :1", ":00000001 is no Lua service")


def test_a_call_of_a_service_in_c_ends():
    with start() as n, Console(n) as c:
        c.fails('call :1 "hello"', ":00000001 gave no answer in 3 s: it is written in C")
        assert c.ok("list")


# Seconds that a console waits in the tests of that; others must manage to answer in them.
WAIT = 4 if VARIANT == "release" else 6
BOUNDED = f"debug_console_wait = {WAIT}\nendless_check = 0"


def all_fail(node, lines):
    """Each of the lines, at once on connections of their own, with the text of its error."""
    with contextlib.ExitStack() as stack:
        consoles = [stack.enter_context(Console(node)) for _ in lines]
        for c, line in zip(consoles, lines):
            c.send(line + "\n")
        for c, (line, text) in zip(consoles, lines.items()):
            out = c.recv_until("<CMD Error>\n").decode()
            assert text in out, (line, out)
            assert c.ok("list")


def test_a_service_that_gives_no_answer_does_not_keep_the_connection():
    with start(BOUNDED) as n, Console(n) as c:
        mute = c.ok("start mute")[0].split("\t")[0]
        silent = f"{mute} gave no answer in {WAIT} s: it is busy or stuck"
        lines = {f"{word} {mute}{rest}": silent for word, rest in {
            "ping": "", "info": "", "task": "", "dbgcmd": " MEM", "inject": " patch.lua", "memsnap": "",
            "debug": ""}.items()}
        lines['call .target "block"'] = f":{n.target} gave no answer in {WAIT} s"
        lines["start lazy"] = f"the start of lazy takes more than {WAIT} s"
        all_fail(n, lines)
        # It never comes back to its messages.
        all_fail(n, {'call .target "spin"': f"signal :{n.target} 0 breaks off"})
        c.fails("ping .target", f":{n.target} gave no answer in {WAIT} s")
        c.ok(f"signal :{n.target} 0")
        assert c.ok('call .target "echo", 1') == ["1\t1", "n\t1"]


def test_a_service_that_ends_meanwhile_is_named():
    with start() as n, Console(n) as c, Console(n) as other:
        c.send('call .target "block"\n')
        while "target.lua" not in "\n".join(other.ok("task .target")):
            pass
        other.ok(f"kill {n.target}")
        out = c.recv_until("<CMD Error>\n").decode()
        assert out == f":{n.target} has ended meanwhile: call failed\n<CMD Error>\n", out
        assert c.ok("list")


def test_a_debugger_that_is_stuck_is_left():
    with start(BOUNDED) as n, Console(n) as c:
        prompt = f":{n.target}>".encode()
        c.send("debug .target\n")
        assert c.recv_exact(len(prompt)) == prompt
        c.send("while true do end\ncont\n")
        out = c.recv_until("<CMD Error>\n").decode()
        assert f":{n.target} is still in the debugger" in out, out
        # The debugger still writes to this connection, before the console does or after it.
        c.send(f"signal :{n.target} 0\n")
        seen = b""
        while prompt not in seen or b"<CMD OK>\n" not in seen:
            seen += c.recv_exact(1)
        assert c.ok("ping .target")


def test_tasks():
    with start() as n, Console(n) as c, Console(n) as blocked:
        blocked.send('call .target "block"\n')
        while True:
            out = "\n".join(c.ok("task .target"))
            m = re.search(r"^thread: (\S+) session: (\d+)\t", out, re.M)
            if m:
                break
        assert "target.lua" in out, out
        assert "target.lua" in "\n".join(c.ok(f"task .target {m.group(2)}"))
        assert "target.lua" in "\n".join(c.ok(f"dbgcmd .target TASK {m.group(2)}"))
        uniq = c.ok("uniqtask .target")
        assert uniq[0] == f"1\tsessions:[{m.group(2)}]", uniq
        assert c.ok("killtask .target nosuchthread") == ["Not found"]
        assert c.ok("killtask .target " + m.group(1)) == []
        assert blocked.recv_until("<CMD Error>\n").count(b"call failed") == 1


def test_inject():
    with start() as n, Console(n) as c:
        assert c.ok("inject .target patch.lua a b") == ["patched\ta\tb"]
        assert c.ok('call .target "extra", "x"') == ["1\textra x", "n\t1"]
        out = c.fails("inject .target broken.lua", "broken patch")
        assert out[0] == "before", out
        assert c.ok("inject .target no_such_file.lua") == ["Can't open no_such_file.lua"]


def test_environment():
    with start() as n, Console(n) as c:
        assert c.ok("setenv abc 123") == []
        c.fails("setenv abc 123", "Can't setenv exist key : abc")
        assert c.ok("getenv abc") == ["abc\t123"]
        assert c.ok("getenv nosuch") == ["nosuch\tnil"]
        c.fails("getenv", "Need a name")


def test_message_log():
    with start() as n, Console(n) as c:
        assert c.ok("logon .target") == []
        n.wait_for("Open log file")
        c.ok('call .target "echo", "logged"')
        assert c.ok("logoff .target") == []
        n.wait_for(f"Close log file :{n.target}")
        with open(n.path(f"{n.target}.log")) as f:
            text = f.read()
        assert text.startswith("open time: "), text
        assert re.search(r"^:\w{8} 10 \d+ \d+ [0-9a-f]*6c6f67676564", text, re.M), text
        (line,) = c.ok("log target")
        address = line.split("\t")[0]
        with open(n.path(address[1:] + ".log")) as f:
            assert f.read().startswith("open time: ")


def allocator_tools(c):
    if VARIANT in ("asan", "tsan"):  # their allocators are their own
        c.fails("trim", "nothing can be given back in this build")
        return
    c.ok("trim")
    assert c.ok("mallctl arenas.page") == ["4096"]
    assert c.ok("mallctl opt.prof") == ["false"]
    assert re.match(r"\d+\.\d+", c.ok("mallctl version")[0])
    assert c.ok("mallctl arenas.dirty_decay_ms 5000") == ["5000"]
    assert c.ok("mallctl arena.0.purge run") == []
    c.fails("mallctl no.such", "jemalloc has no control 'no.such'")
    c.fails("mallctl arenas.narenas 5", "cannot be set")
    c.fails("mallctl arenas.dirty_decay_ms soon", "does not take such a value")
    c.fails("mallctl version 5", "does not take such a value")
    c.fails("mallctl background_thread 5", "does not take such a value")
    c.fails("mallctl arenas.dirty_decay_ms -5", "does not take such a value")
    c.fails("mallctl arena.0.purge", "cannot be read")
    c.fails("mallctl arena.0.purge 5", "cannot be set")
    c.fails("mallctl arena.0.extent_hooks 5", "cannot be set")
    c.fails("mallctl experimental.hooks.safety_check_abort 5", "cannot be set")
    c.fails("mallctl", "Need the name of a control")
    c.fails("mallctl prof.dump run", "MALLOC_CONF=prof:true")
    assert "MALLOC_CONF" in c.ok("profactive on")[0]
    assert "MALLOC_CONF=prof:true" in c.ok("dumpheap")[0]


def test_tools():
    with start() as n, Console(n) as c:
        assert c.ok("clearcache") == []
        cmem = dict(line.split("\t") for line in c.ok("cmem"))
        assert "total" in cmem and "block" in cmem, cmem
        totals = c.ok("jmem")
        assert [line.split("\t")[0] for line in totals] == [
            f"stats.{what}" for what in ("active", "allocated", "mapped", "resident", "retained")]
        for line in totals:
            assert re.fullmatch(r"\S+\t[ \d]{10}\d  [ \d]{4}\d\.\d\d Mb", line), line
        parts = dict(line.split("\t") for line in c.ok("memory"))
        assert "services: Lua heaps" in parts and "~ sum" in parts and "~ RSS" in parts, parts
        ranks = c.ok("memtop 3 lua")
        sizes = [int(re.search(r" lua:(\d+) ", line).group(1)) for line in ranks]
        assert len(sizes) == 3 and sizes == sorted(sizes, reverse=True), ranks
        assert re.match(r":\w{8} total:\d+ ", c.ok("memtop code")[0])
        quota = dict(line.split("\t") for line in c.ok("memquota .target 64M 16M"))
        assert quota["hard"] == "67108864" and quota["warn"] == "16777216", quota
        assert int(quota["total"]) > 10000, quota
        assert dict(line.split("\t") for line in c.ok("memquota .target"))["hard"] == "67108864"
        assert "by place:" in c.ok("memsnap .target")
        assert "by type:" in c.ok("memdiff .target 100000")
        assert c.ok("memsites .target 512") == ["sampling one allocation in 512 bytes"]
        assert c.ok("memsites .target")[0].split() == ["alive", "ever", "line"]
        assert c.ok("memsites .target off") == ["sampling is off"]
        allocator_tools(c)
        out = c.ok("profactive")
        assert out[0].startswith("heap profilling is "), out
        assert c.ok("signal .target 1") == []
        n.wait_for(r"recv a signal 1")
        n.wait_for(r"Current Memory [\d.]+K")
        c.fails("signal .target x", "Need a signal number")
        assert c.ok("service") == []
        c.ok('call .service "LAUNCH", "mute"')
        (line,) = c.ok("service")
        assert re.fullmatch(r"mute\t:\w{8}", line), line


def test_memory_commands_refuse_what_they_cannot_do():
    with start() as n, Console(n) as c:
        # Service 1 is the log, which is no Lua service and would never answer.
        for line, text in {
                "memtop 0": "need a positive number", "memtop 1.5": "Need a number of services",
                "memtop 3 size": "invalid option 'size'",
                "memquota": "Need an address", "memquota fff": "call to invalid address :00000fff",
                "memquota :1 64M": ":00000001 is no Lua service", "memquota .target much": "Need a number of bytes",
                "memquota .target -5": "Need a number of bytes", "memquota .target 1 2..3": "Need a number of bytes",
                "memquota .target 99999999999G": "not a number of bytes",
                "memsnap :1": "is no Lua service", "memsnap .target all": "Need a number of objects",
                "memsnap .target 0": "need a positive number of objects",
                "memdiff .target": "memsnap in the console", "memdiff": "Need an address",
                "memsites .target many": "Need a number of bytes", "memsites .target -5": "not a number of bytes",
                "mem soon": "Need a number of centiseconds", "gc soon": "Need a number of centiseconds",
                "profactive maybe": "Need on or off"}.items():
            c.fails(line, text)
        # A limit that is passed already; others go on, and it can be lifted.
        c.fails("memquota .target 1K", "not enough memory")
        assert c.ok("list")
        n.wait_for(r"Memory quota reached: ")
        assert dict(line.split("\t") for line in c.ok("memquota .target 0"))["hard"] == "0"
        assert c.ok('call .target "echo", 1') == ["1\t1", "n\t1"]


def test_heap_profiles():
    if VARIANT in ("asan", "tsan"):
        raise Skip("this build does not account for memory")
    with start(env={"MALLOC_CONF": "prof:true,prof_active:false,lg_prof_sample:12"}) as n, Console(n) as c:
        assert c.ok("profactive") == ["heap profilling is deactive"]
        assert c.ok("profactive on") == ["heap profilling is active"]
        for line in ("dumpheap first.heap", "mallctl prof.dump second.heap"):
            assert c.ok(line) == []
        for name in ("first.heap", "second.heap"):
            with open(n.path(name)) as f:
                assert f.readline().startswith("heap_v2/4096")
        c.fails("dumpheap no/such/folder/x", "can no/such/folder/x be written to?")
        # Texts and addresses are no numbers, and some things cannot be read.
        for name in ("prof.prefix", "prof.log_start", "prof.dump"):
            c.fails(f"mallctl {name} 5", "does not take such a value")
        c.fails("mallctl experimental.hooks.prof_backtrace 5", "cannot be set")
        assert c.ok("mallctl prof.reset run") == []
        assert c.ok("mallctl prof.reset 14") == []
        assert c.ok("mallctl prof.lg_sample") == ["14"]
        assert c.ok("profactive off") == ["heap profilling is deactive"]


def test_trace():
    with start() as n, Console(n) as c:
        assert c.ok("trace .target on") == []
        n.wait_for("Turn trace log true for lua")
        c.ok('call .target "echo"')
        n.wait_for(r"<TRACE :\w+-\d+> \d+ end")
        assert c.ok("trace .target lua off") == []
        n.wait_for("Turn trace log false for lua")
        assert c.ok("trace .target") == []
        n.wait_for("Turn trace log nil for lua")
        c.fails("trace .target nosuch on", "call failed")
        c.fails("trace .target lua maybe", "Need on or off")


def test_netstat():
    with start() as n, Console(n) as c:
        out = c.ok("netstat")
        port = c.sock.getpeername()[1]
        mine = c.sock.getsockname()[1]
        listener = [line for line in out if f"sock:127.0.0.1:{port}" in line]
        own = [line for line in out if f"peer:127.0.0.1:{mine}" in line]
        assert len(listener) == 1 and len(own) == 1, out
        assert re.match(r"\d+\taccept:\d+\taddress::\w{8}\tid:\d+\t", listener[0]), listener
        assert "\ttype:LISTEN" in listener[0], listener
        assert re.search(r"\tread:\d+\treading:true\trtime:[\d.]+s\ttype:TCP\t", own[0]), own


def test_debug_says_that_it_can_not_attach():
    with start() as n, Console(n) as c:
        c.fails("debug fff", "Debugger attach failed")
        assert c.ok("list")


def test_debug_hands_the_connection_to_a_session():
    with start() as n, Console(n) as c:
        prompt = f":{n.target}>".encode()
        c.send("debug .target\n")
        assert c.recv_exact(len(prompt)) == prompt
        n.wait_for(rf"Attach to :{n.target}$")
        c.send("1+1\n")
        assert c.recv_exact(len(prompt) + 3) == b"2\t\n" + prompt
        c.send("cont\n")
        assert c.recv_until("\n") == b"<CMD OK>\n"
        assert c.ok("list")


def http(node, request):
    """Status line, header lines and body of a raw HTTP exchange."""
    with Console(node, banner=False) as c:
        c.send(request)
        text = c.recv_eof().decode()
    head, _, body = text.partition("\r\n\r\n")
    lines = head.split("\r\n")
    return lines[0], {k.lower(): v for k, _, v in (s.partition(": ") for s in lines[1:])}, body


def test_http_get_and_post():
    with start() as n:
        status, fields, body = http(n, "GET /list HTTP/1.0\r\nHost: x\r\n\r\n")
        assert status == "HTTP/1.1 200 OK", status
        assert int(fields["content-length"]) == len(body)
        assert fields["connection"] == "close"
        assert body.startswith("Welcome to skynet console\n:"), body
        assert body.endswith("<CMD OK>\n") and "snlua target" in body, body
        line = 'call .target "echo","a"'
        status, _, body = http(n, f"POST /x HTTP/1.1\r\nContent-Length: {len(line)}\r\n\r\n{line}")
        assert status == "HTTP/1.1 200 OK" and "1\ta\nn\t1\n<CMD OK>\n" in body, body
        status, _, body = http(n, "GET /info/.target/a/b%20c HTTP/1.1\r\n\r\n")
        assert "1\tinfo\n2\ta\n3\tb\n4\tc\n" in body, body
        status, _, body = http(n, "GET /nosuch HTTP/1.1\r\n\r\n")
        assert status.split()[1] == "404" and body.endswith("<CMD Error>\n"), body
        status, _, body = http(n, "GET /ping/fff HTTP/1.1\r\n\r\n")
        assert status.split()[1] == "500" and "call to invalid address" in body, body


def test_http_without_a_version_is_plain_text():
    with start() as n, Console(n, banner=False) as c:
        c.send("GET /list\r\n\r\n")
        text = c.recv_eof().decode()
        assert text.startswith("Welcome to skynet console\n:"), text
        assert text.endswith("<CMD OK>\n"), text


def test_http_bad_requests_execute_nothing():
    with start() as n:
        long_line = 'call .target "echo", "' + "x" * 9000 + '"'
        cases = {
            f"POST / HTTP/1.1\r\nContent-Length: {len(long_line)}\r\n\r\n{long_line}": "413",
            "POST / HTTP/1.1\r\n\r\nlist": "411",
            "POST / HTTP/1.1\r\nContent-Length: -4\r\n\r\nlist": "400",
            "POST / HTTP/1.1\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nlist": "400",
            "GET /list HTTP/1.1\r\nno colon here\r\n\r\n": "400",
            "GET /list HTTP/1.1\r\n" + "a: b\r\n" * 200 + "\r\n": "400",
            "GET /list HTTP/1.1\r\nA: " + "b" * 10000 + "\r\n\r\n": "400",
        }
        for request, want in cases.items():
            status, _, body = http(n, request)
            assert status.split()[1] == want, (request[:80], status)
            assert "snlua" not in body, body
        n.wait_for(r"debug_console: 127\.0\.0\.1:\d+: 413 Content Too Large$")
        with Console(n) as c:
            c.ok("list")


def test_endless_line_closes_the_connection_only():
    with start() as n, Console(n) as c, Console(n) as hostile:
        def flood():
            try:
                for _ in range(64):
                    hostile.send(b"x" * 65536)
            except OSError:
                pass
        thread = threading.Thread(target=flood)
        thread.start()
        hostile.recv_eof()
        hostile.close()
        thread.join(LIMIT)
        assert c.ok("list")


def test_secret():
    with start('debug_console_secret = "open sesame"') as n:
        with Console(n) as c:
            c.fails("list", "Authentication required")
            c.fails("auth wrong", "Authentication required")
            assert c.ok("auth open sesame") == []
            assert c.ok("list")
        with Console(n) as c:
            c.send("auth 1\nauth 2\nauth 3\nlist\n")
            assert b"snlua" not in c.recv_eof()
        assert http(n, "GET /list HTTP/1.1\r\n\r\n")[0].split()[1] == "401"
        status, _, body = http(n, "GET /list HTTP/1.1\r\nAuthorization: Bearer open sesame\r\n\r\n")
        assert status.split()[1] == "200" and "snlua" in body


def test_who_does_not_say_the_secret_in_time_is_closed():
    with start('debug_console_secret = "s"\ndebug_console_timeout = 4') as n, Console(n) as trusted:
        trusted.ok("auth s")
        with Console(n) as silent:
            assert silent.recv_eof() == b""
        n.wait_for(r"debug_console: 127\.0\.0\.1:\d+: no secret in time$")
        assert trusted.ok("list")


def test_a_flood_of_connections_is_no_flood_of_lines():
    with start() as n:
        flood_of_lines(n, lambda: Console(n, banner=False), r"127\.0\.0\.1:\d+ connected",
                       r"127\.0\.0\.1:\d+ disconnect")


def test_too_many_arguments_are_refused():
    script = """
local skynet = require "skynet"
skynet.start(function()
	skynet.error("result " .. tostring(pcall(skynet.newservice, "debug_console", "127.0.0.1", 0, "x")))
	skynet.error("result " .. tostring(pcall(skynet.newservice, "debug_console", "port")))
end)
"""
    with Node('start = "two"', files={"svc/two.lua": script}) as n:
        n.wait_for(r"result false(.|\n)*result false")


def test_console_starts_services_named_on_stdin_and_ends_quietly():
    script = """
local skynet = require "skynet"
skynet.start(function() skynet.newservice "console" skynet.error "ready" end)
"""
    said = """
local skynet = require "skynet"
local words = table.concat({...}, "|")
skynet.start(function() skynet.error("said " .. words) end)
"""
    snx = 'local skynet = require "skynet" function init(...) skynet.error("snax", ...) end'
    with Node('snax = "./?.lua"\nstart = "go"',
              files={"svc/go.lua": script, "svc/said.lua": said, "snx1.lua": snx},
              stdin=subprocess.PIPE) as n:
        n.wait_for("ready")
        n.proc.stdin.write(b"said one two\n\nnosuch service\nsnax snx1 x y\r\n")
        n.proc.stdin.flush()
        n.wait_for(r"said one\|two")
        n.wait_for(r"snax x y")
        n.proc.stdin.close()
        assert n.stop() == 0
        assert "console.lua" not in n.text, n.text


def test_console_without_input_is_quiet_and_one_that_cannot_read_is_not():
    script = """
local skynet = require "skynet"
skynet.start(function() skynet.newservice "console" skynet.error "ready" end)
"""
    for stdin, line in (os.devnull, None), (__file__, "console: can't read standard input: .*not permitted"):
        with open(stdin, "rb") as f, Node('start = "go"', files={"svc/go.lua": script}, stdin=f) as n:
            n.wait_for("ready")
            n.wait_for(line or "ready")
            assert n.stop() == 0
            assert line or "console:" not in n.text, n.text
            assert f.tell() == 0


def test_what_waits_in_a_pipe_is_read_although_its_writer_is_gone_and_its_reader_rests():
    script = """
local skynet = require "skynet"
local socket = require "skynet.socket"
skynet.start(function()
	local id = socket.stdin()
	socket.pause(id)
	skynet.error "paused"
	local go
	socket.onclose(id, function() go = true end)
	for _ = 1, 500 do
		if go then break end
		skynet.sleep(1)
	end
	local n = 0
	repeat
		local data, rest = socket.read(id)
		n = n + #(data or rest)
	until not data
	skynet.error("read " .. n)
end)
"""
    with Node('start = "go"', files={"svc/go.lua": script}, stdin=subprocess.PIPE) as n:
        n.wait_for("paused")
        n.proc.stdin.write(b"x" * 60000)
        n.proc.stdin.close()
        n.wait_for(r"read \d+")
        assert "read 60000" in n.text, n.text


def test_dbg_and_cmemory_print_and_exit():
    script = """
local skynet = require "skynet"
skynet.start(function()
	skynet.newservice("dbg", "list")
	skynet.newservice "cmemory"
	io.stdout:flush()
	skynet.error "printed"
end)
"""
    with Node('start = "go"', files={"svc/go.lua": script}) as n:
        n.wait_for("printed")
        n.wait_for(r"^:00000004\tsnlua cdummy$")
        if VARIANT not in ("asan", "tsan"):
            n.wait_for(r"^:0000000\w [\d.]+K$")
        n.wait_for(r"^Total memory:\t\d+$")
        n.wait_for(r"^Total block:\t\d+$")
        assert n.stop() == 0
