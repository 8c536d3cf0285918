"""Our C is laid out as .clang-format says."""

import re
import shutil
import subprocess

from harness import ROOT, Skip


def formatter():
    """clang-format 14, the one whose layout is the tree's: others differ in details."""
    for name in "clang-format-14", "clang-format":
        if shutil.which(name):
            version = subprocess.run([name, "--version"], capture_output=True, text=True, check=True).stdout
            if re.search(r"version 14\.", version):
                return name
    raise Skip("needs clang-format 14")


def test_c_is_formatted():
    tool = formatter()
    listed = subprocess.run(["git", "ls-files", "*.c", "*.h"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        raise Skip("not a checkout of git")
    files = [f for f in listed.stdout.split() if not f.startswith("3rd/lua/overlay/overlay_")]
    assert len(files) > 300, len(files)
    checked = subprocess.run([tool, "--dry-run", "--Werror", *files], cwd=ROOT, capture_output=True, text=True)
    assert checked.returncode == 0, f"run {tool} -i on the files named here\n" + checked.stderr[-3000:]
