"""What the network tests of this folder share: a reactor whose sockets are real and whose time is ours."""

from random import Random

from twisted.internet import reactor
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import TestCase

from mta.config.settings import Dns
from mta.dns.client import Resolver
from mta.testing.dns import DnsServer

ZONES = {
    "example.test": {"MX": [(10, "mx.example.test"), (20, "mx2.example.test")], "TXT": ["v=spf1 -all"]},
    "mx.example.test": {"A": ["192.0.2.1"], "AAAA": ["2001:db8::1"]},
    "alias.test": {"CNAME": ["other.test"]},
    "other.test": {"CNAME": ["example.test"]},
    "big.test": {"TXT": ["x" * 255] * 12},
    "loop.test": {"CNAME": ["loop.test"]},
}


class ClockedReactor(Clock):
    """Reads and connects for real; `callLater` only when told to advance."""

    def addReader(self, reader):
        reactor.addReader(reader)

    def removeReader(self, reader):
        reactor.removeReader(reader)

    def connectTCP(self, *args, **kwargs):
        return reactor.connectTCP(*args, **kwargs)


async def turns(count=5):
    """Let the real reactor go round."""
    for _ in range(count):
        await deferLater(reactor, 0.005, lambda: None)


class LoopbackTestCase(TestCase):
    """Servers and resolvers that are closed behind each test."""

    timeout = 20

    def server(self, records=ZONES, **ways):
        """A name server that runs."""
        server = DnsServer(reactor, records, **ways)
        server.start()
        self.addCleanup(server.stop)
        return server

    def resolver(self, *servers, clock=None, **settings):
        """A resolver of ours that asks them."""
        names = tuple(server if isinstance(server, str) else server.address for server in servers)
        resolver = Resolver(clock or reactor, Dns(servers=names, **settings), random=Random(1))
        resolver.start()
        self.addCleanup(resolver.close)
        return resolver
