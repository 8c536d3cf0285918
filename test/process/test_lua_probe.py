"""The build's decision whether the overlay fits a release of Lua."""

import os
import re
import shutil
import subprocess
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def units(name):
    """Value of a list in lua.mk, as make prints it."""
    make = f"include 3rd/lua/lua.mk\nprint-units:\n\t@echo $({name})\n"
    with tempfile.NamedTemporaryFile("w", suffix=".mk") as f:
        f.write(make)
        f.flush()
        return subprocess.check_output(
            ["make", "-s", "-f", f.name, "print-units", "LUA_SHARE=off", "BUILD=build",
             "OBJ=build/x"], cwd=ROOT, text=True, env={**os.environ, "MAKEFLAGS": ""}).split()


def probe(change):
    """Runs the probe on a changed copy of the sources; returns (mode, notices)."""
    work = tempfile.mkdtemp()
    try:
        src = os.path.join(work, "src")
        shutil.copytree(os.path.join(ROOT, "build/3rd/lua/src"), src)
        for name, pattern, text in change:
            path = os.path.join(src, name)
            with open(path) as f:
                old = f.read()
            new, count = re.subn(pattern, text, old)
            assert count > 0, (name, pattern)
            with open(path, "w") as f:
                f.write(new)
        replaced = set(units("LUA_REPLACED"))
        stock = [u for u in units("LUA_UNITS") if u not in replaced]
        env = {**os.environ, "LUA_STOCK": " ".join(stock),
               "LUA_OURS": " ".join(units("LUA_SHARED"))}
        p = subprocess.run(["sh", "3rd/lua/probe.sh", src, os.path.join(work, "probe"),
                            os.environ.get("CC", "cc")],
                           cwd=ROOT, text=True, capture_output=True, env=env)
        assert p.returncode == 0, p.stderr
        return p.stdout.strip(), p.stderr
    finally:
        shutil.rmtree(work)


NEXT_RELEASE = ("lua.h", r"(#define LUA_VERSION_RELEASE_N\s+)\d+", r"\g<1>99")


def test_the_verified_release_needs_no_check():
    assert probe([]) == ("share", "")


def test_a_release_without_relevant_changes_shares():
    mode, notices = probe([NEXT_RELEASE])
    assert mode == "share" and "5.5.99" in notices, (mode, notices)


def test_a_release_that_the_overlay_does_not_compile_with_falls_back():
    mode, notices = probe([NEXT_RELEASE, ("ltable.c", r"\bnewcheckedkey\b", "otherwise_named")])
    assert mode == "stock" and "does not compile" in notices, (mode, notices)


def test_a_release_with_which_the_overlay_misbehaves_falls_back():
    # Lua begins to write table entries somewhere that the overlay does not know.
    use = ("lvm.c", r"luaV_fastset\(s2v\(ra\), key, rc, hres, luaH_psetshortstr\)",
           "luaV_fastset(s2v(ra), key, rc, hres, unknown_pset)")
    mode, notices = probe([NEXT_RELEASE, use, ("lvm.c", r"(#include \"lvm.h\"\n)",
                            r"""\1
static int unknown_pset (Table *t, TString *key, TValue *val) {
  const TValue *slot = luaH_Hgetshortstr(t, key);
  if (isabstkey(slot)) return luaH_psetshortstr(t, key, val);
  setobj(cast(lua_State *, NULL), cast(TValue *, slot), val);
  return HOK;
}
""")])
    assert mode == "stock" and "its check fails" in notices, (mode, notices)
