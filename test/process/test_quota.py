"""Memory quotas from the configuration, and what they log."""

import re

from harness import Node

GROWER = """
local skynet = require "skynet"
skynet.start(function()
	local list = {}
	local ok, err = pcall(function()
		for i = 1, 100 do
			list[i] = ("x"):rep(100 * 1024) .. i
		end
	end)
	local n = #list
	list = nil
	skynet.error("grown", n, ok, err)
end)
"""


def grow(config):
    search = 'luaservice = luaservice .. ";./?.lua"\nstart = "grower"\n'
    return Node(search + config, files={"grower.lua": GROWER})


def test_warnings_come_once_per_doubling():
    with grow("memory_quota_warn = 1048576\n") as node:
        node.wait_for(r"grown 100 true nil")
        marks = [float(m) for m in re.findall(r"Memory quota warning: ([\d.]+) M", node.text)]
        assert len(marks) == 4, marks
        for mark, least in zip(marks, (1, 2, 4, 8)):
            assert least <= mark <= least + 0.3, marks
        assert node.stop() == 0


def test_the_default_limit_holds_for_every_service():
    with grow("memory_quota = 5000000\n") as node:
        m = node.wait_for(r"grown (\d+) false not enough memory")
        assert 30 <= int(m.group(1)) <= 49, m.group(0)
        node.wait_for(r"^\[:\w{8}\] Memory quota reached: 4\.\d+ M of 4\.77 M in use "
                      r"\(Lua 4\.\d+ M, C 0\.\d+ M, \d+ messages of 0\.00 M\)$")
        assert node.stop() == 0


def test_bad_settings_are_refused():
    for key in ("memory_quota", "memory_quota_warn"):
        with grow(f'{key} = "lots"\n') as node:
            assert node.wait_exit() == 1
            assert key in node.text, node.text
