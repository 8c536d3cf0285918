"""skynet.dns against a name server of the test (net.md section 12; D1 to D4)."""

import os
import re
import socket
import struct
import threading

from dnsserver import A, AAAA, CNAME, DnsServer, ip4, ip6, name_bytes, record, soa
from harness import Client, Node

# Runs each line of a connection as a chunk; answers with its results, or the error.
AGENT = """
local skynet = require "skynet"
local socket = require "skynet.socket"
dns = require "skynet.dns"
dns.DEFAULT_HOSTS = "./hosts"
dns.DEFAULT_RESOLV_CONF = "./resolv.conf"

local function show(v)
	if type(v) ~= "table" then return tostring(v) end
	return "{" .. table.concat(v, ",") .. "}"
end
function resolve(...)
	local r = table.pack(dns.resolve(...))
	for i = 1, r.n do r[i] = show(r[i]) end
	return table.concat(r, " ")
end
local function serve(id)
	socket.start(id)
	for line in function() return socket.readline(id) or nil end do
		local ok, result = pcall(load(line))
		socket.write(id, (ok and "" or "ERROR ") .. tostring(result) .. "\\n")
	end
	socket.close(id)
end
skynet.start(function()
	local id, _, port = socket.listen("127.0.0.1", 0)
	skynet.error("agent", port)
	socket.start(id, serve)
end)
"""


class Resolver(Node):
    """A node that resolves names, with files of its own."""

    def __init__(self, server=None, resolv="", hosts="", options="{ timeout = 3000 }"):
        super().__init__('start = "dnsagent"\n',
                         files={"svc/dnsagent.lua": AGENT, "resolv.conf": resolv, "hosts": hosts})
        port = int(self.wait_for(r"agent (\d+)$").group(1))
        self.open = lambda: Client(port)
        self.agent = self.open()
        if server:
            self.run(f'dns.server("{server.hosts[0]}", {server.port}, {options})')

    def run(self, code, client=None):
        client = client or self.agent
        client.send(code + "\n")
        return client.recv_until("\n").decode()[:-1]

    def resolve(self, name, family=""):
        return self.run(f'return resolve("{name}"{family})')

    def __exit__(self, *args):
        self.agent.close()
        super().__exit__(*args)


def ordinary(q):
    return q.address("10.0.0.1") if q.kind == A else q.address("2001:db8::1")


GOOD = "10.0.0.1 {10.0.0.1}"


def test_addresses_come_from_the_server_once():
    with DnsServer(ordinary) as s, Resolver(s) as n:
        assert n.resolve("example.com") == GOOD
        assert n.resolve("example.com") == GOOD
        assert n.resolve("Example.COM") == GOOD
        assert n.resolve("example.com.") == GOOD
        assert s.names() == ["example.com"]
        n.run("dns.flush()")
        assert n.resolve("example.com") == GOOD
        assert len(s.asked) == 2
        # What goes out: a standard question that wants recursion.
        q = s.asked[0]
        assert q.data[2:] == bytes.fromhex("01000001000000000000") + \
            b"\7example\3com\0" + bytes.fromhex("00010001"), q.data


def test_ipv6_addresses_have_eight_groups():
    with DnsServer(ordinary) as s, Resolver(s) as n:
        want = "2001:db8:0:0:0:0:0:1"
        assert n.resolve("example.com", ", true") == want + " {" + want + "}"
        assert s.asked[0].kind == AAAA
        assert n.resolve("example.com") == GOOD


def test_a_server_may_be_reached_over_ipv6():
    try:
        with DnsServer(ordinary, hosts=("::1",)) as s, Resolver(s) as n:
            assert n.resolve("example.com") == GOOD
    except OSError:
        assert not os.path.exists("/proc/net/if_inet6")


def test_all_answers_are_returned_in_order():
    def two(q):
        return q.reply([record(q.name, A, 60, ip4("10.0.0.2")),
                        record(b"\xc0\x0c", A, 60, ip4("10.0.0.1"))])
    with DnsServer(two) as s, Resolver(s) as n:
        assert n.resolve("example.com") == "10.0.0.2 {10.0.0.2,10.0.0.1}"
        # The array is the caller's.
        n.run('select(2, dns.resolve "example.com")[1] = "spoilt"')
        assert n.resolve("example.com") == "10.0.0.2 {10.0.0.2,10.0.0.1}"


