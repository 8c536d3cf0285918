"""A client of the login and message servers, written from the protocol alone (net.md 8
and appendix A; doc/reference/login.md for the modern suite). Shares no code with the
project: arithmetic in Python, DES from the system's libcrypto.
"""

import base64
import ctypes
import hashlib
import hmac
import math
import os
import struct

from harness import Client

M32 = 0xffffffff
DH_P = 0xffffffffffffffc5


def b64(data):
    return base64.b64encode(data).decode()


def unb64(text):
    return base64.b64decode(text)


# ---------------------------------------------------------------- classic

def dh_public(secret):
    return struct.pack("<Q", pow(5, struct.unpack("<Q", secret)[0], DH_P))


def dh_shared(public, secret):
    return struct.pack("<Q", pow(struct.unpack("<Q", public)[0],
                                 struct.unpack("<Q", secret)[0], DH_P))


def hashkey(text):
    h1, h2 = 5381, 1315423911
    for c in text:
        h1 = (h1 * 33 + c) & M32
        h2 ^= ((h2 << 5) + c + (h2 >> 2)) & M32
    return struct.pack("<II", h1, h2)


MD5_SHIFT = ([7, 12, 17, 22] * 4 + [5, 9, 14, 20] * 4 + [4, 11, 16, 23] * 4 + [6, 10, 15, 21] * 4)


def md5_steps(words):
    """The 64 steps, without adding the start state."""
    a, b, c, d = 0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476
    for i in range(64):
        if i < 16:
            f, g = (b & c) | (~b & d), i
        elif i < 32:
            f, g = (d & b) | (~d & c), (5 * i + 1) % 16
        elif i < 48:
            f, g = b ^ c ^ d, (3 * i + 5) % 16
        else:
            f, g = c ^ (b | (~d & M32)), (7 * i) % 16
        k = int(abs(math.sin(i + 1)) * (1 << 32)) & M32
        f = (f + a + k + words[g]) & M32
        n = MD5_SHIFT[i]
        a, d, c, b = d, c, b, (b + ((f << n | f >> (32 - n)) & M32)) & M32
    return a, b, c, d


def hmac64(x, y):
    a0, a1 = struct.unpack("<II", x)
    b0, b1 = struct.unpack("<II", y)
    a, b, c, d = md5_steps([a1, a0, b1, b0] * 4)
    return struct.pack("<II", c ^ d, a ^ b)


def des_encode(key, text):
    lib = ctypes.CDLL("libcrypto.so.3")
    text += b"\x80" + b"\0" * (7 - len(text) % 8)
    schedule = ctypes.create_string_buffer(128)
    lib.DES_set_key_unchecked(key, schedule)
    out = b""
    for i in range(0, len(text), 8):
        block = ctypes.create_string_buffer(8)
        lib.DES_ecb_encrypt(text[i:i + 8], block, schedule, 1)
        out += block.raw
    return out


# ----------------------------------------------------------------- modern

P25519 = 2 ** 255 - 19


def x25519(scalar, point):
    """RFC 7748 section 5."""
    k = bytearray(scalar)
    k[0] &= 248
    k[31] = k[31] & 127 | 64
    k = int.from_bytes(k, "little")
    x1 = int.from_bytes(point, "little") & (2 ** 255 - 1)
    x2, z2, x3, z3, swap = 1, 0, x1, 1, 0
    for t in reversed(range(255)):
        bit = k >> t & 1
        if swap ^ bit:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swap = bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a, b * b, d * a, c * b
        x3, z3 = (da + cb) ** 2 % P25519, x1 * (da - cb) ** 2 % P25519
        e = aa - bb
        x2, z2 = aa * bb % P25519, e * (aa + 121665 * e) % P25519
    if swap:
        x2, z2 = x3, z3
    return (x2 * pow(z2, P25519 - 2, P25519) % P25519).to_bytes(32, "little")


def x25519_public(secret):
    return x25519(secret, b"\x09" + b"\0" * 31)


def chacha_block(key, counter, nonce):
    start = list(struct.unpack("<4I", b"expand 32-byte k") + struct.unpack("<8I", key)
                 + (counter,) + struct.unpack("<3I", nonce))
    s = list(start)

    def quarter(a, b, c, d):
        for x, y, z, n in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            s[x] = (s[x] + s[y]) & M32
            s[z] ^= s[x]
            s[z] = (s[z] << n | s[z] >> (32 - n)) & M32

    for _ in range(10):
        for q in ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
                  (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)):
            quarter(*q)
    return struct.pack("<16I", *((a + b) & M32 for a, b in zip(s, start)))


