"""Helpers of the process-level tests: start the real binary with a config,
wait for what it says, talk to it over real sockets, stop it.

A test module is test/process/test_X.py with functions test_*; each gets no
arguments, raises when its claim does not hold, and may raise Skip. Every node
started through Node is ended by its context manager, whatever happens.
"""

import codecs
import contextlib
import os
import random
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OUT = os.path.abspath(os.environ.get("SKYNET_OUT", ROOT))
VARIANT = os.environ.get("SKYNET_VARIANT", "release")
SKYNET = os.path.join(OUT, "skynet")
# The plain interpreter of this variant: it has the sanitizer that the modules in OUT need.
LUA = os.path.join(ROOT, os.environ.get("LUA_BIN", "3rd/lua/lua"))
# How long an awaited event may take. Generous: it only bounds a failure.
LIMIT = 120 if VARIANT == "release" else 240

if VARIANT == "tsan":
    _supp = os.path.join(ROOT, "test", "tsan.supp")
    os.environ.setdefault("TSAN_OPTIONS", "halt_on_error=0 exitcode=66 second_deadlock_stack=1"
                          + (" suppressions=" + _supp if os.path.exists(_supp) else ""))
if VARIANT == "asan":
    # Leak checking stays on: memory that nobody owns at exit is a bug here.
    os.environ.setdefault("ASAN_OPTIONS", "detect_leaks=1:abort_on_error=0:exitcode=67")
    _supp = os.path.join(ROOT, "test", "lsan.supp")
    if os.path.exists(_supp):
        os.environ.setdefault("LSAN_OPTIONS", "suppressions=" + _supp)
if VARIANT == "ubsan":
    os.environ.setdefault("UBSAN_OPTIONS", "print_stacktrace=1:halt_on_error=1")


# Lines of configuration for the nodes that this thread starts, see run.py.
extra = threading.local()


class Skip(Exception):
    """Raised by a test that cannot run here; the text says why."""


def _first_given_port():
    """The first of the ports that the system gives to whoever asks for any."""
    try:
        with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as f:
            return int(f.read().split()[0])
    except OSError:
        return 32768


# Which ports free_port gives: of so many processes, the how-manieth this is; and those given before.
_share = [0, 1]
_given = set()


def take_share(which, of):
    """In each of the `of` processes that run tests: no two give the same port."""
    _share[:] = which, of
    random.seed()


def free_port():
    """A loopback port that was free a moment ago, for a server that can't choose one itself.

    It is below those that the system gives to whoever asks for any, and no other test of this run
    gets it, so that nobody takes it by chance.
    """
    last = _first_given_port()
    while True:
        port = random.randrange(10000, last if last > 12000 else 32768)
        if port % _share[1] != _share[0] or port in _given:
            continue
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp, contextlib.suppress(OSError):
            tcp.bind(("127.0.0.1", port))
            udp.bind(("127.0.0.1", port))
            _given.add(port)
            return port


def plain_env():
    """For the plain interpreter: what a script has not closed at its end is no leak."""
    return dict(os.environ, ASAN_OPTIONS="detect_leaks=0")


def paths(out=OUT):
    """Config lines that point every search path at this tree and build."""
    return f"""
cpath = "{out}/cservice/?.so;{out}/test/cservice/?.so"
lua_cpath = "{out}/luaclib/?.so;{out}/test/cservice/?.so"
lua_path = "{ROOT}/lualib/?.lua;{ROOT}/lualib/?/init.lua;{ROOT}/test/lib/?.lua;{ROOT}/lualib/compat10/?.lua;{ROOT}/examples/?.lua"
luaservice = "{ROOT}/service/?.lua;{ROOT}/test/lua/?.lua;{ROOT}/test/lua/service/?.lua;{ROOT}/examples/?.lua;{ROOT}/bench/?.lua;{ROOT}/test/lua/service/?/init.lua"
lualoader = "{ROOT}/lualib/loader.lua"
snax = "{ROOT}/test/lua/service/?.lua;{ROOT}/examples/?.lua"
"""


# Where services are, besides the tree's: in the folder of a node that runs there.
OWN_SERVICES = 'luaservice = luaservice .. ";./svc/?.lua"\n'


