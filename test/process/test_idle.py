"""An idle node costs nothing: no thread makes a system call."""

import os
import re
import shutil
import subprocess
import time

from harness import LIMIT, Node, Skip, VARIANT

SECONDS = 10


def test_idle_node_makes_no_system_call():
    trace("")


def test_idle_loops_without_a_worker_make_none_either():
    trace("socket_thread = 3\nthread = 2\n")


def trace(more):
    strace = shutil.which("strace")
    if not strace:
        raise Skip("strace is not installed")
    if VARIANT != "release":
        raise Skip("sanitizers have threads of their own")
    files = {"idle.lua": """
local skynet = require "skynet"
-- Garbage that idle workers collect before they sleep for good.
skynet.start(function()
	for i = 1, 10000 do
		local _ = { i }
	end
	skynet.error "now idle"
end)
"""}
    config = 'luaservice = luaservice .. ";./?.lua"\nstart = "idle"\n' + more
    with Node(config, files=files) as node:
        node.wait_for("now idle")
        wait_for_rest(node.proc.pid)
        p = subprocess.run(["timeout", "-s", "INT", str(SECONDS), strace, "-f", "-p",
                            str(node.proc.pid)],
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        text = p.stdout.decode()
        if "Operation not permitted" in text:
            raise Skip("this machine forbids tracing")
        # What is left is each thread sitting in the call it sleeps in, shown
        # once when the tracer attaches and once when it detaches.
        calls = [l for l in text.splitlines()
                 if not re.search(r"attached|detached|resuming|restart_syscall"
                                  r"|<unfinished \.\.\.>$|<detached \.\.\.>$", l)]
        assert not calls, "\n".join(calls[:20])
        assert node.stop() == 0


def wait_for_rest(pid):
    """Until no thread of the process was scheduled between two looks."""
    def switches():
        total = 0
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/status") as f:
                total += sum(int(n) for n in re.findall(r"ctxt_switches:\s+(\d+)", f.read()))
        return total

    end = time.monotonic() + LIMIT
    last, since = switches(), time.monotonic()
    while time.monotonic() < end:
        time.sleep(0.2)
        now = switches()
        if now != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > 2:
            return
    raise AssertionError("the node never came to rest")
