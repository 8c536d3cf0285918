"""`make demo` and `make run` as a newcomer sees them."""

import subprocess

from harness import LIMIT, OUT, ROOT, Skip


def test_demo_shows_both_sides_and_ends_by_itself():
    if OUT != ROOT:
        raise Skip("the demo runs the release build")
    p = subprocess.run(["sh", "examples/demo.sh"], cwd=ROOT, stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=2 * LIMIT)
    text = p.stdout.decode()
    assert p.returncode == 0, text
    for line in ("client | RESPONSE\t1", "client | result\tworld", "client | REQUEST\theartbeat",
                 "you    > hello", "server | get\thello", "server | set\thello\tworld"):
        assert line in text, (line, text)
    assert "Welcome to skynet, I will send heartbeat every 5 sec." in text
    assert text.splitlines()[-1] == "demo: done", text


def test_demo_fails_when_the_server_does():
    p = subprocess.run(["sh", "examples/demo.sh", "/bin/false"], cwd=ROOT,
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, timeout=2 * LIMIT)
    assert p.returncode == 1, p.stdout
    assert b"the server did not start" in p.stdout, p.stdout