def test_literals_and_bad_names_are_not_asked():
    with DnsServer(ordinary) as s, Resolver(s) as n:
        assert n.resolve("1.2.3.4") == "1.2.3.4 {1.2.3.4}"
        assert n.resolve("::1") == "::1 {::1}"
        for name in ("bad name", "", "a" * 64, "a..b", ".a", "a" * 63 + "." + "b." * 100,
                     "x\\0y", "x/y", "\\xc3\\xa9.org"):
            assert n.resolve(name) == "nil illegal name", name
        # 255 bytes on the wire are all that a name may have (RFC 1035, 3.1): 253 as text.
        longest = ("a" * 49 + ".") * 5 + "abc"
        assert len(longest) == 253
        assert n.resolve(longest + "d") == "nil illegal name"
        assert s.asked == []
        assert n.resolve(longest) == GOOD
        assert n.resolve("a" * 63 + ".b_c-d") == GOOD


def test_the_hosts_file_comes_first_and_is_read_again():
    hosts = ("# comment\n10.1.1.1 box box.lan # more\n10.1.1.2\tbox\n::5 six\n"
             "127.0.0.9 LocalHost ; x\n")
    with DnsServer(ordinary) as s, Resolver(s, hosts=hosts) as n:
        assert n.resolve("box") == "10.1.1.1 {10.1.1.1,10.1.1.2}"
        assert n.resolve("BOX.lan") == "10.1.1.1 {10.1.1.1}"
        assert n.resolve("six", ", true") == "::5 {::5}"
        assert n.resolve("localhost") == "127.0.0.9 {127.0.0.9}"
        assert n.resolve("localhost", ", true") == "::1 {::1}"
        assert n.resolve("any.localhost") == "127.0.0.1 {127.0.0.1}"
        assert s.asked == []
        assert n.resolve("six") == GOOD
        with open(n.path("hosts"), "w") as f:
            f.write("10.2.2.2 box another\n")
        assert n.resolve("box") == "10.2.2.2 {10.2.2.2}"
        os.remove(n.path("hosts"))
        assert n.resolve("box") == GOOD


def test_entries_expire():
    ttl = 0
    def answer(q):
        return q.address("10.0.0.%d" % len(s.asked), ttl)
    with DnsServer(answer) as s, Resolver(s) as n:
        assert n.resolve("example.com") == "10.0.0.1 {10.0.0.1}"
        assert n.resolve("example.com") == "10.0.0.2 {10.0.0.2}"
        ttl = 1
        n.resolve("example.com")
        while n.resolve("example.com") == "10.0.0.3 {10.0.0.3}":
            pass
        assert len(s.asked) == 4
        # Times with the first bit set count as 0.
        ttl = 0xffffffff
        n.resolve("other.com")
        n.resolve("other.com")
        assert len(s.asked) == 6


def test_a_missing_name_raises_and_is_remembered():
    def answer(q):
        if q.name == "empty.com":
            return q.reply(authority=[soa("com", 900, 900)])
        return q.missing(None if q.name == "forget.com" else 900)
    with DnsServer(answer) as s, Resolver(s) as n:
        for _ in range(2):
            assert "timeout or no answer (no such name)" in n.resolve("none.com")
            assert "timeout or no answer (no address)" in n.resolve("empty.com")
        assert s.names() == ["none.com", "empty.com"]
        # Without an SOA the answer may not be kept.
        n.resolve("forget.com")
        n.resolve("forget.com")
        assert s.names()[2:] == ["forget.com"] * 2


def test_an_old_answer_is_better_than_none_and_is_told():
    mode = "good"
    def answer(q):
        return q.address(ttl=0) if mode == "good" else q.missing(900) if mode == "missing" else \
            q.reply(rcode=2)
    with DnsServer(answer) as s, Resolver(s) as n:
        for name, mode_after in (("a.com", "missing"), ("b.com", "broken")):
            mode = "good"
            assert n.resolve(name) == GOOD
            mode = mode_after
            assert n.resolve(name) == GOOD + " stale"
            asked = len(s.asked)
            # Not asked for each time.
            assert n.resolve(name) == GOOD + " stale"
            assert len(s.asked) == asked
            n.wait_for(f"DNS query {name} has no answer, an old one is used")


