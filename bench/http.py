#!/usr/bin/env python3
"""Requests per second of http.server, made by wrk on the same machine.

Five runs of three seconds with 100 connections: kept alive, and one request per
connection. Prints the median, the spread, the median divided by the machine's speed
(bench/unit.lua), and the server's CPU time per request; a spread over 15 % means a
busy machine: run again.
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

from run import CONFIG, ROOT, RUNS, speed


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wrk(port, pid, args):
    before = cpu_seconds(pid)
    out = subprocess.run(["wrk", "-t1", "-c100", "-d3", *args, f"http://127.0.0.1:{port}/"], check=True,
                         capture_output=True, text=True).stdout
    requests = int(re.search(r"(\d+) requests in", out).group(1))
    return float(re.search(r"Requests/sec:\s*(\S+)", out).group(1)), (cpu_seconds(pid) - before) / requests * 1e6


def bench(name, port, pid, args):
    before = speed()
    runs = [wrk(port, pid, args) for _ in range(RUNS)]
    unit = (before + speed()) / 2
    rates = [r[0] for r in runs]
    median = statistics.median(rates)
    print(f"{name:26} {median:10.0f} requests/s  spread {(max(rates) - min(rates)) / median * 100:4.1f} %"
          f"  per unit {median / unit:8.1f}  server {statistics.median(r[1] for r in runs):5.1f} us/request", flush=True)


def wait_port(log, node):
    while node.poll() is None:
        log.seek(0)
        found = re.search(r"http on port (\d+)$", log.read(), re.M)
        if found:
            return found.group(1)
        time.sleep(0.05)
    sys.exit("the server did not start")


def main():
    with tempfile.NamedTemporaryFile("w", suffix=".config") as f, tempfile.TemporaryFile("w+") as log:
        f.write(CONFIG + 'start = "http_bench"\n')
        f.flush()
        node = subprocess.Popen([f"{ROOT}/skynet", f.name], stdout=log)
        try:
            port = wait_port(log, node)
            bench("keep-alive", port, node.pid, [])
            bench("one request a connection", port, node.pid, ["-H", "Connection: close"])
        finally:
            node.terminate()
            node.wait()


if __name__ == "__main__":
    main()
