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


# Prints the numbers that hold when nothing is said.
DEFAULTS = """
local skynet = require "skynet"
local function show(page, t)
	for name, value in pairs(t) do
		if type(value) == "number" then
			skynet.error("DEFAULT", page, name, math.tointeger(value))
		end
	end
end
skynet.start(function()
	show("gate", require "snax.gatesettings".new {})
	show("http-server", require "http.server".new(print))
	require "skynet.core".command "ABORT"
end)
"""
UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "s": 100}


def numbers_of(page):
    """What the tables of a page say: names and numbers, times in 1/100 s."""
    text = pathlib.Path(ROOT, f"doc/reference/{page}.md").read_text()
    for row in re.findall(r"^\| (`.*)$", text, re.M):
        cells = row.split(" | ")
        names = re.findall(r"`(\w+)`", cells[0])
        values = [re.fullmatch(r"(\d+)(?: (KiB|MiB|s))?", v) for v in cells[1].split(", ")]
        if all(values) and len(values) == len(names):
            for name, m in zip(names, values):
                yield name, int(m.group(1)) * UNITS[m.group(2) or ""]


def test_the_defaults_on_the_pages_are_those_of_the_code():
    _, text = run_node('luaservice = "./?.lua;" .. luaservice\nstart = "defaults"', files={"defaults.lua": DEFAULTS})
    for page, least in ("gate", 16), ("http-server", 10):
        known = {k: int(v) for k, v in re.findall(rf"DEFAULT {page} (\w+) (\d+)", text)}
        said = [(name, value) for name, value in numbers_of(page) if name in known]
        assert len(said) >= least, (page, said, known)
        for name, value in said:
            assert known[name] == value, (page, name, value, known[name])


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


# A function at the left margin: its table, name and parameters.
FUNCTION = re.compile(r"^function (\w+)[.:](\w+)\(([^)]*)\)", re.M)


def public_tables(text):
    """What a module gives to others: the table that it returns, and its classes."""
    returned = re.findall(r"^return (\w+)$", text, re.M)
    returned += re.findall(r"^return setmetatable\((\w+)", text, re.M)
    return set(returned + re.findall(r"^---@class .*\n(?:---.*\n)*local (\w+) =", text, re.M))


def test_public_functions_have_their_types():
    """Editors know each parameter, and what there is to say of the function."""
    count, wrong = 0, []
    for path in sorted(pathlib.Path(ROOT, "lualib").glob("**/*.lua")):
        text = path.read_text()
        tables = public_tables(text)
        for m in FUNCTION.finditer(text):
            table, name, parameters = m.groups()
            if table not in tables or name.startswith("_"):
                continue
            count += 1
            comment = re.search(r"((?:^--.*\n)*)\Z", text[:m.start()], re.M).group(1)
            known = {k.rstrip("?") for k in re.findall(r"^---@param (\S+)", comment, re.M)}
            wanted = {p for p in re.findall(r"[\w.]+", parameters) if not p.startswith("_")}
            if not comment.startswith("---") or wanted - known:
                wrong.append(f"{path.name}: {table}.{name}: {sorted(wanted - known) or 'nothing said'}")
    assert count > 300, count
    assert wrong == [], "\n".join(wrong)