def test_ids_and_ports_are_random():
    with DnsServer(ordinary) as s, Resolver(s) as n:
        for i in range(20):
            n.resolve(f"host{i}.com")
        ids = [q.id for q in s.asked]
        assert len(set(ids)) > 15 and len({b - a for a, b in zip(ids, ids[1:])}) > 10, ids
        ports = [q.peer[1] for q in s.asked]
        assert len(set(ports)) > 15 and len({b - a for a, b in zip(ports, ports[1:])}) > 10, ports


def test_equal_queries_are_made_once():
    release = threading.Event()
    def answer(q):
        release.wait(30)
        return q.address()
    with DnsServer(answer) as s, Resolver(s) as n:
        clients = [n.open() for _ in range(8)]
        for c in clients:
            c.send('return resolve "example.com"\n')
        n.run("for i = 1, 4 do require('skynet').yield() end")
        release.set()
        for c in clients:
            assert c.recv_until("\n").decode()[:-1] == GOOD
            c.close()
        assert s.names() == ["example.com"]


def test_many_queries_at_once():
    code = """local skynet = require "skynet" local left = 600
local me = {} for i = 1, 600 do skynet.fork(function()
assert(dns.resolve("h" .. i .. ".com") == "10.0.0.1") left = left - 1
if left == 0 then skynet.wakeup(me) end end) end skynet.wait(me) return left"""
    # Of so many at once the system drops some, which are asked for again.
    with DnsServer(ordinary) as s, Resolver(s, options="{ timeout = 100, attempts = 60 }") as n:
        assert n.run(code.replace("\n", " ")) == "0"
        assert sorted(set(s.names())) == sorted(f"h{i}.com" for i in range(1, 601))


def test_the_cache_is_bounded():
    ask = 'for i = 1, 200 do dns.resolve("h" .. i .. ".com") end return 1'
    with DnsServer(ordinary) as s, Resolver(s) as n:
        assert n.run("dns.CACHE_SIZE = 100 " + ask) == "1"
        assert len(s.asked) == 200
        assert n.run(ask) == "1"
        # Not more than the hundred had been kept.
        assert len(s.asked) >= 300


def test_dns_server_takes_effect_at_once_and_checks():
    with DnsServer(ordinary) as s, DnsServer(lambda q: q.address("10.9.9.9")) as other, \
            Resolver(s) as n:
        assert n.resolve("a.com") == GOOD
        n.run(f'dns.server("127.0.0.1", {other.port})')
        assert n.resolve("b.com") == "10.9.9.9 {10.9.9.9}"
        assert "needs a numeric address" in n.run('dns.server "localhost"')
        assert "needs a port" in n.run('dns.server("127.0.0.1", 0)')
        n.run("dns.server()")
        assert "Call dns.server first" in n.resolve("c.com")


def test_resolv_conf_gives_servers_search_and_options():
    resolv = "; local\nnameserver 127.0.0.1\nsearch lan. corp.example\noptions ndots:2 attempts:1\n"
    known = {"www.lan": "10.0.0.1", "a.b": "10.0.0.2", "x.corp.example": "10.0.0.3",
             "a.b.c": "10.0.0.4"}
    def answer(q):
        return q.address(known[q.name]) if q.name in known else q.missing(60)
    with DnsServer(answer) as s, Resolver(resolv=resolv) as n:
        n.run(f"dns.server(nil, {s.port}, {{ timeout = 3000 }})")
        def asks(name, result, *names):
            with s.lock:
                s.asked.clear()
            got = n.resolve(name)
            assert result in got, got
            assert s.names() == list(names), s.names()
        asks("www", "10.0.0.1", "www.lan")
        asks("x", "10.0.0.3", "x.lan", "x.corp.example")
        # Fewer dots than ndots: the list first.
        asks("a.b", "10.0.0.2", "a.b.lan", "a.b.corp.example", "a.b")
        asks("a.b.c", "10.0.0.4", "a.b.c")
        asks("none.", "no such name", "none")
        asks("q", "no such name", "q.lan", "q.corp.example", "q")
        # The file has changed.
        with open(n.path("resolv.conf"), "w") as f:
            f.write("nameserver 127.0.0.1\ndomain other.net\n")
        asks("y", "no such name", "y.other.net", "y")
        # A server of one's own comes without the search list of the machine.
        n.run(f'dns.server("127.0.0.1", {s.port}, {{ timeout = 3000 }})')
        asks("z", "no such name", "z")
        n.run(f'dns.server("127.0.0.1", {s.port}, {{ search = {{ "lan" }}, ndots = 1 }})')
        n.run("dns.flush()")
        asks("www", "10.0.0.1", "www.lan")