def chacha_xor(key, nonce, text):
    out = b""
    for i in range(0, len(text), 64):
        stream = chacha_block(key, 1 + i // 64, nonce)
        out += bytes(a ^ b for a, b in zip(text[i:i + 64], stream))
    return out


def poly1305(key, text):
    r = int.from_bytes(key[:16], "little") & 0x0ffffffc0ffffffc0ffffffc0fffffff
    acc = 0
    for i in range(0, len(text), 16):
        acc = (acc + int.from_bytes(text[i:i + 16] + b"\1", "little")) * r % (2 ** 130 - 5)
    return ((acc + int.from_bytes(key[16:32], "little")) & (2 ** 128 - 1)).to_bytes(16, "little")


def seal_tag(key, nonce, sealed):
    pad = b"\0" * (-len(sealed) % 16)
    return poly1305(chacha_block(key, 0, nonce), sealed + pad + struct.pack("<QQ", 0, len(sealed)))


def seal(key, text, nonce=b"\0" * 12):
    """RFC 8439 without additional data."""
    out = chacha_xor(key, nonce, text)
    return out + seal_tag(key, nonce, out)


def unseal(key, sealed, nonce=b"\0" * 12):
    assert seal_tag(key, nonce, sealed[:-16]) == sealed[-16:], "forged"
    return chacha_xor(key, nonce, sealed[:-16])


def hkdf(secret, length, salt, info):
    prk = hmac.new(salt, secret, hashlib.sha256).digest()
    out, block = b"", b""
    for i in range(1, length // 32 + 2):
        block = hmac.new(prk, block + info + bytes([i]), hashlib.sha256).digest()
        out += block
    return out[:length]


# ---------------------------------------------------------- Ed25519, verify

D = -121665 * pow(121666, P25519 - 2, P25519) % P25519
L = 2 ** 252 + 27742317777372353535851937790883648493


def ed_add(p, q):
    (x1, y1), (x2, y2) = p, q
    t = D * x1 * x2 * y1 * y2
    return ((x1 * y2 + x2 * y1) * pow(1 + t, P25519 - 2, P25519) % P25519,
            (y1 * y2 + x1 * x2) * pow(1 - t, P25519 - 2, P25519) % P25519)


def ed_mul(p, n):
    out = (0, 1)
    while n:
        if n & 1:
            out = ed_add(out, p)
        p, n = ed_add(p, p), n >> 1
    return out


def ed_point(text):
    y = int.from_bytes(text, "little")
    sign, y = y >> 255, y & (2 ** 255 - 1)
    xx = (y * y - 1) * pow(D * y * y + 1, P25519 - 2, P25519)
    x = pow(xx, (P25519 + 3) // 8, P25519)
    if (x * x - xx) % P25519:
        x = x * pow(2, (P25519 - 1) // 4, P25519) % P25519
    return (P25519 - x if x & 1 != sign else x), y


def ed25519_verify(public, text, signature):
    """RFC 8032 section 5.1.7."""
    base = ed_point((4 * pow(5, P25519 - 2, P25519) % P25519).to_bytes(32, "little"))
    k = int.from_bytes(hashlib.sha512(signature[:32] + public + text).digest(), "little") % L
    s = int.from_bytes(signature[32:], "little")
    return ed_mul(base, s) == ed_add(ed_point(signature[:32]), ed_mul(ed_point(public), k))


# ---------------------------------------------------------------- protocol

class Login(Client):
    """One connection to the login server."""

    def line(self):
        return self.recv_until(b"\n")[:-1].decode()

    def say(self, text):
        self.send(text + "\n")

    def keys(self, key=None):
        """Lines 1 to 3; afterwards `secret` is known."""
        self.challenge = unb64(self.line())
        key = key or os.urandom(7) + b"\1"
        self.say(b64(dh_public(key)))
        self.secret = dh_shared(unb64(self.line()), key)

    def classic(self, token):
        """The whole handshake; the result line."""
        self.keys()
        self.say(b64(hmac64(self.challenge, self.secret)))
        self.say(b64(des_encode(self.secret, token)))
        return self.line()

    def modern(self, token, identity=None):
        challenge = unb64(self.line())
        key = os.urandom(32)
        public = x25519_public(key)
        self.say(b64(public))
        answer = unb64(self.line())
        server, signature = answer[:32], answer[32:]
        said = b"skynet login 1" + challenge + public + server
        if identity:
            assert ed25519_verify(identity, said, signature)
        else:
            assert signature == b""
        keys = hkdf(x25519(key, server), 96, challenge, said)
        self.secret = keys[64:]
        self.say(b64(seal(keys[:32], token)))
        result = self.line()
        if result.startswith("200"):
            result = "200 " + b64(unseal(keys[32:64], unb64(result[4:])))
        return result


def user_name(uid, server, subid):
    return f"{b64(uid)}@{b64(server)}#{b64(subid)}"


class Game(Client):
    """One connection to a message server."""

    def package(self):
        return self.recv_exact(struct.unpack(">H", self.recv_exact(2))[0])

    def put(self, payload):
        self.send(struct.pack(">H", len(payload)) + payload)

    def hello(self, name, index, secret, proof=None):
        """The handshake; the status line."""
        text = f"{name}:{index}"
        if proof is None and len(secret) == 8:
            proof = hmac64(hashkey(text.encode()), secret)
        elif proof is None:
            proof = hmac.new(secret, text.encode(), hashlib.sha256).digest()
        self.put(f"{text}:{b64(proof)}".encode())
        return self.package().decode()

    def ask(self, content, session):
        self.put(content + struct.pack(">I", session))

    def answer(self):
        """content, ok, session"""
        p = self.package()
        return p[:-5], p[-5], struct.unpack(">I", p[-4:])[0]
