#!/usr/bin/env python3
"""Runs every test of the tree and ends with `N passed, N failed`.

Kinds: test/unit (cmocka binaries), test/lang (plain Lua programs for the
interpreter), test/lua (services under the real binary, with one worker and
with four), test/process (Python functions that drive the real binary).
"""

import argparse
import importlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)


def arguments():
    p = argparse.ArgumentParser()
    p.add_argument("--variant", default="release")
    p.add_argument("--out", default=None)
    p.add_argument("--filter", default="")
    p.add_argument("--jobs", type=int, default=os.cpu_count() or 2)
    p.add_argument("--list", action="store_true")
    return p.parse_args()


ARGS = arguments()
OUT = os.path.abspath(ARGS.out or (ROOT if ARGS.variant == "release"
                                   else os.path.join(ROOT, "build", ARGS.variant, "out")))
os.environ["SKYNET_OUT"] = OUT
os.environ["SKYNET_VARIANT"] = ARGS.variant
sys.path[:0] = [HERE, os.path.join(HERE, "process")]
import harness  # noqa: E402  (needs the environment above)
import workers  # noqa: E402

# A whole file may take this long before it counts as hung, and a Python function so long: some
# build the tree. Generous: they only bound a failure.
FILE_LIMIT = {"release": 600}.get(ARGS.variant, 1200)
FUNCTION_LIMIT = 1200

# What the end of the output says again of failed tests: of so many, so many lines of each.
MOST_TOLD, MOST_LINES, MOST_COLUMNS = 20, 20, 200

# The thread sanitizer itself giving up, which it rarely does when two threads
# map memory at once; no report about the program. Such a test runs again.
CHECKER_FAILED = "ERROR: ThreadSanitizer failed to allocate"

# `make soak` lets test_soak run this long.
SOAK_SECONDS = int(os.environ.get("SOAK_SECONDS", 0))


class Result:
    """What became of a job. `failed` has names, all there is to say, and the few lines to say again."""

    def __init__(self):
        self.passed, self.failed, self.skipped = 0, [], []

    def ok(self):
        self.passed += 1

    @classmethod
    def of_death(cls, name):
        """Of a job that ended the process of the runner that it was run in."""
        r = cls()
        r.fail(name, "the process that ran it has died")
        return r

    def fail(self, name, text="", brief=None):
        self.failed.append((name, text, shortened(text.splitlines()) if brief is None else brief))


def shortened(lines, most=MOST_LINES):
    """The first few and the last of the lines that are not empty, none too long."""
    lines = [line[:MOST_COLUMNS] for line in map(str.rstrip, lines) if line]
    if len(lines) <= most:
        return lines
    head = most // 3
    return [*lines[:head], f"... {len(lines) - most + 1} lines ...", *lines[head + 1 - most:]]


def brief_of(error):
    """An exception of a test in MOST_LINES: where it was raised, what it says, and its notes, which
    have the end of a node's output."""
    places = [f"{os.path.basename(f.filename)}:{f.lineno} in {f.name}: {f.line}"
              for f in traceback.extract_tb(error.__traceback__) if f.filename != os.path.abspath(__file__)]
    said = "".join(traceback.format_exception_only(error)).splitlines()
    notes = "\n".join(getattr(error, "__notes__", ())).splitlines()
    said = said[:len(said) - len(notes)]
    # Of what it says the beginning has the reason, and most of the rest is output that the notes have.
    rest = MOST_LINES - len(shortened(places, 5)) - len(shortened(said, 7))
    return shortened(places, 5) + shortened(said, 7) + [line[:MOST_COLUMNS] for line in notes if line][-rest:]


def run(cmd, **kw):
    """Status and output of a command, which is ended after FILE_LIMIT with all that it has started."""
    with subprocess.Popen(cmd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                          start_new_session=True, **kw) as p:
        try:
            out, _ = p.communicate(timeout=FILE_LIMIT)
            return p.returncode, out.decode("utf-8", "replace")
        except subprocess.TimeoutExpired:
            os.killpg(p.pid, signal.SIGKILL)
            out, _ = p.communicate()
            return -999, out.decode("utf-8", "replace") + f"\nhung: over {FILE_LIMIT} s"


