"""What the Lua container and skynet.core log, and how a node ends whose first
Lua service cannot start."""

import os
import pty
import re
import subprocess
import tempfile

from harness import SKYNET, Node, paths, run_node

ABORT = 'require("skynet.manager").abort()\n'


def run_script(body, config="", files=None, **kw):
    """Run `body` as the start function of a service of its own."""
    script = ('local skynet = require "skynet"\nlocal core = require "skynet.core"\n'
              f"skynet.start(function()\n{body}\nend)\n")
    every = {"main_test.lua": script}
    every.update(files or {})
    with Node(f'luaservice = luaservice .. ";./?.lua"\nstart = "main_test"\n{config}',
              files=every, **kw) as n:
        n.code = n.wait_exit()
        return n.code, n.text


def lines(text, pattern):
    return re.findall(pattern, text, re.M)


def test_preload_runs_once_per_lua_service_before_the_script():
    code, text = run_script(
        'skynet.newservice("echo_args", "x", 5)\n' + ABORT,
        config='preload = "./preload.lua"\n',
        files={"preload.lua": 'print("PRELOAD", ...)\n',
               "echo_args.lua": 'print("SCRIPT", ...)\n'
                                'require("skynet").start(function() end)\n'})
    assert code == 0, text
    assert text.count("PRELOAD\tmain_test\n") == 1, text
    assert text.count("PRELOAD\techo_args\tx\t5\n") == 1, text
    assert text.index("PRELOAD\techo_args") < text.index("SCRIPT\tx\t5"), text


def test_a_preload_that_cannot_be_loaded_is_a_loader_error():
    code, text = run_script(ABORT, config='preload = "./none.lua"\n')
    assert "lua loader error : " in text and "none.lua" in text, text
    assert code != 0, text


def test_a_missing_script_is_reported_with_every_template():
    _, text = run_script(
        'print("RAISES", (pcall(skynet.newservice, "nosuch")))\n' + ABORT,
        config='luaservice = luaservice .. ";./a/?.lua;./b/?.lua"\n')
    assert "RAISES\tfalse" in text, text
    at = text.index("lua loader error : ")
    for name in ("./a/nosuch.lua", "./b/nosuch.lua", "./nosuch.lua"):
        assert name in text[at:], text
    assert lines(text, r"^\[:[0-9a-f]{8}\] KILL self$"), text


def test_a_syntax_error_is_one_of_the_messages():
    _, text = run_script('pcall(skynet.newservice, "broken")\n' + ABORT,
                         files={"broken.lua": "return ("})
    assert re.search(r"broken\.lua:1: .*near <eof>", text), text


def test_a_missing_loader_file_is_named_and_ends_the_node():
    code, text = run_script("", config='lualoader = "./none/loader.lua"\n')
    assert "Can't load ./none/loader.lua : " in text, text
    assert code != 0, text


def test_a_bootstrap_that_fails_ends_the_node_with_a_status():
    code, text = run_node('luaservice = "./?.lua"\nbootstrap = "snlua boot"\n',
                          files={"boot.lua": 'error "no way"'})
    assert "lua loader error : " in text and "no way" in text, text
    assert code == 1, (code, text)


def test_launching_snlua_without_an_argument_fails_with_a_line():
    code, text = run_script(
        'for _, words in ipairs { "snlua", "snlua " } do\n'
        '	local s = core.addresscommand("LAUNCH", words)\n'
        '	while s and core.send(s, 3, 0, "") do skynet.sleep(1) end\n'
        "end\n" + ABORT)
    assert code == 0, text
    assert text.count("lua loader error : ") == 2, text


def test_a_script_that_starts_nothing_is_named():
    _, text = run_script('pcall(skynet.newservice, "core_idle", "now")\n' + ABORT)
    assert "core_idle now did not call skynet.start" in text, text


def test_signals_are_logged_by_their_target():
    code, text = run_script(
        'local s = skynet.newservice("core_vm")\n'
        'for _, n in ipairs {0, 1, 5} do core.command("SIGNAL", skynet.address(s) .. " " .. n) end\n'
        'print("TARGET " .. skynet.address(s))\n' + ABORT)
    assert code == 0, text
    target = re.search(r"TARGET (:\w+)", text).group(1)
    for n in (0, 1, 5):
        assert f"[{target}] recv a signal {n}\n" in text, text
    assert lines(text, r"^\[" + target + r"\] Current Memory \d+\.\d{3}K$"), text


