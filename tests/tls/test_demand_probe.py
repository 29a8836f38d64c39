"""`mta.tls.demand`: does the resolver validate (row P24)?  DANE is never believed without it."""

from __future__ import annotations

from random import Random

import attrs

from mta.config.settings import Dns, RouteEntry, TlsClient, TlsPolicyEntry
from mta.envelope import Flag, Target
from mta.route.hosts import NextHops
from mta.status import MailError
from mta.testing.dns import FakeResolver
from mta.tls.policy import Level
from tests.tls.asking import GOOD, DemandsCase, SlowResolver, tlsa, zone


class ProbeTests(DemandsCase):
    """P24: DANE only with a resolver that validates."""

    RECORDS = zone("mx.example.org", tlsa_of={"mx.example.org": GOOD})

    def test_trusted_and_validating(self) -> None:
        """Nothing is said."""
        self.owed(self.RECORDS)
        self.assertEqual((self.demands.validates, self.log.events), (True, []))

    def test_not_trusted(self) -> None:
        """The AD bit of a resolver that is not ours is worth nothing: dane is may, dane-only sends nothing, one line says so."""
        self.assertEqual(self.levels(self.owed(self.RECORDS, dns=Dns(trusted=False))), ["may"])
        self.assertEqual(self.log.events, [("dane_off", "[dns] trusted is false")])
        self.assertEqual(self.tlsa_asked(), [])
        self.assertEqual(self.levels(self.owed(self.RECORDS, dns=Dns(trusted=False), route=Level.DANE_ONLY)), ["refused"])
        self.assertEqual(len(self.log.events), 1)

    def hosts(self, resolver: FakeResolver) -> list[Target]:
        return self.successResultOf(NextHops(resolver, random=Random(1)).hosts("example.org"))

    def test_not_validating(self) -> None:
        """The probe comes back without AD."""
        resolver = FakeResolver(self.RECORDS, secure={"example.org", ".example.org"})
        demands = self.make(resolver)
        self.assertEqual(self.log.events, [("dane_off", "the name servers did not validate '.' (NOERROR)")])
        asking = demands.of("example.org", None, self.hosts(resolver), 0, "")
        self.assertEqual(self.levels(self.successResultOf(asking)), ["may"])

    def test_probe_fails(self) -> None:
        """Nobody knows, then what DNS vouches for is believed: who drops the probe's packets does not switch DANE off."""
        for rcode in ("SERVFAIL", "TIMEOUT"):
            resolver = FakeResolver(
                self.RECORDS, secure={"example.org", ".example.org", tlsa("mx.example.org")}, fail={"": rcode}
            )
            demands = self.make(resolver)
            self.assertEqual((demands.validates, self.log.events), (True, []))
            asking = demands.of("example.org", None, self.hosts(resolver), 0, "")
            self.assertEqual(self.levels(self.successResultOf(asking)), ["dane"])

    def test_probe_under_way(self) -> None:
        """Mail that comes while the first probe is still out does not go without DANE."""
        slow = SlowResolver()
        demands = self.make(slow, start=False)
        demands.start()
        resolver = FakeResolver(self.RECORDS, secure=True)
        asking = demands.of("example.org", None, self.hosts(resolver), 0, "")
        self.assertEqual([(name, rdtype) for name, rdtype, _ in slow.waiting], [(".", "A"), (tlsa("mx.example.org"), "TLSA")])
        slow.waiting[1][2].callback(self.successResultOf(resolver.query(tlsa("mx.example.org"), "TLSA")))
        self.assertEqual(self.levels(self.successResultOf(asking)), ["dane"])

    def test_requiretls(self) -> None:
        """P41: an MX record that a resolver without DNSSEC calls secure does not make a host's name known; brackets do."""
        resolver = FakeResolver(self.RECORDS, secure={"example.org", ".example.org"})
        demands = self.make(resolver)
        for next_hop, level in (("example.org", None), ("example.org", Level.VERIFY), ("[mx.example.org]", None)):
            targets = self.successResultOf(NextHops(resolver, random=Random(1)).hosts(next_hop))
            asking = demands.of(next_hop, level, targets, Flag.REQUIRETLS, "")
            if next_hop.startswith("["):
                self.assertEqual(self.levels(self.successResultOf(asking)), ["verify"])
            else:
                self.assertEqual(self.failureResultOf(asking, MailError).value.reply.enhanced, "5.7.10")

    def test_probe_of_the_operator(self) -> None:
        """Another name, or none: then the resolver is believed as it is."""
        other = Dns(servers=("127.0.0.1:53",), trusted=True, dnssec_probe="example.org")
        self.assertTrue(self.make(FakeResolver(self.RECORDS, secure={"example.org"}), dns=other).validates)
        self.assertFalse(self.make(FakeResolver(self.RECORDS, secure={""}), dns=other).validates)
        resolver = FakeResolver(self.RECORDS)
        none = Dns(servers=("127.0.0.1:53",), trusted=True, dnssec_probe="")
        self.assertTrue(self.make(resolver, dns=none).validates)
        self.assertEqual(resolver.asked, {})

    def test_late(self) -> None:
        """A resolver that validates only later: asked again for mail that wants DANE, when its answer has expired, and told."""
        resolver = FakeResolver(self.RECORDS, secure={"example.org", ".example.org", tlsa("mx.example.org")}, ttl=5)
        demands = self.make(resolver)
        targets = self.hosts(resolver)
        resolver.secure = True
        self.assertEqual(self.levels(self.successResultOf(demands.of("example.org", None, targets, 0, ""))), ["may"])
        self.assertEqual(resolver.asked["", "A"], 1)
        self.clock.advance(300.0)
        resolver.fail[""] = "TIMEOUT"  # no news: it stays as it was
        self.assertEqual(self.levels(self.successResultOf(demands.of("example.org", None, targets, 0, ""))), ["may"])
        self.clock.advance(5.0)
        del resolver.fail[""]
        self.assertEqual(self.levels(self.successResultOf(demands.of("example.org", None, targets, 0, ""))), ["dane"])
        self.clock.advance(1000.0)
        self.successResultOf(demands.of("example.org", None, targets, 0, ""))
        self.assertEqual(resolver.asked["", "A"], 3)
        self.assertEqual([name for name, _ in self.log.events], ["dane_off", "dane_on"])

    def test_who_wants_no_dane_hears_nothing(self) -> None:
        """The line is for those who ask for DANE: by default, for a route, for a destination."""
        for more, told in (
            ({"level": "may"}, False),
            ({"level": "verify"}, False),
            ({"level": "dane-only"}, True),
            ({"level": "may", "routes": [RouteEntry(("*",), relay="[a.example]", tls="dane")]}, True),
            ({"level": "may", "table": [TlsPolicyEntry(("a.example",), level="dane")]}, True),
            ({"level": "may", "table": [TlsPolicyEntry(("a.example",), dane="on")]}, True),
            ({"level": "may", "table": [TlsPolicyEntry(("a.example",), dane="off")]}, False),
        ):
            self.make(FakeResolver({}), dns=Dns(), **more)
            self.assertEqual(bool(self.log.events), told, more)

    def test_wanted_later(self) -> None:
        """A reload that asks for DANE: what was of no interest before is told with the first mail that wants it."""
        resolver = FakeResolver(self.RECORDS)
        demands = self.make(resolver, level="may")
        self.assertEqual(self.log.events, [])
        demands.reconfigure(attrs.evolve(demands.settings, tls_client=TlsClient(level="dane")))
        self.clock.advance(300.0)
        self.successResultOf(demands.of("example.org", None, [], 0, ""))
        self.assertEqual([name for name, _ in self.log.events], ["dane_off"])

    def test_reconfigured(self) -> None:
        """Level, table and proof are those of the new settings."""
        records = {key: value for key, value in self.RECORDS.items() if key == "example.org"}
        records["mx.example.org"] = {"A": ["192.0.2.1"]}
        [before] = self.owed(records, fail={tlsa("mx.example.org") + "/TLSA": "TIMEOUT"})
        self.assertIsNotNone(before.refusal)
        settings = attrs.evolve(self.demands.settings, tls_client=TlsClient(level="dane", dane_nxdomain_proof=True))
        self.demands.reconfigure(settings)
        [proven] = self.successResultOf(self.demands.of("example.org", None, [before.target], 0, ""))
        self.assertEqual(self.levels([proven]), ["may"])
        entry = TlsPolicyEntry(("example.org",), level="encrypt")
        self.demands.reconfigure(attrs.evolve(settings, tls_policy=(entry,)))
        [strict] = self.successResultOf(self.demands.of("example.org", None, [before.target], 0, ""))
        self.assertEqual(self.levels([strict]), ["encrypt"])
