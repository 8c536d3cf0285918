"""sproto in the plain interpreter, as clients use it."""

import subprocess

from harness import LUA, OUT, ROOT, plain_env

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


def test_plain_interpreter_speaks_sproto():
    result = subprocess.run([LUA, "-", OUT, ROOT], input=SCRIPT, text=True,
                            capture_output=True, timeout=60, env=plain_env())
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["REQUEST", "say", "hi", "1", "42"], result.stdout
