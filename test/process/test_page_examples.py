"""The examples of README.md and of the reference pages run as they are printed, but for ports
and hosts: each in a service, which has around it what the page takes for granted."""

import contextlib
import pathlib
import re
import subprocess
import tempfile

from dnsserver import AAAA, DnsServer
from harness import Client, Node, ROOT, free_port

# What a page's examples need around them, in their order; those of other pages run alone.
# before, after: code in the same function. alone: the example is the whole script.
# swap: text of the example -> text, with {port}. files: name -> text. then: asked of the node.
AROUND = {
    "crypt": [dict(before="local theirs, counter = require 'skynet.crypt'.x25519_keypair(), 1",
                   after="assert(#sealed == 12 + 16)", swap={"text)": "'twelve bytes')"})],
    "dns": [dict(swap={'"127.0.0.53"': '"127.0.0.1", {dns}'}, after='assert(first == all[1] and first:find "^2001:", first)')],
    "http-server": [dict(alone=True, swap={"8002": "{port}"}, files={"www/a.txt": "a file\n"},
                         then=lambda port: (asks(port, "/hello/bob", "hello bob\n"), asks(port, "/files/a.txt", "a file\n")))],
    "kcp": [dict(swap={"8889": "{port}"}, says=["hello"]),
            dict(before='local gate, fd = skynet.newservice "kcpgate", 5')],
    "login": [dict(alone=True, swap={"8001": "{port}, host = '127.0.0.1'"}, then=lambda port: challenged(port))],
    "protobuf": [dict(files={"game.proto": """syntax = "proto3"; package game;
enum Kind { NONE = 0; SWORD = 1; }
message Item { Kind kind = 1; }
message Player { string name = 1; repeated Item bag = 2; }
"""})],
    "socketchannel": [dict(swap={"6379": "{port}"}, before="""
local listener = socket.listen("127.0.0.1", {port})
socket.start(listener, function(fd)
	socket.start(fd)
	socket.readline(fd, "\\r\\n")
	socket.write(fd, "+PONG\\r\\n")
end)""")],
    "tls": [dict(swap={"example.org": "localhost", "443": "{port}"}, before="""
local ours = socket.listen("127.0.0.1", {port})
local served = require "skynet.tls".context { cert = "server.pem", key = "server.key" }
socket.start(ours, function(fd)
	local c = assert(require "skynet.tls".accept(fd, served))
	c:readline "\\r\\n\\r\\n"
	c:write "an answer over TLS"
	c:close()
end)
local listener, _, echo = socket.listen("127.0.0.1", 0)""", after="""
local c2 = assert(tls.connect("localhost", echo))
c2:write "said over TLS\\n"
assert(c2:readline "\\r\\n" == "said over TLS")""", says=["an answer over TLS"])],
    "websocket": [dict(swap={"9948": "{port}"}, before="local websocket = require 'http.websocket'", after="""
local c = websocket.connect "ws://127.0.0.1:{port}/"
websocket.write(c, "echo this")
assert(websocket.read(c) == "echo this")
websocket.close(c)"""),
                  dict(before="""
local websocket, web = require 'http.websocket', require 'http.router'.new()
local handle = { message = function(id, data) websocket.write(id, data) end }""", after="""
require 'http.server'.listen("127.0.0.1", {port}, web)
local c = websocket.connect "ws://127.0.0.1:{port}/chat"
websocket.write(c, "echo this")
assert(websocket.read(c) == "echo this")
websocket.close(c)""")],
    "wsgate": [dict(swap={"8081": "{port}"}, after="assert(port == {port})")],
    "zset": [dict(says=["1\tbob\t1300", "2\talice\t1200"])],
}

SERVICE = """
local skynet = require "skynet"
local socket = require "skynet.socket"
skynet.start(function()
{before}
{example}
{after}
skynet.error "the example has run"
end)
"""


def text_of(page):
    return pathlib.Path(ROOT, page).read_text(encoding="utf-8")


def asks(port, path, answer):
    with Client(port) as c:
        c.send(f"GET {path} HTTP/1.0\r\n\r\n")
        said = c.recv_eof().decode()
        assert said.endswith("\r\n\r\n" + answer), said


def challenged(port):
    with Client(port) as c:
        assert re.fullmatch(rb"[\w+/]{11}=\n", c.recv_until(b"\n"))


def promised(example):
    """What the comments --> say is printed, as regular expressions."""
    for text in re.findall(r"-->\s*(.*)", example):
        yield re.sub(r"(\\\s)+", r"\\s+", re.escape(text)).replace(re.escape("0x..."), r"0x\w+")


def fill(text, numbers):
    for name, number in numbers.items():
        text = text.replace("{" + name + "}", str(number))
    return text


