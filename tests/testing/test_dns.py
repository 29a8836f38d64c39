"""`mta.testing.dns`: the fake answers as the real resolver does, and the server can lie in every way it claims."""

from random import Random

import dns.flags
import dns.message
import dns.rcode
from twisted.internet import reactor
from twisted.internet.error import CannotListenError
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from mta.config.settings import Dns
from mta.dns.answer import Mx, Tlsa
from mta.dns.client import Resolver
from mta.dns.message import Question
from mta.interfaces import IMailResolver
from mta.testing.dns import DnsServer, FakeResolver

ZONES = {
    "example.test": {"MX": [(10, "MX.example.test"), (0, ".")], "TXT": ["text", b'\x00\xff"\\', "x" * 300]},
    "mx.example.test": {"A": ["192.0.2.1"], "AAAA": ["2001:db8::1"]},
    "_25._tcp.mx.example.test": {"TLSA": [(3, 1, 1, b"\xab" * 32)]},
    "1.2.0.192.in-addr.arpa": {"PTR": ["mx.example.test"]},
    "alias.test": {"CNAME": ["second.test"]},
    "second.test": {"CNAME": ["example.test"]},
    "lost.test": {"CNAME": ["nowhere.test"]},
    "loop.test": {"CNAME": ["loop.test"]},
}
QUESTIONS = (
    ("Example.test.", "MX"),
    ("example.test", "TXT"),
    ("example.test", "A"),
    ("mx.example.test", "A"),
    ("mx.example.test", "AAAA"),
    ("_25._tcp.mx.example.test", "TLSA"),
    ("_tcp.mx.example.test", "TLSA"),
    ("1.2.0.192.in-addr.arpa", "PTR"),
    ("alias.test", "MX"),
    ("alias.test", "CNAME"),
    ("alias.test", "AAAA"),
    ("lost.test", "A"),
    ("nope.test", "MX"),
)


class FakeResolverTests(SynchronousTestCase):
    """Out of the map."""

    def ask(self, resolver, name, rdtype):
        return self.successResultOf(resolver.query(name, rdtype))

    def test_vouched_for(self):
        """A name, one answer of it, all below it; over CNAMEs all of its names."""
        questions = [
            ("mx.example.test", "A"),
            ("mx.example.test", "AAAA"),
            ("_25._tcp.mx.example.test", "TLSA"),
            ("example.test", "A"),
        ]
        for secure, expected in (
            (False, (False, False, False, False)),
            (True, (True, True, True, True)),
            ({"mx.example.test"}, (True, True, False, False)),
            ({"mx.example.test/A"}, (True, False, False, False)),
            ({".example.test"}, (True, True, True, False)),
            ({".test"}, (True, True, True, True)),
            ({"test", "est", ".est"}, (False, False, False, False)),
        ):
            resolver = FakeResolver(ZONES, secure=secure)
            self.assertEqual(tuple([self.ask(resolver, *each).secure for each in questions]), expected, secure)
        resolver = FakeResolver(ZONES, secure={"alias.test", "second.test"})
        self.assertFalse(self.ask(resolver, "alias.test", "MX").secure)
        self.assertTrue(self.ask(resolver, "alias.test", "CNAME").secure)

    def test_values(self):
        """As the interface promises them."""
        resolver = FakeResolver(ZONES)
        verifyObject(IMailResolver, resolver)
        self.assertEqual(self.ask(resolver, "example.test", "MX").records, (Mx(10, "mx.example.test"), Mx(0, ".")))
        self.assertEqual(self.ask(resolver, "_25._tcp.mx.example.test", "TLSA").records, (Tlsa(3, 1, 1, b"\xab" * 32),))
        self.assertEqual(self.ask(resolver, "alias.test", "A").canonical, "example.test")

    def test_the_kinds_of_no(self):
        """No such name; no such record; a name that has only names below it."""
        resolver = FakeResolver(ZONES)
        self.assertEqual(
            [self.ask(resolver, name, "A").rcode for name in ("nope.test", "example.test", "test")],
            ["NXDOMAIN", "NOERROR", "NOERROR"],
        )

    def test_failures(self):
        """By name, by name and type, and at the end of an alias."""
        resolver = FakeResolver(ZONES, fail={"example.test": "SERVFAIL", "mx.example.test/AAAA": "TIMEOUT"})
        self.assertEqual(self.ask(resolver, "alias.test", "MX").rcode, "SERVFAIL")
        self.assertEqual(self.ask(resolver, "mx.example.test", "AAAA").rcode, "TIMEOUT")
        self.assertTrue(self.ask(resolver, "mx.example.test", "A").found)
        del resolver.fail["example.test"]
        self.assertTrue(self.ask(resolver, "example.test", "MX").found)

    def test_secure(self):
        """All, none, or the named ones with all their aliases."""
        for secure, expected in (
            (True, True),
            (False, False),
            ({"alias.test", "second.test", "example.test"}, True),
            ({"alias.test"}, False),
        ):
            self.assertEqual(self.ask(FakeResolver(ZONES, secure=secure), "alias.test", "MX").secure, expected)

    def test_counts(self):
        """How often was asked."""
        resolver = FakeResolver(ZONES)
        self.ask(resolver, "example.test", "MX")
        self.ask(resolver, "EXAMPLE.test.", "MX")
        self.assertEqual(resolver.asked, {("example.test", "MX"): 2})

    def test_a_loop_ends(self):
        """Also in a map, and it is a failure, as with the real one."""
        self.assertTrue(self.ask(FakeResolver(ZONES), "loop.test", "A").failed)

    def test_map_may_change(self):
        """It is read at each question."""
        records = {}
        resolver = FakeResolver(records)
        self.assertTrue(self.ask(resolver, "new.test", "A").exists_not)
        records["new.test"] = {"A": ["192.0.2.1"]}
        self.assertTrue(self.ask(resolver, "new.test", "A").found)


