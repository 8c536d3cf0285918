"""The small example programs do what their first lines say."""

import os
import re
import shutil
import signal
import tempfile

from harness import OUT, ROOT, Client, Node, Skip, run_node

EX = os.path.join(ROOT, "examples")


def node(start, files, extra="", **kw):
    files = {f"svc/{name}.lua": text for name, text in files.items()}
    return Node(f'start = "{start}"\n{extra}',
                files=files, **kw)


def service(body):
    return ('local skynet = require "skynet"\nrequire "skynet.manager"\n'
            f"skynet.start(function()\n{body}\nend)\n")


def test_userlog_is_a_log_service():
    with node("talk", {"talk": service('skynet.error("said", 1)')},
              'logservice = "snlua"\nlogger = "userlog"\n') as n:
        n.wait_for(r"^:\w{8}\(\d+\.\d\d\): said 1$")
        n.signal(signal.SIGHUP)
        n.wait_for(r"^SIGHUP$")
        assert n.stop() == 0


def test_a_failing_log_service_does_not_feed_itself():
    failing = """
local skynet = require "skynet"
skynet.register_protocol {
	name = "text", id = skynet.PTYPE_TEXT, unpack = skynet.tostring,
	dispatch = function(_, _, text)
		if text:find "poison" then error "the log fails" end
		print("LOG " .. text)
		io.stdout:flush()
	end,
}
skynet.start(function() end)
"""
    talk = service('skynet.error "poison"; skynet.error "after"')
    with node("talk", {"talk": talk, "failing": failing},
              'logservice = "snlua"\nlogger = "failing"\n') as n:
        n.wait_for(r"^LOG after$")
        n.wait_for(r"the log fails")
        assert n.stop() == 0
        assert n.text.count("the log fails") == 1, n.text


def test_preload_runs_in_every_service():
    with node("words 1 2", {"words": service("skynet.error 'here'")},
              f'preload = "{EX}/preload.lua"\n') as n:
        n.wait_for("here")
        assert n.stop() == 0
        for line in ("PRELOAD\tbootstrap", "PRELOAD\tlauncher", "PRELOAD\twords\t1\t2"):
            assert re.search(f"^{line}$", n.text, re.M), n.text


def test_missing_preload_file_fails_every_service():
    with node("words", {"words": service("")}, 'preload = "no_such_file.lua"\n') as n:
        n.wait_for("lua loader error : .*no_such_file.lua")


def test_abort_ends_the_node():
    code, text = run_node('start = "abort"')
    assert code == 0, (code, text)


def test_globallog_is_called_by_both_names():
    body = """
skynet.newservice "globallog"
skynet.send(".log", "lua", "local", 1)
skynet.send("LOG", "lua", "global", 2)
skynet.call(".log", "debug", "PING")
skynet.call("LOG", "debug", "PING")
io.stdout:flush()
"""
    with node("talk", {"talk": service(body)}) as n:
        n.wait_for(r"^\[GLOBALLOG\]\t:\w{8}\tlocal\t1$")
        n.wait_for(r"^\[GLOBALLOG\]\t:\w{8}\tglobal\t2$")


def test_checkdeadloop_names_who_does_not_answer():
    mute = service('skynet.dispatch("debug", function() skynet.ignoreret() end)')
    go = service("""
local mute = skynet.newservice "mute"
local check = skynet.newservice "checkdeadloop"
skynet.error("mute is " .. skynet.address(mute) .. ", who tells " .. skynet.address(check))
""")
    with node("go", {"go": go, "mute": mute}) as n:
        address, check = n.wait_for(r"mute is (:\w+), who tells (:\w+)$").groups()
        n.wait_for(f"{address} has not answered for 1 seconds")
        n.wait_for(rf"\[{check}\] KILL self")
        # On a busy machine others may take a second, too.
        assert re.findall(r"(:\w+) has not answered for 5 seconds", n.text) == [address], n.text


def test_simplemonitor_tells_watchers_of_a_death():
    sleeper = service('skynet.dispatch("lua", function() skynet.wait() end)')
    watcher = service("""
skynet.dispatch("lua", function(_, _, monitor, target)
	skynet.error("watch", skynet.call(monitor, "lua", "WATCH", target))
	skynet.fork(function()
		skynet.error("call ends", (pcall(skynet.call, target, "lua")))
		skynet.error("watch", skynet.call(monitor, "lua", "WATCH", target))
	end)
	skynet.retpack()
end)""")
    go = service("""
local monitor = skynet.monitor "simplemonitor"
local target = skynet.newservice "sleeper"
skynet.call(skynet.newservice "watcher", "lua", monitor, target)
skynet.error("again", skynet.monitor("simplemonitor", true) == monitor)
skynet.kill(target)
""")
    with node("go", {"go": go, "watcher": watcher, "sleeper": sleeper}) as n:
        n.wait_for("watch true$")
        n.wait_for("again true$")
        n.wait_for("call ends false$")
        n.wait_for("watch false$")


def test_injectlaunch_swaps_and_restores_launch():
    go = service('skynet.newservice("debug_console", 0)')
    with node("go", {"go": go, "plain": service("")}, 'logpath = "."\n') as n:
        port = int(n.wait_for(r"Start debug console at 127\.0\.0\.1:(\d+)").group(1))
        with Client(port) as c:
            def run(line):
                c.send(line + "\n")
                return c.recv_until("<CMD OK>\n").decode()

            def started():
                address = re.search(r"(\w{8})\tplain", run("start plain")).group(1)
                return os.path.exists(n.path(address + ".log"))

            assert not started()
            assert "replace command.LAUNCH" in run(f"inject .launcher {EX}/injectlaunch.lua")
            assert started()
            assert "restore command.LAUNCH" in run(f"inject .launcher {EX}/injectlaunch.lua")
            assert not started()


def test_config_files_of_the_examples_start_a_node():
    if OUT != ROOT:
        raise Skip("these configs name the release build")
    for name in ("config", "config.userlog"):
        with open(os.path.join(EX, name)) as f:
            text = re.sub(r"_port = \d+", "_port = 0", f.read())
        text = text.replace('include "config.path"', f'include "{EX}/config.path"')
        path = os.path.join(tempfile.mkdtemp(prefix="skynet-test-"), name)
        with open(path, "w") as f:
            f.write(text)
        with Node(standard=False, cwd=ROOT, args=[path]) as n:
            n.wait_for("Watchdog listen on")
            assert n.stop() == 0
        shutil.rmtree(os.path.dirname(path))


def test_share_reads_data_while_it_changes():
    with node("share", {}, "") as n:
        n.wait_for(r"share: done$")
        for line in [r"first 1 2 1 2", r"second 2 3 horse nil",
                     r"home false .*The key \[\.home\] doesn't exist after update",
                     r"third 3 0 5 false", r"packed 3 5 nil", r"deleted 3$"]:
            assert re.search("share: " + line, n.text, re.M), (line, n.text)
        assert n.stop() == 0
