"""`mta.tls.demand`: from a next hop to demands, out of a dictionary of DNS (rows P10 to P23, P37, P38, P44)."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random

from zope.interface.verify import verifyObject

from mta.config.settings import Dns, TlsPolicyEntry
from mta.dns.answer import Answer, Tlsa
from mta.envelope import Flag, Target
from mta.interfaces import IDemands
from mta.route.hosts import NextHops
from mta.status import MailError, Scope
from mta.tls.demand import HOLDS
from mta.tls.policy import Level
from tests.tls.asking import DATA, GOOD, DemandsCase, Policies, SlowResolver, enforce, tlsa, zone


class DaneTests(DemandsCase):
    """The rows of docs/tls.md on DANE, up to the connection that would be made."""

    def test_right(self) -> None:
        """P10: all secure: level dane with these records."""
        [demand] = self.owed(zone("mx.example.org", tlsa_of={"mx.example.org": GOOD}))
        required = demand.required
        self.assertEqual((required.level, required.origin, required.half), (Level.DANE, "dane", False))
        self.assertEqual((required.tlsa, required.sni), ((Tlsa(3, 1, 1, DATA),), "mx.example.org"))
        verifyObject(IDemands, self.demands)

    def test_names(self) -> None:
        """P12: TLSA base domain, next hop, and what the next hop is an alias of."""
        records = zone("mx.example.org", tlsa_of={"mx.example.org": [(2, 0, 1, DATA)]}) | {
            "alias.net": {"CNAME": ["example.org"]}
        }
        [demand] = self.owed(records, next_hop="alias.net")
        self.assertEqual(demand.required.names, ("mx.example.org", "alias.net", "example.org"))

    def test_nobody_knows(self) -> None:
        """P13, P14: SERVFAIL (internot.no) and time-out (mail.mil): that host is refused, the next one is not."""
        for rcode in ("SERVFAIL", "TIMEOUT"):
            records = zone("mx1.example.org", "mx2.example.org", tlsa_of={"mx2.example.org": GOOD})
            first, second = self.owed(records, fail={tlsa("mx1.example.org") + "/TLSA": rcode})
            self.assertEqual(self.levels([first, second]), ["refused", "dane"])
            assert first.refusal is not None
            self.assertEqual(first.refusal.reply.enhanced, "4.7.5")
            self.assertIn("TLSA lookup error for mx1.example.org:25", first.refusal.reply.text)
            self.assertEqual(self.demands.until([first, second]), 5.0)  # soon asked again

    def test_x21_alarm(self) -> None:
        """X21: lookups that fail for four hours at every host are told once a day, and what recovers begins anew."""
        fail = {tlsa("mx.example.org") + "/TLSA": "SERVFAIL"}
        self.owed(zone("mx.example.org", tlsa_of={"mx.example.org": GOOD}), fail=fail)
        [target] = self.successResultOf(NextHops(self.resolver, random=Random(1)).hosts("example.org"))

        def told(hours: float) -> int:
            self.clock.advance(hours * 3600)
            self.successResultOf(self.demands.of("example.org", None, [target], 0, ""))
            return [name for name, _ in self.log.events].count("dane_blocked")

        self.assertEqual([0, 1, 1, 2], [told(hours) for hours in (3.9, 0.2, 20.0, 4.0)])
        self.assertIn("TLSA lookup error", str(self.log.events[-1][1]))
        self.resolver.fail.clear()
        self.assertEqual(2, told(1.0))
        self.resolver.fail.update(fail)
        self.assertEqual([2, 2, 3], [told(hours) for hours in (1.0, 3.9, 0.2)])

    def test_proof(self) -> None:
        """P15: a secure NXDOMAIN for A of the owner, with dane_nxdomain_proof on and off."""
        records, fail = zone("mx.example.org"), {tlsa("mx.example.org") + "/TLSA": "TIMEOUT"}
        self.assertEqual(self.levels(self.owed(records, fail=fail, dane_nxdomain_proof=True)), ["may"])
        self.assertEqual(self.levels(self.owed(records, fail=fail)), ["refused"])

    def test_insecure_address(self) -> None:
        """P16: no TLSA question at all."""
        records = zone("mx.example.org", tlsa_of={"mx.example.org": GOOD})
        demands = self.owed(records, secure={"example.org", tlsa("mx.example.org")})
        self.assertEqual((self.levels(demands), self.tlsa_asked()), (["may"], []))

    def test_switched_off(self) -> None:
        """P17: dane = off for the domain delivers by may; its date works; others are not touched."""
        entry = TlsPolicyEntry(("example.org",), dane="off", until="2027-01-01")
        for rcode in ("SERVFAIL", "TIMEOUT"):
            fail = {tlsa("mx.example.org") + "/TLSA": rcode}
            self.assertEqual(self.levels(self.owed(zone("mx.example.org"), fail=fail, table=[entry])), ["may"])
            self.assertEqual(self.tlsa_asked(), [])
            late = datetime(2027, 1, 1, tzinfo=UTC).timestamp()
            self.assertEqual(self.levels(self.owed(zone("mx.example.org"), fail=fail, table=[entry], wall=late)), ["refused"])
            self.assertEqual(self.levels(self.owed(zone("mx.example.org"), fail=fail, table=[entry], wall=late - 1)), ["may"])

    def test_unusable(self) -> None:
        """P18: only usages 0 and 1: encrypted, not authenticated, never clear."""
        [demand] = self.owed(zone("mx.example.org", tlsa_of={"mx.example.org": [(0, 0, 1, DATA), (1, 1, 1, DATA)]}))
        self.assertEqual((demand.required.level, demand.required.tlsa), (Level.ENCRYPT, ()))
        self.assertFalse(demand.required.may_go_clear)

    def test_insecure_mx(self) -> None:
        """P19: the MX insecure, its hosts not."""
        records = zone("mx.example.org", tlsa_of={"mx.example.org": GOOD})
        for wish, level, half in (("dane", "dane", True), ("encrypt", "encrypt", False), ("may", "may", False)):
            [demand] = self.owed(records, secure={".example.org"}, dane_insecure_mx=wish)
            self.assertEqual((demand.required.level.value, demand.required.half), (level, half))
            self.assertEqual(bool(self.tlsa_asked()), wish != "may")

    def test_aliases(self) -> None:
        """P20: which names are asked for, and for which records the host counts."""
        records = zone("mx.example.org") | {"mx.example.org": {"CNAME": ["mx.cloud.net"]}, "mx.cloud.net": {"A": ["192.0.2.7"]}}
        here, there = tlsa("mx.example.org"), tlsa("mx.cloud.net")
        ours, cloud = {"example.org", ".example.org"}, {".cloud.net"}
        for held, secure, base, asked in (
            ((here, there), ours | cloud, "mx.cloud.net", [there]),
            ((here,), ours | cloud, "mx.example.org", [there, here]),
            ((here, there), ours, "mx.example.org", [here]),
            ((here, there), {"example.org", here} | cloud, None, []),
        ):
            held_records = {name: {"TLSA": GOOD} for name in held}
            [demand] = self.owed(records | held_records, secure=secure)
            self.assertEqual(self.tlsa_asked(), asked)
            self.assertEqual(self.levels([demand]), ["dane" if base else "may"])
            self.assertEqual(demand.required.sni, base or "mx.example.org")

    def test_preference(self) -> None:
        """P21: the order of the hosts is that of the MX, whoever has TLSA records."""
        records = zone("mx1.example.org", "mx2.example.org", tlsa_of={"mx2.example.org": GOOD})
        demands = self.owed(records)
        self.assertEqual([each.target.name for each in demands], ["mx1.example.org", "mx2.example.org"])
        self.assertEqual(self.levels(demands), ["may", "dane"])

    def test_rollover(self) -> None:
        """P22: of two digests of one kind both count, of two kinds the stronger."""
        records = [(3, 1, 1, DATA), (3, 1, 1, bytes(32)), (3, 0, 2, bytes(64)), (3, 0, 1, bytes(32))]
        [demand] = self.owed(zone("mx.example.org", tlsa_of={"mx.example.org": records}))
        self.assertEqual({(each.selector, each.mtype) for each in demand.required.tlsa}, {(1, 1), (0, 2)})
        self.assertEqual(len(demand.required.tlsa), 3)

    def test_dane_only(self) -> None:
        """P23: no TLSA record, nothing goes."""
        self.assertEqual(self.levels(self.owed(zone("mx.example.org"), route=Level.DANE_ONLY)), ["refused"])
        records = zone("mx.example.org", tlsa_of={"mx.example.org": GOOD})
        self.assertEqual(self.levels(self.owed(records, route=Level.DANE_ONLY)), ["dane-only"])

    def test_literals(self) -> None:
        """C2.5: no DANE for an address literal, whatever is vouched for; nothing is asked."""
        self.assertEqual(self.levels(self.owed({}, next_hop="[192.0.2.1]")), ["may"])
        self.assertEqual(self.tlsa_asked(), [])

    def test_smarthost(self) -> None:
        """A host in brackets has TLSA records at its own port, and the operator vouches for its name."""
        records = {"smart.example.net": {"A": ["192.0.2.9"]}, tlsa("smart.example.net", 587): {"TLSA": GOOD}}
        [demand] = self.owed(records, next_hop="[smart.example.net]:587")
        self.assertEqual((demand.required.level, demand.required.half), (Level.DANE, False))
        self.assertEqual(demand.required.names, ("smart.example.net",))

    def test_one_lookup_for_each_host(self) -> None:
        """Many addresses of one host are one question."""
        records = zone("mx.example.org", tlsa_of={"mx.example.org": GOOD})
        records["mx.example.org"] = {"A": [f"192.0.2.{at}" for at in range(8)], "AAAA": ["2001:db8::1"]}
        self.assertEqual(self.levels(self.owed(records)), ["dane"] * 9)
        self.assertEqual(self.resolver.asked[tlsa("mx.example.org"), "TLSA"], 1)


class TogetherTests(DemandsCase):
    """DANE, MTA-STS and flags beside one another."""

    RECORDS = zone("mx.example.org", tlsa_of={"mx.example.org": GOOD})

    def test_dane_fails(self) -> None:
        """P37: the policy passes, the TLSA lookup fails: refused; TLSA records are found: they alone are judged."""
        sts = Policies(example_org=enforce("mx.example.org"))
        self.assertEqual(self.levels(self.owed(self.RECORDS, fail={tlsa("mx.example.org"): "SERVFAIL"}, sts=sts)), ["refused"])
        [demand] = self.owed(self.RECORDS, sts=sts)
        self.assertEqual((demand.required.level, demand.required.origin), (Level.DANE, "dane"))

    def test_shared_host(self) -> None:
        """P38: enforced for the one domain, nothing for the other, the same MX: neither touches the other."""
        records = zone("mx.example.org") | {"two.example": {"MX": [(1, "mx.example.org")]}}
        sts = Policies(example_org=enforce("mx.example.org"))
        self.assertEqual(self.levels(self.owed(records, sts=sts)), ["sts"])
        self.assertEqual(self.levels(self.owed(records, sts=sts, next_hop="two.example")), ["may"])
        self.assertEqual(sts.asked, {"example.org": 1, "two.example": 1})
        blind = Policies(example_org=enforce("other.example.org"))
        self.assertEqual(self.levels(self.owed(records, sts=blind)), ["refused"])
        self.assertEqual(self.levels(self.owed(records, sts=blind, next_hop="two.example")), ["may"])

    def test_policy_of_the_recipients_domain(self) -> None:
        """RFC 8461 3.4: of the next hop as it is, not of what it is an alias of, and not of a host in brackets."""
        records = zone("mx.example.org") | {"alias.net": {"CNAME": ["example.org"]}}
        sts = Policies()
        for next_hop in ("alias.net", "[mx.example.org]", "[mx.example.org]:25", "[192.0.2.1]"):
            self.owed(records, next_hop=next_hop, sts=sts)
        self.assertEqual(sts.asked, {"alias.net": 1})

    def test_who_is_not_asked(self) -> None:
        """Levels that know for themselves ask neither DNS nor MTA-STS."""
        sts = Policies(example_org=enforce("other.example.org"))
        for level in (Level.NONE, Level.ENCRYPT, Level.VERIFY, Level.SECURE):
            self.assertEqual(self.levels(self.owed(self.RECORDS, route=level, sts=sts)), [level.value])
            self.assertEqual(self.tlsa_asked(), [])
        self.assertEqual(sts.asked, {})

    def test_tls_required_no(self) -> None:
        """P44, H35: broken DANE and an unfriendly policy: the mail goes at may, under a requirement of its own."""
        sts, fail = Policies(example_org=enforce("other.example.org")), {tlsa("mx.example.org"): "SERVFAIL"}
        [demand] = self.owed(self.RECORDS, fail=fail, sts=sts, flags=Flag.TLS_REQUIRED_NO)
        self.assertEqual((demand.required.level, demand.required.origin), (Level.MAY, "tls-required-no"))
        self.assertEqual((self.tlsa_asked(), sts.asked), ([], {}))
        [ordinary] = self.owed(zone("mx.example.org"))
        self.assertEqual(ordinary.required.level, Level.MAY)
        self.assertNotEqual(ordinary.required, demand.required)

    def test_requiretls(self) -> None:
        """P40, P41: DANE or a verified chain for a name that is known; where no host's name is, the mail goes back."""
        self.assertEqual(self.levels(self.owed(self.RECORDS, flags=Flag.REQUIRETLS, level="may")), ["dane"])
        self.assertEqual(self.levels(self.owed(zone("mx.example.org"), flags=Flag.REQUIRETLS, level="may")), ["verify"])
        asking = self.ask(zone("mx1.example.org", "mx2.example.org"), secure={".example.org"}, flags=Flag.REQUIRETLS)
        error = self.failureResultOf(asking, MailError).value
        self.assertEqual((error.reply.code, error.reply.enhanced, error.scope), (550, "5.7.10", Scope.MESSAGE))

    def test_requiretls_waits_where_it_may_help(self) -> None:
        """P41: one host's name is unknown, another's lookup failed: refused for now, not for good."""
        sts = Policies(example_org=enforce("mx1.example.org"))
        records = zone("mx1.example.org", "mx2.example.org")
        fail = {tlsa("mx1.example.org"): "SERVFAIL"}
        demands = self.owed(records, secure={".example.org"}, fail=fail, flags=Flag.REQUIRETLS, sts=sts, level="may")
        self.assertEqual(self.levels(demands), ["refused", "refused"])
        self.assertFalse(any(each.refusal and each.refusal.reply.is_permanent for each in demands))

    def test_requiretls_asks_again(self) -> None:
        """P41, RFC 8461 5.1: before mail goes back its policy is fetched anew; while nobody knows whether there is one it waits."""
        asked = {"secure": {".example.org"}, "flags": Flag.REQUIRETLS, "level": "may"}
        sts = Policies()
        sts.doubt = True
        [demand] = self.owed(zone("mx.example.org"), sts=sts, **asked)
        assert demand.refusal is not None
        self.assertEqual(demand.refusal.reply.enhanced, "4.7.10")
        sts.fresh["example.org"], sts.doubt = enforce("mx.example.org"), False
        self.assertEqual(self.levels(self.owed(zone("mx.example.org"), sts=sts, **asked)), ["sts"])
        sts = Policies()
        self.failureResultOf(self.ask(zone("mx.example.org"), sts=sts, **asked), MailError)
        self.assertEqual(sts.asked["example.org again"], 1)

    def test_until(self) -> None:
        """The shortest of what it rests on, HOLDS at most."""
        sts = Policies()
        demands = self.owed(zone("mx.example.org"), sts=sts, level="may")
        self.assertEqual(self.demands.until(demands), HOLDS)
        sts.holds = 7.0
        self.assertEqual(self.demands.until(self.owed(zone("mx.example.org"), sts=sts)), 7.0)
        self.resolver.ttl = 3.0
        targets = [each.target for each in demands]
        self.assertEqual(self.demands.until(self.successResultOf(self.demands.of("example.org", None, targets, 0, ""))), 3.0)
        self.assertEqual(self.demands.until([]), 0.0)

    def test_side_by_side(self) -> None:
        """All hosts and the policy are asked before any has answered, and the answers may come in any order."""
        resolver, sts = SlowResolver(), Policies()
        unprobed = Dns(servers=("127.0.0.1:53",), trusted=True, dnssec_probe="", dnssec_bogus_probe="")
        demands = self.make(resolver, sts=sts, dns=unprobed)
        names = ["mx1.example.org", "mx2.example.org", "mx3.example.org"]
        targets = [Target(name, "192.0.2.1", 25, 1, True, True, name, "example.org") for name in names]
        asking = demands.of("example.org", None, targets, 0, "")
        self.assertEqual([name for name, *_ in resolver.waiting], [tlsa(name) for name in names])
        self.assertEqual(sts.asked["example.org"], 1)
        self.assertNoResult(asking)
        for at, (name, rdtype, answer) in reversed(list(enumerate(resolver.waiting))):
            records = (Tlsa(3, 1, 1, DATA),) if at == 1 else ()
            answer.callback(Answer(name, rdtype, "NOERROR", True, records, name, 9.0))
        self.assertEqual(self.levels(self.successResultOf(asking)), ["may", "dane", "may"])
