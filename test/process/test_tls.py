"""skynet.tls against other people's TLS: openssl s_client and s_server, curl, and
Python's ssl; and peers that misbehave."""

import os
import re
import shutil
import socket
import ssl
import subprocess
import tempfile

from harness import LIMIT, ROOT, Client, Node, frame

_certs = []


def cert(name):
    """The file of a test certificate; made at the first use."""
    if not _certs:
        folder = tempfile.TemporaryDirectory(prefix="skynet-certs-")
        subprocess.run([os.path.join(ROOT, "test/lib/make_certs.sh"), folder.name], check=True)
        _certs.append(folder)
    return os.path.join(_certs[0].name, name)


# Echoes lines; what it sees is logged.
SERVER = """
local skynet = require "skynet"
local socket = require "skynet.socket"
local tls = require "skynet.tls"
local function pem(name) return "%(folder)s/" .. name end
local ctx = tls.context { cert = pem "server.pem", key = pem "server.key", %(options)s }
local function serve(c)
	skynet.error("accepted", c:version(), c:alpn(), c:server_name(), c:resumed(),
		(c:peer_certificate() or {}).subject)
	local line, rest, why = c:readline()
	while line do
		skynet.error("line", line)
		c:write("echo " .. line .. "\\n")
		line, rest, why = c:readline()
	end
	skynet.error("ended", #rest, why)
	c:close()
end
skynet.start(function()
	local id, _, port = socket.listen("127.0.0.1", 0)
	socket.start(id, function(fd)
		local c, why = tls.accept(fd, ctx, { timeout = %(timeout)d })
		if c then serve(c) else skynet.error("refused", why) end
	end)
	skynet.error("port", port)
end)
"""

CLIENT = """
local skynet = require "skynet"
local tls = require "skynet.tls"
local function pem(name) return "%(folder)s/" .. name end
local PORT = %(port)d
skynet.start(function()
	local ok, err = pcall(function() %(code)s end)
	skynet.error(ok and "finished" or "raised", err)
end)
"""


def node(text, **kw):
    env = kw.pop("env", None)
    text = text % dict(kw, folder=os.path.dirname(cert("ca.pem")))
    return Node('start = "go"\n',
                files={"svc/go.lua": text}, env=env)


class Server:
    def __init__(self, options="", timeout=1000):
        self.node = node(SERVER, options=options, timeout=timeout)
        self.port = int(self.node.wait_for(r"port (\d+)$").group(1))

    def __enter__(self):
        self.node.__enter__()
        return self

    def __exit__(self, *what):
        self.node.__exit__(*what)


def client_node(port, code, env=None):
    return node(CLIENT, port=port, code=code, env=env)


def s_client(port, *args, text="hello\n", check=True, until=b"echo hello"):
    """Run openssl s_client over one exchange: its output. Its input ends when the regex `until` is there, or with
    check=False at once."""
    cmd = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", cert("ca.pem"),
           "-verify_return_error", *args]
    p = subprocess.Popen(cmd, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT)
    try:
        out = b""
        try:
            p.stdin.write(text.encode())
            p.stdin.flush()
        except BrokenPipeError:  # refused, it may have ended already
            assert not check, p.stdout.read().decode("utf-8", "replace")
        if check:
            while not re.search(until, out):
                data = os.read(p.stdout.fileno(), 65536)
                assert data, out.decode("utf-8", "replace")
                out += data
        try:
            p.stdin.close()
        except BrokenPipeError:
            pass
        out += p.stdout.read()
        p.wait(LIMIT)
    finally:
        if p.poll() is None:
            p.kill()
            p.wait()
        p.stdout.close()
    return out.decode("utf-8", "replace")


