"""The log service: records, rotation, message logs."""

import os
import re
import signal
import time

from claims import must_contain, must_not_contain, read, wait_file
from harness import Node, Skip, run_node

STDOUT_RECORD = re.compile(r"^\[:[0-9a-f]{8}\] ")
FILE_RECORD = re.compile(r"^\d\d/\d\d/\d\d \d\d:\d\d:\d\d\.\d\d \[:[0-9a-f]{8}\] ")


def test_records_on_standard_output():
    code, text = run_node('bootstrap = "t_idle abort"')
    assert code == 0
    for line in text.splitlines():
        assert STDOUT_RECORD.match(line), line


def test_lines_of_print_and_of_the_log_do_not_mix():
    lines = 500
    script = """
    local skynet = require "skynet"
    local name, n = ...
    local function say()
        for i = 1, n do
            print(name, "of", i, true, 1.5)
            skynet.error("logged", i)
        end
    end
    skynet.start(function()
        if n then
            return say()
        end
        for i = 1, 4 do
            skynet.newservice("chatter", "chatter" .. i, %d)
        end
        print()
        print(nil, setmetatable({}, { __tostring = function() return "two\\nlines" end }))
        print(pcall(print, setmetatable({}, { __tostring = function() return {} end })))
        require "skynet.manager".abort()
    end)
    """ % lines
    with Node('thread = 4\nluaservice = luaservice .. ";./?.lua"\nstart = "chatter"',
              files={"chatter.lua": script}) as node:
        assert node.wait_exit() == 0
        printed = [line for line in node.text.split("\n") if not STDOUT_RECORD.match(line)]
        for i in range(1, 5):
            mine = [line for line in printed if line.startswith(f"chatter{i}\t")]
            assert mine == [f"chatter{i}\tof\t{k}\ttrue\t1.5" for k in range(1, lines + 1)], mine
        rest = [line for line in printed if not line.startswith("chatter")]
        assert rest == ["", "nil\ttwo", "lines", "false\t'__tostring' must return a string", ""], rest


def test_records_in_a_file():
    with Node('bootstrap = "t_idle abort"\nlogger = "./node.log"') as node:
        assert node.wait_exit() == 0
        lines = read(node.path("node.log")).splitlines()
        assert len(lines) >= 6
        for line in lines:
            assert FILE_RECORD.match(line), line
        must_not_contain(node.text, "idle ready")


def test_file_is_appended_to():
    with Node('bootstrap = "t_idle abort"\nlogger = "./node.log"',
              files={"node.log": "from before\n"}) as node:
        assert node.wait_exit() == 0
        text = read(node.path("node.log"))
        assert text.startswith("from before\n") and "idle ready" in text


def test_rotation_loses_and_doubles_nothing():
    with Node('bootstrap = "t_ticker"\nlogger = "./node.log"') as node:
        log, old = node.path("node.log"), node.path("old.log")
        wait_file(log, "tick 20\n")
        os.rename(log, old)
        node.signal(signal.SIGHUP)
        wait_file(log, r"tick \d+\n(.*\n)*.*tick \d+\n")
        assert node.stop() == 0
        ticks = [int(n) for n in re.findall(r"tick (\d+)\n", read(old) + read(log))]
        assert ticks == list(range(1, len(ticks) + 1)), ticks


def test_failed_reopen_keeps_the_old_file():
    with Node('bootstrap = "t_ticker"\nlogger = "./logs/node.log"',
              files={"logs/x": ""}) as node:
        log, old = node.path("logs/node.log"), node.path("old/node.log")
        wait_file(log, "tick 5\n")
        os.rename(node.path("logs"), node.path("old"))
        node.signal(signal.SIGHUP)
        wait_file(old, r"error: Can't reopen log file \(No such file or directory\), keep the old one")
        # It tries again by itself.
        os.mkdir(node.path("logs"))
        wait_file(log, "tick ")
        assert node.stop() == 0
        ticks = [int(n) for n in re.findall(r"tick (\d+)\n", read(old) + read(log))]
        assert ticks == list(range(1, len(ticks) + 1)), ticks


def test_hangup_without_a_file_changes_nothing():
    with Node('bootstrap = "t_ticker"') as node:
        node.wait_for(r"tick 2$")
        node.signal(signal.SIGHUP)
        seen = len(node.text)
        node.wait_for(r"tick \d+$", start=seen)
        assert node.stop() == 0


def late_line():
    """When a line was made and what its record says, of one that is handled a second later."""
    with Node('bootstrap = "t_slowlog"\nlogservice = "t_slowlogger"\nlogger = "./node.log"') as node:
        assert node.wait_exit() == 0, node.text
        m = re.search(r"^(\d+) made at (\d+)\n\d+ or until (\d+)$", read(node.path("node.log")), re.M)
        record, made, until = map(int, m.groups())
        assert made <= record <= until, m.group(0)
        return made


def test_records_carry_the_time_of_the_event():
    late_line()


def test_records_of_time_0_are_no_exception():
    # The clock begins with the fraction of the second in which the node started.
    for early in range(10):
        time.sleep((1 - 0.003 * early - time.time()) % 1)
        if late_line() == 0:
            return
    raise Skip("no line was made in time")


def test_full_queue_drops_lines_and_counts_them():
    with Node('bootstrap = "t_flood"\nlogservice = "t_slowlogger"\nlogger = "./node.log"\n'
              'logqueue = 100') as node:
        assert node.wait_exit() == 0, node.text
        text = read(node.path("node.log"))
        m = re.search(r"The log service is too slow, dropped (\d+) lines", text)
        assert m and int(m.group(1)) >= 99, text[-500:]
        assert int(m.group(1)) + len(re.findall(r"^\d+ flood ", text, re.M)) == 201, text[-500:]


