"""The checked build (`make debug`: Lua's and our assertions, MEMORY_CHECK), and the
tests that only it can run: what it reports of misused memory and pools."""

import re

import harness

TESTS = r"test_dogtag|unit/test_(pool|malloc|lua_table)|lua/test_(sharetable|ownership).lua#4"

UNITS = " ".join(f"test/unit/test_{name}.c" for name in (
    "pool", "pool_death", "pool_fixed", "pool_global", "pool_kill", "pool_region", "pool_ring",
    "malloc", "malloc_account", "lua_table"))


def test_the_checked_build_finds_misuse():
    if harness.VARIANT != "release":
        raise harness.Skip("checked in the release variant")
    said = harness.make("VARIANT=debug", f"UNIT_SRC={UNITS}", f"FILTER={TESTS}", "test")
    passed = re.search(r"^(\d+) passed, 0 failed$", said.rstrip().splitlines()[-1])
    assert passed and int(passed.group(1)) > 60, said[-6000:]
    for name in ("test_dogtag.test_double_free", "test_dogtag.test_realloc_of_a_freed_block", "unit/test_pool_ring",
                 "lua/test_ownership.lua#4"):
        assert name in said, said[-6000:]