def test_an_endless_main_chunk_can_be_interrupted():
    code, text = run_script(
        'local s = core.addresscommand("LAUNCH", "snlua spinner")\n'
        'while not skynet.getenv("spinning") do skynet.sleep(1) end\n'
        'core.command("SIGNAL", skynet.address(s))\n'
        'while core.send(s, 3, 0, "") do skynet.sleep(1) end\n' + ABORT,
        files={"spinner.lua": 'require("skynet.core").command("SETENV", "spinning yes")\n'
                              "while true do end\n"})
    assert code == 0, text
    assert "lua loader error : signal 0\n" in text, text
    assert "spinner.lua:2" in text, text


def test_an_endless_loop_is_logged_with_a_traceback_and_goes_on():
    with Node('luaservice = luaservice .. ";./?.lua"\nstart = "main_test"\nendless_check = 1\n',
              files={"main_test.lua":
                     'local skynet = require "skynet"\n'
                     "skynet.start(function()\n"
                     "	local function busy()\n"
                     "		while not skynet.endless() do end\n"
                     '		while not io.open "seen" do end\n'
                     "	end\n"
                     "	busy()\n"
                     '	print("WENT ON")\n'
                     "	require('skynet.manager').abort()\n"
                     "end)\n"}) as n:
        n.wait_for("maybe in an endless loop \\(version")
        n.wait_for("maybe in an endless loop, now at stack traceback:")
        n.wait_for("main_test.lua:[45]: in .*busy")
        open(n.path("seen"), "w").close()
        n.wait_for("WENT ON")
        assert n.wait_exit() == 0, n.text


def test_memory_limits_and_warnings_are_logged():
    code, text = run_script(
        "core.memlimit(1024 * 1024 * 1024)\n"
        "local function grow() local t = {} for i = 1, 10 do\n"
        '	t[i] = string.rep("x", 10 * 1024 * 1024) end return #t end\n'
        'grow() print("GROWN") collectgarbage() collectgarbage()\n'
        'grow() print("AGAIN")\n' + ABORT)
    assert code == 0, text
    assert "Set memory limit to 1024.00 M" in text, text
    first, again = text[:text.index("GROWN")], text[text.index("GROWN"):text.index("AGAIN")]
    assert len(lines(first, r"Memory warning 40\.\d\d M")) == 1, text
    assert len(lines(first, r"Memory warning 70\.\d\d M")) == 1, text
    # The mark was armed again when the strings had gone.
    assert len(lines(again, r"Memory warning 40\.\d\d M")) == 1, text


def test_warnings_of_the_vm_are_logged():
    _, text = run_script("""
local function dies(reason)
	setmetatable({}, { __gc = function() error(reason) end })
	collectgarbage()
end
dies "the first reason"
warn("of my ", "own")
warn "@off"
dies "not heard"
warn "@on"
warn "@nothing"
for i = 1, 100 do dies "again and again" end
warn(("x"):rep(10000))
""" + ABORT)
    said = lines(text, "^.*Lua warning: .*$")
    assert re.search(r"Lua warning: error in __gc \(.*main_test\.lua:\d+: the first reason\)$", said[0]), said
    assert said[1].endswith("Lua warning: of my own"), said
    # The 4th, 8th and so on of 104.
    numbers = [int(n) for n in re.findall(r"again and again\) \(number (\d+), not all are written\)", text)]
    assert numbers == [4, 8, 16, 32, 64], said
    assert "not heard" not in text and "nothing" not in text, said
    assert len(said) == 7, said


def test_a_finalizer_that_fails_at_the_end_of_a_service_is_logged():
    script = """
local skynet = require "skynet"
LAST = setmetatable({}, { __gc = function() error "at the end" end })
skynet.start(function() skynet.timeout(1, skynet.exit) end)
"""
    with Node('start = "ends"', files={"svc/ends.lua": script}) as n:
        n.wait_for(r"^\[:00000008\] Lua warning: error in __gc \(\./svc/ends\.lua:3: at the end\)$")


