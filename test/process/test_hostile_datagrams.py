"""What hostile peers do to the servers on UDP: datagrams that nobody asked for, and those of
a KCP conversation that its client makes as it likes. There is no half-closed connection and
no reset here: whoever vanishes is silent. See test_hostile_peers for what is claimed."""

import os
import re
import socket
import struct
import time

from harness import LIMIT
from test_hostile_peers import ROOM, World, check_no_fault, peak

HELLO, COOKIE, OPEN, OPENED = 1, 2, 3, 4
PUSH, ACK = 81, 82


class Peer:
    """A UDP socket with bounded waits."""

    def __init__(self, port):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.settimeout(0.2)
        self.sock.connect(("127.0.0.1", port))
        self.addr = "127.0.0.1:%d" % self.sock.getsockname()[1]

    def send(self, datagram):
        self.sock.send(datagram)

    def ask(self, datagram, wanted):
        """Send until `wanted` finds something in an answer."""
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            self.send(datagram)
            try:
                while True:
                    found = wanted(self.sock.recv(65536))
                    if found is not None:
                        return found
            except TimeoutError:
                pass
        raise AssertionError("no answer")

    def close(self):
        self.sock.close()


class Kcp(Peer):
    """The client's side of a conversation, byte by byte as doc/reference/kcp.md has it."""

    def __init__(self, port):
        super().__init__(port)
        nonce = os.urandom(16)

        def call(kind, body, answer):
            def wanted(d):
                return d[24:] if d[4] == answer and d[8:24] == nonce else None
            return self.ask(struct.pack("<IBBBB", 0, kind, 1, 0, 0) + body, wanted)
        cookie = call(HELLO, nonce + b"\0" * 32, COOKIE)
        self.conv = call(OPEN, nonce + cookie, OPENED)[:4]
        self.sn = 0
        self.seen = 0

    def segment(self, command, sn, data=b"", claimed=None, fragment=0):
        size = len(data) if claimed is None else claimed
        return self.conv + struct.pack("<BBHIIII", command, fragment, 128, 0, sn, self.seen, size) + data

    def talk(self):
        text = b"hello %d" % self.sn

        def wanted(d):
            while len(d) >= 24:
                command, sn, size = d[4], struct.unpack("<I", d[12:16])[0], struct.unpack("<I", d[20:24])[0]
                if command == PUSH:
                    self.seen = max(self.seen, sn + 1)
                    self.send(self.segment(ACK, sn))
                    if d[24:24 + size] == text:
                        return True
                d = d[24 + size:]
            return None
        self.ask(self.segment(PUSH, self.sn, text), wanted)
        self.sn += 1


BROKEN = "kcp: .* datagram from {a}, the connection is closed"
# kind -> what a client does that has a conversation, and the line.
TABLE = {
    "malformed": (lambda c: c.send(c.conv + b"\xff" * 20), BROKEN),
    "truncated": (lambda c: c.send(c.segment(PUSH, 0, b"cut", claimed=5)), BROKEN),
    "oversized": (lambda c: c.send(c.segment(PUSH, 0, b"x" * 100, claimed=1 << 31)), BROKEN),
    "slow": (lambda c: None, "kcpgate: close silent connection of {a}"),
    "gone": (lambda c: c.talk(), "kcpgate: {a}: (timeout|peer does not answer)"),
    "flood": (lambda c: [c.send(c.segment(PUSH, i, b"x")) for i in range(120)],
              "kcpgate: {a} sends more than 50 messages a second"),
}


# What ends a conversation that the machine, not its client, has kept waiting.
SILENT = TABLE["slow"][1]


def attempt(node, port, act, line, good):
    """Whether the line of what a client does comes, while `good` is served. Not so if the client was too slow."""
    c = Kcp(port)
    line, silent = (text.replace("{a}", re.escape(c.addr)) for text in (line, SILENT))
    act(c)
    end = time.monotonic() + LIMIT
    while not (found := re.search(line, node.text)) and not re.search(silent, node.text):
        assert time.monotonic() < end, f"neither {line} nor {silent} in\n{node.text[-3000:]}"
        time.sleep(0.05)  # its own rate is limited, too
        good.talk()
    c.close()
    return bool(found)


def test_the_kcp_gate():
    with World() as node:
        port = node.ports["kcpgate"]
        good = Kcp(port)
        good.talk()
        before = peak(node)
        for kind, (act, line) in TABLE.items():
            end = time.monotonic() + LIMIT
            while not attempt(node, port, act, line, good):
                assert time.monotonic() < end, f"{kind}: no line {line} in\n{node.text[-3000:]}"
        # A message of which a fragment never comes; a window full of what is behind a gap.
        c = Kcp(port)
        for i in range(1000):
            c.send(c.segment(PUSH, i + 1, b"x" * 1300, fragment=200))
        # Who has no conversation.
        stranger = Peer(port)
        for datagram in (b"", b"x", b"\xff" * 65507, os.urandom(1400)) * 500:
            stranger.send(datagram)
        good.talk()
        assert peak(node) - before < ROOM
        check_no_fault(node.text)
        for peer in (c, stranger, good):
            peer.close()
        assert node.stop() == 0


def test_datagrams():
    with World() as node:
        peer, good = Peer(node.ports["udp"]), Peer(node.ports["udp"])
        before = peak(node)

        def same(text):
            return lambda d: True if d == text else None
        for text in (b"", b"x", b"\xff" * 65507):
            peer.ask(text, same(text))
        for _ in range(100000):
            peer.send(b"x" * 1400)
        good.ask(b"served", same(b"served"))
        assert peak(node) - before < ROOM
        peer.close()
        good.close()
        assert node.stop() == 0
