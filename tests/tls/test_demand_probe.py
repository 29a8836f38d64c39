"""`mta.tls.demand`: does the resolver validate (row P24)?  DANE is never believed without it."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import attrs
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock

from mta.config.settings import Dns, RouteEntry, Settings, TlsClient, TlsPolicyEntry
from mta.dns.answer import Answer
from mta.envelope import Flag, Target
from mta.route.hosts import NextHops
from mta.status import MailError
from mta.testing.dns import FakeResolver
from mta.tls.demand import Demands
from mta.tls.policy import Level
from tests.dns.loopback import LoopbackTestCase
from tests.tls.asking import GOOD, DemandsCase, Log, SlowResolver, tlsa, zone


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
        """Mail that comes while the first probe is still out waits for it: nothing is believed of servers that nobody knows."""
        slow = SlowResolver()
        demands = self.make(slow, start=False)
        demands.start()
        resolver = FakeResolver(self.RECORDS, secure=True)
        asking = demands.of("example.org", None, self.hosts(resolver), 0, "")
        self.assertEqual([(name, rdtype) for name, rdtype, _ in slow.waiting], [(".", "A"), ("dnssec-failed.org", "A")])
        slow.waiting[0][2].callback(Answer(".", "A", "NOERROR", secure=True))
        self.assertEqual(2, len(slow.waiting))
        slow.waiting[1][2].callback(Answer("dnssec-failed.org", "A", "SERVFAIL"))
        self.assertEqual((tlsa("mx.example.org"), "TLSA"), slow.waiting[2][:2])
        slow.waiting[2][2].callback(self.successResultOf(resolver.query(tlsa("mx.example.org"), "TLSA")))
        self.assertEqual(self.levels(self.successResultOf(asking)), ["dane"])

    def test_probe_under_way_speaks_against_the_servers(self) -> None:
        """Mail that has waited for it goes without DANE, as all that comes later."""
        slow = SlowResolver()
        demands = self.make(slow, start=False)
        demands.start()
        resolver = FakeResolver(self.RECORDS, secure=True)
        asking = [demands.of("example.org", None, self.hosts(resolver), 0, "") for _ in range(2)]
        for name, rdtype, answer in list(slow.waiting):
            answer.callback(Answer(name, rdtype, "NOERROR", secure=True))  # AD on everything
        self.assertEqual([["may"], ["may"]], [self.levels(self.successResultOf(each)) for each in asking])

    def test_thousands_wait_for_the_probe(self) -> None:
        """All go on when it is known, but for one that has given up: a queue that begins again may be full of them."""
        slow = SlowResolver()
        demands = self.make(slow, start=False)
        demands.start()
        hosts = self.hosts(FakeResolver(self.RECORDS, secure=True))
        asking = [demands.of("example.org", None, hosts, 0, "") for _ in range(2000)]
        asking[7].cancel()
        self.failureResultOf(asking.pop(7), CancelledError)
        for name, rdtype, answer in list(slow.waiting):
            answer.callback(Answer(name, rdtype, "NOERROR", secure=True))  # AD on everything
        self.assertEqual([["may"]] * 1999, [self.levels(self.successResultOf(each)) for each in asking])

    def test_started_again_while_the_probe_is_out(self) -> None:
        """It is the same one, and is waited for."""
        slow = SlowResolver()
        demands = self.make(slow, start=False)
        begun = [demands.start(), demands.start()]
        self.assertEqual(2, len(slow.waiting))
        for each in begun:
            self.assertNoResult(each)
        for name, rdtype, answer in list(slow.waiting):
            answer.callback(Answer(name, rdtype, "NOERROR", secure=True))
        self.assertEqual([None, None], [self.successResultOf(each) for each in begun])

    def test_probe_under_way_and_no_dane(self) -> None:
        """Mail that does not want it does not wait."""
        slow = SlowResolver()
        demands = self.make(slow, start=False)
        demands.start()
        resolver = FakeResolver(self.RECORDS, secure=True)
        asking = demands.of("example.org", Level.ENCRYPT, self.hosts(resolver), 0, "")
        self.assertEqual(["encrypt"], self.levels(self.successResultOf(asking)))

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
        none = Dns(servers=("127.0.0.1:53",), trusted=True, dnssec_probe="", dnssec_bogus_probe="")
        self.assertTrue(self.make(resolver, dns=none).validates)
        self.assertEqual(resolver.asked, {})

    def test_late(self) -> None:
        """A resolver that validates only later: asked again for mail that wants DANE, when its answer has expired, and told."""
        secure, fail = {"example.org", ".example.org", tlsa("mx.example.org")}, {"dnssec-failed.org": "SERVFAIL"}
        resolver = FakeResolver(self.RECORDS, secure=secure, fail=fail, ttl=5)
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


class BogusProbeTests(DemandsCase):
    """A resolver that sets AD without validating vouches for the root as well: a name with broken signatures finds it out."""

    RECORDS = zone("mx.example.org", tlsa_of={"mx.example.org": GOOD})
    BROKEN = "dnssec-failed.org"
    BLIND = (
        "dane_off",
        "the name servers vouch for 'dnssec-failed.org', whose signatures are broken: they set AD and do not validate",
    )

    def resolver(self, *, blind: bool = False, fail: str = "", ttl: float = 300.0) -> FakeResolver:
        """Vouches for all; blind: for the broken name too.  fail: what is said of the broken name instead."""
        records = {**self.RECORDS, self.BROKEN: {"A": ["192.0.2.7"]}}
        secure = {"", "example.org", ".example.org", tlsa("mx.example.org"), *([self.BROKEN] if blind else [])}
        return FakeResolver(records, secure=secure, fail={self.BROKEN: fail} if fail else {}, ttl=ttl)

    def level(self, resolver: FakeResolver, demands: Demands) -> list[str]:
        """What mail to example.org is owed."""
        targets = self.successResultOf(NextHops(resolver, random=Random(1)).hosts("example.org"))
        return self.levels(self.successResultOf(demands.of("example.org", None, targets, 0, "")))

    def test_who_validates(self) -> None:
        """SERVFAIL (or an answer without AD, where an operator lets such names pass) is right, and asked for once."""
        for resolver in (self.resolver(fail="SERVFAIL", ttl=0.0), self.resolver(ttl=0.0)):
            demands = self.make(resolver)
            self.assertEqual((demands.validates, self.log.events), (True, []))
            self.clock.advance(1000.0)
            self.assertEqual(self.level(resolver, demands), ["dane"])
            self.assertEqual(resolver.asked[self.BROKEN, "A"], 1)

    def test_who_vouches_for_anything(self) -> None:
        """AD for the broken name: no DANE whatever else is vouched for, no TLSA is asked for, and one line says so."""
        resolver = self.resolver(blind=True)
        demands = self.make(resolver)
        self.assertEqual((demands.validates, self.log.events), (False, [self.BLIND]))
        self.assertEqual(self.level(resolver, demands), ["may"])
        self.assertEqual(self.tlsa_asked_of(resolver), [])

    def tlsa_asked_of(self, resolver: FakeResolver) -> list[str]:
        return [name for name, rdtype in resolver.asked if rdtype == "TLSA"]

    def test_the_root_has_no_answer(self) -> None:
        """The broken name with AD is enough, whatever becomes of the other question."""
        resolver = self.resolver(blind=True)
        resolver.fail[""] = "TIMEOUT"
        self.assertFalse(self.make(resolver).validates)
        self.assertEqual(self.log.events, [self.BLIND])

    def test_no_answer_switches_nothing_off(self) -> None:
        """No time, no network, no such name (with AD as it should be), a server that is broken: DANE stays on, nothing is said."""
        gone = FakeResolver(self.RECORDS, secure=True)
        for resolver in (gone, *[self.resolver(fail=why) for why in ("TIMEOUT", "UNREACHABLE", "REFUSED", "GARBLED", "CLOSED")]):
            demands = self.make(resolver)
            self.assertEqual((demands.validates, self.log.events), (True, []))
            self.assertEqual(self.level(resolver, demands), ["dane"])

    def test_asked_again_while_there_is_no_answer(self) -> None:
        """The network comes up after us: mail that wants DANE asks again, does not wait for it, and finds the blind one out."""
        resolver = self.resolver(blind=True, fail="TIMEOUT", ttl=0.0)
        demands = self.make(resolver)
        self.assertTrue(demands.validates)
        self.level(resolver, demands)
        self.assertEqual(resolver.asked[self.BROKEN, "A"], 1, "not with every message")
        self.clock.advance(5.0)
        slow = SlowResolver()
        demands._resolver = slow
        self.assertEqual(self.level(resolver, demands), ["dane"])
        self.assertEqual([name for name, _, _ in slow.waiting], [".", self.BROKEN])
        resolver.fail.clear()
        for name, rdtype, answer in slow.waiting:
            answer.callback(self.successResultOf(resolver.query(name, rdtype)))
        self.assertEqual((demands.validates, self.log.events), (False, [self.BLIND]))

    def test_mended(self) -> None:
        """Off stays off while there is no answer; the one that validates from now on is believed again, and told."""
        resolver = self.resolver(blind=True, ttl=0.0)
        demands = self.make(resolver)
        resolver.fail[self.BROKEN] = "TIMEOUT"
        self.clock.advance(5.0)
        self.assertEqual(self.level(resolver, demands), ["may"])
        resolver.fail[self.BROKEN] = "SERVFAIL"
        self.clock.advance(5.0)
        self.assertEqual(self.level(resolver, demands), ["dane"])
        self.assertEqual(self.log.events, [self.BLIND, ("dane_on", None)])

    def test_when_it_is_asked_again(self) -> None:
        """When the answer that speaks against the servers has expired: not before it for another one that is missing."""
        resolver = self.resolver(fail="TIMEOUT", ttl=100.0)
        resolver.secure = False  # the root
        demands = self.make(resolver)
        for seconds, times in ((99.0, 1), (1.0, 2)):
            self.clock.advance(seconds)
            self.assertEqual(self.level(resolver, demands), ["may"])
            self.assertEqual((resolver.asked["", "A"], resolver.asked[self.BROKEN, "A"]), (times, times))

    def test_both_are_asked_at_once(self) -> None:
        """The start waits for the slower of the two, not for one after the other."""
        slow = SlowResolver()
        demands = self.make(slow, start=False)
        started = demands.start()
        self.assertEqual([name for name, _, _ in slow.waiting], [".", self.BROKEN])
        for (name, rdtype, answer), rcode in zip(slow.waiting, ("NOERROR", "SERVFAIL"), strict=True):
            self.assertNoResult(started)
            answer.callback(Answer(name, rdtype, rcode, secure=rcode == "NOERROR"))
        self.successResultOf(started)

    def test_of_the_operator(self) -> None:
        """Another broken name, or none."""
        other = Dns(servers=("127.0.0.1:53",), trusted=True, dnssec_bogus_probe="broken.example")
        resolver = FakeResolver({**self.RECORDS, "broken.example": {"A": ["192.0.2.7"]}}, secure=True)
        self.assertFalse(self.make(resolver, dns=other).validates)
        none = Dns(servers=("127.0.0.1:53",), trusted=True, dnssec_bogus_probe="")
        resolver = self.resolver(blind=True)
        self.assertTrue(self.make(resolver, dns=none).validates)
        self.assertEqual(resolver.asked[self.BROKEN, "A"], 0)

    def test_nobody_is_asked_in_vain(self) -> None:
        """Servers that are not trusted are not asked."""
        resolver = self.resolver()
        self.make(resolver, dns=Dns())
        self.assertEqual(resolver.asked, {})


class WireTests(LoopbackTestCase):
    """The same with a name server on loopback."""

    async def found_out(self, **ways: Any) -> tuple[bool, int]:
        """DANE is on; how many lines were written."""
        server = self.server({"": {"A": ["192.0.2.1"]}, "dnssec-failed.org": {"A": ["192.0.2.7"]}}, **ways)
        resolver = self.resolver(server, trusted=True, timeout=0.2, attempts=1)
        settings = Settings("a.test", Path("/nowhere"), tls_client=TlsClient(level="dane"), dns=Dns(trusted=True))
        log = Log()
        demands = Demands(settings, resolver, None, clock=Clock(), log=log)
        await demands.start()
        return demands.validates, len(log.events)

    async def test_a_forwarder_that_sets_ad_on_everything(self) -> None:
        """AD as it comes over the wire; without AD it is not believed either; one that says nothing changes nothing."""
        self.assertEqual(await self.found_out(authentic=True), (False, 1))
        self.assertEqual(await self.found_out(authentic=False), (False, 1))
        self.assertEqual(await self.found_out(authentic=True, drop=2), (True, 0))