class DnsServerTests(TestCase):
    """Over the loopback."""

    timeout = 20

    def server(self, **ways):
        server = DnsServer(reactor, ZONES, **ways)
        server.start()
        self.addCleanup(server.stop)
        return server

    async def test_fake_and_server_agree(self):
        """The same map, the same answers, whichever of the two a test uses."""
        resolver = Resolver(reactor, Dns(servers=(self.server().address,)), random=Random(1))
        self.addCleanup(resolver.close)
        fake = FakeResolver(ZONES)
        for name, rdtype in QUESTIONS:
            real, faked = await resolver.query(name, rdtype), await fake.query(name, rdtype)
            self.assertEqual((real.rcode, real.name, real.canonical), (faked.rcode, faked.name, faked.canonical), name)
            self.assertCountEqual(real.records, faked.records, name)

    def answer(self, server, way="udp"):
        """What the server says to one question, without a network."""
        wires = []
        server.received(Question.of("example.test", "MX").to_wire(7), way, wires.append)
        return wires

    def test_ways_to_misbehave(self):
        """Each does what it says."""
        server = DnsServer(reactor, ZONES)
        (good,) = self.answer(server)
        self.assertEqual(dns.message.from_wire(good).id, 7)
        for way, value, holds in (
            ("truncate", True, lambda m: m.flags & dns.flags.TC and not m.answer),
            ("wrong_id", True, lambda m: m.id != 7),
            ("wrong_question", True, lambda m: m.question[0].name.to_text() == "evil.test."),
            ("rcode", "REFUSED", lambda m: m.rcode() == dns.rcode.REFUSED),
            ("authentic", True, lambda m: m.flags & dns.flags.AD),
        ):
            (wire,) = self.answer(DnsServer(reactor, ZONES, **{way: value}))
            self.assertTrue(holds(dns.message.from_wire(wire)), way)
            self.assertFalse(holds(dns.message.from_wire(good)), way)
        (noise,) = self.answer(DnsServer(reactor, ZONES, garbage=True))
        self.assertRaises(Exception, dns.message.from_wire, noise)
        self.assertFalse(
            dns.message.from_wire(self.answer(DnsServer(reactor, ZONES, truncate=True), "tcp")[0]).flags & dns.flags.TC
        )

    def test_drop(self):
        """The next few, then no more; the questions are counted all the same."""
        server = DnsServer(reactor, ZONES, drop=2)
        self.assertEqual([len(self.answer(server)) for _ in range(3)], [0, 0, 1])
        self.assertEqual(server.asked["udp", "example.test", "MX"], 3)

    async def test_stop_forgets_what_is_delayed(self):
        """Nothing is left on the reactor."""
        server = self.server(delay=60)
        self.answer(server)
        await server.stop()

    def test_no_port(self):
        """Whoever cannot listen says so."""

        class Full:
            def listenUDP(self, *args, **kwargs):
                raise CannotListenError("127.0.0.1", 0, OSError())

        self.assertRaises(CannotListenError, DnsServer(Full(), ZONES).start)