class Peer:
    """openssl s_server, which answers lines reversed."""

    def __init__(self, *args, name="server", mode="-rev"):
        cmd = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-cert",
               cert(name + ".pem"), "-key", cert(name + ".key"), *([mode] if mode else []), *args]
        self.proc = subprocess.Popen(cmd, stdin=subprocess.DEVNULL if mode else subprocess.PIPE,
                                     stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        out = b""
        while not (said := re.search(rb"^ACCEPT 127\.0\.0\.1:(\d+)\n", out, re.M)):
            data = os.read(self.proc.stdout.fileno(), 4096)
            assert data, out
            out += data
        self.port = int(said.group(1))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.proc.kill()
        self.proc.wait()
        self.proc.stdout.close()


# ------------------------------------------------------------- our server


def test_s_client_both_versions():
    with Server() as s:
        for version, flag in ("TLSv1.3", "-tls1_3"), ("TLSv1.2", "-tls1_2"):
            start = len(s.node.text)
            out = s_client(s.port, flag, "-servername", "localhost", "-verify_hostname", "localhost")
            assert "Verify return code: 0 (ok)" in out, out
            s.node.wait_for(f"accepted {version} nil localhost false nil$", start=start)
            s.node.wait_for("line hello$", start=start)
            s.node.wait_for("ended 0 nil$", start=start)


def test_old_versions_are_refused():
    with Server() as s:
        for flag in "-tls1", "-tls1_1":
            start = len(s.node.text)
            out = s_client(s.port, flag, "-cipher", "DEFAULT@SECLEVEL=0", check=False)
            assert "alert protocol version" in out, out
            s.node.wait_for(r"refused SSL_do_handshake error:1 ret:-1 \(unsupported protocol",
                            start=start)


def test_s_client_alpn_and_sni():
    with Server('alpn = { "h2", "http/1.1" }, hosts = { ["two.test"] = { cert = pem "server2.pem",'
                ' key = pem "server2.key" } }') as s:
        out = s_client(s.port, "-alpn", "http/1.1,h2", "-servername", "two.test",
                       "-verify_hostname", "two.test")
        assert "ALPN protocol: h2" in out and "subject=CN = two.test" in out, out
        s.node.wait_for("accepted TLSv1.3 h2 two.test")
        out = s_client(s.port, "-alpn", "nothing", "-servername", "localhost", check=False)
        assert "no application protocol" in out, out


def test_s_client_resumes():
    with Server() as s:
        for flag in "-tls1_3", "-tls1_2":
            with tempfile.NamedTemporaryFile() as f:
                out = s_client(s.port, flag, "-sess_out", f.name)
                assert "Reused," not in out, out
                start = len(s.node.text)
                out = s_client(s.port, flag, "-sess_in", f.name)
                assert "Reused," in out, out
                s.node.wait_for("accepted .* true nil$", start=start)


def test_renegotiation_is_refused():
    with Server() as s:
        # Either way of refusing it is fine, doing it is not.
        out = s_client(s.port, "-tls1_2", text="R\nhello\n", until=b"no renegotiation|echo hello")
        assert "RENEGOTIATING" in out, out
        s.node.wait_for("accepted")
        assert s.node.text.count("accepted") == 1


def test_mutual_tls():
    with Server('ca = pem "ca.pem", client_auth = "required"') as s:
        out = s_client(s.port, "-cert", cert("client.pem"), "-key", cert("client.key"))
        assert "echo hello" in out
        s.node.wait_for("accepted .* CN=alice,O=players$")
        for args in (), ("-cert", cert("foreign.pem"), "-key", cert("foreign.key")):
            start = len(s.node.text)
            out = s_client(s.port, *args, check=False)
            s.node.wait_for("refused .*(did not return a certificate|certificate verify failed)",
                            start=start)
            assert "echo hello" not in out, out


def test_revoked_clients_are_refused():
    with Server('ca = pem "ca.pem", client_auth = "required", crl = pem "ca.crl"') as s:
        out = s_client(s.port, "-cert", cert("client.pem"), "-key", cert("client.key"))
        assert "echo hello" in out
        out = s_client(s.port, "-cert", cert("revoked.pem"), "-key", cert("revoked.key"), check=False)
        s.node.wait_for("refused .*certificate verify failed: certificate revoked")
        assert "echo hello" not in out, out


def python_context(ca="ca.pem"):
    return ssl.create_default_context(cafile=cert(ca))


def connect(port, ctx=None, host="localhost"):
    raw = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
    return (ctx or python_context()).wrap_socket(raw, server_hostname=host)


def test_python_client():
    with Server() as s:
        with connect(s.port) as c:
            assert c.version() == "TLSv1.3"
            for text in b"one\n", b"x" * 100000 + b"\n":
                c.sendall(text)
                out = b""
                while not out.endswith(b"\n"):
                    out += c.recv(65536)
                assert out == b"echo " + text
            c.unwrap()
        s.node.wait_for("ended 0 nil$")


def test_a_stream_that_breaks_off_is_told():
    with Server() as s:
        c = connect(s.port)
        c.sendall(b"half a line")
        # Without close_notify.
        c.shutdown(socket.SHUT_WR)
        s.node.wait_for("ended 11 truncated: the peer closed the connection")
        c.close()


def flight(port):
    """The raw bytes of a client's first flight and the connection it is for."""
    ctx = python_context()
    inside, outside = ssl.MemoryBIO(), ssl.MemoryBIO()
    obj = ctx.wrap_bio(inside, outside, server_hostname="localhost")
    try:
        obj.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return obj, inside, outside, Client(port)


def test_truncated_records():
    with Server() as s:
        # In the first flight.
        _, _, outside, c = flight(s.port)
        c.send(outside.read()[:-7])
        c.sock.shutdown(socket.SHUT_WR)
        s.node.wait_for("refused the peer closed the connection during the TLS handshake$")
        c.recv_eof()
        # In the data.
        start = len(s.node.text)
        obj, inside, outside, c = flight(s.port)
        c.send(outside.read())
        while True:
            inside.write(c.sock.recv(65536))
            try:
                obj.do_handshake()
                break
            except ssl.SSLWantReadError:
                pass
        c.send(outside.read())
        obj.write(b"cut off\n")
        c.send(outside.read()[:-3])
        c.sock.shutdown(socket.SHUT_WR)
        s.node.wait_for("ended 0 truncated", start=start)
        assert "line cut off" not in s.node.text


def test_garbage_handshakes():
    with Server() as s:
        for i, bytes_ in enumerate((b"GET / HTTP/1.1\r\n\r\n", b"\0" * 1000, os.urandom(5000),
                                    b"\x16\x03\x01\xff\xff" + b"a" * 70000,
                                    b"\x16\x03\x01\0\x04\x01\xff\xff\xff")):
            start = len(s.node.text)
            with Client(s.port) as c:
                try:
                    c.send(bytes_)
                    c.sock.shutdown(socket.SHUT_WR)
                except OSError:
                    pass  # refused at the first bytes
                c.recv_eof()
            s.node.wait_for("refused (SSL_do_handshake error|the peer closed)", start=start)
        with connect(s.port) as c:
            c.sendall(b"fine\n")
            assert c.recv(100) == b"echo fine\n"


def test_a_stalling_peer_meets_the_deadline():
    with Server(timeout=20) as s:
        for first in b"", b"\x16\x03\x01\0":
            start = len(s.node.text)
            with Client(s.port) as c:
                c.send(first)
                c.recv_eof()
            s.node.wait_for("refused timeout$", start=start)
        # Drop by drop does not help.
        start = len(s.node.text)
        _, _, outside, c = flight(s.port)
        hello = outside.read()
        try:
            for i in range(len(hello) - 1):
                c.send(hello[i:i + 1])
                if not c.quiet(0.01):
                    break
        except OSError:
            pass
        s.node.wait_for("refused timeout$", start=start)
        c.close()


def test_a_reset_during_the_handshake():
    with Server() as s:
        _, _, outside, c = flight(s.port)
        c.send(outside.read())
        c.sock.recv(1)
        c.reset()
        s.node.wait_for("refused the peer closed the connection during the TLS handshake$")
        assert s.node.stop() == 0


def test_curl():
    if not shutil.which("curl"):
        raise AssertionError("curl is missing: apt-get install curl")
    web = SERVER.replace("	local line, rest, why = c:readline()", """
	repeat local head = c:readline "\\r\\n" until head == ""
	c:write "HTTP/1.1 200 OK\\r\\ncontent-length: 7\\r\\nconnection: close\\r\\n\\r\\nsecret\\n"
	do return c:close() end
	local line, rest, why = c:readline()""", 1)
    with node(web, options='alpn = { "http/1.1" }', timeout=1000) as n:
        port = n.wait_for(r"port (\d+)$").group(1)
        url = ["curl", "-sS", "--max-time", str(LIMIT), f"https://localhost:{port}/",
               "--resolve", f"localhost:{port}:127.0.0.1", "--noproxy", "*"]
        p = subprocess.run(url + ["--cacert", cert("ca.pem")], capture_output=True, text=True)
        assert p.stdout == "secret\n", p
        p = subprocess.run(url + ["--cacert", cert("other-ca.pem")], capture_output=True, text=True)
        assert p.returncode == 60, p
        n.wait_for("refused SSL_do_handshake error.*alert unknown ca")


WEB = """
local skynet = require "skynet"
local server = require "http.server"
local httpc = require "http.httpc"
local function pem(name) return "%(folder)s/" .. name end
skynet.start(function()
	local s = server.listen("127.0.0.1", 0, function(req, res) res:send(200, "secret " .. req.path) end,
		{ tls = { cert = pem "chain.pem", key = pem "server.key" } })
	local host = "https://localhost:" .. s.port
	skynet.error("unknown", pcall(httpc.get, host, "/a"))
	httpc.tls = { ca = pem "ca.pem" }
	skynet.error("trusted", httpc.get(host, "/a"))
	skynet.error("port", s.port)
end)
"""


def test_curl_and_httpc_at_our_https_server():
    with node(WEB) as n:
        port = n.wait_for(r"port (\d+)$").group(1)
        n.wait_for("unknown false .*certificate verify failed")
        n.wait_for("trusted 200 secret /a$")
        for flag in "--tlsv1.2", "--tlsv1.3":
            p = subprocess.run(["curl", "-sS", "--max-time", str(LIMIT), flag, "--cacert", cert("ca.pem"),
                                "--resolve", f"localhost:{port}:127.0.0.1", "--noproxy", "*",
                                f"https://localhost:{port}/b", f"https://localhost:{port}/c"],
                               capture_output=True, text=True)
            assert p.stdout == "secret /bsecret /c", p


GATE = """
local skynet = require "skynet"
local socket = require "skynet.socket"
local gate
local SOCKET = {}
function SOCKET.open(fd, addr)
	skynet.error("open", addr)
	skynet.call(gate, "lua", "accept", fd)
end
function SOCKET.data(fd, text)
	socket.write(fd, string.pack(">s2", "echo " .. text))
	if text == "bye" then skynet.call(gate, "lua", "kick", fd) end
end
function SOCKET.close() skynet.error "close" end
skynet.start(function()
	skynet.dispatch("lua", function(_, _, _, what, ...) SOCKET[what](...) end)
	gate = skynet.newservice "gate"
	local _, port = skynet.call(gate, "lua", "open", { address = "127.0.0.1", port = 0,
		tls = { cert = "%(folder)s/server.pem", key = "%(folder)s/server.key", alpn = { "game" } } })
	skynet.error("port", port)
end)
"""


def recv_exact(sock, n):
    out = b""
    while len(out) < n:
        data = sock.recv(n - len(out))
        assert data, out
        out += data
    return out


def test_a_gate_with_tls():
    with node(GATE) as n:
        port = int(n.wait_for(r"port (\d+)$").group(1))
        # Not for those who speak in the clear, or begin to and stop.
        with Client(port) as plain:
            plain.send(frame(b"hello, who is there?"))
            plain.recv_eof()
        with Client(port) as half:
            half.send(b"\x16\x03\x01\x00")
        ctx = python_context()
        ctx.set_alpn_protocols(["game"])
        with connect(port, ctx) as c:
            assert c.selected_alpn_protocol() == "game"
            n.wait_for(r"open 127\.0\.0\.1:%d$" % c.getsockname()[1])
            for text in [b"%d" % i for i in range(200)] + [b"x" * 65000, b""]:
                c.sendall(frame(text))
                assert recv_exact(c, len(text) + 7) == frame(b"echo " + text)
            # Many at once, and the end, after which nothing is missing.
            c.sendall(b"".join(frame(b"m%d" % i) for i in range(500)) + frame(b"bye"))
            want = b"".join(frame(b"echo m%d" % i) for i in range(500)) + frame(b"echo bye")
            assert recv_exact(c, len(want)) == want
            assert c.recv(100) == b""
        n.wait_for("close$")
        assert n.text.count("] open ") == 1, n.text
        assert n.stop() == 0


# ------------------------------------------------------------- our client

TALK = """
local c, why = tls.connect("127.0.0.1", PORT, { %s })
if not c then skynet.error("no connection:", why) return end
c:write "hello\\n"
skynet.error("answer", c:readline(nil, 3000))
skynet.error("facts", c:version(), c:alpn(), c:resumed(), c:peer_certificate().subject)
c:close()
"""


def talk(port, options, pattern, env=None):
    with client_node(port, TALK % options, env) as n:
        n.wait_for(pattern)
        n.wait_for("finished nil$")
        return n.text


def test_s_server_both_versions():
    for flag in "-tls1_2", "-tls1_3":
        with Peer(flag) as p:
            text = talk(p.port, 'ca = pem "ca.pem"', "answer olleh$")
            version = "TLSv" + flag[4:].replace("_", ".")
            assert re.search(rf"facts {version} nil false CN=localhost", text), text


def test_old_servers_are_refused():
    with Peer("-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0") as p:
        talk(p.port, "verify = false", "no connection: SSL_do_handshake error.*protocol")


def test_bad_certificates_are_refused():
    for name, options, reason in (
        ("server", "", "unable to get local issuer certificate"),
        ("server", 'ca = pem "other-ca.pem"', "unable to get local issuer certificate"),
        ("server", 'ca = pem "ca.pem", server_name = "evil.test"', "hostname mismatch"),
        ("expired", 'ca = pem "ca.pem", server_name = "localhost"', "certificate has expired"),
        ("self", 'ca = pem "ca.pem"', "self-signed certificate"),
        ("foreign", 'ca = pem "ca.pem"', "unable to get local issuer certificate"),
    ):
        with Peer(name=name) as p:
            talk(p.port, options, f"no connection: .*certificate verify failed: {reason}")
            # Unless one insists.
            talk(p.port, "verify = false", "answer olleh$")


def test_revoked_servers_are_refused():
    system = {"SSL_CERT_FILE": cert("ca.pem")}
    for name, options, env, pattern in (
        ("revoked-server", 'ca = pem "ca.pem"', None, "answer olleh$"),
        ("revoked-server", 'ca = pem "ca.pem", crl = pem "ca.crl"', None, "verify failed: certificate revoked"),
        ("revoked-server", 'crl = pem "ca.crl"', system, "verify failed: certificate revoked"),
        ("server", 'crl = pem "ca.crl"', system, "answer olleh$"),
        ("server", 'crl = pem "sub.crl"', system, "verify failed: unable to get certificate CRL; crl has no list"),
    ):
        with Peer(name=name) as p:
            talk(p.port, options, pattern, env=env)


def test_the_systems_authorities_are_used():
    with Peer() as p:
        talk(p.port, "", "answer olleh$", env={"SSL_CERT_FILE": cert("ca.pem")})
        folder = tempfile.mkdtemp()
        try:
            shutil.copy(cert("ca.pem"), folder)
            subprocess.run(["openssl", "rehash", folder], check=True)
            talk(p.port, f'capath = "{folder}"', "answer olleh$")
            talk(p.port, "", "answer olleh$", env={"SSL_CERT_DIR": folder})
        finally:
            shutil.rmtree(folder)


def test_s_server_alpn_sni_and_client_certificate():
    with Peer("-alpn", "h2") as p:
        talk(p.port, 'ca = pem "ca.pem", alpn = { "h2" }', "facts TLSv1.3 h2 false CN=localhost$")
    with Peer("-servername", "two.test", "-cert2", cert("server2.pem"), "-key2",
              cert("server2.key"), "-Verify", "1", "-verify_return_error", "-CAfile",
              cert("ca.pem")) as p:
        talk(p.port, 'ca = pem "ca.pem", server_name = "two.test", cert = pem "client.pem",'
             'key = pem "client.key"', "facts TLSv1.3 nil false CN=two.test")
        # Missing, which TLS 1.3 tells behind the handshake.
        talk(p.port, 'ca = pem "ca.pem"', "answer false .*alert certificate required")


def test_our_sessions_resume_at_s_server():
    code = """
local ctx = tls.context { ca = pem "ca.pem" }
local function once(session)
	local c = assert(tls.connect("127.0.0.1", PORT, { context = ctx, session = session }))
	c:write "hello\\n"
	assert(c:readline() == "olleh")
	skynet.error("resumed", c:version(), c:resumed())
	local ticket = c:session()
	c:close()
	return ticket
end
once(once())
"""
    for flag in "-tls1_2", "-tls1_3":
        with Peer(flag) as p, client_node(p.port, code) as n:
            n.wait_for("finished nil$")
            assert re.findall(r"resumed TLSv\S+ (\w+)$", n.text, re.M) == ["false", "true"], n.text


def test_a_server_that_speaks_first():
    listener = socket.create_server(("127.0.0.1", 0))
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ctx.load_cert_chain(cert("server.pem"), cert("server.key"))
    code = """
local c = assert(tls.connect("127.0.0.1", PORT, { ca = pem "ca.pem" }))
skynet.error("first", c:readline())
local data, why = c:readall()
skynet.error("all", data and #data, why)
c:close()
"""
    with listener, client_node(listener.getsockname()[1], code) as n:
        listener.settimeout(LIMIT)
        raw, _ = listener.accept()
        raw.settimeout(LIMIT)
        with ctx.wrap_socket(raw, server_side=True) as c:
            c.sendall(b"welcome\n" + b"y" * 200000)
            n.wait_for("first welcome$")
            c.unwrap()
        n.wait_for("all 200000 nil$")
        n.wait_for("finished nil$")


def test_a_server_that_breaks_off_is_told():
    listener = socket.create_server(("127.0.0.1", 0))
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ctx.load_cert_chain(cert("server.pem"), cert("server.key"))
    code = """
local c = assert(tls.connect("127.0.0.1", PORT, { ca = pem "ca.pem" }))
local data, why, rest = c:readall()
skynet.error("all", data, why:match "^%a+", rest)
c:close()
"""
    with listener, client_node(listener.getsockname()[1], code) as n:
        listener.settimeout(LIMIT)
        raw, _ = listener.accept()
        raw.settimeout(LIMIT)
        c = ctx.wrap_socket(raw, server_side=True)
        c.sendall(b"not all")
        c.close()
        n.wait_for("all nil truncated not all$")


# ---------------------------------------------------------- initialisation

INIT = """
local skynet = require "skynet"
skynet.start(function()
	skynet.error("loaded", pcall(require, "ltls.c"))
end)
"""


def test_enablessl_decides_about_the_plain_module():
    for extra, pattern in (("", "loaded false .*ltls need init, Put enablessl = true in you config file"),
                           ("enablessl = true\n", "loaded true table: ")):
        with Node('start = "go"\n' + extra,
                  files={"svc/go.lua": INIT}) as n:
            n.wait_for(pattern)


def test_samples_without_a_certificate_say_which_file_is_missing():
    for sample in ("simpleweb https 0", "simplewebsocket wss"):
        with Node(f'start = "{sample}"\nenablessl = true\nwebsocket_port = 0\n') as n:
            n.wait_for(r"tls: can't use the certificate \./server-cert\.pem with the key "
                       r"\./server-key\.pem: .*No such file")
            n.wait_for(f"start script '{sample}' failed")
            assert n.stop() == 0
