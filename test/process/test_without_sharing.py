"""LUA_SHARE=off: the whole tree built over stock Lua, and the tests of what
sharing is used for, the language tests among them, against that build."""

import os
import re
import subprocess

import harness

# Longer than any of its parts may take on a busy machine.
LIMIT = 900

TESTS = (r"^lang/|test_(lua_share|lua_table|lua_cache|sharetable|sharedata|datasheet|codecache|stm|sharemap|"
         r"multicast|seri|require|start|inject)\b")

# The others would only be built.
UNITS = " ".join(f"test/unit/test_lua_{name}.c" for name in ("share", "table", "cache"))


def test_a_build_without_sharing_passes():
    if os.environ["SKYNET_VARIANT"] != "release":
        raise harness.Skip("checked in the release variant")
    if "LUA_CACHELIB" not in open(os.path.join(harness.ROOT, "3rd/lua/lualib.h")).read():
        raise harness.Skip("this build does not share")
    # A folder of its own for everything, headers and interpreter included.
    folder = "build/stock"
    # What the outer make said stays with it, but for the tarball and the compiler.
    env = {k: v for k, v in os.environ.items()
           if not k.startswith(("MAKE", "SKYNET_", "LUA_")) and k not in ("MFLAGS", "FILTER", "BUILD", "OUT")}
    if "LUA_SRC" in os.environ:
        env["LUA_SRC"] = os.environ["LUA_SRC"]
    made = subprocess.run(
        ["make", "-j2", "LUA_SHARE=off", f"BUILD={folder}", f"OUT={folder}/out", f"LUA_INC={folder}/lua",
         "VARIANT=release", f"UNIT_SRC={UNITS}", "CMODULE_SO=", f"FILTER={TESTS}", "test"],
        cwd=harness.ROOT, env=env, timeout=LIMIT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False)
    last = made.stdout.rstrip().splitlines()[-1]
    passed = re.match(r"(\d+) passed, 0 failed", last)
    assert made.returncode == 0 and passed, made.stdout[-6000:]
    # The language tests alone, on both interpreters, are more than that.
    assert int(passed.group(1)) > 250, last
    for name in ("lang/tables.lua", "lua/test_sharetable.lua#4"):
        assert name in made.stdout, made.stdout[-6000:]