def test_other_servers_are_asked_when_one_fails():
    modes = {}
    def answer(q):
        mode = modes[q.host]
        return None if mode == "silent" else q.reply(rcode=mode) if mode else q.address()
    with DnsServer(answer, hosts=("127.0.0.1", "127.0.0.2")) as s, Resolver() as n:
        def limit(cs):
            n.run(f'dns.server({{ "127.0.0.1", "127.0.0.2" }}, {s.port}, {{ timeout = {cs} }})')
        limit(200)
        for i, mode in enumerate(("silent", 1, 2, 4, 5)):
            modes.update({"127.0.0.1": mode, "127.0.0.2": None})
            assert n.resolve(f"h{i}.com") == GOOD, mode
        modes.update({"127.0.0.1": "silent", "127.0.0.2": "silent"})
        with s.lock:
            s.asked.clear()
        limit(5)
        assert "timeout or no answer (timeout)" in n.resolve("dead.com")
        n.wait_for("DNS query dead.com timeout$")
        s.wait_asked(4)
        # A thread for each: who notes first what they were asked is no claim.
        assert sorted(q.host for q in s.asked) == ["127.0.0.1"] * 2 + ["127.0.0.2"] * 2
        limit(3000)
        modes.update({"127.0.0.1": 2, "127.0.0.2": 5})
        s.asked.clear()
        assert "timeout or no answer (refused)" in n.resolve("refused.com")
        assert [q.host for q in s.asked] == ["127.0.0.1", "127.0.0.2"] * 2


def test_a_truncated_answer_is_asked_for_over_tcp():
    def answer(q):
        if q.transport == "tcp":
            return q.reply([record(q.name, A, 60, ip4(f"10.0.{i // 250}.{i % 250}"))
                            for i in range(100)])
        if q.name == "cut.com":
            # In the middle of a record.
            return q.reply([record(q.name, A, 60, ip4("10.0.0.1"))], flags=0x8380)[:-5]
        return q.reply(flags=0x8380)
    with DnsServer(answer) as s, Resolver(s) as n:
        for name in ("big.com", "cut.com"):
            assert n.resolve(name).startswith("10.0.0.0 {10.0.0.0,10.0.0.1,"), name
        assert [q.transport for q in s.asked] == ["udp", "tcp"] * 2


def test_aliases_are_followed():
    def answer(q):
        if q.name == "chain.com":
            return q.reply([record("chain.com", CNAME, 60, name_bytes("b.com")),
                            record("b.com", CNAME, 60, name_bytes("C.com")),
                            record("c.com", A, 60, ip4("10.0.0.1")),
                            # Nobody asked for this one.
                            record("evil.com", A, 60, ip4("6.6.6.6"))])
        if q.name == "short.com":
            return q.reply([record("short.com", CNAME, 60, name_bytes("end.com"))])
        if q.name == "loop.com":
            return q.reply([record("loop.com", CNAME, 60, name_bytes("pool.com")),
                            record("pool.com", CNAME, 60, name_bytes("loop.com"))])
        if re.match(r"far\d+\.com", q.name):
            n = int(re.search(r"\d+", q.name).group()) + 1
            return q.reply([record(q.name, CNAME, 60, name_bytes(f"far{n}.com"))])
        if q.name == "odd.com":
            return q.reply([record("odd.com", CNAME, 60, b"\3a b\0")])
        return q.address()
    with DnsServer(answer) as s, Resolver(s) as n:
        assert n.resolve("chain.com") == GOOD
        assert n.resolve("evil.com") == GOOD
        assert n.resolve("short.com") == GOOD
        assert s.names()[-2:] == ["short.com", "end.com"]
        assert "no address" in n.resolve("loop.com") or "aliases" in n.resolve("loop.com")
        assert "too many aliases" in n.resolve("far1.com")
        assert "an alias that is no host name" in n.resolve("odd.com")


