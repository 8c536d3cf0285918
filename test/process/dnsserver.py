"""A name server for tests: answers as a function says, over UDP and TCP on loopback,
and remembers what it was asked."""

import contextlib
import socket
import struct
import threading
import time

from harness import LIMIT

A, CNAME, SOA, AAAA = 1, 5, 6, 28


def name_bytes(name):
    return b"".join(bytes([len(x)]) + x.encode() for x in name.split(".") if x) + b"\0"


def ip4(text):
    return socket.inet_aton(text)


def ip6(text):
    return socket.inet_pton(socket.AF_INET6, text)


def record(name, kind, ttl, data):
    return (name if isinstance(name, bytes) else name_bytes(name)) + \
        struct.pack(">HHIH", kind, 1, ttl, len(data)) + data


def soa(zone, ttl, minimum):
    return record(zone, SOA, ttl, b"\0\0" + struct.pack(">IIIII", 1, 2, 3, 4, minimum))


class Query:
    """One question that came in."""

    def __init__(self, data, transport, peer, server):
        self.data = data
        self.transport = transport
        self.peer = peer
        self.server = server
        self.id, self.flags = struct.unpack(">HH", data[:4])
        labels, i = [], 12
        while data[i]:
            labels.append(data[i + 1:i + 1 + data[i]].decode())
            i += 1 + data[i]
        self.name = ".".join(labels)
        self.kind = struct.unpack(">H", data[i + 1:i + 3])[0]
        self.question = data[12:i + 5]

    def reply(self, answers=(), authority=(), rcode=0, flags=0x8180, id=None, question=None,
              counts=None):
        q = self.question if question is None else question
        counts = counts or (1, len(answers), len(authority), 0)
        return struct.pack(">HH4H", self.id if id is None else id, flags | rcode, *counts) + q + \
            b"".join(answers) + b"".join(authority)

    def address(self, text="10.0.0.1", ttl=60):
        """The ordinary good answer."""
        if self.kind == AAAA:
            return self.reply([record(self.name, AAAA, ttl, ip6(text))])
        return self.reply([record(self.name, A, ttl, ip4(text))])

    def missing(self, ttl=None):
        return self.reply(rcode=3, authority=[soa("", ttl, ttl)] if ttl is not None else [])


class DnsServer:
    """answer(query) gives bytes, a list of bytes, or None for silence; it may send by
    itself through query.server.udp. Hosts share one port."""

    def __init__(self, answer, hosts=("127.0.0.1",), tcp=True):
        self.answer = answer
        self.hosts = hosts
        self.asked = []
        self.lock = threading.Lock()
        self.stopping = False
        self.udp = {}
        self.tcp = {}
        self.threads = []
        self.port = self._bind(tcp)
        for host in hosts:
            self._run(self._serve_udp, host)
            if tcp:
                self._run(self._serve_tcp, host)

    def _bind(self, tcp):
        """One port that is free for all hosts and both transports."""
        while True:
            port = 0
            try:
                for host in self.hosts:
                    family = socket.AF_INET6 if ":" in host else socket.AF_INET
                    u = self.udp[host] = socket.socket(family, socket.SOCK_DGRAM)
                    u.bind((host, port))
                    port = u.getsockname()[1]
                    # Bound in any case, so that nobody else listens there.
                    t = self.tcp[host] = socket.socket(family)
                    t.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    t.bind((host, port))
                    if tcp:
                        t.listen()
                return port
            except OSError:
                for s in [*self.udp.values(), *self.tcp.values()]:
                    s.close()
                self.udp, self.tcp = {}, {}

    def _run(self, f, *args):
        t = threading.Thread(target=f, args=args, daemon=True)
        t.start()
        self.threads.append(t)

    def _answers(self, data, transport, peer, host):
        q = Query(data, transport, peer, self)
        q.host = host
        with self.lock:
            self.asked.append(q)
        replies = self.answer(q)
        return [] if replies is None else [replies] if isinstance(replies, bytes) else replies

    def _serve_udp(self, host):
        s = self.udp[host]
        s.settimeout(0.1)
        while not self.stopping:
            try:
                data, peer = s.recvfrom(4096)
            except socket.timeout:
                continue
            for r in self._answers(data, "udp", peer, host):
                s.sendto(r, peer)

    def _serve_tcp(self, host):
        s = self.tcp[host]
        s.settimeout(0.1)
        while not self.stopping:
            try:
                c, peer = s.accept()
            except socket.timeout:
                continue
            # Who asks may have lost its patience.
            with c, contextlib.suppress(OSError):
                c.settimeout(30)
                data = c.recv(65537)
                for r in self._answers(data[2:], "tcp", peer, host):
                    self._send_tcp(c, r)

    def _send_tcp(self, c, r):
        """The reply; or, with an attribute `raw`, exactly these bytes."""
        if not getattr(r, "raw", False):
            c.sendall(struct.pack(">H", len(r)) + r)
            return
        for i in range(len(r)) if r.pause else ():
            c.sendall(r[i:i + 1])
            time.sleep(r.pause)
        if not r.pause:
            c.sendall(r)
        if r.reset:
            c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def wait_asked(self, n):
        """Wait until it was asked so often: what was sent may not have come yet when nobody waits for it any more."""
        end = time.monotonic() + LIMIT
        while len(self.asked) < n:
            assert time.monotonic() < end, self.names()
            time.sleep(0.01)

    def names(self):
        with self.lock:
            return [q.name for q in self.asked]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stopping = True
        for t in self.threads:
            t.join()
        for s in [*self.udp.values(), *self.tcp.values()]:
            s.close()
