"""client.crypt in the plain interpreter: the functions of skynet.crypt without the framework."""
import hashlib
import hmac

from test_clientsocket import run


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


def test_random_keys_of_two_processes_differ():
    key = "crypt.hexencode(crypt.randomkey())"
    assert evaluate(key) != evaluate(key)


def test_it_loads_beside_client_socket():
    code, out = run('print(require("client.crypt").hexencode "a", socket.connect ~= nil)')
    assert (code, out) == (0, "61\ttrue\n"), out
