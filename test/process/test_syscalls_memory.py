"""The system has no memory when jemalloc asks for some: a node goes on without it or ends with one
clear line, and jemalloc, which crashes when that happens while it prepares a thread, does not."""

import re
import signal

from faults import FaultyNode
from faultysubject import Subject
from harness import VARIANT, Client, Skip

UP = """
local skynet = require "skynet"
require "skynet.manager"
local socket = require "skynet.socket"
skynet.start(function()
	socket.resolve "localhost"
	skynet.error "service is up"
	skynet.abort()
end)
"""


def needs_jemalloc():
    if VARIANT in ("asan", "tsan"):
        raise Skip("the checker's allocator ends the process in its own way")


def must_end_well(code, text):
    """It has ended as it should, or for want of memory with a line that says so."""
    if code == -signal.SIGABRT:
        assert re.search("^xmalloc: Out of memory ", text, re.M), text
    elif code == 1:
        assert re.search("^Can't (create|reserve) |Cannot allocate memory|not enough memory", text, re.M), text
    else:
        assert code == 0, (code, text)


def test_memory_that_ends_at_any_moment_of_the_start_is_no_crash():
    needs_jemalloc()
    for count in 1, 0:
        first, hit, ends = 0, 1, {}
        while hit > 0:
            first += 1
            rule = dict(call="mmap", error="ENOMEM", first=first, count=count)
            with FaultyNode('start = "up"\nthread = 2\nstart_failure = "abort"', [rule], files={"svc/up.lua": UP}) as n:
                code = n.wait_exit()
                must_end_well(code, n.text)
                hit = n.rules[0].hit
                ends.setdefault(code, []).append(n.text)
        assert first > 5, "hardly anything was mapped"
        assert any("Can't create the threads' arenas: " in text for text in ends[1]), ends[1]


GROWING = """
local skynet = require "skynet"
require "skynet.manager"
local part = ...
if part then
	skynet.start(function()
		local t = {}
		for i = 1, 20000 do
			t[i] = { i }
		end
		skynet.dispatch("lua", function(_, _, n) skynet.retpack(("x"):rep(n)) end)
	end)
else
	skynet.start(function()
		local all = {}
		for i = 1, 40 do
			local ok, service = pcall(skynet.newservice, "growing", i)
			all[#all + 1] = ok and service or nil
		end
		for i, service in ipairs(all) do
			pcall(skynet.call, service, "lua", i * 100000)
		end
		skynet.abort()
	end)
end
"""


def test_memory_that_ends_while_services_work_is_no_crash():
    needs_jemalloc()
    for count in 1, 0:
        # The start has maps of its own, see above.
        first, hit = 15, 1
        while hit > 0:
            first += 5
            rule = dict(call="mmap", error="ENOMEM", first=first, count=count)
            with FaultyNode('start = "growing"\nthread = 4', [rule], files={"svc/growing.lua": GROWING}) as n:
                must_end_well(n.wait_exit(), n.text)
                hit = n.rules[0].hit
        assert first > 20, "hardly anything was mapped"


def test_a_thread_that_begins_when_memory_has_ended_is_no_crash():
    # Each resolves a name in a thread of its own, which jemalloc gave an arena of its own once.
    needs_jemalloc()
    for threads in 1, 3:
        with Subject() as n:
            clients = [Client(n.port["ctl"]) for _ in range(threads)]
            rule = n.faults.add("mmap", "ENOMEM")
            for c in clients:
                c.send("line localhost\n")
            try:
                got = [c.recv_until(b"\n") for c in clients]
            except (AssertionError, ConnectionError):
                must_end_well(n.wait_exit(), n.text)
                continue
            assert got == [b"echo one\n"] * threads, got
            rule.end()
            for c in clients:
                c.sock.close()
            n.ends_well()
