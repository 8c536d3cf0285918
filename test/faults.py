"""Nodes whose system calls fail as a test says: the other side of test/shim/faults/faults.h."""

import errno
import mmap
import os
import struct
import subprocess
import tempfile
import time

from harness import LIMIT, OUT, VARIANT, Node, Skip

SHIM = os.path.join(OUT, "test", "shim", "faults.so")
RULES = 16
MAGIC = 0x746C7566
NONE = -(1 << 31)
HEAD = struct.Struct("=II")
# armed, seen, hit, first, count, chance, seed, error, limit, result, call, on
RULE = struct.Struct("=7I3i24s96s")


def preload():
    """What a node must load first. A checker's library comes before the shim: the calls that it
    watches then go on to the shim."""
    if not os.path.exists(SHIM):
        raise Skip("needs the shim of faults, which is for Linux")
    checker = {"asan": "libasan.so", "tsan": "libtsan.so", "ubsan": "libubsan.so"}.get(VARIANT)
    if checker is None:
        return SHIM
    linked = subprocess.run(["ldd", os.path.join(OUT, "skynet")], capture_output=True, text=True, check=True).stdout
    path = [line.split()[2] for line in linked.splitlines() if line.strip().startswith(checker)]
    if not path and VARIANT != "ubsan":
        raise Skip(f"the checker is linked into the node, {checker} cannot come before the shim")
    return ":".join(path + [SHIM])


class Rule:
    """One rule in force; see Faults.add."""

    def __init__(self, faults, index):
        self._faults, self._index = faults, index

    def _number(self, i):
        return struct.unpack_from("=I", self._faults.map, HEAD.size + self._index * RULE.size + 4 * i)[0]

    @property
    def seen(self):
        return self._number(1)

    @property
    def hit(self):
        return self._number(2)

    def end(self):
        """From now on the calls are as they were."""
        self._faults.end(self._index)

    def wait(self, n=1, limit=LIMIT):
        """Wait until it has changed n calls."""
        end = time.monotonic() + limit
        while self.hit < n:
            assert time.monotonic() < end, f"{self.hit} calls of {n} were made in {limit} s"
            time.sleep(0.002)


class Faults:
    """The file of rules of one node."""

    def __init__(self, path):
        with open(path, "wb") as f:
            f.write(HEAD.pack(MAGIC, 0) + bytes(RULE.size * RULES))
        self.path, self.used = path, 0
        with open(path, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), 0)

    @property
    def bad_closes(self):
        """How many times a number was closed that was no descriptor."""
        return HEAD.unpack_from(self.map)[1]

    def end(self, index):
        """That rule is not in force any more."""
        struct.pack_into("=I", self.map, HEAD.size + index * RULE.size, 0)

    def clear(self):
        """No rule is in force any more, and there is room for others."""
        for i in range(self.used):
            self.end(i)
        self.used = 0

    def add(self, call, error=None, limit=None, result=None, on="", first=1, count=0, chance=0.0, seed=1):
        """From the first-th call of that name about `on` (part of a text, see faults.h) on, `count` of them
        (0 = all), or each with probability `chance`: fails with `error` (an errno or its name), or transfers
        `limit` bytes at most, or returns `result` without being made."""
        number = getattr(errno, error) if isinstance(error, str) else error
        values = [NONE if v is None else v for v in (number, limit, result)]
        at = HEAD.size + self.used * RULE.size
        rule = Rule(self, self.used)
        RULE.pack_into(self.map, at, 0, 0, 0, first, count,
                       int(chance * 0xFFFFFFFF), seed, *values, call.encode(), on.encode())
        struct.pack_into("=I", self.map, at, 1)
        self.used += 1
        return rule


class FaultyNode(Node):
    """A node with the shim; `faults` are its rules, `rules` those that are in force from the start:
    each the arguments of Faults.add."""

    def __init__(self, config="", rules=(), env=None, **kw):
        first = preload()
        fd, path = tempfile.mkstemp(prefix="skynet-faults-")
        os.close(fd)
        self.faults = Faults(path)
        self.rules = [self.faults.add(**r) for r in rules]
        super().__init__(config, env=dict(env or {}, LD_PRELOAD=first, FAULTS_FILE=path), **kw)

    def cpu_seconds(self):
        """CPU time that the process has used."""
        with open(f"/proc/{self.proc.pid}/stat", encoding="ascii") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def descriptors(self):
        """What each of its descriptors is."""
        base = f"/proc/{self.proc.pid}/fd"
        found = {}
        for fd in os.listdir(base):
            try:
                found[int(fd)] = os.readlink(f"{base}/{fd}")
            except FileNotFoundError:
                pass
        return found

    def settles(self, descriptors, limit=LIMIT):
        """Wait until it has no more descriptors than that."""
        end = time.monotonic() + limit
        while len(self.descriptors()) > descriptors:
            assert time.monotonic() < end, f"more than {descriptors} descriptors: {self.descriptors()}"
            time.sleep(0.01)

    def __exit__(self, kind, value, trace):
        super().__exit__(kind, value, trace)
        os.unlink(self.faults.path)
        if kind is None:
            assert self.faults.bad_closes == 0, f"{self.faults.bad_closes} numbers closed that were no descriptors"
