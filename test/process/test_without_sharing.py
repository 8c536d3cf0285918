"""LUA_SHARE=off: the whole tree built over stock Lua, and the tests of what
sharing is used for, the language tests among them, against that build."""

import os
import re

import harness

TESTS = (r"^lang/|test_(lua_share|lua_table|lua_cache|lua_image|sharetable|sharedata|datasheet|codecache|stm|sharemap|"
         r"multicast|seri|require|start|inject)\b")

# The others would only be built.
UNITS = " ".join(f"test/unit/test_lua_{name}.c" for name in ("share", "table", "cache", "image")) + " test/unit/test_seri.c"


def test_a_build_without_sharing_passes():
    if harness.VARIANT != "release":
        raise harness.Skip("checked in the release variant")
    if "LUA_CACHELIB" not in open(os.path.join(harness.ROOT, "3rd/lua/lualib.h")).read():
        raise harness.Skip("this build does not share")
    # A folder of its own for everything, headers and interpreter included.
    folder = "build/stock"
    said = harness.make("LUA_SHARE=off", f"BUILD={folder}", f"OUT={folder}/out", f"LUA_INC={folder}/lua",
                        "VARIANT=release", f"UNIT_SRC={UNITS}", "CMODULE_SO=", f"FILTER={TESTS}", "test")
    passed = re.search(r"^(\d+) passed, 0 failed", said.rstrip().splitlines()[-1])
    # The language tests alone, on both interpreters, are more than that.
    assert passed and int(passed.group(1)) > 250, said[-6000:]
    for name in ("lang/tables.lua", "lua/test_sharetable.lua#4"):
        assert name in said, said[-6000:]
