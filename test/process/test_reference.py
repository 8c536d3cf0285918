"""The reference pages: their code is Lua, and the page of skynet knows every function."""

import pathlib
import re
import subprocess

from harness import LUA, ROOT, plain_env, run_node

PAGES = sorted(pathlib.Path(ROOT, "doc/reference").glob("*.md")) + sorted(pathlib.Path(ROOT).glob("README*.md"))

# Compiles standard input.
COMPILE = "local f, why = load(io.read 'a', '=page') if not f then print(why) end os.exit(f ~= nil)"

NAMES = """
local skynet = require "skynet"
require "skynet.manager"
skynet.start(function()
	for name in pairs(skynet) do
		if name:sub(1, 1) ~= "_" then
			skynet.error("NAME " .. name)
		end
	end
	require "skynet.core".command "ABORT"
end)
"""


def test_code_compiles():
    count = 0
    for page in PAGES:
        for code in re.findall(r"```lua\n(.*?)```", page.read_text(), re.S):
            count += 1
            p = subprocess.run([LUA, "-e", COMPILE], input=code, env=plain_env(), stdout=subprocess.PIPE, text=True)
            assert p.returncode == 0, f"{page.name}: {p.stdout}{code}"
    assert count > 10


def test_the_page_of_skynet_is_complete():
    _, text = run_node('luaservice = "./?.lua;" .. luaservice\nstart = "names"', files={"names.lua": NAMES})
    names = set(re.findall(r"NAME (\w+)", text))
    assert len(names) > 80, text
    page = pathlib.Path(ROOT, "doc/reference/skynet.md").read_text()
    missing = sorted(n for n in names if not re.search(rf"\b{n}\b", page))
    assert missing == [], missing
