"""A checked build stops at each misuse of memory with a report that says what,
where, how big, whose, and how the program came there."""

import re
import signal

from harness import VARIANT, Node, Skip

SIZE = 77  # t_misuse.c


def report_of(how, config=""):
    if VARIANT != "debug":
        raise Skip("only checked builds look: make VARIANT=debug test")
    config += (f'bootstrap = "t_misuse {how}"\n')
    with Node(config, wrapper=("sh", "-c", 'ulimit -c 0; exec "$@"', "sh")) as node:
        code = node.wait_exit()
        assert code == -signal.SIGABRT, (code, node.text)
        return node.text


def expect(how, what, config="", by_finder=True):
    text = report_of(how, config)
    m = re.search(rf"^xmalloc: {what} in :([0-9a-f]{{8}}) t_misuse \.misuser$", text, re.M)
    assert m, text
    handle = m.group(1)
    m = re.search(rf"^xmalloc: block (0x[0-9a-f]+) of (\d+) bytes, owner :{handle}; "
                  rf"found by :([0-9a-f]{{8}})(.*)$", text, re.M)
    assert m, text
    assert int(m.group(1), 16) % 16 == 0, text
    if by_finder:
        assert m.group(3) == handle and m.group(4) == " t_misuse .misuser", text
        # The C stack, with the library that did it.
        assert re.search(r"t_misuse\.so\(", text[m.end():]), text
    assert re.search(r"skynet\(", text[m.end():]), text
    return int(m.group(2))


def test_double_free():
    assert expect("double", "double free") == SIZE


def test_overrun_by_one_byte():
    assert expect("overrun", "overrun") == SIZE


def test_overrun_into_the_cookie():
    assert expect("cookie", "overrun into the cookie") == SIZE


def test_free_of_a_foreign_pointer():
    # Nobody knows its size.
    assert expect("foreign", "free of a foreign pointer") == 0


def test_realloc_of_a_freed_block():
    assert expect("realloc", "realloc of a freed block") == SIZE


def test_late_write_is_found_by_the_quarantine():
    # Found when the block leaves the quarantine, by whoever pushes it out.
    size = expect("late", "write to a freed block", "memory_quarantine = 100000\n", by_finder=False)
    assert size == SIZE
