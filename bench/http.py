#!/usr/bin/env python3
"""Requests per second of http.server, made by wrk on the same machine.

Five runs of three seconds with 100 connections: kept alive, and one request per
connection. Prints the median, the spread, the median divided by the machine's speed
(bench/unit.lua), and the server's CPU time per request; a spread over 15 % means a
busy machine: run again. Where nginx is installed, it serves the same answer with as
many workers, in turn; the last column is the median of the relations.
"""

import contextlib
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from run import CONFIG, ROOT, RUNS, speed

NGINX = """daemon off;
worker_processes 2;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    default_type text/plain;
    server {{ listen 127.0.0.1:{port}; location / {{ return 200 "hello world\\n"; }} }}
}}
"""


def cpu_seconds(pid):
    """Of a process and its children, as nginx has."""
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        children = f.read().split()
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rpartition(")")[2].split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(cpu_seconds(c) for c in children)


def wrk(server, args):
    port, pid = server
    before = cpu_seconds(pid)
    out = subprocess.run(["wrk", "-t1", "-c100", "-d3", *args, f"http://127.0.0.1:{port}/"], check=True,
                         capture_output=True, text=True).stdout
    requests = int(re.search(r"(\d+) requests in", out).group(1))
    return float(re.search(r"Requests/sec:\s*(\S+)", out).group(1)), (cpu_seconds(pid) - before) / requests * 1e6


def bench(name, servers, args):
    """servers: [ours] or [ours, nginx], each (port, pid)."""
    before = speed()
    runs = {s: [] for s in servers}
    for i in range(RUNS):
        for s in servers[::-1] if i % 2 else servers:
            runs[s].append(wrk(s, args))
    unit = (before + speed()) / 2
    ours = runs[servers[0]]
    rates = [r[0] for r in ours]
    median = statistics.median(rates)
    share = ""
    if len(servers) > 1:
        of = statistics.median(r[0] / n[0] for r, n in zip(ours, runs[servers[1]]))
        share = f"  of nginx's {of * 100:5.1f} %"
    print(f"{name:26} {median:10.0f} requests/s  spread {(max(rates) - min(rates)) / median * 100:4.1f} %"
          f"  per unit {median / unit:8.1f}  server {statistics.median(r[1] for r in ours):5.1f} us/request{share}",
          flush=True)


@contextlib.contextmanager
def running(command, **how):
    process = subprocess.Popen(command, **how)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def wait_port(log, node):
    while node.poll() is None:
        log.seek(0)
        found = re.search(r"http on port (\d+)$", log.read(), re.M)
        if found:
            return found.group(1)
        time.sleep(0.05)
    sys.exit("the server did not start")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


@contextlib.contextmanager
def nginx(folder):
    """The server to hold ours against, as a list of one; empty without nginx."""
    binary = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if binary is None:
        yield []
        return
    port = free_port()
    config = os.path.join(folder, "nginx.conf")
    with open(config, "w") as f:
        f.write(NGINX.format(folder=folder, port=port))
    with running([binary, "-p", folder, "-c", config, "-e", f"{folder}/error.log"]) as process:
        while process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        else:
            sys.exit("nginx did not start")
        yield [(port, process.pid)]


def main():
    with tempfile.TemporaryDirectory() as folder:
        config = os.path.join(folder, "config")
        with open(config, "w") as f:
            f.write(CONFIG + 'start = "http_bench"\n')
        with open(os.path.join(folder, "log"), "w+") as log, \
                running([f"{ROOT}/skynet", config], stdout=log) as node, nginx(folder) as limit:
            servers = [(wait_port(log, node), node.pid), *limit]
            bench("keep-alive", servers, [])
            bench("one request a connection", servers, ["-H", "Connection: close"])


if __name__ == "__main__":
    main()