# ------------------------------------------------------------------ hostile

def hostile(q, what):
    """A bad answer of that kind."""
    good = [record(q.name, A, 60, ip4("6.6.6.6"))]
    loop = struct.pack(">H", 0xc000 | 12 + len(q.question))
    return {
        "wrong id": lambda: q.reply(good, id=q.id ^ 1),
        "no response": lambda: q.reply(good, flags=0x0100),
        "other opcode": lambda: q.reply(good, flags=0x8980),
        "wrong name": lambda: q.reply(good, question=name_bytes("evil.com") + q.question[-4:]),
        "wrong type": lambda: q.reply(good, question=q.question[:-4] + b"\0\x1c\0\1"),
        "wrong class": lambda: q.reply(good, question=q.question[:-2] + b"\0\3"),
        "no question": lambda: q.reply(good, question=b"", counts=(0, 1, 0, 0)),
        "two questions": lambda: q.reply(good, question=q.question * 2, counts=(2, 1, 0, 0)),
        "empty": lambda: b"",
        "short": lambda: q.reply()[:11],
        "header only": lambda: q.reply()[:12],
        "cut": lambda: q.reply(good)[:-1],
        "cut name": lambda: q.reply()[:14],
        "large counts": lambda: q.reply(good, counts=(1, 65535, 65535, 65535)),
        "more than it has": lambda: q.reply(good, counts=(1, 2, 0, 0)),
        "pointer loop": lambda: q.reply([record(loop, A, 60, ip4("6.6.6.6"))]),
        "pointer loop in the question": lambda: q.reply(
            good, question=b"\xc0\x0c" + q.question[-4:]),
        "pointer beyond the end": lambda: q.reply([record(b"\xff\xff", A, 60, ip4("6.6.6.6"))]),
        "alias loop": lambda: q.reply([record(q.name, CNAME, 60, b"\xc0" + bytes(
            [12 + len(q.question) + len(name_bytes(q.name)) + 10]))]),
        "long label": lambda: q.reply(good, question=b"\x7f" + b"a" * 127 + b"\0" +
                                      q.question[-4:]),
        "long name": lambda: q.reply([record(b"\x3f" + b"a" * 63, A, 60, b"") * 5]),
        "address of 3 bytes": lambda: q.reply([record(q.name, A, 60, b"\6\6\6")]),
        "address of 5 bytes": lambda: q.reply([record(q.name, A, 60, b"\6\6\6\6\6")]),
        "trailing bytes": lambda: q.reply(good) + b"x",
        "noise": lambda: os.urandom(200),
    }[what]()


KINDS = ("wrong id", "no response", "other opcode", "wrong name", "wrong type", "wrong class",
         "no question", "two questions", "empty", "short", "header only", "cut", "cut name",
         "large counts", "more than it has", "pointer loop", "pointer loop in the question",
         "pointer beyond the end", "alias loop", "long label", "long name", "address of 3 bytes",
         "address of 5 bytes", "trailing bytes", "noise")


def test_bad_answers_are_ignored_and_the_good_one_taken():
    def answer(q):
        kind = KINDS[int(q.name[1:-4])]
        return [hostile(q, kind), q.address("10.0.0.1")]
    with DnsServer(answer) as s, Resolver(s) as n:
        for i, kind in enumerate(KINDS):
            start = len(n.text)
            assert n.resolve(f"h{i}.com") == GOOD, kind
            if kind != "empty":
                what = "name" if kind in ("wrong name", "wrong type", "wrong class") else "package"
                n.wait_for(f"Recv an invalid {what} when dns query from 127.0.0.1:{s.port}$",
                           start=start)
        # Nothing of them was kept.
        assert n.resolve("evil.com".replace("evil", "h0")) == GOOD


def test_bad_answers_alone_are_no_answer():
    def answer(q):
        return hostile(q, KINDS[int(q.name[1:-4])])
    with DnsServer(answer) as s, Resolver(s, options="{ timeout = 3, attempts = 1 }") as n:
        for i, kind in enumerate(KINDS):
            assert "timeout or no answer (timeout)" in n.resolve(f"h{i}.com"), kind


