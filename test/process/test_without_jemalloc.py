"""NOUSE_JEMALLOC=1: a node on the C library's malloc, which accounts for nothing."""

import re

import harness

TESTS = r"unit/test_malloc\b|lua/test_(memory|memory_log|quota)\.lua|test_hugepages\.test_a_build_without"


def test_a_build_without_jemalloc_passes():
    if harness.VARIANT != "release":
        raise harness.Skip("checked in the release variant")
    folder = "build/libc"
    said = harness.make("NOUSE_JEMALLOC=1", f"BUILD={folder}", f"OUT={folder}/out", f"LUA_INC={folder}/lua",
                        "VARIANT=release", "UNIT_SRC=test/unit/test_malloc.c", "CMODULE_SO=", f"FILTER={TESTS}", "test")
    passed = re.search(r"^(\d+) passed, 0 failed", said.rstrip().splitlines()[-1])
    assert passed and int(passed.group(1)) > 20, said[-6000:]
    for name in ("unit/test_malloc", "lua/test_memory.lua#4", "test_hugepages.test_a_build_without"):
        assert name in said, said[-6000:]
