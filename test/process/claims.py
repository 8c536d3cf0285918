"""Runs a driver of test/cmodule (see claims.h) as a node's bootstrap service."""

import re
import time

from harness import LIMIT, run_node


def run_claims(module, config="", **kw):
    """The node's output, once every claim of the driver has held."""
    code, text = run_node(f'bootstrap = "{module}"\n{config}', **kw)
    failed = [line for line in text.splitlines() if re.match(r"\[:\w+\] (not ok|got) ", line)]
    assert not failed, "\n".join(failed)
    end = re.search(r"claims: (\d+) made, 0 failed", text)
    assert end and int(end.group(1)) > 0, f"no end of claims in:\n{text[-4000:]}"
    assert code == 0, f"exit status {code}:\n{text[-4000:]}"
    return text


def must_contain(text, *parts):
    for part in parts:
        assert part in text, f"no {part!r} in:\n{text[-4000:]}"


def must_not_contain(text, *parts):
    for part in parts:
        assert part not in text, f"{part!r} in:\n{text[-4000:]}"


def read(path):
    try:
        with open(path) as f:
            return f.read()
    except (FileNotFoundError, ProcessLookupError):  # a thread that has ended is the latter
        return ""


def wait_file(path, pattern):
    """Wait until the file's text matches."""
    end = time.monotonic() + LIMIT
    while not re.search(pattern, read(path)):
        assert time.monotonic() < end, f"no /{pattern}/ in {path}: {read(path)!r}"
        time.sleep(0.01)