class Node:
    """One running node.

    config: text of keys that come after the standard paths (harbor = 0 is the
    default, `start` and so on are the test's). files: name -> text, written
    into the node's own folder first (the node runs with cwd = that folder
    when cwd is None); svc/X.lua is a service X. stdout, stderr: as for Popen; one that is a
    pipe is read.
    """

    def __init__(self, config="", files=None, standard=True, env=None, cwd=None, args=None,
                 stdin=subprocess.DEVNULL, wrapper=(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT):
        self.dir = tempfile.mkdtemp(prefix="skynet-test-")
        for name, text in (files or {}).items():
            path = os.path.join(self.dir, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w" if isinstance(text, str) else "wb") as f:
                f.write(text)
        head = (paths() + OWN_SERVICES + "harbor = 0\nthread = 4\n") if standard else ""
        head += getattr(extra, "config", "") + "\n"
        self.config = os.path.join(self.dir, "config")
        with open(self.config, "w") as f:
            f.write(head + config)
        self.text = ""
        self._lock = threading.Condition()
        self._closed = False
        full_env = dict(os.environ, **(env or {}))
        cmd = list(wrapper) + [SKYNET] + ([self.config] if args is None else args)
        self.proc = subprocess.Popen(cmd, cwd=cwd or self.dir, stdin=stdin, env=full_env,
                                     stdout=stdout, stderr=stderr)
        _nodes.add(self)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        pipe = self.proc.stdout or self.proc.stderr
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while True:
            try:
                data = os.read(pipe.fileno(), 65536) if pipe else b""
            except OSError:
                data = b""
            with self._lock:
                if not data:
                    self._closed = True
                else:
                    self.text += decoder.decode(data)
                self._lock.notify_all()
            if not data:
                return

    def wait_for(self, pattern, limit=LIMIT, start=0):
        """Wait until the output (from offset start) matches the regex; the match. It sees whole lines only."""
        rx = re.compile(pattern, re.M)
        end = time.monotonic() + limit
        with self._lock:
            while True:
                whole = len(self.text) if self._closed else self.text.rfind("\n") + 1
                m = rx.search(self.text, start, whole)
                if m:
                    return m
                left = end - time.monotonic()
                if self._closed or left <= 0:
                    why = "output ended" if self._closed else f"no match in {limit} s"
                    raise AssertionError(f"{why}: /{pattern}/ in output:\n{self.text[-4000:]}")
                self._lock.wait(left)

    def wait_exit(self, limit=LIMIT):
        """Wait for the process to end; its exit status."""
        try:
            code = self.proc.wait(limit)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {limit} s; output:\n{self.text[-4000:]}")
        self._reader.join(limit)
        return code

    def signal(self, sig):
        self.proc.send_signal(sig)

    def stop(self):
        """Orderly end by SIGTERM; the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait_exit()

    def path(self, name):
        return os.path.join(self.dir, name)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        status = self.proc.poll()
        if status is None:
            self.proc.kill()
            self.proc.wait()
        _nodes.discard(self)
        self._reader.join(5)
        for pipe in filter(None, (self.proc.stdout, self.proc.stderr)):
            pipe.close()
        shutil.rmtree(self.dir, ignore_errors=True)
        if kind is None:
            check_sanitizer(self.text)
        elif hasattr(value, "add_note") and self.text:
            state = "was running" if status is None else f"had ended with {status}"
            value.add_note(f"the node {state}; its last output:\n{self.text[-3000:]}")


# Those whose context has not ended.
_nodes = set()


def end_nodes():
    """End the nodes of a test that failed before it entered their contexts."""
    for node in list(_nodes):
        node.__exit__(AssertionError, None, None)


SANITIZER = re.compile(r"(ERROR: (Address|Leak)Sanitizer|WARNING: ThreadSanitizer|runtime error: )")


def check_sanitizer(text):
    m = SANITIZER.search(text)
    if m:
        raise AssertionError("sanitizer report:\n" + text[max(0, m.start() - 200):m.start() + 6000])


def run_node(config="", limit=LIMIT, **kw):
    """Run a node to its end: (exit status, output)."""
    with Node(config, **kw) as n:
        code = n.wait_exit(limit)
        return code, n.text


def frame(data, form=">H"):
    """A package for a gate: its length in that form, and the data."""
    return struct.pack(form, len(data)) + data


def reset(sock):
    """Close a connection so that the peer is told of a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def wait_refused(port):
    """Wait until nobody listens on a loopback port any more."""
    end = time.monotonic() + LIMIT
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=0.1).close()
        except ConnectionRefusedError:
            return
        except (TimeoutError, ConnectionResetError):
            pass  # the kernel's queue is full, or was closed just now
        assert time.monotonic() < end, f"port {port} still has a listener"
        time.sleep(0.005)


def until_it_works(f):
    """The first result of f that is no failure. For what has tight limits of time, which on a busy machine also
    end who behaves."""
    end = time.monotonic() + LIMIT
    while True:
        try:
            return f()
        except (OSError, AssertionError):
            if time.monotonic() > end:
                raise


class Rate:
    """Watches that lines are bounded to so many a second, from now on."""

    def __init__(self, node):
        self.node, self.mark, self.begin = node, len(node.text), time.monotonic()

    def check(self, line, most):
        """No more than `most` lines in a second match the regex."""
        n = len(re.findall(line, self.node.text[self.mark:]))
        # After the count: what is written meanwhile must not have been counted.
        seconds = int(time.monotonic() - self.begin) + 2
        assert n <= most * seconds, f"{n} lines {line} in {seconds} s"


def flood_of_lines(node, connect, *lines):
    """Let connections come and go in crowds until the node has left out log lines about them,
    of each kind that matches; it may write a hundred of one in a second."""
    rate = Rate(node)
    while not all(re.search(line + r" \(and \d+ more of that kind before\)", node.text) for line in lines):
        assert time.monotonic() < rate.begin + LIMIT, f"nothing was left out of\n{node.text[-3000:]}"
        crowd = [connect() for _ in range(300)]
        for c in crowd:
            c.close()
    for line in lines:
        rate.check(line, 100)


class Client:
    """A TCP client with bounded waits."""

    def __init__(self, port, host="127.0.0.1", limit=LIMIT):
        self.sock = socket.create_connection((host, port), timeout=limit)
        self.buf = b""
        self.limit = limit

    def send(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode())

    def recv_until(self, mark):
        """Bytes up to and including mark."""
        mark = mark if isinstance(mark, bytes) else mark.encode()
        while mark not in self.buf:
            data = self.sock.recv(65536)
            if not data:
                raise AssertionError(f"closed before {mark!r}; got {self.buf!r}")
            self.buf += data
        i = self.buf.index(mark) + len(mark)
        out, self.buf = self.buf[:i], self.buf[i:]
        return out

    def recv_exact(self, n):
        while len(self.buf) < n:
            data = self.sock.recv(65536)
            if not data:
                raise AssertionError(f"closed before {n} bytes; got {self.buf!r}")
            self.buf += data
        out, self.buf = self.buf[:n], self.buf[n:]
        return out

    def recv_eof(self):
        """Everything until the peer closes (a reset counts as closed)."""
        while True:
            try:
                data = self.sock.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                out, self.buf = self.buf, b""
                return out
            self.buf += data

    def quiet(self, seconds=0.05):
        """True if nothing can be read right now."""
        return not self.buf and not select.select([self.sock], [], [], seconds)[0]

    def close(self):
        self.sock.close()

    def reset(self):
        reset(self.sock)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def make(*words, limit=2400):
    """Run make in the tree, as from a fresh shell; gives what it said. Raises when
    it fails. For tests of other builds than the one under test: give such a build
    a folder of its own."""
    # What the outer make said stays with it, but for the tarball and the compiler.
    env = {k: v for k, v in os.environ.items()
           if not k.startswith(("MAKE", "SKYNET_", "LUA_")) and k not in ("MFLAGS", "FILTER", "BUILD", "OUT")}
    if "LUA_SRC" in os.environ:
        env["LUA_SRC"] = os.environ["LUA_SRC"]
    made = subprocess.run(["make", "-j2", *words], cwd=ROOT, env=env, timeout=limit, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert made.returncode == 0, made.stdout[-6000:]
    return made.stdout
