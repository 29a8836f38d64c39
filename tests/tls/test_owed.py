"""`mta.tls.owed`: what is owed at one address, for everything that operator, message, DNS and MTA-STS may say."""

from __future__ import annotations

from math import inf
from pathlib import Path

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.config.settings import TlsClient, TlsPolicyEntry
from mta.dns.answer import Tlsa
from mta.envelope import Flag, Target
from mta.status import Scope
from mta.tls.mtasts import Mode, StsPolicy
from mta.tls.owed import name_is_unknown, owed, rule_for
from mta.tls.policy import Demand, Level, Parameters
from mta.tls.tlsa import Found

MX = "mx.example.org"
GOOD, UNUSABLE = Tlsa(3, 1, 1, bytes(32)), Tlsa(1, 1, 1, bytes(32))
SECURE = Target(MX, "192.0.2.1", 25, 10, True, True, MX, "example.org")
HALF = attrs.evolve(SECURE, mx_secure=False)
PLAIN = attrs.evolve(SECURE, mx_secure=False, address_secure=False)
LITERAL = Target("192.0.2.1", "192.0.2.1", 25)
FOUND = Found(100.0, (GOOD,), MX)
WORTHLESS = Found(100.0, (UNUSABLE,), MX)
NONE = Found(100.0)
ERROR = Found(5.0, base_domain=MX, error=f"_25._tcp.{MX} TLSA: SERVFAIL")
ENFORCE = StsPolicy("id1", Mode.ENFORCE, (MX,), 86400)
ELSEWHERE = attrs.evolve(ENFORCE, mx=("other.example.org",))
TESTING = attrs.evolve(ELSEWHERE, mode=Mode.TESTING)
OFF = StsPolicy("id1", Mode.NONE, (), 86400)


def ask(
    level: Level | None = None,
    target: Target = SECURE,
    found: Found | None = None,
    policy: StsPolicy | None = None,
    *,
    next_hop: str = "example.org",
    flags: int = 0,
    sasl: str = "",
    client: TlsClient | None = None,
    **entry: object,
) -> Demand:
    """The demand; what is given as **entry stands in [[tls_policy]].  Answers that the rule does not ask for are not given."""
    row = TlsPolicyEntry((next_hop,), **entry) if entry else None
    rule = rule_for(client or TlsClient(), row, next_hop, level, flags, sasl)
    return owed(rule, target, found if rule.asks_dane(target) else None, policy if rule.sts else None, inf)


class OwedCase(SynchronousTestCase):
    """Shorthands."""

    def level(self, expected: Level, demand: Demand, origin: str | None = None) -> Demand:
        self.assertIsNone(demand.refusal)
        self.assertIs(demand.required.level, expected)
        if origin is not None:
            self.assertEqual(demand.required.origin, origin)
        return demand

    def refused(self, text: str, demand: Demand, enhanced: str = "4.7.5", reason: str | None = None) -> Demand:
        assert demand.refusal is not None
        self.assertIn(text, demand.refusal.reply.text)
        self.assertEqual((demand.refusal.reply.code, demand.refusal.reply.enhanced), (451, enhanced))
        self.assertIs(demand.refusal.scope, Scope.MESSAGE if enhanced == "4.7.10" else Scope.SITE)
        if reason is not None:
            self.assertEqual(demand.refusal.reason, reason)
        return demand


