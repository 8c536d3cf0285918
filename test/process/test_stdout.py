"""Standard output that nobody reads holds up nobody."""

import re
import threading
import time

from claims import wait_file
from harness import LIMIT, Node

# More than the 16 MiB that wait for a reader.
LINES = 20000
SERVICE = r"""
local skynet = require "skynet"
local ways = { log = skynet.error, print = print }
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
