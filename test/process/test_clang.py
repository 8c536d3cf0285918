"""The tree builds with clang as with gcc, without a warning."""

import os
import shutil

import harness


def test_clang_builds_the_tree_without_a_warning():
    if harness.VARIANT != "release":
        raise harness.Skip("checked in the release variant")
    if not shutil.which("clang"):
        raise harness.Skip("needs clang")
    # A folder of its own for everything, headers and interpreter included.
    folder = "build/clang"
    harness.make("CC=clang", "WERROR=1", f"BUILD={folder}", f"OUT={folder}/out", f"LUA_INC={folder}/lua",
                 "VARIANT=release", "products")
    assert os.access(os.path.join(harness.ROOT, folder, "out/skynet"), os.X_OK)
