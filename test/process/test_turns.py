"""Delivery of messages and the end of the node, seen from C services."""

import os
import re
import signal
import time

from claims import must_contain, read, run_claims
from harness import LIMIT, Node

QUICK = "endless_check = 0.2\n"


def overloads(text):
    begin = re.search(r"flooding :(\w+)", text)
    lines = re.findall(r"^\[:(\w+)\] error: May overload, message queue length = (\d+)$",
                       text[begin.end():], re.M)
    return [int(n) for who, n in lines if who == begin.group(1)]


def check_endless(text):
    service = re.search(r"endless is :(\w+)", text).group(1)
    assert re.search(r"^\[:00000000\] error: A message from \[ :00000002 \] to \[ :" + service
                     + r" \] maybe in an endless loop \(version = \d+\)$", text, re.M), text


def check_all(threads):
    text = run_claims("t_turns all", QUICK + f"thread = {threads}\n")
    # The log line of the flood may follow a line about the messages before it.
    got = overloads(text)
    assert got[-2:] == [4999, 1025], got
    check_endless(text)


def test_delivery_with_two_workers():
    check_all(2)


def test_delivery_with_many_workers():
    check_all(16)


def test_delivery_with_one_worker():
    check_endless(run_claims("t_turns alone", QUICK + "thread = 1\n"))


def test_threads_carry_names_for_the_tools_of_the_system():
    with Node('bootstrap = "t_idle"\nthread = 3') as n:
        n.wait_for("idle ready")
        want = {"skynet", "monitor", "worker-0", "worker-1", "worker-2"}
        names, end = set(), time.monotonic() + LIMIT
        while not want <= names:
            assert time.monotonic() < end, names
            folder = f"/proc/{n.proc.pid}/task"
            names = {read(f"{folder}/{task}/comm").strip() for task in os.listdir(folder)}
        assert n.stop() == 0


def test_signal_tells_services_youngest_first_and_ends_with_status_0():
    for sig in signal.SIGTERM, signal.SIGINT:
        with Node('bootstrap = "t_turns launch_told"\nshutdown_timeout = 20') as n:
            n.wait_for("ready to be told")
            n.signal(sig)
            assert n.wait_exit() == 0, n.text
            told = re.findall(r"(\w+) was told: shutdown$", n.text, re.M)
            assert told == ["second", "stayer", "first", "root"], n.text


def test_second_signal_kills_at_once():
    with Node('bootstrap = "t_turns launch_told"\nshutdown_timeout = 600') as n:
        n.wait_for("ready to be told")
        n.signal(signal.SIGTERM)
        n.wait_for("stayer was told")
        n.signal(signal.SIGTERM)
        assert n.wait_exit() == -signal.SIGTERM


def check_stuck(n):
    service = n.wait_for(r"stuck is :(\w+)").group(1)
    assert n.wait_exit() == 1, n.text
    must_contain(n.text, f"error: service :{service} does not return from a message of "
                         ":00000002, giving up")


def test_stuck_service_is_named_and_fails_an_abort():
    with Node('bootstrap = "t_turns launch_stuck"\nshutdown_timeout = 0.3') as n:
        check_stuck(n)


def test_stuck_service_is_named_when_it_holds_the_only_worker():
    with Node('bootstrap = "t_turns launch_stuck"\nshutdown_timeout = 0.3\nthread = 1') as n:
        n.wait_for("stuck is")
        n.signal(signal.SIGTERM)
        check_stuck(n)


def test_service_that_is_held_for_ever_fails_the_node():
    with Node('bootstrap = "t_turns launch_held"\nshutdown_timeout = 0.2') as n:
        assert n.wait_exit() == 1, n.text
        must_contain(n.text, "error: 1 services are held and do not end, giving up")


def test_signal_amid_launches_and_deaths_ends_the_node():
    with Node('bootstrap = "t_storm main"\nshutdown_timeout = 5\nthread = 4') as n:
        n.wait_for("LAUNCH t_storm killer")
        n.signal(signal.SIGTERM)
        assert n.wait_exit() == 0, n.text


def test_requests_amid_launches_and_deaths_are_answered_once():
    for threads in 1, 2, 8:
        run_claims("t_storm main", f"thread = {threads}\n")
