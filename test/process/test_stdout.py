"""Standard output, or error, that nobody reads holds up nobody; nor does one that can't be
written, or is not there."""

import os
import re
import signal
import socket
import subprocess
import threading
import time

from claims import read, wait_file
from faults import FaultyNode
from harness import LIMIT, Node, Skip, check_sanitizer

# More than the 16 MiB that wait for a reader.
LINES = 20000
SERVICE = r"""
local skynet = require "skynet"
local ways = {
    log = skynet.error,
    print = print,
    stderr = function(text) io.stderr:write(text, "\n") end,
}
local function note(name, text)
    local f = assert(io.open(name, "w"))
    f:write(text)
    f:close()
end
skynet.start(function()
    local say = ways[skynet.getenv "way"]
    for i = 1, tonumber(skynet.getenv "lines") do
        say("line " .. i .. " " .. ("."):rep(1000))
        if i % 100 == 0 then
            skynet.sleep(0)
        end
    end
    -- The log's lines are not written yet when they are said.
    while require "skynet.netpack".waiting(skynet.localname ".logger") > 0 do
        skynet.sleep(1)
    end
    note("said", "all")
    while skynet.getenv "asks" and not io.open "ask" do
        skynet.sleep(1)
    end
    io.write("from ", "io.write\n")
    print "from print"
    skynet.error "the last line"
    if skynet.getenv "asks" then
        require "skynet.manager".abort()
    end
end)
"""


class Unread(Node):
    """A node whose output is not read before may_read is set."""

    def __init__(self, config):
        self.may_read = threading.Event()
        super().__init__(config + '\nstart = "talker"', files={"svc/talker.lua": SERVICE})

    def _read(self):
        self.may_read.wait()
        super()._read()

    def __exit__(self, *failure):
        self.may_read.set()
        super().__exit__(*failure)


def stopped_reader(way, threads):
    """Whoever reads again gets whole lines, and how many were dropped in between."""
    with Unread(f'thread = {threads}\nway = "{way}"\nlines = {LINES}\nasks = true') as node:
        wait_file(node.path("said"), "all")
        node.may_read.set()
        # It comes last; the whole text would be long to search again and again.
        end = time.monotonic() + LIMIT
        while "dropped" not in node.text[-200:]:
            assert time.monotonic() < end
            time.sleep(0.01)
        open(node.path("ask"), "w").close()
        assert node.wait_exit() == 0
        got = re.findall(r"^(?:\[:\w+\] )?line (\d+) \.{1000}$", node.text, re.M)
        dropped = re.findall(r"^\[:00000000\] error: nobody read the standard output, dropped (\d+) lines$",
                             node.text, re.M)
        assert dropped and len(got) > 15000
        assert [int(n) for n in got] == sorted(int(n) for n in got)
        # A few lines of others may be among those that were dropped.
        assert LINES <= len(got) + sum(map(int, dropped)) <= LINES + 50, (len(got), dropped)
        assert "....line" not in node.text and ".[:" not in node.text
        assert re.search(r"^from io.write\nfrom print\n(.*\n)*\[:\w+\] the last line$", node.text, re.M)


def test_log_that_nobody_reads():
    stopped_reader("log", 1)
    stopped_reader("log", 4)


def test_print_that_nobody_reads():
    stopped_reader("print", 1)
    stopped_reader("print", 4)


def test_node_ends_though_nobody_reads():
    with Unread('thread = 1\nway = "print"\nlines = 2000') as node:
        wait_file(node.path("said"), "all")
        node.signal(15)
        assert node.proc.wait(LIMIT) == 0


def test_slow_reader_gets_all_that_is_left_at_the_end():
    with Unread('thread = 4\nway = "log"\nlines = 2000\nasks = true') as node:
        wait_file(node.path("said"), "all")
        open(node.path("ask"), "w").close()
        node.may_read.set()
        assert node.wait_exit() == 0
        assert len(re.findall(r"^\[:\w+\] line \d+ \.{1000}$", node.text, re.M)) == 2000
        assert "the last line\n" in node.text and "dropped" not in node.text


def test_a_machine_that_stops_at_the_end_loses_nothing():
    """The reader could not read meanwhile, either."""
    with Unread('thread = 4\nway = "log"\nlines = 2000\nasks = true') as node:
        wait_file(node.path("said"), "all")
        open(node.path("ask"), "w").close()
        threads, end = f"/proc/{node.proc.pid}/task", time.monotonic() + LIMIT
        while any(read(f"{threads}/{t}/comm").startswith("worker") for t in os.listdir(threads)):
            assert time.monotonic() < end
        node.signal(signal.SIGSTOP)
        time.sleep(1.5)
        node.signal(signal.SIGCONT)
        node.may_read.set()
        assert node.wait_exit() == 0
        assert len(re.findall(r"^\[:\w+\] line \d+ \.{1000}$", node.text, re.M)) == 2000
        assert "the last line\n" in node.text