def read_tap(name, code, text, result, want_code=0, plan=True):
    """Count ok/not ok lines; a missing end or a bad exit status is a failure."""
    seen = 0
    for m in re.finditer(r"^(not )?ok \d+ - ([^\n]*)((?:\n# [^\n]*)*)", text, re.M):
        seen += 1
        if m.group(1):
            result.fail(f"{name}: {m.group(2)}", m.group(3).strip())
        elif "# SKIP" in m.group(2).upper():
            result.skipped.append(f"{name}: {m.group(2)}")
        else:
            result.ok()
    want = re.search(r"^(?:TAP plan )?1\.\.(\d+)", text, re.M)
    if plan and (not want or int(want.group(1)) != seen):
        result.fail(f"{name}: ran to its end", text[-3000:])
    elif code != want_code and not result.failed:
        result.fail(f"{name}: exit status {code}", text[-3000:])
    bad = harness.SANITIZER.search(text)
    if bad:
        result.fail(f"{name}: sanitizer silent", text[max(0, bad.start() - 200):bad.start() + 5000])
    return result


def unit_test(path):
    code, text = run([path], env=dict(os.environ, CMOCKA_MESSAGE_OUTPUT="TAP"), cwd=ROOT)
    result = Result()
    # A group of cmocka prints its own plan; a binary may have several groups.
    for m in re.finditer(r"^(not )?ok (?:\d+ )?- ([^\n]*)((?:\n#[^\n]*)*)", text, re.M):
        if m.group(1):
            # What fail_msg says is not in its place: it comes through standard error.
            said = [line for line in text.splitlines() if line.startswith("ERROR: ")]
            result.fail(f"{os.path.basename(path)}: {m.group(2)}", m.group(3).strip() + "\n" + text[-3000:],
                        shortened(m.group(3).splitlines() + said))
        else:
            result.ok()
    if not result.passed and not result.failed:
        result.fail(f"{os.path.basename(path)}: printed no test", text[-3000:])
    elif code != 0 and not result.failed:
        result.fail(f"{os.path.basename(path)}: exit status {code}", text[-3000:])
    bad = harness.SANITIZER.search(text)
    if bad:
        result.fail(f"{os.path.basename(path)}: sanitizer silent", text[bad.start():bad.start() + 5000])
    return result


def lang_test(path, lua):
    code, text = run([os.path.join(ROOT, lua), os.path.basename(path)], cwd=os.path.dirname(path))
    result = Result()
    if re.search(r"^(not )?ok \d+ - ", text, re.M):
        return read_tap(os.path.basename(path), code, text, result, plan=False)
    if code == 0:
        result.ok()
    else:
        result.fail(os.path.basename(path), text[-3000:])
    return result


# A comment `-- also with: key = value` in the head of a Lua test runs it once more with
# four workers and that line of configuration; so does ALSO_WITH = "..." in a process
# test with its functions.
def also_with(path, pattern):
    with open(path) as f:
        m = re.search(pattern, f.read(4000), re.M)
    return m and m.group(1)


def lua_test(path, threads, more=""):
    name = os.path.basename(path)[:-4]
    with open(path) as f:
        head = f.read(4000)
    # A first-line comment `-- config: key = value; ...` adds config lines.
    extra = "\n".join(re.findall(r"^-- config: (.*)$", head, re.M))
    # Under a checker, services take more than the usual time to end on a busy machine.
    config = (f'start = "{name}"\nthread = {threads}\nshutdown_timeout = 60\n'
              f'test_variant = "{ARGS.variant}"\nstart_failure = "abort"\n{extra}\n{more}\n')
    if SOAK_SECONDS:
        config += f"soak_seconds = {SOAK_SECONDS}\n"
    with harness.Node(config, cwd=ROOT) as node:
        try:
            code = node.wait_exit(FILE_LIMIT + SOAK_SECONDS)
        except AssertionError as e:
            code = -999
            node.text += "\n" + str(e)[:200]
        text = node.text
    return read_tap(f"{name} (thread={threads}{more and ', '}{more})", code, text, Result())


def process_test(module, function, more=""):
    result = Result()
    name = f"{module}.{function}{more and ' with '}{more}"
    harness.extra.config = more
    signal.signal(signal.SIGALRM, hung)
    signal.alarm(FUNCTION_LIMIT)
    try:
        getattr(importlib.import_module(module), function)()
        result.ok()
    except harness.Skip as e:
        result.skipped.append(f"{name}: {e}")
    except BaseException as e:  # noqa: B902  one test's failure is one line
        text = traceback.format_exc()
        if len(text) > 12000:
            text = f"{text[:6000]}\n... {len(text) - 12000} characters ...\n{text[-6000:]}"
        result.fail(name, text, brief_of(e))
    finally:
        signal.alarm(0)
        harness.extra.config = ""
        harness.end_nodes()
    return result