def test_an_answer_from_elsewhere_is_ignored():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as elsewhere:
        elsewhere.bind(("127.0.0.1", 0))

        def answer(q):
            elsewhere.sendto(q.address("6.6.6.6"), q.peer)
            s.udp["127.0.0.2"].sendto(q.address("6.6.6.6"), q.peer)
            n.wait_for("Recv an invalid package when dns query from 127.0.0")
            return q.address("10.0.0.1")
        with DnsServer(answer, hosts=("127.0.0.1", "127.0.0.2")) as s, Resolver(s) as n:
            assert n.resolve("a.com") == GOOD
            port = elsewhere.getsockname()[1]
            n.wait_for(f"Recv an invalid package when dns query "
                       f"from 127.0.0.(1:{port}|2:{s.port})$")


def test_a_late_answer_goes_nowhere():
    held = []
    def answer(q):
        if len(s.asked) == 1:
            held.append(q)
            return None
        # The first question's answer comes now, to the port it was asked from.
        s.udp["127.0.0.1"].sendto(held[0].address("6.6.6.6"), held[0].peer)
        return [held[0].address("6.6.6.6"), q.address("10.0.0.1")]
    with DnsServer(answer) as s, Resolver(s, options="{ timeout = 200 }") as n:
        assert n.resolve("a.com") == GOOD
        assert len(s.asked) == 2
        assert s.asked[0].id != s.asked[1].id or s.asked[0].peer != s.asked[1].peer


def test_guessing_leads_to_tcp():
    def answer(q):
        if q.transport == "tcp":
            return q.address("10.0.0.1")
        return [q.reply([record(q.name, A, 60, ip4("6.6.6.6"))], id=i ^ q.id)
                for i in range(1, 65)]
    with DnsServer(answer) as s, Resolver(s) as n:
        assert n.resolve("a.com") == GOOD
        assert [q.transport for q in s.asked] == ["udp", "tcp"]
        # One line about it, not one for each.
        n.wait_for("Recv an invalid package")
        n.run("")
        assert n.text.count("Recv an invalid package") == 1


class Raw(bytes):
    """Bytes as they are; `pause` seconds between one and the next."""
    raw = True
    pause = 0
    reset = False


class Slow(Raw):
    pause = 0.05


class Reset(Raw):
    reset = True


def test_bad_answers_over_tcp():
    def answer(q):
        if q.transport == "udp":
            return q.reply(flags=0x8380)
        return {
            "closed": None,
            "half": Raw(b"\0"),
            "cut": Raw(struct.pack(">H", 500) + q.address()),
            "empty": Raw(b"\0\0"),
            "id": q.reply([record(q.name, A, 60, ip4("6.6.6.6"))], id=q.id ^ 1),
            "truncated": q.reply(flags=0x8380),
            "noise": os.urandom(60000),
            "slow": Slow(struct.pack(">H", 500) + q.address()),
            "reset": Reset(struct.pack(">H", 500) + q.address()),
        }[q.name.split(".")[0]]
    with DnsServer(answer) as s, Resolver(s, options="{ timeout = 100, attempts = 1 }") as n:
        for name in ("closed", "half", "cut", "empty", "id", "truncated", "noise", "slow", "reset"):
            assert "timeout or no answer" in n.resolve(name + ".com"), name


def test_tcp_refused_is_no_answer():
    with DnsServer(lambda q: q.reply(flags=0x8380), tcp=False) as s, \
            Resolver(s) as n:
        assert "Connection refused" in n.resolve("a.com")


def test_a_very_large_answer_is_bounded():
    def answer(q):
        if q.transport == "udp":
            return q.reply(flags=0x8380)
        return q.reply([record(b"\xc0\x0c", A, 60, ip4("10.0.0.1")) for _ in range(4000)])
    with DnsServer(answer) as s, Resolver(s) as n:
        assert n.run('return #select(2, dns.resolve "a.com")') == "256"


def test_the_old_module_name_works():
    with Resolver() as n:
        assert n.run('return require "dns" == dns') == "true"
