"""client.crypt in the plain interpreter: the functions of skynet.crypt without the framework."""
import hashlib
import hmac

from harness import LIMIT, Skip, VARIANT
from test_clientsocket import run


def available_bytes():
    with open("/proc/meminfo") as f:
        for line in f:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 0


def evaluate(expression):
    code, out = run(f'local crypt = require "client.crypt" io.write({expression})')
    assert code == 0, out
    return out


def test_digests_agree_with_another_implementation():
    assert evaluate('crypt.hexencode(crypt.sha1 "text")') == hashlib.sha1(b"text").hexdigest()
    want = hmac.new(b"key", b"text", "sha512").hexdigest()
    assert evaluate('crypt.hexencode(crypt.hmac_sha512("key", "text"))') == want


def test_the_handshake_of_the_login_example():
    out = evaluate('crypt.base64encode(crypt.desencode("\\1\\2\\3\\4\\5\\6\\7\\8",'
                   ' "aGVsbG8=@c2FtcGxl:cGFzc3dvcmQ="))')
    assert out == "QfYltXU1B4WLg4bysttMPXkvDrYfNLaQe8lwyvvOJHQ="
    out = evaluate('crypt.base64encode(crypt.hmac_hash("\\1\\2\\3\\4\\5\\6\\7\\8",'
                   ' "aGVsbG8=@c2FtcGxl#MQ==:1"))')
    assert out == "E+KArsMhZWo="


def test_inputs_beyond_2_gib_are_not_cut():
    """Lengths are no 32-bit numbers. The digest is from another implementation."""
    if VARIANT != "release" or available_bytes() < 8 << 30:
        raise Skip("needs 8 GiB and a release build")
    code, out = run("""
        local crypt = require "client.crypt"
        io.write(crypt.hexencode(crypt.sha1(("a"):rep(1 << 20):rep((1 << 11) + 1))))
    """, limit=5 * LIMIT)
    assert (code, out) == (0, "75d76af890c297c40db0fd50d79481c8374758c8"), out


def test_random_keys_of_two_processes_differ():
    key = "crypt.hexencode(crypt.randomkey())"
    assert evaluate(key) != evaluate(key)


def test_it_loads_beside_client_socket():
    code, out = run('print(require("client.crypt").hexencode "a", socket.connect ~= nil)')
    assert (code, out) == (0, "61\ttrue\n"), out
