"""The sum of the memory ledger is what the system says, whatever the node does."""

import re

from harness import VARIANT, Node, Skip
from test_hugepages import gives_huge_pages

# Of the resident memory.
TOLERANCE = 0.10
SCENES = ("idle", "services", "lua", "c", "freed", "trimmed", "mailbox", "sockets")


def adds_up(config=""):
    if VARIANT in ("asan", "tsan"):
        raise Skip("this build does not account for memory")
    with Node('start = "ledger_scene"\n' + config) as node:
        node.wait_for("scenes are over")
        assert "claim failed" not in node.text, node.text
        seen = re.findall(r"scene (\w+) sum (\d+) rss (\d+)", node.text)
        assert [name for name, _, _ in seen] == list(SCENES), node.text
        for name, total, rss in seen:
            off = abs(int(total) - int(rss)) / int(rss)
            assert off <= TOLERANCE, f"{name}: {total} and {rss}, {off:.1%}\n{node.text}"
        assert node.stop() == 0


def test_ledger_adds_up_to_the_resident_memory():
    adds_up()


def test_ledger_adds_up_with_huge_pages():
    if not gives_huge_pages():
        raise Skip("this system gives no huge pages")
    adds_up("memory_hugepages = true\n")
