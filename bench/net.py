#!/usr/bin/env python3
"""Network benchmarks: gates under the load of bench/netload.c, on loopback.

usage: bench/net.py [NAME ...]      all of them without a name

Like bench/run.py: five runs with two workers between two measurements of the
machine's speed; prints the median, the spread, and the median divided by the
speed. Load and server share the machine's cores.

Lua's speed says little of a machine's network calls, whose price differs more from one
kernel to the next. So each run has one of the bare loop (bench/netbare.c) beside it, in
turn, and the median of the relations is the last column: the share of what this
machine's network allows at that very time.
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LOAD = os.environ.get("NETLOAD", os.path.join(ROOT, "build/release/bench/netload"))
RUNS = int(os.environ.get("RUNS", 5))
SECONDS = os.environ.get("SECONDS", "3")

sys.path.insert(0, os.path.join(ROOT, "bench"))
from run import CONFIG, speed  # noqa: E402


# What netload gets where nothing but the system's calls costs: bench/netbare.c.
BARE = "the bare loop"


class Server:
    """A node that prints `bench port N`; ended by the context manager."""

    def __init__(self, start):
        command = [os.path.join(os.path.dirname(LOAD), "netbare")] if start == BARE else self.node(start)
        self.proc = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.port = None
        for line in self.proc.stdout:
            m = re.search(r"bench port (\d+)", line)
            if m:
                self.port = m.group(1)
                break
        if self.port is None:
            sys.exit(f"{start} printed no port")
        threading.Thread(target=lambda: [None for _ in self.proc.stdout], daemon=True).start()

    def node(self, start):
        self.config = tempfile.NamedTemporaryFile("w", suffix=".config")
        self.config.write(CONFIG + os.environ.get("CONFIG", "").replace(";", "\n")
                          + f'\nstart = "{start}"\n')
        self.config.flush()
        return [f"{ROOT}/skynet", self.config.name]

    def cpu_seconds(self):
        with open(f"/proc/{self.proc.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_kb(self):
        with open(f"/proc/{self.proc.pid}/statm") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.proc.kill()
        self.proc.wait()


def load(*words):
    out = subprocess.run([LOAD, *map(str, words)], check=True, capture_output=True, text=True)
    return {k: float(v) for k, v in re.findall(r"(\w+)=(\S+)", out.stdout)}


def echo(start, connections, depth, kind="echo"):
    with Server(start) as s:
        load(kind, s.port, connections, depth, 1)
        before = s.cpu_seconds()
        r = load(kind, s.port, connections, depth, SECONDS)
        cpu = s.cpu_seconds() - before
        return {"requests_per_s": r["requests"] / r["seconds"],
                "cpu_us_per_request": cpu / r["requests"] * 1e6}


def accept(start="netecho"):
    with Server(start) as s:
        load("accept", s.port, 32, 1)
        r = load("accept", s.port, 32, SECONDS)
        return {"connections_per_s": r["connections"] / r["seconds"]}


def idle(connections=9900):
    with Server("netecho") as s:
        load("echo", s.port, 1, 1, 1)
        before = s.resident_kb()
        p = subprocess.Popen([LOAD, "idle", s.port, str(connections)], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True)
        p.stdout.readline()
        # The last ones are accepted when they have their answer.
        load("echo", s.port, 1, 1, 1)
        after = s.resident_kb()
        p.stdin.close()
        p.wait()
        load("echo", s.port, 1, 1, 1)
        return {"resident_kb_each": (after - before) / connections,
                "kb_left_when_closed": s.resident_kb() - before}


ALL = {
    "echo-100x1": lambda: echo("netecho", 100, 1),
    "echo-100x16": lambda: echo("netecho", 100, 16),
    "echo-1000x1": lambda: echo("netecho", 1000, 1),
    "agent-100x1": lambda: echo("netagents gate", 100, 1),
    "agent-1000x1": lambda: echo("netagents gate", 1000, 1),
    "ws-100x1": lambda: echo("wsecho", 100, 1, "wsecho"),
    "wsgate-100x1": lambda: echo("wsecho gate", 100, 1, "wsecho"),
    "wsagent-100x1": lambda: echo("netagents wsgate", 100, 1, "wsecho"),
    "accept": accept,
    "bare-100x1": lambda: echo(BARE, 100, 1),
    "bare-100x16": lambda: echo(BARE, 100, 16),
    "bare-1000x1": lambda: echo(BARE, 1000, 1),
    "bare-accept": lambda: accept(BARE),
    "idle": idle,
}


# What a benchmark is held against; one frame is as good as another.
LIMIT = {
    "echo-100x1": "bare-100x1",
    "echo-100x16": "bare-100x16",
    "echo-1000x1": "bare-1000x1",
    "agent-100x1": "bare-100x1",
    "agent-1000x1": "bare-1000x1",
    "ws-100x1": "bare-100x1",
    "wsgate-100x1": "bare-100x1",
    "accept": "bare-accept",
}


def run_in_turn(names):
    """Results of all runs, by name; each round begins with another one."""
    runs = {n: [] for n in names}
    for i in range(RUNS):
        for n in names[::-1] if i % 2 else names:
            runs[n].append(ALL[n]())
    return runs


def bench(name):
    limit = LIMIT.get(name)
    before = speed()
    runs = run_in_turn([name, limit] if limit else [name])
    unit = (before + speed()) / 2
    for key in runs[name][0]:
        values = [r[key] for r in runs[name]]
        median = statistics.median(values)
        spread = (max(values) - min(values)) / abs(median) * 100 if median else 0
        # Only rates go with the machine's speed as they are.
        per_unit = f"  per unit {median / unit:10.2f}" if key.endswith("_per_s") else ""
        share = ""
        if limit:
            of = statistics.median(v / r[key] for v, r in zip(values, runs[limit]))
            share = f"  of the bare loop's {of * 100:6.1f} %"
        print(f"{name:14} {key:20} {median:12.2f}  spread {spread:5.1f} %{per_unit}{share}", flush=True)


if __name__ == "__main__":
    for n in sys.argv[1:] or ALL:
        if n not in ALL:
            sys.exit(f"unknown benchmark {n}: " + ", ".join(ALL))
        bench(n)
