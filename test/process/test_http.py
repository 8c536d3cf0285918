"""HTTP with peers that are not ours: curl, nginx in front of our server and behind
our client, wrk, slowhttptest, and raw sockets that misbehave."""

import contextlib
import gzip
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.parse

from harness import LIMIT, ROOT, Client, Node, Skip, free_port, reset

LONG = "".join(f"line {i}\n" for i in range(20000))


@contextlib.contextmanager
def subject(certs=None):
    """A node with http_subject; gives the node and its ports by name."""
    with tempfile.TemporaryDirectory(prefix="skynet-http-") as folder:
        os.chmod(folder, 0o755)
        with open(os.path.join(folder, "long.txt"), "w") as f:
            f.write(LONG)
        with open(os.path.join(folder, "index.html"), "w") as f:
            f.write("<p>index</p>")
        start = f"http_subject {folder}" + (f" {certs}" if certs else "")
        with Node(f'start = "{start}"\n') as n:
            n.folder = folder
            n.ports = {}
            for name in ["plain", "strict"] + (["secure"] if certs else []):
                n.ports[name] = int(n.wait_for(rf"{name} on port (\d+)").group(1))
            yield n
            assert n.stop() == 0


@contextlib.contextmanager
def certificates():
    folder = tempfile.mkdtemp(prefix="skynet-certs-")
    try:
        subprocess.run([os.path.join(ROOT, "test/lib/make_certs.sh"), folder], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        yield folder
    finally:
        shutil.rmtree(folder)


def tool(name):
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if not path:
        raise Skip(f"{name} is not installed (3rd/deps.sh test installs it)")
    return path


def curl(*args, data=None):
    """Standard output of curl; it must succeed."""
    r = subprocess.run([tool("curl"), "-sS", "--noproxy", "*", "--max-time", str(LIMIT), *args],
                       input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert r.returncode == 0, (args, r.returncode, r.stderr)
    return r.stdout.decode("latin-1")


def url(n, path, name="plain", scheme="http", host="127.0.0.1"):
    return f"{scheme}://{host}:{n.ports[name]}{path}"


def test_curl_keeps_its_connection():
    with subject() as n:
        out = curl("-v", "--stderr", "-", url(n, "/hello"), url(n, "/hello"), url(n, "/refuse"))
        assert out.count("hello\n") == 2 and "403 Forbidden" in out, out
        assert out.count("Connected to") == 1 and "Re-using existing connection" in out, out


def test_curl_uploads_with_length_chunked_and_after_100_continue():
    with subject() as n:
        body = b"x" * 300000
        assert curl("--data-binary", "@-", url(n, "/echo?a=b"), data=body) == body.decode()
        assert curl("-T", "-", "-H", "Expect:", "-X", "POST", url(n, "/echo"), data=body) == body.decode()
        out = curl("-v", "--stderr", "-", "-H", "Expect: 100-continue", "--expect100-timeout", "60",
                   "--data-binary", "@-", url(n, "/upload"), data=body * 20)
        assert "< HTTP/1.1 100 Continue" in out and "6000000" in out.splitlines()[-1], out[-500:]
        out = curl("-i", "-H", "Expect: 100-continue", "--expect100-timeout", "60", "-T", "-", url(n, "/refuse"),
                   data=body)
        assert out.startswith("HTTP/1.1 403"), out


def test_curl_head_range_condition_gzip_redirect():
    with subject() as n:
        head = curl("-I", url(n, "/files/long.txt"))
        assert f"content-length: {len(LONG)}" in head, head
        assert curl("-r", "6-11", url(n, "/files/long.txt")) == LONG[6:12]
        etag = re.search(r"etag: (\S+)", head).group(1)
        out = curl("-o", "/dev/null", "-w", "%{http_code}", "-H", f"If-None-Match: {etag}", url(n, "/files/long.txt"))
        assert out == "304", out
        out = curl("--compressed", "-w", "%{size_download}", url(n, "/files/long.txt"))
        assert out.startswith(LONG) and int(out[len(LONG):]) < len(LONG) / 2, out[-100:]
        assert curl("-H", "Accept-Encoding: gzip", "-o", "-", "-I", url(n, "/files/long.txt")).count("gzip") == 1
        assert curl("-L", url(n, "/redirect/5")) == "hello\n"
        assert curl("--http1.0", url(n, "/stream/1000")) == "".join(f"{i}\n" for i in range(1, 1001))
        assert curl(url(n, "/stream/1000")) == "".join(f"{i}\n" for i in range(1, 1001))
        assert curl("--path-as-is", "-o", "/dev/null", "-w", "%{http_code}", url(n, "/files/../../etc/passwd")) == "404"


def test_curl_over_tls_and_our_client_too():
    with certificates() as certs, subject(certs) as n:
        secure = url(n, "/hello", "secure", "https", "localhost")
        out = curl("-v", "--stderr", "-", "--cacert", f"{certs}/ca.pem", secure, secure)
        assert out.count("hello\n") == 2 and "Re-using" in out, out
        assert curl("-d", secure, url(n, "/fetch")) == "hello\n"


def test_our_client_meets_nginx():
    with subject() as n, nginx(n) as port:
        def fetch(path, *args):
            return curl("-i", "-d", f"http://127.0.0.1:{port}{path}", *args, url(n, "/fetch"))
        for _ in range(3):
            out = fetch("/long.txt")
            assert out.endswith(LONG) and "x-coding: gzip" in out and "x-framing: chunked" in out, out[:300]
        out = fetch("/long.txt", "-H", "X-Gzip: off")
        assert out.endswith(LONG) and "x-framing: sized" in out, out[:300]
        out = fetch("/long.txt", "-H", "X-Range: bytes=6-11", "-H", "X-Gzip: off")
        assert out.endswith("\r\n\r\n" + LONG[6:12]) and "x-status: 206" in out, out[:300]
        out = fetch("/away")
        assert out.endswith("<p>index</p>") and f"x-url: http://127.0.0.1:{port}/index.html" in out, out
        assert "x-status: 405" in fetch("/index.html", "-H", "X-Body: abc")
        assert "x-status: 404" in fetch("/missing")


def test_nginx_in_front_of_our_server():
    with subject() as n, nginx(n) as port:
        base = f"http://127.0.0.1:{port}/app"
        assert curl(base + "/hello", base + "/hello") == "hello\n" * 2
        body = b"y" * 500000
        assert curl("--data-binary", "@-", base + "/echo", data=body) == body.decode()
        assert curl("-T", "-", "-X", "POST", base + "/echo", data=body) == body.decode()
        assert curl("-r", "6-11", base + "/files/long.txt") == LONG[6:12]
        assert curl("-o", "/dev/null", "-w", "%{http_code}", base + "/redirect/0") == "302"
        # As a proxy of our client, with absolute targets.
        out = curl("-i", "-d", url(n, "/hello"), "-H", f"X-Proxy: http://127.0.0.1:{port}", url(n, "/fetch"))
        assert out.endswith("hello\n"), out


@contextlib.contextmanager
def nginx(n):
    """An nginx with its files in the node's folder: a web server for n.folder, a reverse
    proxy of the node below /app/, and a forward proxy for absolute targets to it."""
    binary = tool("nginx")
    port = free_port()
    prefix = os.path.join(n.dir, "nginx")
    os.makedirs(os.path.join(prefix, "tmp"))
    os.chmod(n.dir, 0o755)
    config = os.path.join(prefix, "nginx.conf")
    temp = "".join(f"    {what}_temp_path {prefix}/tmp/{what};\n"
                   for what in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"])
    user = "user root;\n" if os.getuid() == 0 else ""
    with open(config, "w") as f:
        f.write(f"""{user}daemon off;
worker_processes 1;
pid {prefix}/pid;
error_log {prefix}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    gzip on;
    gzip_min_length 100;
{temp}
    upstream node {{ server 127.0.0.1:{n.ports['plain']}; keepalive 4; }}
    server {{
        listen 127.0.0.1:{port};
        root {n.folder};
        types {{ text/plain txt; text/html html; }}
        gzip_types text/plain;
        client_max_body_size 10m;
        absolute_redirect on;
        location = /away {{ return 302 /index.html; }}
        location = /hello {{ proxy_pass http://node; proxy_http_version 1.1; proxy_set_header Connection ""; }}
        location /app/ {{
            proxy_pass http://node/;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_request_buffering off;
        }}
    }}
}}
""")
    proc = subprocess.Popen([binary, "-p", prefix, "-c", config, "-e", f"{prefix}/error.log"],
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        wait_port(port, proc)
        yield port
    finally:
        proc.send_signal(signal.SIGTERM)
        proc.wait(LIMIT)
        proc.stderr.close()


def wait_port(port, proc):
    end = time.monotonic() + LIMIT
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if proc.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"nginx does not listen: {proc.stderr.read() if proc.poll() is not None else ''}")
            time.sleep(0.02)


def test_wrk_gets_only_good_answers():
    with subject() as n:
        for args in ([], ["-H", "Connection: close"]):
            requests = 0
            while requests == 0:  # as in a second in which the machine did something else
                out = subprocess.run([tool("wrk"), "-t1", "-c20", "-d1", "--timeout", str(LIMIT), *args, url(n, "/hello")],
                                     stdout=subprocess.PIPE, check=True, timeout=2 * LIMIT).stdout.decode()
                requests = int(re.search(r"(\d+) requests in", out).group(1))
                assert "Non-2xx" not in out and "Socket errors" not in out, out


def test_slow_attackers_do_not_keep_others_out():
    with subject() as n:
        slow = tool("slowhttptest")
        target = url(n, "/echo", "strict")
        common = ["-c", "200", "-r", "200", "-i", "1", "-l", "4", "-p", str(LIMIT), "-u", target]
        for kind in (["-H"], ["-B", "-s", "5000"]):
            proc = subprocess.Popen([slow, *kind, *common], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            try:
                n.wait_for(r"http: 127\.0\.0\.1:\d+: no complete (header|body) in time", start=len(n.text))
                for _ in range(5):
                    assert curl(url(n, "/hello", "strict")) == "hello\n"
            finally:
                out, _ = proc.communicate(timeout=LIMIT)
            status = re.sub(r"\x1b\[[0-9;]*m", "", out.decode("latin-1"))
            assert "service available:   YES" in status or "Exit status: No open connections left" in status, status


def test_pipelined_requests_are_answered_in_order():
    with subject() as n, Client(n.ports["plain"]) as c:
        count = 300
        c.send(b"".join(b"POST /echo?%d HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n%03d" % (i, i)
                        for i in range(count)))
        for i in range(count):
            head = c.recv_until(b"\r\n\r\n").decode()
            assert f"x-query: {i}\r\n" in head, head
            assert c.recv_exact(3) == b"%03d" % i


def memory(n):
    return float(curl(url(n, "/memory")))


def test_floods_do_not_fill_the_memory():
    with subject() as n:
        before = memory(n)
        sources = [b"x" * 1000, b"GET / HTTP/1.1\r\nA: ", b"POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
                   b"GET /hello HTTP/1.1\r\nHost: h\r\n\r\n" * 1000, b"\r\n" * 1000, b"POST /echo HTTP/1.1\r\nHost: h\r\n"
                   b"Content-Length: 1000000000000\r\n\r\n"]
        for first in sources:
            for _ in range(5):
                flood(n.ports["plain"], first)
        assert curl(url(n, "/hello")) == "hello\n"
        # The last of them may be on their way still.
        end = time.monotonic() + LIMIT
        while (grown := memory(n) - before) >= 8 << 20:
            assert time.monotonic() < end, grown
            time.sleep(0.05)


def flood(port, first):
    """Send `first`, then 4 MiB of it again and again, reading nothing."""
    with socket.create_connection(("127.0.0.1", port)) as s:
        s.settimeout(0.2)
        sent = 0
        try:
            while sent < 4 << 20:
                sent += s.send(first)
        except OSError:
            pass


def test_resets_and_half_closed_connections_disturb_nobody():
    with subject() as n, Client(n.ports["plain"]) as other:
        texts = [b"", b"GET", b"GET /stream/100000 HTTP/1.1\r\nHost: h\r\n\r\n",
                 b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc",
                 b"POST /upload HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"]
        for text in texts * 5:
            s = socket.create_connection(("127.0.0.1", n.ports["plain"]))
            s.sendall(text)
            reset(s)
            other.send("GET /hello HTTP/1.1\r\nHost: h\r\n\r\n")
            assert other.recv_until(b"hello\n").startswith(b"HTTP/1.1 200")
        with Client(n.ports["plain"]) as c:
            c.send("GET /stream/5 HTTP/1.1\r\nHost: h\r\n\r\n")
            c.sock.shutdown(socket.SHUT_WR)
            assert c.recv_eof().endswith(b"0\r\n\r\n")
        assert "stack traceback" not in n.text, n.text


def serve_once(answer):
    """A server that gives this answer to one connection: bytes, then `end` does the rest."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(LIMIT)

    def run():
        s, _ = listener.accept()
        s.settimeout(LIMIT)
        s.recv(65536)
        answer(s)
        listener.close()
    threading.Thread(target=run, daemon=True).start()
    return listener.getsockname()[1]


def test_a_reset_is_not_the_end_of_a_body():
    def cut(s):
        s.sendall(b"HTTP/1.0 200 OK\r\n\r\nabc")
        time.sleep(0.1)
        reset(s)

    def ended(s):
        s.sendall(b"HTTP/1.0 200 OK\r\n\r\nabc")
        s.close()
    with subject() as n:
        out = curl("-i", "-d", f"http://127.0.0.1:{serve_once(cut)}/", url(n, "/fetch"))
        assert out.startswith("HTTP/1.1 502") and "reset" in out.lower(), out
        assert curl("-d", f"http://127.0.0.1:{serve_once(ended)}/", url(n, "/fetch")) == "abc"


def test_our_client_reads_one_byte_at_a_time():
    body = gzip.compress(LONG[:1000].encode())

    def slowly(s):
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
                     + b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"):
            s.sendall(bytes([byte]))
        s.close()
    with subject() as n:
        assert curl("-d", f"http://127.0.0.1:{serve_once(slowly)}/", url(n, "/fetch")) == LONG[:1000]


def test_targets_that_curl_encodes_arrive_decoded():
    with subject() as n:
        with open(os.path.join(n.folder, "a b+ü.txt"), "w") as f:
            f.write("found")
        assert curl(url(n, "/files/" + urllib.parse.quote("a b+ü.txt"))) == "found"


def test_the_simpleweb_sample_tells_what_it_was_asked():
    with Node('start = "simpleweb http 0"\n') as n:
        port = int(n.wait_for(r"Listen web port (\d+), protocol http$").group(1))
        for _ in range(25):
            out = curl("-d", "the body", "-H", "X: y", f"http://127.0.0.1:{port}/a%20b?c=d")
            for line in [f"host: 127.0.0.1:{port}", "path: /a b", "method: POST", "query: c= d", "x = y", "the body"]:
                assert line in out.splitlines(), (line, out)
        assert "200 OK" in curl("-i", "-H", "Expect: 100-continue", "-d", "x" * 8000, f"http://127.0.0.1:{port}/")
        assert curl("-i", "-d", "x" * 9000, f"http://127.0.0.1:{port}/").startswith("HTTP/1.1 413")
        assert n.stop() == 0


def test_the_simpleweb_sample_speaks_tls():
    with certificates() as certs, Node(f'start = "simpleweb https 0"\nenablessl = true\n'
                                       f'certfile = "{certs}/server.pem"\nkeyfile = "{certs}/server.key"\n') as n:
        port = int(n.wait_for(r"Listen web port (\d+), protocol https$").group(1))
        out = curl("--cacert", f"{certs}/ca.pem", f"https://localhost:{port}/x")
        assert "path: /x" in out.splitlines(), out
        assert n.stop() == 0


def test_the_webserver_and_webclient_samples():
    with Node(f'start = "webserver 0 {ROOT}/examples"\n') as n:
        port = int(n.wait_for(r"web server on port (\d+)$").group(1))
        base = f"http://127.0.0.1:{port}"
        assert curl("-d", "5", base + "/counter/a") == "5\n" == curl(base + "/counter/a")
        assert curl("-d", "x", base + "/counter/a") == "the body must be an integer\n"
        assert "skynet.start" in curl(base + "/webserver.lua")
        n.wait_for(r"127\.0\.0\.1:\d+ GET /webserver\.lua -> 200$")
        with Node(f'start = "webclient {base}/webserver.lua"\n') as c:
            assert c.wait_exit() == 0
            for line in [r"httpc\.get 200 text/plain; charset=utf-8$", r"httpc\.fetch 200 http\S+ \d+$", "stream true$"]:
                assert re.search(line, c.text, re.M), (line, c.text)
        assert n.stop() == 0