def hung(*_):
    raise AssertionError(f"hung: over {FUNCTION_LIMIT} s")


def files(folder, pattern):
    path = os.path.join(ROOT, folder)
    if not os.path.isdir(path):
        return []
    return [os.path.join(path, f) for f in sorted(os.listdir(path)) if re.fullmatch(pattern, f)]


def jobs():
    unit_dir = os.path.join(OUT, "test", "unit")
    for src in files("test/unit", r"test_.*\.c"):
        exe = os.path.join(unit_dir, os.path.basename(src)[:-2])
        yield f"unit/{os.path.basename(exe)}", unit_test, (exe,)
    for path in files("test/lang", r".*\.lua"):
        yield f"lang/{os.path.basename(path)}", lang_test, (path, os.environ.get("LUA_BIN", "3rd/lua/lua"))
        if "LUA_PLAIN" in os.environ:  # the same on unchanged Lua: the test itself must be right
            yield f"lang/{os.path.basename(path)}#plain", lang_test, (path, os.environ["LUA_PLAIN"])
    for path in files("test/lua", r"test_.*\.lua"):
        for threads in (1, 4):
            yield f"lua/{os.path.basename(path)}#{threads}", lua_test, (path, threads)
        more = also_with(path, r"^-- also with: (.*)$")
        if more:
            yield f"lua/{os.path.basename(path)}#4+", lua_test, (path, 4, more)
    for path in files("test/process", r"test_.*\.py"):
        module = os.path.basename(path)[:-3]
        more = also_with(path, r'^ALSO_WITH = "(.*)"$')
        with open(path) as f:
            for function in re.findall(r"^def (test_\w+)\(", f.read(), re.M):
                yield f"process/{module}.{function}", process_test, (module, function)
                if more:
                    yield f"process/{module}.{function}+", process_test, (module, function, more)


def run_once(job):
    try:
        return job[1](*job[2])
    except BaseException as e:  # noqa: B902
        r = Result()
        r.fail(job[0], traceback.format_exc()[-3000:], brief_of(e))
        return r


def timed(job):
    t = time.monotonic()
    r = run_once(job)
    if any(CHECKER_FAILED in text for _, text, _ in r.failed):
        r = run_once(job)
    return r, time.monotonic() - t


def tell(name, result, seconds):
    """At once, for who looks on."""
    mark = "FAIL" if result.failed else "ok"
    print(f"{mark:4} {name} ({result.passed} passed, {seconds:.1f} s)", flush=True)
    for what, text, _ in result.failed:
        print(f"  FAILED {what}\n    " + text.replace("\n", "\n    "), flush=True)
    for what in result.skipped:
        print(f"  skipped {what}", flush=True)


def tell_again(failed):
    """At the end, where who has the end alone finds the reasons."""
    for i, (what, _, brief) in enumerate(failed):
        print(f"FAILED {what}")
        for line in brief if i < MOST_TOLD else ():
            print("    " + line)


def check_localhost():
    """Many tests go by that name, which a freshly made root folder does not know."""
    try:
        socket.getaddrinfo("localhost", None)
    except OSError as e:
        sys.exit(f"test/run.py: the tests need the name localhost ({e.strerror}): "
                 "add the line '127.0.0.1 localhost' to /etc/hosts")


def main():
    work = [j for j in jobs() if re.search(ARGS.filter, j[0])]
    if ARGS.list:
        print("\n".join(j[0] for j in work))
        return 0
    check_localhost()
    passed, failed, skipped, times = 0, [], 0, []
    # All that tests make is in one folder, which goes whatever they leave.
    with tempfile.TemporaryDirectory(prefix="skynet-tests-", ignore_cleanup_errors=True) as folder:
        os.environ["TMPDIR"] = tempfile.tempdir = folder
        for (name, *_), done in zip(work, workers.run_all(work, timed, ARGS.jobs)):
            result, seconds = done or (Result.of_death(name), 0)
            tell(name, result, seconds)
            times.append((seconds, name))
            passed += result.passed
            failed += result.failed
            skipped += len(result.skipped)
    for seconds, name in sorted(times, reverse=True)[:5]:
        print(f"slowest: {seconds:6.1f} s  {name}")
    tell_again(failed)
    print(f"{passed} passed, {len(failed)} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