class PrecedenceTests(OwedCase):
    """C2.4: the first that applies."""

    def test_configured(self) -> None:
        """P01-P05: the entry's level before the route's before the default one."""
        self.level(Level.MAY, ask(), "default")
        self.level(Level.ENCRYPT, ask(client=TlsClient(level="encrypt")), "default")
        self.level(Level.VERIFY, ask(Level.VERIFY, client=TlsClient(level="encrypt")), "route")
        self.level(Level.NONE, ask_entry(Level.VERIFY, "none"), "tls_policy")
        self.level(Level.VERIFY, ask(Level.VERIFY, min="TLSv1.3"), "route")

    def test_strong_levels_ask_nobody(self) -> None:
        """Where the operator said how to verify, neither DANE nor MTA-STS is asked."""
        for level in (Level.VERIFY, Level.SECURE, Level.FINGERPRINT, Level.NONE, Level.ENCRYPT):
            rule = rule_for(TlsClient(), None, "example.org", level, 0, "")
            self.assertEqual((rule.dane, rule.sts), (False, False), level)

    def test_default_encrypt(self) -> None:
        """C2.4: a stricter default does not switch an enforced policy off; a level that was given to the destination does."""
        client = TlsClient(level="encrypt")
        demand = self.level(Level.STS, ask(None, PLAIN, policy=ENFORCE, client=client), "sts")
        self.assertFalse(demand.required.may_go_clear)
        for policy in (TESTING, OFF, None):
            self.level(Level.ENCRYPT, ask(None, PLAIN, policy=policy, client=client), "default")
        self.level(Level.ENCRYPT, ask(Level.ENCRYPT, PLAIN, policy=ENFORCE, client=client), "route")
        self.level(Level.ENCRYPT, ask(None, PLAIN, policy=ENFORCE, client=client, sts="off"), "default")

    def test_dane_before_sts(self) -> None:
        """Secure TLSA records of a secure MX rule, whatever MTA-STS says."""
        for policy in (ENFORCE, ELSEWHERE, TESTING, None):
            demand = self.level(Level.DANE, ask(Level.DANE, SECURE, FOUND, policy), "dane")
            self.assertNotIn("sts", demand.required.evidence)

    def test_dane_that_fails_is_not_made_good(self) -> None:
        """P37: MTA-STS never overrides a DANE failure, neither of the lookup nor (the level stays dane) of the match."""
        self.refused("TLSA lookup error", ask(Level.DANE, SECURE, ERROR, ENFORCE))
        self.level(Level.DANE, ask(Level.DANE, SECURE, FOUND, ENFORCE))

    def test_per_domain(self) -> None:
        """P38: enforced for one domain, no policy for another, the same MX: each for itself."""
        one = self.level(Level.STS, ask(None, PLAIN, policy=ENFORCE, next_hop="one.example"), "sts")
        two = self.level(Level.MAY, ask(None, PLAIN, policy=None, next_hop="two.example"), "default")
        self.assertEqual((one.required.host, two.required.host), (MX, MX))
        self.assertTrue(two.required.may_go_clear)
        self.assertFalse(one.required.may_go_clear)

    def test_tls_required_no(self) -> None:
        """P44, H35: the header lowers every level to may, asks nobody, and its requirement is not that of other mail."""
        for level in (None, Level.DANE, Level.DANE_ONLY, Level.VERIFY, Level.ENCRYPT):
            demand = self.level(Level.MAY, ask(level, SECURE, ERROR, ELSEWHERE, flags=Flag.TLS_REQUIRED_NO), "tls-required-no")
            self.assertEqual((demand.required.tlsa, demand.required.evidence), ((), ""))
        ordinary = ask(None, PLAIN)
        waived = ask(None, PLAIN, flags=Flag.TLS_REQUIRED_NO)
        self.assertNotEqual(ordinary.required, waived.required)
        self.level(Level.NONE, ask(Level.NONE, flags=Flag.TLS_REQUIRED_NO))

    def test_tls_required_no_is_not_obeyed(self) -> None:
        """P44: where the operator does not want it, beside REQUIRETLS, and where it would show our credentials to anybody."""
        unwilling = TlsClient(allow_tls_required_no=False)
        self.level(Level.VERIFY, ask(Level.VERIFY, flags=Flag.TLS_REQUIRED_NO, client=unwilling))
        self.level(Level.VERIFY, ask(flags=Flag.TLS_REQUIRED_NO | Flag.REQUIRETLS), "requiretls")
        self.level(Level.VERIFY, ask(Level.VERIFY, flags=Flag.TLS_REQUIRED_NO, sasl="user"), "route")


def ask_entry(route: Level | None, level: str, **more: object) -> Demand:
    """As `ask`, with a level in [[tls_policy]]."""
    row = TlsPolicyEntry(("example.org",), level=level, **more)
    return owed(rule_for(TlsClient(), row, "example.org", route, 0, ""), SECURE, None, None, inf)


