"""client.socket in the plain interpreter, against sockets of this process (net.md 9)."""
import os
import socket
import subprocess

import harness
from harness import LIMIT


def start(script, stdin=subprocess.DEVNULL, port=0):
    head = f'package.cpath = "{harness.OUT}/luaclib/?.so"\n' \
           f'local socket = require "client.socket"\nlocal port = {port}\n'
    return subprocess.Popen([harness.LUA, "-e", head + script], stdin=stdin, cwd=harness.ROOT, env=harness.plain_env(),
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def run(script, input_bytes=None, port=0, limit=LIMIT):
    p = start(script, subprocess.PIPE if input_bytes is not None else subprocess.DEVNULL, port)
    out, _ = p.communicate(input_bytes, limit)
    return p.returncode, out.decode()


def listener(family=socket.AF_INET, host="127.0.0.1"):
    s = socket.socket(family)
    s.settimeout(LIMIT)
    s.bind((host, 0))
    s.listen()
    return s, s.getsockname()[1]


def test_connect_to_a_closed_port_raises():
    # Bound but not listening: refuses, and no other test can get the port.
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
        code, out = run('print(select(2, pcall(socket.connect, "127.0.0.1", port)))', port=port)
    assert code == 0 and f"Connect 127.0.0.1 {port} failed" in out, out


def test_recv_tells_idle_data_and_end():
    s, port = listener()
    p = start('''
        local fd = socket.connect("127.0.0.1", port)
        print(select("#", socket.recv(fd)))
        socket.send(fd, "ready")
        local data
        repeat data = socket.recv(fd); socket.usleep(1000) until data
        print(data)
        socket.send(fd, "done")
        repeat data = socket.recv(fd); socket.usleep(1000) until data
        print(#data)
        socket.close(fd)
    ''', port=port)
    peer, _ = s.accept()
    peer.settimeout(LIMIT)
    assert peer.recv(5) == b"ready"
    peer.sendall(b"hello")
    assert peer.recv(4) == b"done"
    peer.close()
    s.close()
    out, _ = p.communicate(timeout=LIMIT)
    assert out.decode().split() == ["0", "hello", "0"], out


def test_connect_over_ipv6_and_by_name():
    s, port = listener(socket.AF_INET6, "::1")
    code, out = run('socket.close(socket.connect("::1", port)) print "ok"', port=port)
    s.close()
    assert out.strip() == "ok", out
    s, port = listener()
    code, out = run('socket.close(socket.connect("localhost", port)) print "ok"', port=port)
    s.close()
    assert out.strip() == "ok", out


def test_send_waits_for_a_slow_reader():
    s, port = listener()
    p = start('local fd = socket.connect("127.0.0.1", port) '
              'socket.send(fd, ("x"):rep(8 << 20)) socket.close(fd) print "sent"', port=port)
    peer, _ = s.accept()
    got = 0
    while True:
        data = peer.recv(1 << 16)
        if not data:
            break
        got += len(data)
    out, _ = p.communicate(timeout=LIMIT)
    peer.close()
    s.close()
    assert got == 8 << 20 and out.decode().strip() == "sent", (got, out)


def test_send_to_a_peer_that_is_gone_raises():
    s, port = listener()
    p = start('''
        local fd = socket.connect("127.0.0.1", port)
        repeat socket.usleep(1000) until socket.recv(fd) == ""
        local ok, err
        repeat ok, err = pcall(socket.send, fd, "x"); socket.usleep(1000) until not ok
        print(err)
    ''', port=port)
    peer, _ = s.accept()
    peer.close()
    s.close()
    out, _ = p.communicate(timeout=LIMIT)
    assert "socket error: " in out.decode(), out


def test_shutdown_ends_one_direction_and_checks_its_mode():
    s, port = listener()
    p = start('''
        local fd = socket.connect("127.0.0.1", port)
        print(select(2, pcall(socket.shutdown, fd, "x")))
        print(select(2, pcall(socket.shutdown, fd, "")))
        socket.shutdown(fd, "w")
        local data
        repeat data = socket.recv(fd); socket.usleep(1000) until data
        print(data)
    ''', port=port)
    peer, _ = s.accept()
    peer.settimeout(LIMIT)
    assert peer.recv(1) == b""
    peer.sendall(b"still")
    out, _ = p.communicate(timeout=LIMIT)
    peer.close()
    s.close()
    lines = out.decode().splitlines()
    assert "Invalid mode x" in lines[0] and "mode should be r or/and w" in lines[1], lines
    assert lines[2:] == ["still"], lines


READ_ALL = '''
    while not socket.stdin_ended() do
        local line = socket.readstdin()
        if line then print(#line, line:sub(1, 10)) else socket.usleep(1000) end
    end
    print("end", select("#", socket.readstdin()))
'''


def test_lines_come_one_per_call_until_the_end():
    code, out = run(READ_ALL, b"first\n\nthird line\nlast without end")
    want = ["5\tfirst", "0\t", "10\tthird line", "16\tlast witho", "end\t0"]
    assert code == 0 and out.splitlines() == want, out


def test_more_lines_than_the_queue_holds_and_long_ones():
    lines = [b"x" * (i % 50) for i in range(5000)] + [b"y" * 100000]
    code, out = run(READ_ALL, b"\n".join(lines) + b"\n")
    got = [int(line.split("\t")[0]) for line in out.splitlines()[:-1]]
    assert code == 0 and got == [len(x) for x in lines], out[-200:]


def test_input_that_does_not_block_is_waited_for():
    # A terminal that some other program has left so.
    theirs, ours = os.pipe()
    os.set_blocking(theirs, False)
    p = start("socket.readstdin() socket.usleep(50000) print('begun') io.stdout:flush()" + READ_ALL, theirs)
    os.close(theirs)
    assert p.stdout.readline() == b"begun\n"
    for text in b"first\n", b"second\n":
        os.write(ours, text)
    os.close(ours)
    out, _ = p.communicate(timeout=LIMIT)
    assert p.returncode == 0 and out.split() == [b"5", b"first", b"6", b"second", b"end", b"0"], out


def test_loading_alone_reads_nothing():
    code, out = run('print(io.read("l"))', b"for io.read\n")
    assert code == 0 and out == "for io.read\n", out
