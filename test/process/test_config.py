"""Start-up with good and bad configuration, and the end of the process."""

import os
import re
import signal
import subprocess

from claims import must_contain, must_not_contain
from harness import ROOT, SKYNET, Node, run_node

IDLE = 'bootstrap = "t_idle"\n'


def refuse(config, *parts, **kw):
    """The node does not start: status 1, these texts, and (mostly) one line."""
    code, text = run_node(config, **kw)
    assert code == 1, f"status {code}:\n{text}"
    must_contain(text, *parts)
    return text


def refuse_in_one_line(config, *parts, **kw):
    text = refuse(config, *parts, **kw)
    assert text.count("\n") == 1, text


def test_no_argument_prints_usage():
    p = subprocess.run([SKYNET], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert p.returncode == 1 and p.stdout == ""
    lines = p.stderr.splitlines()
    assert len(lines) == 2 and lines[1] == "usage: skynet configfilename", lines


def test_missing_file_is_named():
    refuse_in_one_line("", "no/such/file.cfg", "No such file or directory", args=["no/such/file.cfg"])


def test_unreadable_file_is_named():
    refuse_in_one_line("", "/: Is a directory", args=["/"])


def test_thread_out_of_range():
    for value in ("0", "1025", '"abc"', "true"):
        refuse_in_one_line(f"thread = {value}", "Invalid thread", "should be in [1,1024]",
                           "config:")


def test_table_value_names_the_key():
    refuse_in_one_line("x = {}", "Invalid config table key = x", "config:")


def test_syntax_error_names_the_file():
    refuse_in_one_line("x = = 1", "config:", "unexpected symbol")


def test_unknown_include():
    refuse_in_one_line('include "nowhere.cfg"', "config:", "nowhere.cfg: No such file or directory")


def test_unset_variable_in_a_comment():
    refuse_in_one_line("-- $NO_SUCH_VARIABLE", "os.getenv() failed: NO_SUCH_VARIABLE")


def test_wrong_type_of_a_known_key():
    refuse_in_one_line("bootstrap = true", "wrong type of bootstrap: expected a string")


def test_numbers_out_of_range():
    ranges = {"shutdown_timeout": "[0.0,86400.0]", "endless_check": "[0.0,86400.0]", "idle_gc": "[0.0,86400.0]",
              "debug_console_timeout": "[1.0,86400.0]", "debug_console_wait": "[0.0,86400.0]", "logqueue": "[1.0,1e+15]",
              "memory_reserve": "[0.0,1e+15]", "memory_quarantine": "[0.0,1e+15]",
              "memory_quota": "[0.0,1e+15]", "memory_quota_warn": "[0.0,1e+15]"}
    for key, where in ranges.items():
        for value in ('"64M"', "-1", "1e400", "0/0", "true", '""', "2^53"):
            refuse_in_one_line(f"{key} = {value}", "config:", f"Invalid {key} ", f"should be a number in {where}")


def test_networks_are_refused():
    refuse_in_one_line("harbor = 1", "harbor = 1", "set harbor = 0")
    refuse_in_one_line("harbor = nil", "set harbor = 0")
    refuse_in_one_line("harbor = 300", "Invalid harbor 300")
    refuse_in_one_line('cluster = "./clustername.lua"', "cluster")


def test_search_path_without_question_mark():
    refuse_in_one_line('cpath = "./cservice/logger.so"', "Invalid C service path")


def test_bootstrap_that_does_not_exist():
    text = refuse('bootstrap = "nosuch arg"', "[:00000000] Bootstrap error : nosuch arg",
                  "try open nosuch failed : ", "(see cpath in the configuration)")
    must_not_contain(text, "LAUNCH nosuch")


def test_bootstrap_that_fails():
    refuse('bootstrap = "harbor nonsense"', "error: launch harbor FAILED", "Bootstrap error : harbor")


def test_log_service_that_does_not_exist():
    refuse('logservice = "nosuch"', "Can't launch nosuch service")


def test_log_file_that_cannot_be_opened():
    refuse('logger = "/no/such/dir/x"', "Can't launch logger service",
           "/no/such/dir/x: No such file or directory")


def test_included_files_and_variables():
    files = {
        "d/a.cfg": 'include "sub/b.cfg"\ninclude "e.cfg"\n',
        "d/sub/b.cfg": 'include "c.cfg"\n',
        "d/sub/c.cfg": 'module = "t_idle"\n',
        "d/e.cfg": 'bootstrap = module .. " $SKYNET_TEST_WORD"\n',
    }
    with Node('include "d/a.cfg"', files=files, env={"SKYNET_TEST_WORD": "word"}) as node:
        node.wait_for(r"idle ready: word")


def test_further_arguments_are_ignored():
    with Node(IDLE) as node:
        node.wait_for("idle ready")
        with Node(args=[node.config, "more", "--arguments"]) as other:
            other.wait_for("idle ready")


def test_abort_ends_with_status_0_and_all_its_lines():
    code, text = run_node('bootstrap = "t_idle abort"')
    assert code == 0, text
    for i in range(1, 6):
        must_contain(text, f"[:00000002] last words {i}\n")


def test_abort_can_set_the_exit_status():
    code, text = run_node('bootstrap = "t_idle status"')
    assert code == 3, text


def test_node_ends_when_its_last_service_exits():
    # The log service counts too: it goes when it is the last one.
    with Node('bootstrap = "t_idle exit"') as node:
        node.wait_for("KILL self")
        node.signal(signal.SIGTERM)
        assert node.wait_exit() == 0


def test_broken_pipe_signal_is_ignored():
    with Node(IDLE) as node:
        node.wait_for("idle ready")
        node.signal(signal.SIGPIPE)
        assert node.stop() == 0


def test_bootstrap_script_that_fails_ends_the_node():
    refuse('bootstrap = "snlua nosuch"', "lua loader error", "nosuch.lua")


def test_keys_of_the_file_reach_every_lua_service():
    script = """
local skynet = require "skynet"
require "skynet.manager"
skynet.start(function()
	for _, key in ipairs { "b", "n", "e", "s", "empty", "none", "thread", "logservice", "lualoader" } do
		skynet.error(key .. "=" .. tostring(skynet.getenv(key)))
	end
	skynet.setenv("later", "x")
	skynet.error(pcall(skynet.setenv, "later", "y"))
	skynet.abort()
end)
"""
    code, text = run_node(
        'luaservice = "./?.lua;" .. luaservice\nstart = "keys"\nthread = 3\n'
        'b = true n = 1.5 e = 1e15 s = "$SKYNET_TEST_WORD/x" empty = ""',
        files={"keys.lua": script}, env={"SKYNET_TEST_WORD": "w"})
    assert code == 0, text
    must_contain(text, "] b=true\n", "] n=1.5\n", "] e=1e+15\n", "] s=w/x\n", "] empty=\n",
                 "] none=nil\n", "] thread=3\n", "] logservice=logger\n",
                 "Can't setenv exist key : later")


def test_a_path_without_a_template_is_refused():
    for value in ("", "./service/"):
        refuse_in_one_line(f'luaservice = "{value}"', "config:", f'luaservice = "{value}" has no template with a ?')


def test_start_failure_knows_one_word():
    refuse_in_one_line('start_failure = "exit"', "config:", 'Invalid start_failure exit , should be "abort" or absent')


def test_a_flag_that_is_neither_true_nor_false_is_told_and_taken_for_false():
    with Node(IDLE + "enablessl = 3\nprofile = 1\n") as n:
        for key, value in (("enablessl", 3), ("profile", 1)):
            n.wait_for(f"config:[0-9]+: warning: {key} is true or false, {value} is taken for false")
        n.wait_for("idle ready")
        assert n.stop() == 0
    with Node(IDLE + "enablessl = false\nprofile = true\n") as n:
        n.wait_for("idle ready")
        assert n.stop() == 0
        assert "warning" not in n.text, n.text


def test_a_misspelt_key_is_told_and_taken():
    slips = {"threads": "thread", "logpaht": "logpath", "lua_servce": "luaservice", "socket_lingr": "socket_linger",
             "debug_console_secert": "debug_console_secret", "harbour": "harbor"}
    config = "".join(f"{key} = 1\n" for key in slips)
    own = 'root = "./"\ngate_port = 1\nconsole_port = 1\nmaster = "x"\naddress = "x"\nmqueue = 1\nnodename = "x"\n'
    with Node(IDLE + config + own) as n:
        for key, meant in slips.items():
            n.wait_for(f"config:[0-9]+: warning: the framework has no key {key}, did you mean {meant}[?]")
        n.wait_for("idle ready")
        assert n.stop() == 0
        assert n.text.count("did you mean") == len(slips), n.text


def test_each_key_of_the_readme_has_its_slips_told():
    with open(os.path.join(ROOT, "README.md")) as f:
        table = f.read().partition("| key | default |")[2].partition("\n\n")[0]
    keys = [k for row in table.splitlines() for k in re.findall(r"`(\w+)`", row.split("|")[1] if "|" in row else "")]
    assert "thread" in keys and "socket_peer_burst" in keys, keys
    with Node(IDLE + "".join(f"{key}x = 1\n" for key in keys)) as n:
        for key in keys:
            n.wait_for(f"the framework has no key {key}x, did you mean {key}[?]")
        n.wait_for("idle ready")
        assert n.stop() == 0
