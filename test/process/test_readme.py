"""README.md and README.zh.md say the same things: neither is forgotten when the other changes."""

import re

from harness import ROOT


def facts(name):
    """The code blocks, and the first two cells of each table's rows as far as they are code."""
    with open(f"{ROOT}/{name}", encoding="utf-8") as f:
        text = f.read()
    blocks = [re.sub(r" +#.*", "", b) for b in re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)]
    rows = [re.findall(r"`[^`]*`|\b\d+\b", row.rsplit("|", 2)[0])
            for row in re.findall(r"^\|(.*\|)$", text, re.M)]
    return blocks, rows


def test_both_languages_agree():
    blocks, rows = facts("README.md")
    assert len(blocks) > 3 and len(rows) > 40, (len(blocks), len(rows))
    assert facts("README.zh.md") == (blocks, rows)
