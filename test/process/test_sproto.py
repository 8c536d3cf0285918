"""sproto in the plain interpreter, as clients use it."""

import re
import subprocess

from harness import LIMIT, LUA, OUT, ROOT, plain_env

SCRIPT = """
package.cpath = arg[1] .. "/luaclib/?.so"
package.path = arg[2] .. "/lualib/?.lua"
local sproto = require "sproto"
local sp = sproto.parse(".package { type 0 : integer session 1 : integer }"
	.. " say 1 { request { text 0 : string } response { n 0 : integer } }")
local host = sp:host()
local kind, name, args, respond = host:dispatch(host:attach(sp)("say", { text = "hi" }, 1))
print(kind, name, args.text)
local _, session, result = host:dispatch(respond { n = 42 })
print(session, result.n)
"""

# What is printed for people.
DUMPS = """
package.cpath = arg[1] .. "/luaclib/?.so"
package.path = arg[2] .. "/lualib/?.lua"
local parser, core = require "sprotoparser", require "sproto.core"
local schema = core.newproto(parser.parse(
	".A { x 0 : integer  y 3 : *A(x)  d 4 : integer(2) }  p 1 { request A  response nil }"))
core.dumpproto(schema)
core.deleteproto(schema)
parser.dump(("abc"):rep(6) .. "\\n")
"""


def plain(script):
    result = subprocess.run([LUA, "-", OUT, ROOT], input=script, text=True,
                            capture_output=True, timeout=LIMIT, env=plain_env())
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_plain_interpreter_speaks_sproto():
    said = plain(SCRIPT)
    assert said.split() == ["REQUEST", "say", "hi", "1", "42"], said


def test_schemas_and_bytes_are_printed():
    said = re.sub(r"\s+", " ", plain(DUMPS))
    schema = ".A { x 0 : integer y 3 : *A(x) d 4 : integer(2) } p 1 { request A response nil } "
    assert said == schema + "61 62 63 " * 6 + "0A ", said
