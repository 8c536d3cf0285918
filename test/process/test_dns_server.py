"""skynet.dns against a real name server, dnsmasq."""

import os
import shutil
import subprocess

from dnsserver import DnsServer
from test_dns import Resolver

PATH = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"


class Dnsmasq:
    """dnsmasq on loopback with a few names of its own."""

    hosts = ("127.0.0.1",)

    def __enter__(self):
        # Somebody may take the port between our test of it and the server's bind.
        for _ in range(20):
            if self.start():
                return self
        raise AssertionError("dnsmasq finds no port")

    def start(self):
        """True when it says that it has started."""
        # A port that was free for both transports.
        with DnsServer(lambda q: None) as s:
            self.port = s.port
        many = [f"--host-record=many.test,10.3.{i // 200}.{i % 200 + 1}" for i in range(60)]
        self.proc = subprocess.Popen(
            [shutil.which("dnsmasq", path=PATH), "--keep-in-foreground", f"--port={self.port}",
             "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--bind-interfaces",
             "--listen-address=127.0.0.1", "--pid-file", "--log-facility=-", "--local=/test/",
             "--local-ttl=60", "--host-record=host.test,10.1.2.3,fd00::5",
             "--cname=www.test,alias.test", "--cname=alias.test,host.test", *many],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for line in self.proc.stdout:
            if b"started" in line:
                return True
        self.__exit__()
        return False

    def __exit__(self, *_):
        self.proc.terminate()
        self.proc.wait()
        self.proc.stdout.close()


def test_names_of_a_real_server():
    with Dnsmasq() as s, Resolver(s, options="{ timeout = 100, attempts = 60 }") as n:
        assert n.resolve("host.test") == "10.1.2.3 {10.1.2.3}"
        assert n.resolve("host.test", ", true") == "fd00:0:0:0:0:0:0:5 {fd00:0:0:0:0:0:0:5}"
        assert n.resolve("WWW.test") == "10.1.2.3 {10.1.2.3}"
        assert "no such name" in n.resolve("none.test")
        assert "no address" in n.resolve("many.test", ", true")
        # Names elsewhere are refused: it knows no other server.
        assert "(refused)" in n.resolve("example.com")


def test_a_large_answer_of_a_real_server_comes_over_tcp():
    with Dnsmasq() as s, Resolver(s, options="{ timeout = 100, attempts = 60 }") as n:
        assert n.run('return #select(2, dns.resolve "many.test")') == "60"