def talker(way, lines, node=Node, **kw):
    config = f'start = "talker"\nthread = 2\nway = "{way}"\nlines = {lines}\nasks = true'
    return node(config, files={"svc/talker.lua": SERVICE}, **kw)


def read_at_last(node, fd):
    """What comes out of fd, which nobody reads before all was said."""
    wait_file(node.path("said"), "all")
    open(node.path("ask"), "w").close()
    text = b""
    while True:
        data = os.read(fd, 1 << 20)
        if not data:
            break
        text += data
    os.close(fd)
    assert node.wait_exit() == 0
    check_sanitizer(text.decode())
    return text.decode()


def nothing_is_lost(text, lines, name="output"):
    """Each line is there as a whole, or counted."""
    got = [int(n) for n in re.findall(r"^(?:\[:\w+\] )?line (\d+) \.{1000}$", text, re.M)]
    notice = rf"^\[:00000000\] error: nobody read the standard {name}, dropped (\d+) lines$"
    dropped = sum(map(int, re.findall(notice, text, re.M)))
    assert got == sorted(got) and "....line" not in text and ".[:" not in text
    assert lines <= len(got) + dropped <= lines + 50, (len(got), dropped)
    return dropped


def test_a_socket_that_nobody_reads():
    for lines in 2000, LINES:
        ours, theirs = socket.socketpair()
        with theirs, talker("print", lines, stdout=theirs.fileno()) as node:
            theirs.close()
            dropped = nothing_is_lost(read_at_last(node, ours.detach()), lines)
            assert (dropped > 0) == (lines == LINES)


def test_a_pipe_that_cannot_be_opened_again():
    """As that of another user: nobody is held up although the descriptor blocks."""
    for lines in 2000, LINES:
        ours, theirs = os.pipe()
        rule = {"call": "open", "error": "EACCES", "on": "/proc/self/fd/1"}
        with talker("log", lines, FaultyNode, rules=[rule], stdout=theirs) as node:
            os.close(theirs)
            assert os.get_blocking(ours)
            dropped = nothing_is_lost(read_at_last(node, ours), lines)
            assert (dropped > 0) == (lines == LINES)
            assert node.rules[0].hit == 1


def test_standard_error_that_nobody_reads():
    for again in True, False:
        ours, theirs = os.pipe()
        rules = [] if again else [{"call": "open", "error": "EACCES", "on": "/proc/self/fd/2"}]
        with talker("stderr", LINES, FaultyNode, rules=rules, stderr=theirs) as node:
            os.close(theirs)
            assert nothing_is_lost(read_at_last(node, ours), LINES, "error") > 0
            # The other one is not concerned.
            assert re.search(r"^from io.write\nfrom print$", node.text, re.M)


def test_a_log_service_that_fails_holds_nobody_up():
    """What it says about itself goes to standard error."""
    log = """
local skynet = require "skynet"
skynet.register_protocol {
	name = "text", id = skynet.PTYPE_TEXT, unpack = skynet.tostring,
	dispatch = function(_, _, text) error(("no room "):rep(1000), 0) end,
}
skynet.start(function() end)
"""
    ours, theirs = os.pipe()
    config = 'start = "talker"\nthread = 1\nway = "log"\nlines = 2000\nlogservice = "snlua"\nlogger = "faulty"\nasks = true'
    with Node(config, files={"svc/talker.lua": SERVICE.replace('skynet.localname ".logger"', "1"), "svc/faulty.lua": log},
              stdout=subprocess.DEVNULL, stderr=theirs) as node:
        os.close(theirs)
        text = read_at_last(node, ours)
        assert text.count("error : no room") >= 100, text[-1000:]


def test_no_standard_output_at_all():
    """Nothing that is printed gets into another descriptor, though its number was free."""
    for way in "log", "print":
        shell = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
        with talker(way, 100, wrapper=shell, stdout=subprocess.DEVNULL) as node:
            wait_file(node.path("said"), "all")
            links = [os.readlink(f"/proc/{node.proc.pid}/fd/{fd}") for fd in range(3)]
            assert links == ["/dev/null"] * 3, links
            open(node.path("ask"), "w").close()
            assert node.wait_exit() == 0


def test_a_full_device_is_told_of():
    """As a full disk: the log says so on standard error, once, and the node goes on."""
    if not os.path.exists("/dev/full"):
        raise Skip("needs /dev/full")
    with open("/dev/full", "wb") as full, talker("log", 2000, stdout=full, stderr=subprocess.PIPE) as node:
        wait_file(node.path("said"), "all")
        open(node.path("ask"), "w").close()
        assert node.wait_exit() == 0
        assert node.text.count("logger: can't write standard output: No space left on device") == 1, node.text