def test_callback_failures_have_their_texts():
    code, text = run_script(
        'local s = core.addresscommand("LAUNCH", "snlua core_raw")\n'
        'core.send(s, 3, 0, "raise_table")\ncore.send(s, 3, 77, "raise oops")\n'
        'print("SELF " .. core.command("REG"), "TARGET " .. skynet.address(s))\n'
        "skynet.dispatch_unknown_response(function() end)\n"
        'core.send(s, 3, 0, "quit")\n'
        'while core.send(s, 3, 0, "echo") do skynet.sleep(1) end\n' + ABORT)
    assert code == 0, text
    me, it = re.search(r"SELF :(\w+)\s+TARGET :0*(\w+)", text).groups()
    head = f"lua call [{me} to :{it} : "
    assert f"{head}0 msgsz = 11] error : (no error message)\n" in text, text
    oops = text.index(f"{head}77 msgsz = 10] error : ")
    assert re.match(r"[^\n]*core_raw\.lua:\d+: oops\nstack traceback:\n", text[oops:]), text
    assert "\x1b[" not in text, "colour in a log that is no terminal"


def test_running_out_of_memory_in_a_bare_callback_has_its_text():
    code, text = run_script(
        'local s = core.addresscommand("LAUNCH", "snlua hungry")\n'
        'core.send(s, 3, 5, "eat")\n'
        'while core.send(s, 3, 0, "quit") do skynet.sleep(1) end\n' + ABORT,
        files={"hungry.lua":
               'local core = require "skynet.core"\n'
               "core.callback(function(_, ptr, size)\n"
               '	if core.tostring(ptr, size) == "quit" then core.command "EXIT" end\n'
               "	core.memlimit(1 << 20)\n"
               '	return ("x"):rep(1 << 22)\n'
               "end)\n"})
    assert code == 0, text
    assert lines(text, r"lua memory error : \[\w+ to :\w+ : 5\]$"), text


def test_error_joins_what_it_gets():
    _, text = run_script(
        'core.error("a", 1, 2.5, nil, true)\ncore.error()\ncore.error("100%d %s")\n'
        'core.error(setmetatable({}, {__tostring = function() return "meta" end}), "x")\n'
        'core.error("nul\\0inside")\ncore.error("")\n'
        'print("PROPAGATES", pcall(core.error, setmetatable({}, {__tostring = function() '
        'error("mine", 0) end})))\n' + ABORT)
    for line in ("a 1 2.5 nil true", "nil", "100%d %s", "meta x", "nul\0inside", ""):
        assert lines(text, r"^\[:[0-9a-f]{8}\] " + re.escape(line) + "$"), (line, text)
    assert "PROPAGATES\tfalse\tmine" in text, text


def test_trace_lines():
    _, text = run_script(
        'core.trace("t1", "plain")\n'
        'local function inner() core.trace("t2", "here", 1) end\n'
        "inner()\n"
        "local co = coroutine.create(function()\n"
        "	coroutine.yield() end)\n"
        "coroutine.resume(co)\n"
        'core.trace("t3", "there", co)\n'
        'core.trace("t4", "nowhere", coroutine.create(print))\n' + ABORT)
    assert lines(text, r"\] <TRACE t1> \d+ plain$"), text
    assert lines(text, r"\] <TRACE t2> \d+ here : @\S+main_test\.lua:5 @\S+main_test\.lua:6( @\S+:\d+)?$"), text
    assert lines(text, r"\] <TRACE t3> \d+ there : @\S+main_test\.lua:8$"), text
    assert lines(text, r"\] <TRACE t4> \d+ nowhere$"), text


def test_failures_are_coloured_on_a_terminal_only():
    master, slave = pty.openpty()
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "main_test.lua"), "w") as f:
            f.write('local skynet = require "skynet"\nskynet.start(function()\n'
                    'skynet.fork(function() error "red" end)\n'
                    "skynet.timeout(1, function() require('skynet.manager').abort() end)\nend)\n")
        config = os.path.join(folder, "config")
        with open(config, "w") as f:
            f.write(paths() + 'harbor = 0\nthread = 2\nstart = "main_test"\n'
                    'luaservice = luaservice .. ";./?.lua"\n')
        p = subprocess.Popen([SKYNET, config], cwd=folder, stdin=subprocess.DEVNULL, stdout=slave,
                             stderr=slave)
        os.close(slave)
        text = b""
        while True:
            try:
                data = os.read(master, 65536)
            except OSError:  # the other end is closed
                break
            if not data:
                break
            text += data
        os.close(master)
        assert p.wait() == 0, text
    assert re.search(rb"error : \x1b\[31m[^\x1b]*main_test\.lua:3: red[^\x1b]*\x1b\[0m", text), text
