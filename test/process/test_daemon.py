"""Daemon mode: the pidfile and what the launching process reports."""

import ctypes
import fcntl
import os
import signal
import time

from claims import must_contain, read, wait_file
from harness import LIMIT, Node

CONFIG = 'bootstrap = "t_idle"\ndaemon = "./skynet.pid"\nlogger = "./node.log"\n'


# Daemons become our children, for us to collect: the init process of a
# container may leave them lying about, and a zombie counts as running.
PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def gone(pid, limit=LIMIT):
    """Wait until no process has this pid any more."""
    end = time.monotonic() + limit
    while True:
        try:
            if os.waitpid(pid, os.WNOHANG)[0] == pid:
                return True  # somebody else may have the number now
        except ChildProcessError:
            pass
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if time.monotonic() >= end:
            return False
        time.sleep(0.02)


class Daemon:
    """A node in daemon mode: started, and ended whatever happens."""

    def __init__(self, node):
        self.node = node
        assert node.wait_exit() == 0, node.text
        self.pid = int(read(node.path("skynet.pid")))

    def __enter__(self):
        return self

    def stop(self):
        os.kill(self.pid, signal.SIGTERM)
        assert gone(self.pid)

    def __exit__(self, *_):
        if not gone(self.pid, 0):
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def test_launching_process_ends_with_0_once_the_node_is_up():
    with Node(CONFIG) as node, Daemon(node) as daemon:
        assert daemon.pid != node.proc.pid
        assert read(node.path("skynet.pid")) == f"{daemon.pid}\n"
        wait_file(node.path("node.log"), "LAUNCH t_idle")
        # Detached: a session of its own, and no hold on the launcher's output.
        assert os.getsid(daemon.pid) == daemon.pid
        assert os.readlink(f"/proc/{daemon.pid}/fd/1") == "/dev/null"
        daemon.stop()


def test_pidfile_is_gone_after_an_orderly_end():
    with Node(CONFIG) as node, Daemon(node) as daemon:
        daemon.stop()
        assert not os.path.exists(node.path("skynet.pid"))


def test_second_start_names_the_running_pid():
    with Node(CONFIG) as node, Daemon(node) as daemon:
        with Node(args=[node.config], cwd=node.dir) as second:
            assert second.wait_exit() == 1
            must_contain(second.text, f"Skynet is already running, pid = {daemon.pid}.")
        daemon.stop()


def test_stale_pidfile_is_replaced_completely():
    # A number that no process gets.
    stale = "999999999\nthis is a longer content of former times\n"
    with Node(CONFIG, files={"skynet.pid": stale}) as node, Daemon(node) as daemon:
        assert read(node.path("skynet.pid")) == f"{daemon.pid}\n"
        daemon.stop()


def test_unreadable_pidfile_content_does_not_block():
    with Node(CONFIG, files={"skynet.pid": "garbage"}) as node, Daemon(node) as daemon:
        daemon.stop()


def test_pidfile_stays_after_a_kill_and_does_not_block():
    with Node(CONFIG) as node:
        with Daemon(node) as daemon:
            os.kill(daemon.pid, signal.SIGKILL)
            assert gone(daemon.pid)
        assert os.path.exists(node.path("skynet.pid"))
        with Node(args=[node.config], cwd=node.dir) as second:
            assert second.wait_exit() == 0
            pid = int(read(node.path("skynet.pid")))
            os.kill(pid, signal.SIGTERM)
            assert gone(pid)


def test_pidfile_that_cannot_be_created():
    with Node(CONFIG.replace("./skynet.pid", "./no/dir/x.pid")) as node:
        assert node.wait_exit() == 1
        must_contain(node.text, "Can't create pidfile [./no/dir/x.pid]. (No such file or directory, see daemon in the configuration)")


def test_pidfile_that_cannot_be_opened():
    with Node(CONFIG.replace("./skynet.pid", "./folder"), files={"folder/x": ""}) as node:
        assert node.wait_exit() == 1
        must_contain(node.text, "Can't open pidfile [./folder].")


def test_locked_pidfile_names_its_holder():
    with Node(CONFIG, files={"holder.pid": ""}, args=["none"]) as node:
        node.wait_exit()
        with open(node.path("skynet.pid"), "w") as f:
            # A dead pid, so that only the lock stands in the way.
            f.write("999999999\n")
            f.flush()
            fcntl.flock(f, fcntl.LOCK_EX)
            with Node(args=[node.config], cwd=node.dir) as second:
                assert second.wait_exit() == 1
                must_contain(second.text, "Can't lock pidfile, lock is held by pid 999999999.")


def test_failed_start_is_reported_to_the_launching_process():
    with Node(CONFIG.replace("t_idle", "nosuch")) as node:
        assert node.wait_exit() == 1
        must_contain(node.text, "try open nosuch failed")