class DaneTests(OwedCase):
    """RFC 7672."""

    def test_records(self) -> None:
        """P10: usable records rule; SNI and names are those of the TLSA base domain and the next hop."""
        found = Found(100.0, (UNUSABLE, GOOD), "mx.cloud.example")
        required = self.level(Level.DANE, ask(Level.DANE, SECURE, found), "dane").required
        self.assertEqual((required.tlsa, required.sni), ((GOOD,), "mx.cloud.example"))
        self.assertEqual(required.names, ("mx.cloud.example", "example.org"))
        self.assertEqual((required.half, required.never_clear), (False, True))
        self.assertTrue(required.evidence.startswith("dane:mx.cloud.example:"))

    def test_names(self) -> None:
        """P12: the next hop and what it is an alias of, but only where a secure MX or the operator says so."""
        aliased = attrs.evolve(SECURE, domain="example.net")
        self.assertEqual(ask(Level.DANE, aliased, FOUND).required.names, (MX, "example.org", "example.net"))
        self.assertEqual(ask(Level.DANE, attrs.evolve(aliased, mx_secure=False), FOUND).required.names, (MX,))
        bracketed = attrs.evolve(SECURE, domain="")
        self.assertEqual(ask(Level.DANE, bracketed, FOUND, next_hop=f"[{MX}]:587").required.names, (MX,))

    def test_no_records(self) -> None:
        """Securely none: as may, and MTA-STS has its say."""
        for found in (NONE, None):
            self.assertTrue(self.level(Level.MAY, ask(Level.DANE, SECURE, found), "route").required.may_go_clear)
            self.level(Level.STS, ask(Level.DANE, SECURE, found, ENFORCE), "sts")

    def test_nobody_knows(self) -> None:
        """P13, P14: no connection is made, not even with TLS."""
        for level in (Level.DANE, Level.DANE_ONLY):
            demand = self.refused(f"TLSA lookup error for {MX}:25 (_25._tcp", ask(level, SECURE, ERROR), reason="dnssec-invalid")
            self.assertEqual((demand.required.level, demand.required.never_clear), (level, True))

    def test_unusable(self) -> None:
        """P18: only unusable records: TLS, not authenticated, never clear; MTA-STS may add to it and does not relax it."""
        required = self.level(Level.ENCRYPT, ask(Level.DANE, SECURE, WORTHLESS), "dane").required
        self.assertEqual((required.tlsa, required.may_go_clear), ((), False))
        self.level(Level.ENCRYPT, ask(Level.DANE, SECURE, WORTHLESS, TESTING))
        required = self.level(Level.STS, ask(Level.DANE, SECURE, WORTHLESS, ENFORCE), "sts").required
        self.assertIn("dane:", required.evidence)
        self.assertIn("sts:id1:enforce", required.evidence)

    def test_insecure_mx(self) -> None:
        """P19: as the operator wants it; with dane it is half, whose names are the base domain alone."""
        half = self.level(Level.DANE, ask(Level.DANE, HALF, FOUND)).required
        self.assertEqual((half.half, half.names, half.tlsa), (True, (MX,), (GOOD,)))
        self.assertTrue(half.evidence.endswith(":half"))
        encrypt = self.level(Level.ENCRYPT, ask(Level.DANE, HALF, FOUND, client=TlsClient(dane_insecure_mx="encrypt"))).required
        self.assertEqual((encrypt.half, encrypt.tlsa, encrypt.may_go_clear), (False, (), False))
        may = self.level(Level.MAY, ask(Level.DANE, HALF, FOUND, client=TlsClient(dane_insecure_mx="may"))).required
        self.assertTrue(may.may_go_clear)
        for wish in ("encrypt", "may"):
            self.level(Level.DANE, ask(Level.DANE, SECURE, FOUND, client=TlsClient(dane_insecure_mx=wish)))

    def test_half_does_not_silence_sts(self) -> None:
        """Who forges an insecure MX names a host with TLSA records of his own: the policy must know the host too."""
        self.refused("does not know the host", ask(Level.DANE, HALF, FOUND, ELSEWHERE))
        required = self.level(Level.DANE, ask(Level.DANE, HALF, FOUND, ENFORCE), "dane").required
        self.assertIn("sts:id1:enforce", required.evidence)

    def test_dane_only(self) -> None:
        """P23: nothing goes without usable TLSA records of a secure MX."""
        self.level(Level.DANE_ONLY, ask(Level.DANE_ONLY, SECURE, FOUND), "dane")
        self.refused("no secure TLSA records", ask(Level.DANE_ONLY, SECURE, NONE, ENFORCE), reason="dane-required")
        self.refused("no secure TLSA records", ask(Level.DANE_ONLY, PLAIN, None))
        self.refused("no secure TLSA records", ask(Level.DANE_ONLY, HALF, FOUND))
        self.refused("is usable", ask(Level.DANE_ONLY, SECURE, WORTHLESS), reason="tlsa-invalid")

    def test_switches(self) -> None:
        """P17: dane = off makes dane act as may and dane-only as encrypt; dane = on adds DANE to may and encrypt."""
        self.level(Level.MAY, ask(Level.DANE, SECURE, ERROR, dane="off"))
        self.level(Level.ENCRYPT, ask(Level.DANE_ONLY, SECURE, ERROR, dane="off"))
        self.level(Level.DANE, ask(Level.MAY, SECURE, FOUND, dane="on"))
        self.level(Level.DANE, ask(Level.ENCRYPT, SECURE, FOUND, dane="on"))
        self.level(Level.ENCRYPT, ask(Level.ENCRYPT, SECURE, NONE, dane="on"))
        self.level(Level.NONE, ask(Level.NONE, SECURE, FOUND, dane="on"))
        self.level(Level.VERIFY, ask(Level.VERIFY, SECURE, FOUND, dane="on"))


