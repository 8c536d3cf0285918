"""memory_hugepages: large nodes get huge pages and give them back, small ones get hardly any."""

import mmap
import re

from harness import VARIANT, Node, Skip

SYSTEM = "/sys/kernel/mm/transparent_hugepage/enabled"
PROBE = 16 << 20
SERVICE = """
local skynet = require "skynet"
local memory = require "skynet.memory"
require "skynet.manager"

if ... == "idle" then
	skynet.start(function() skynet.dispatch("lua", function() skynet.ret() end) end)
	return
end

local function kb(file, key)
	for line in io.lines("/proc/self/" .. file) do
		local n = line:match("^" .. key .. ":%s+(%d+) kB")
		if n then return tonumber(n) end
	end
end

skynet.start(function()
	skynet.error("rest", kb("smaps_rollup", "AnonHugePages"))
	local list = {}
	for i = 1, 2000 do
		list[i] = skynet.newservice("pages", "idle")
	end
	local rss = kb("status", "VmRSS")
	skynet.error("full", kb("smaps_rollup", "AnonHugePages"))
	for _, address in ipairs(list) do
		skynet.kill(address)
	end
	local n = 0
	repeat
		skynet.sleep(1)
		memory.trim()
		n = n + 1
	until n == 6000 or kb("status", "VmRSS") < rss / 2
	skynet.error("left", kb("status", "VmRSS") * 100 // rss)
	skynet.abort()
end)
"""


def gives_huge_pages():
    """Whether this process would get some now."""
    with mmap.mmap(-1, PROBE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as m:
        try:
            m.madvise(mmap.MADV_HUGEPAGE)
        except OSError:
            return False
        m.write(b"x" * PROBE)
        with open("/proc/self/smaps_rollup") as rollup:
            return int(re.search(r"AnonHugePages:\s+(\d+)", rollup.read()).group(1)) > 0


def figures(setting):
    if VARIANT in ("asan", "tsan"):
        raise Skip("this build's allocator is the sanitizer's")
    if not gives_huge_pages():
        raise Skip("this system gives no huge pages")
    with Node(f'start = "pages"\nluaservice = "./?.lua;" .. luaservice\n{setting}\n',
              files={"pages.lua": SERVICE}) as node:
        assert node.wait_exit() == 0, node.text
        return {k: int(n) for k, n in re.findall(r"\] (rest|full|left) (\d+)", node.text)}


def test_a_large_node_has_huge_pages_and_gives_them_back():
    f = figures("memory_hugepages = true")
    # Mostly none; an arena that is used a little more than the others may have one.
    assert f["rest"] <= f["full"] // 4, f
    assert f["full"] >= 2048, f
    assert f["left"] <= 50, f


def test_without_the_setting_there_are_none():
    with open(SYSTEM) as system:
        if "[always]" in system.read():
            raise Skip("this system gives huge pages to everybody")
    f = figures("")
    assert f["full"] == 0, f
    assert f["left"] <= 50, f


def test_other_values_are_refused():
    with Node("memory_hugepages = 1\n") as node:
        assert node.wait_exit() == 1
        assert re.search(r":\d+: Invalid memory_hugepages 1 , should be true or false", node.text), node.text


ACCOUNTS = """
local skynet = require "skynet.manager"
skynet.start(function()
	skynet.error("accounts for", require "skynet.memory".total())
	skynet.abort()
end)
"""


def test_a_build_without_jemalloc_says_that_it_can_not():
    with Node('start = "accounts"\nluaservice = "./?.lua;" .. luaservice\nmemory_hugepages = true\n',
              files={"accounts.lua": ACCOUNTS}) as node:
        assert node.wait_exit() == 0, node.text
        total = re.search(r"accounts for (\d+)", node.text).group(1)
        says = re.search("^memory_hugepages needs a build with jemalloc$", node.text, re.M)
        assert bool(says) == (total == "0"), node.text
