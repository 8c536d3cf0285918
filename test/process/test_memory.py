"""What a node says when memory ends, or when a service misuses it."""

import os
import re
import signal

from harness import VARIANT, Node, Skip

# Address space of the node; the sanitizers need more than exists.
LIMITED = ("sh", "-c", "ulimit -v 600000; ulimit -c 0; exec \"$@\"", "sh")


def need_accounts():
    if VARIANT in ("asan", "tsan"):
        raise Skip("this build does not account for memory")


def run_out(config):
    with Node('start = "memory_hog"\n' + config, wrapper=LIMITED) as node:
        node.wait_for(r"^xmalloc: Out of memory trying to allocate 83886\d\d bytes "
                      r"for :0000[0-9a-f]{4} snlua \.hog$")
        code = node.wait_exit()
        assert code == -signal.SIGABRT, code
        return node.text


def test_out_of_memory_names_size_and_service():
    need_accounts()
    text = run_out("")
    first = [line for line in text.splitlines() if " holds " in line][0]
    assert first.endswith(" snlua .hog"), text
    assert int(first.split()[3]) > 100 << 20, text


def test_out_of_memory_without_a_reserve_still_reports():
    need_accounts()
    run_out("memory_reserve = 0\n")


LUA_HOG = """
local skynet = require "skynet.manager"
skynet.start(function()
	local list = {}
	local ok, err = pcall(function()
		while true do list[#list + 1] = ("x"):rep(64 << 20) end
	end)
	local n = #list
	list = nil
	skynet.error("hog", ok, err, n)
	skynet.call(skynet.newservice "lua_other", "lua")
	skynet.error("others go on")
	skynet.abort()
end)
"""
LUA_OTHER = """
local skynet = require "skynet"
skynet.start(function() skynet.dispatch("lua", function() skynet.ret() end) end)
"""


def test_lua_memory_that_ends_is_an_error_of_one_service():
    need_accounts()
    with Node('start = "lua_hog"\nluaservice = "./?.lua;" .. luaservice\n', wrapper=LIMITED,
              files={"lua_hog.lua": LUA_HOG, "lua_other.lua": LUA_OTHER}) as node:
        assert node.wait_exit() == 0, node.text
        n = re.search(r"hog false not enough memory (\d+)$", node.text, re.M)
        assert n and int(n.group(1)) >= 2, node.text
        assert "others go on" in node.text and "xmalloc" not in node.text, node.text


def test_bad_settings_are_refused():
    with Node('start = "main"\nmemory_reserve = "much"\n') as node:
        assert node.wait_exit() == 1
        assert "memory_reserve" in node.text, node.text


def test_heap_profile_can_be_switched_and_written():
    need_accounts()
    env = {"MALLOC_CONF": "prof:true,prof_active:false,lg_prof_sample:12,prof_prefix:heap"}
    with Node('start = "heap_profile"\n', env=env) as node:
        m = node.wait_for(r"^profile false true true true current (\d+)$")
        assert int(m.group(1)) > 1000000, m.group(0)
        assert node.wait_exit() == 0
        profiles = [n for n in os.listdir(node.dir) if n.startswith("heap.")]
        assert len(profiles) == 1, profiles
        with open(node.path(profiles[0])) as f:
            assert f.readline().startswith("heap_v2/4096")