class StsTests(OwedCase):
    """RFC 8461."""

    def test_enforce(self) -> None:
        """The chain and the MX host's name; a host that the policy does not know gets nothing."""
        required = self.level(Level.STS, ask(None, PLAIN, policy=ENFORCE, sni="other.example"), "sts").required
        self.assertEqual((required.names, required.sni, required.evidence), ((MX,), MX, "sts:id1:enforce"))
        self.assertEqual(required.policy, ENFORCE.lines)
        self.refused(f"does not know the host {MX}", ask(None, PLAIN, policy=ELSEWHERE))

    def test_testing_and_none(self) -> None:
        """The mail goes as without a policy; in testing the evidence says what is to be reported."""
        required = self.level(Level.MAY, ask(None, PLAIN, policy=TESTING), "default").required
        self.assertEqual((required.evidence, required.may_go_clear), ("sts:id1:testing", True))
        self.assertEqual(required.policy, TESTING.lines)
        self.assertEqual(ask(None, PLAIN, policy=OFF), ask(None, PLAIN, policy=None))

    def test_switches(self) -> None:
        """sts = off and on for a destination, against mta_sts of all; a host in brackets has no policy."""
        self.level(Level.MAY, ask(None, PLAIN, policy=ENFORCE, sts="off"))
        self.level(Level.MAY, ask(None, PLAIN, policy=ENFORCE, client=TlsClient(mta_sts=False)))
        self.level(Level.STS, ask(None, PLAIN, policy=ENFORCE, client=TlsClient(mta_sts=False), sts="on"))
        self.level(Level.ENCRYPT, ask(Level.ENCRYPT, PLAIN, policy=ENFORCE))
        self.level(Level.STS, ask(Level.ENCRYPT, PLAIN, policy=ENFORCE, sts="on"))
        self.level(Level.MAY, ask(None, PLAIN, policy=ENFORCE, next_hop=f"[{MX}]"))

    def test_level_sts(self) -> None:
        """Demanded by the operator: without a policy in mode enforce nothing goes."""
        self.level(Level.STS, ask(Level.STS, PLAIN, policy=ENFORCE), "sts")
        for policy in (None, OFF, TESTING):
            self.refused("no MTA-STS policy in mode enforce", ask(Level.STS, PLAIN, policy=policy))
        self.refused("no MTA-STS policy", ask(Level.STS, PLAIN, policy=ENFORCE, next_hop=f"[{MX}]"))


