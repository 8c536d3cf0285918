"""The C API, seen from C services."""

import os
import re

from claims import must_contain, run_claims
from harness import OUT, VARIANT, Node

ALSO_WITH = "socket_thread = 3"


def test_api_keeps_its_contract():
    text = run_claims("t_capi")
    must_contain(
        text,
        "[:00000002] abc\n",
        "[:00000002] x   abcx\n",
        "[:00000002] nu\0ll\n",
        "[:00000002] 100%d %s\n",
        "[:00000000] from the kernel\n",
        "[:00000002] from a foreign thread\n",
        "[:00000002] big " + "b" * 100000 + "\n",
        "[:00000002] error: Don't support query global name everybody\n",
        "[:00000002] error: The message to 2 is too large\n",
        "[:00000002] error: The message to .logger is too large\n",
        "[:00000002] error: Destination address can't be 0\n")


def test_memory_of_a_service_is_told_on_stderr():
    text = run_claims("t_capi told")
    before = int(re.search(r"before (\d+)\n", text).group(1))
    after = int(re.search(r"\[:00000002\] with a block (\d+)\n", text).group(1))
    # A build on the C library's malloc (sanitizers) accounts for nothing.
    # Less than the block, if the log service has freed lines of ours meanwhile.
    assert after >= before + (1 << 20) - 10000 or VARIANT in ("asan", "tsan"), text


def test_api_keeps_its_contract_with_one_worker():
    run_claims("t_capi", "thread = 1")


def test_socket_api_answers_at_once():
    run_claims("t_socket")


def test_services_live_and_die_by_the_rules():
    text = run_claims("t_life")
    assert re.search(r"^\[:[0-9a-f]{8}\] error: launch t_probe FAILED$", text, re.M), text


def test_harbor_service_of_a_single_node():
    text = run_claims("t_harbor")
    must_contain(text, "Drop message to harbor 5", "Invalid global name SEVENTEEN_IS_MORE",
                 "Invalid harbor command in single node mode: S 1 2")


def test_harbor_service_with_one_worker():
    run_claims("t_harbor", "thread = 1")


def test_module_without_create_gets_the_all_ones_instance():
    with Node('bootstrap = "t_nocreate arg"') as node:
        node.wait_for(r"\[:00000002\] instance ones, param arg")


def test_module_names_may_contain_dots():
    with Node('bootstrap = "x.y.t_idle arg"\ncpath = "./?.so;" .. cpath') as node:
        assert node.wait_exit() == 1
    source = os.path.join(OUT, "test", "cservice", "t_idle.so")
    with open(source, "rb") as f:
        files = {"x.y.t_idle.so": f.read()}
    with Node('bootstrap = "x.y.t_idle arg"\ncpath = "./?.so;" .. cpath', files=files) as node:
        node.wait_for(r"\[:00000002\] idle ready: arg")


def test_forty_modules_load():
    with open(os.path.join(OUT, "test", "cservice", "t_nocreate.so"), "rb") as f:
        module = f.read()
    files = {f"m{i}.t_nocreate.so": module for i in range(40)}
    text = run_claims("t_many", 'cpath = "./?.so;" .. cpath', files=files)
    assert text.count("instance ones") == 40


def test_template_without_question_mark_is_named_and_skipped():
    with Node('bootstrap = "t_idle"\ncpath = "./nothing.so;" .. cpath') as node:
        node.wait_for(r"Invalid C service path, no \? in \./nothing\.so")
        node.wait_for(r"idle ready")