def test_lines_go_to_stderr_or_a_new_log_service_when_the_old_one_is_dead():
    with Node('bootstrap = "t_nologger"') as node:
        assert node.wait_exit() == 0, node.text
        must_contain(node.text, "[:00000002] after its death\n")
        must_not_contain(node.text, "found again")
        must_contain(read(node.path("new.log")), "[:00000002] found again\n")


def message_log(config):
    with Node('bootstrap = "t_msglog"\n' + config, files={"logs/x": ""}) as node:
        code = node.wait_exit()
        assert code == 0 and "claims: 1 made, 0 failed" in node.text, node.text
        names = [n for n in os.listdir(node.path("logs")) if n.endswith(".log")]
        assert len(names) <= 1
        return node.text, read(node.path("logs/" + names[0])) if names else None


def test_message_log_records_every_kind():
    text, log = message_log('logpath = "./logs"')
    patterns = [
        r"open time: \d+ \w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}",
        r":00000002 3 0 \d+ 68656c6c6f",
        r":00000002 3 0 \d+ ",
        r"\[socket\] 2 1 18999 \[127\.0\.0\.1\]",
        r"\[socket\] 2 1 3 414243",
        r"close time: \d+",
        r"open time: .*",
        r":00000002 3 0 \d+ 616761696e",
    ]
    lines = log.split("\n")
    assert lines.pop() == ""
    assert len(lines) == len(patterns), log
    for line, pattern in zip(lines, patterns):
        assert re.fullmatch(pattern, line), (pattern, line)
    assert len(re.findall(r"\[:00000002\] Open log file \./logs/[0-9a-f]{8}\.log\n", text)) == 2
    assert len(re.findall(r"\[:00000002\] Close log file :[0-9a-f]{8}\n", text)) == 1


def test_message_log_without_logpath_does_nothing():
    text, log = message_log("")
    assert log is None
    must_not_contain(text, "log file")


def test_message_log_that_cannot_be_opened():
    text, log = message_log('logpath = "./missing"')
    assert log is None
    assert re.search(r"Open log file \./missing/[0-9a-f]{8}\.log fail\n", text), text


def test_message_log_switched_while_messages_flow_has_whole_records():
    with Node('bootstrap = "t_lograce"\nlogpath = "."') as node:
        assert node.wait_exit() == 0, node.text
        logs = [n for n in os.listdir(node.dir) if re.fullmatch(r"[0-9a-f]{8}\.log", n)]
        text = read(node.path(logs[0]))
        record = r"(open time: .*|close time: \d+|:00000002 3 0 \d+ 30313233343536373839)"
        for line in text.splitlines():
            assert re.fullmatch(record, line), line
        assert text.count("open time: ") == text.count("close time: ") == 50


def test_full_disk_is_reported_and_survived():
    with Node('bootstrap = "t_ticker"\nlogger = "/dev/full"') as node:
        node.wait_for(r"^logger: can't write /dev/full: No space left on device$")
        assert node.stop() == 0
        assert node.text.count("can't write") == 1, node.text


SERVICES = 'luaservice = "./svc/?.lua;" .. luaservice\n'


def test_lua_values_become_one_line():
    script = """
local skynet = require "skynet"
require "skynet.manager"
skynet.start(function()
	skynet.error("a", 1, 2.5, nil, true)
	skynet.error()
	skynet.error("100%d %s")
	skynet.error("two\\nlines")
	skynet.error("nul\\0byte")
	skynet.abort()
end)
"""
    code, text = run_node(SERVICES + 'start = "talk"', files={"svc/talk.lua": script})
    assert code == 0, text
    record = r"\[:[0-9a-f]{8}\] "
    for line in ("a 1 2\\.5 nil true", "nil", "100%d %s", "two\nlines", "nul\0byte"):
        assert re.search(f"^{record}{line}$", text, re.M), (line, text)


def test_log_service_in_lua_gets_lines_and_the_reopen_notice():
    userlog = """
local skynet = require "skynet"
local file = assert(io.open("user.log", "w"))
local function write(...)
	file:write(string.format(...), "\\n")
	file:flush()
end
skynet.register_protocol {
	name = "text", id = skynet.PTYPE_TEXT, unpack = skynet.tostring,
	dispatch = function(_, address, msg) write("%08x %s", address, msg) end,
}
skynet.register_protocol {
	name = "SYSTEM", id = skynet.PTYPE_SYSTEM, unpack = function(...) return ... end,
	dispatch = function() write("reopen") end,
}
skynet.start(function() end)
"""
    config = SERVICES + 'logservice = "snlua"\nlogger = "userlog"\nbootstrap = "t_ticker"\n'
    with Node(config, files={"svc/userlog.lua": userlog}) as node:
        log = node.path("user.log")
        wait_file(log, "^00000002 LAUNCH t_ticker \n(.*\n)*00000002 tick 3\n")
        node.signal(signal.SIGHUP)
        wait_file(log, "\nreopen\n(.*\n)*00000002 tick ")
        assert node.stop() == 0


def test_log_service_that_fails_leaves_its_lines_on_stderr():
    for config in ('logservice = "snlua"', 'logservice = "snlua"\nlogger = "nosuch"'):
        with Node(config + '\nbootstrap = "t_ticker"') as node:
            node.wait_for(r"^\[:00000001\] lua loader error")
            node.wait_for(r"^\[:00000002\] LAUNCH t_ticker $")
            node.wait_for(r"^\[:00000002\] tick 3$")
            assert node.stop() == 0, node.text