class RequireTlsTests(OwedCase):
    """RFC 8689 4.2.1."""

    def ask(self, *args, **more) -> Demand:
        return ask(*args, flags=Flag.REQUIRETLS, **more)

    def test_verified(self) -> None:
        """P40: weak levels become verify for the host's name; levels that verify stay; nothing of it goes in clear."""
        for level in (None, Level.NONE, Level.MAY, Level.ENCRYPT, Level.DANE):
            required = self.level(Level.VERIFY, self.ask(level, SECURE, NONE), "requiretls").required
            self.assertEqual((required.names, required.requiretls, required.may_go_clear), ((MX,), True, False))
        for level in (Level.VERIFY, Level.SECURE, Level.FINGERPRINT):
            self.assertTrue(self.level(level, self.ask(level, SECURE)).required.requiretls)
        self.level(Level.VERIFY, self.ask(Level.DANE, SECURE, WORTHLESS), "requiretls")

    def test_dane(self) -> None:
        """DANE is looked for also where the level does not ask for it, unless it is switched off."""
        for level in (None, Level.DANE, Level.NONE):
            self.assertTrue(self.level(Level.DANE, self.ask(level, SECURE, FOUND), "dane").required.requiretls)
        self.refused("TLSA lookup error", self.ask(None, SECURE, ERROR))
        self.level(Level.VERIFY, self.ask(None, SECURE, ERROR, dane="off"), "requiretls")

    def test_name_unknown(self) -> None:
        """P41: an insecure MX, and nobody else vouches for the host; half is not enough."""
        for demand in (self.ask(None, PLAIN), self.ask(Level.DANE, HALF, FOUND), self.ask(Level.VERIFY, PLAIN)):
            self.refused("nobody vouches", demand, "4.7.10")
            self.assertTrue(name_is_unknown(demand.refusal))
        self.assertFalse(name_is_unknown(self.ask(None, SECURE, ERROR).refusal))
        self.assertFalse(name_is_unknown(None))

    def test_who_vouches(self) -> None:
        """A secure MX, MTA-STS in any mode but none, the operator's brackets, a literal, a level that knows the name."""
        self.level(Level.VERIFY, self.ask(None, SECURE))
        self.level(Level.STS, self.ask(None, PLAIN, policy=ENFORCE))
        self.level(Level.STS, self.ask(None, PLAIN, policy=ENFORCE, client=TlsClient(level="none")))
        self.level(Level.VERIFY, self.ask(None, PLAIN, policy=attrs.evolve(ENFORCE, mode=Mode.TESTING)))
        self.level(Level.DANE, self.ask(Level.DANE, HALF, FOUND, ENFORCE))
        self.level(Level.VERIFY, self.ask(Level.VERIFY, PLAIN, policy=ENFORCE), "route")
        self.level(Level.SECURE, self.ask(Level.SECURE, PLAIN))
        bracketed = attrs.evolve(PLAIN, mx_secure=True)
        self.level(Level.VERIFY, self.ask(None, bracketed, next_hop=f"[{MX}]"))
        literal = self.level(Level.VERIFY, self.ask(None, LITERAL, next_hop="[192.0.2.1]"))
        self.assertEqual((literal.required.names, literal.required.sni), (("192.0.2.1",), ""))
        self.refused("nobody vouches", self.ask(None, PLAIN, policy=OFF), "4.7.10")