def run_example(page, example, dns_port, before="", after="", alone=False, swap=None, files=None, then=None, says=()):
    """Run it in a node of its own until it has done all that it promises."""
    numbers = {"port": free_port(), "dns": dns_port}
    lines = [*promised(example), *map(re.escape, says)]
    for old, new in (swap or {}).items():
        assert old in example, f"{page} has no {old} any more"
        example = example.replace(old, new)
    script = example if alone else SERVICE.replace("{before}", before).replace("{example}", example).replace("{after}", after)
    files = dict(files or {}, **{"svc/example.lua": fill(script, numbers)})
    files["svc/start_it.lua"] = 'local skynet = require "skynet"\nskynet.start(function() skynet.newservice "example" end)\n'
    with prepared(page, files) as node:
        if alone:
            node.wait_for(r"LAUNCH snlua example")
            node.wait_for(r"\[:00000002\] KILL self")
        else:
            node.wait_for(r"the example has run|init service failed|loader error")
            assert "the example has run" in node.text, node.text
        for line in lines:
            node.wait_for(rf"^{line}")
        if then:
            then(numbers["port"])
        assert not re.search(r"lua call .* error|loader error|init service failed", node.text), node.text


@contextlib.contextmanager
def prepared(page, files):
    """A node in a folder that has what the page takes for granted."""
    with tempfile.TemporaryDirectory(prefix="skynet-test-") as folder:
        for name, text in files.items():
            path = pathlib.Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        if page == "tls":
            subprocess.run([f"{ROOT}/test/lib/make_certs.sh", folder], check=True)
        if page == "protobuf":
            command = re.search(r"^    protoc (.*)$", text_of("doc/reference/protobuf.md"), re.M)
            subprocess.run(["protoc", *command.group(1).split()], cwd=folder, check=True)
        with Node('start = "start_it"', cwd=folder, env={"SSL_CERT_FILE": f"{folder}/ca.pem"}) as node:
            yield node


def test_lua_examples_run():
    count = 0
    with DnsServer(lambda q: q.address("2001:db8::1" if q.kind == AAAA else "10.0.0.1")) as dns:
        for path in sorted(pathlib.Path(ROOT, "doc/reference").glob("*.md")):
            page = path.stem
            examples = re.findall(r"^```lua\n(.*?)^```", text_of(f"doc/reference/{page}.md"), re.S | re.M)
            around = AROUND.get(page, [{}] * len(examples))
            assert len(around) == len(examples), f"{page} has {len(examples)} examples, AROUND says {len(around)}"
            for example, how in zip(examples, around):
                try:
                    run_example(page, example, dns.port, **how)
                except (AssertionError, OSError) as e:
                    e.add_note(f"this was an example of {page}.md:\n{example}")
                    raise
                count += 1
    assert count >= 15, count


def test_the_services_of_the_readme_run():
    service, caller = re.findall(r"^```lua\n(.*?)^```", text_of("README.md"), re.S | re.M)
    files = {"svc/score.lua": service,
             "svc/caller.lua": SERVICE.replace("{before}", "").replace("{example}", caller).replace("{after}", "")}
    with Node('start = "caller"', files=files) as node:
        for line in promised(caller):
            node.wait_for(rf"^{line}$")
        node.wait_for("the example has run")


def test_the_indented_example_of_sproto_runs():
    page = text_of("doc/reference/sproto.md")
    schema = re.search(r"## Schema\n\n(.*?)\n\nBuilt-in", page, re.S).group(1)
    rpc = re.search(r"## RPC\n\n(.*?)\n\n`dispatch`", page, re.S).group(1)
    before = f"""
local sproto = require "sproto"
local sp = sproto.parse([[{schema} .package {{ type 0 : integer session 1 : integer }}]])
local peer, session, ud, blob = sp, 3
local function send(text) blob = text end"""
    after = 'assert(kind == "REQUEST" and a == "buy" and b.id == 7 and type(c) == "function" and d == nil)'
    run_example("sproto", rpc, 0, before=before, after=after)


def test_c_examples_compile():
    for page, whole in ("c-api", True), ("pools", False):
        example, = re.findall(r"^```c\n(.*?)^```", text_of(f"doc/reference/{page}.md"), re.S | re.M)
        if not whole:
            includes = "".join(re.findall(r"#include .*\n", example))
            example = includes + "void f(unsigned id, int fd);\nvoid f(unsigned id, int fd) {\n(void)0;" + \
                example.replace(includes, "") + "(void)name; }\n"
        p = subprocess.run(["cc", "-std=gnu11", "-Wall", "-Werror", f"-I{ROOT}/skynet-src", "-fsyntax-only", "-xc", "-"],
                           input=example, capture_output=True, text=True, check=False)
        assert p.returncode == 0, p.stderr