class DetailsTests(OwedCase):
    """Names, SNI, parameters, and what never goes in clear."""

    def test_names(self) -> None:
        """P01: Postfix's words; verify looks for the MX host, secure for the next hop and what is below it."""
        self.assertEqual(ask(Level.VERIFY).required.names, (MX,))
        self.assertEqual(ask(Level.SECURE).required.names, ("example.org", ".example.org"))
        self.assertEqual(ask(Level.SECURE, next_hop="[smart.example.net]:587").required.names[0], "smart.example.net")
        self.assertEqual(ask(Level.SECURE, LITERAL, next_hop="[192.0.2.1]").required.names, ("192.0.2.1",))
        words = ("hostname", "dot-nexthop", "nexthop", "Bücher.example", ".Example.NET", "hostname")
        expected = (MX, ".example.org", "example.org", "xn--bcher-kva.example", ".example.net")
        self.assertEqual(ask(Level.VERIFY, names=words).required.names, expected)

    def test_sni(self) -> None:
        """The MX host, the table's, never an address."""
        self.assertEqual(ask().required.sni, MX)
        self.assertEqual(ask(sni="Other.example.").required.sni, "other.example")
        self.assertEqual(ask(target=LITERAL, next_hop="[192.0.2.1]").required.sni, "")
        self.assertEqual(ask(Level.DANE, SECURE, FOUND, sni="other.example").required.sni, MX)

    def test_parameters(self) -> None:
        """P03: what the entry says of versions, ciphers, authorities and pins, these in one spelling."""
        pins = (":".join(["AB"] * 32), "0" * 64)
        ca, own = (Path("/ca.pem"),), {"certificate": Path("/cert.pem"), "key": Path("/key.pem")}
        demand = ask(None, min="TLSv1.2", max="TLSv1.2", ciphers="ECDHE", ca=ca, fingerprints=pins, **own)
        expected = Parameters("TLSv1.2", "TLSv1.2", "ECDHE", ca, ("ab" * 32, "0" * 64), own["certificate"], own["key"])
        self.assertEqual(demand.required.parameters, expected)
        self.assertEqual(ask().required.parameters, Parameters())

    def test_never_clear(self) -> None:
        """C49: credentials, a client certificate, REQUIRETLS, TLSA records and an enforced policy forbid it at level may."""
        self.assertTrue(ask().required.may_go_clear)
        never = [
            ask(sasl="user"),
            ask(None, certificate=Path("/c"), key=Path("/k")),
            ask(flags=Flag.REQUIRETLS),
            ask(Level.DANE, SECURE, FOUND),
            ask(Level.DANE, SECURE, WORTHLESS),
            ask(None, PLAIN, policy=ENFORCE),
            ask(sasl="user", flags=Flag.TLS_REQUIRED_NO),
        ]
        self.assertEqual([demand.required.may_go_clear for demand in never], [False] * len(never))

    def test_where(self) -> None:
        """Host, address, port and next hop as they are, and how long it holds."""
        demand = ask(target=attrs.evolve(SECURE, port=26), sasl="me")
        required = demand.required
        self.assertEqual(
            (required.host, required.address, required.port, required.next_hop), (MX, "192.0.2.1", 26, "example.org")
        )
        self.assertEqual((required.sasl, demand.until), ("me", inf))


class AnyTests(OwedCase):
    """Laws that hold for every combination."""

    @settings(deadline=None, max_examples=200)
    @given(
        st.sampled_from([None, *Level]),
        st.sampled_from([SECURE, HALF, PLAIN, LITERAL]),
        st.sampled_from([None, FOUND, WORTHLESS, NONE, ERROR]),
        st.sampled_from([None, ENFORCE, ELSEWHERE, TESTING, OFF]),
        st.sampled_from([0, Flag.REQUIRETLS, Flag.TLS_REQUIRED_NO, Flag.REQUIRETLS | Flag.TLS_REQUIRED_NO]),
        st.sampled_from(["", "on", "off"]),
        st.sampled_from(["dane", "encrypt", "may"]),
    )
    def test_laws(self, level, target, found, policy, flags, switch, insecure_mx) -> None:
        """No weaker than the operator said, DANE with records only, REQUIRETLS always verified."""
        client = TlsClient(dane_insecure_mx=insecure_mx)
        demand = ask(level, target, found, policy, flags=flags, client=client, dane=switch, sts=switch, min="TLSv1.2")
        required = demand.required
        if demand.refusal is not None:
            self.assertFalse(demand.refusal.reply.is_positive)
            return
        dane = required.level in (Level.DANE, Level.DANE_ONLY)
        self.assertEqual(dane, bool(required.tlsa))
        self.assertTrue(required.names)
        if flags & Flag.REQUIRETLS:
            self.assertTrue(required.level.verifies and required.requiretls and not required.may_go_clear)
        elif not flags and level is not None:
            self.assertGreaterEqual(required.level.verifies, level.verifies and level not in (Level.DANE, Level.DANE_ONLY))
            self.assertGreaterEqual(required.level.is_mandatory, level.is_mandatory and level is not Level.DANE)
        if policy is ELSEWHERE and level in (None, Level.MAY) and not flags and switch != "off":
            self.assertTrue(dane and not required.half, "an enforced policy that does not know the host lets nothing through")
