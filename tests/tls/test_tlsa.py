"""`mta.tls.tlsa`: which questions are asked about a host, and what the answers mean."""

from __future__ import annotations

from math import inf

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mta.dns.answer import Tlsa
from mta.envelope import Target
from mta.testing.dns import FakeResolver
from mta.tls.tlsa import Found, TlsaLookup

MX, ALIASED = "mx.example.org", "mx.cloud.example"
AT_MX, AT_ALIASED = f"_25._tcp.{MX}", f"_25._tcp.{ALIASED}"
ONE, TWO = Tlsa(3, 1, 1, bytes(32)), Tlsa(3, 1, 1, b"\xff" * 32)
RECORDS = {AT_MX: {"TLSA": [(3, 1, 1, bytes(32))]}, AT_ALIASED: {"TLSA": [(3, 1, 1, b"\xff" * 32)]}}


class TlsaLookupTests(SynchronousTestCase):
    """Each with the targets that `route.hosts` gives."""

    def find(self, target, records=RECORDS, secure=(".example.org", ".cloud.example"), fail=None, proof=False) -> Found:
        self.resolver = FakeResolver(records, secure=secure if secure is True else set(secure), fail=fail)
        return self.successResultOf(Deferred.fromCoroutine(TlsaLookup(self.resolver, proof).find(target)))

    def target(self, canonical=MX, secure=True, port=25, **more) -> Target:
        return Target(MX, "192.0.2.1", port, address_secure=secure, canonical=canonical, **more)

    def asked(self) -> list[str]:
        return [f"{name} {rdtype}" for name, rdtype in self.resolver.asked]

    def test_found(self) -> None:
        """P10: one question, at the host's name and the port of the route."""
        self.assertEqual(self.find(self.target()), Found(300.0, (ONE,), MX))
        self.assertEqual(self.asked(), [f"{AT_MX} TLSA"])
        self.assertEqual(self.find(self.target(port=587)).records, ())
        self.assertEqual(self.asked(), [f"_587._tcp.{MX} TLSA"])

    def test_insecure_address(self) -> None:
        """P16: nothing is asked at all, for a host of no alias and for an address literal."""
        for target in (self.target(secure=False), self.target(secure=False, canonical=""), Target("192.0.2.1", "192.0.2.1", 25)):
            self.assertEqual(self.find(target, secure=True), Found(inf))
            self.assertEqual(self.asked(), [])

    def test_secure_alias_of_secure(self) -> None:
        """P20: the fully expanded name first, and where nothing is there, the original one."""
        self.assertEqual(self.find(self.target(ALIASED)), Found(300.0, (TWO,), ALIASED))
        self.assertEqual(self.asked(), [f"{AT_ALIASED} TLSA"])
        self.assertEqual(self.find(self.target(ALIASED), {AT_MX: RECORDS[AT_MX]}), Found(300.0, (ONE,), MX))
        self.assertEqual(self.asked(), [f"{AT_ALIASED} TLSA", f"{AT_MX} TLSA"])
        self.assertEqual(self.find(self.target(ALIASED), {}).records, ())

    def test_secure_alias_of_insecure(self) -> None:
        """P20: the alias itself is asked for, and its zone has the records; the insecure zone is not asked."""
        records = {MX: {"CNAME": [ALIASED]}, **RECORDS}
        self.assertEqual(self.find(self.target(ALIASED, secure=False), records), Found(300.0, (ONE,), MX))
        self.assertEqual(self.asked(), [f"{MX} CNAME", f"{AT_MX} TLSA"])

    def test_insecure_alias(self) -> None:
        """P20: nobody vouches for the first CNAME, so no TLSA question is asked."""
        records = {MX: {"CNAME": [ALIASED]}, **RECORDS}
        found = self.find(self.target(ALIASED, secure=False), records, secure=(".cloud.example", AT_MX))
        self.assertEqual((found.records, found.error), ((), ""))
        self.assertEqual(self.asked(), [f"{MX} CNAME"])

    def test_alias_unknown(self) -> None:
        """P20: that the lookup of the alias fails may be an attack: nobody knows."""
        records = {MX: {"CNAME": [ALIASED]}, **RECORDS}
        found = self.find(self.target(ALIASED, secure=False), records, fail={f"{MX}/CNAME": "SERVFAIL"})
        self.assertIn("SERVFAIL", found.error)
        self.assertEqual(self.asked(), [f"{MX} CNAME"])

    def test_tlsa_alias(self) -> None:
        """A CNAME at the TLSA name is followed; it counts where all of the way is secure."""
        records = {AT_MX: {"CNAME": ["tlsa.example.net"]}, "tlsa.example.net": {"TLSA": [(3, 1, 1, bytes(32))]}}
        self.assertEqual(self.find(self.target(), records, secure=True), Found(300.0, (ONE,), MX))
        self.assertEqual(self.find(self.target(), records).records, ())

    def test_insecure_records(self) -> None:
        """Records that nobody vouches for are none."""
        self.assertEqual(self.find(self.target(), secure=()).records, ())

    def test_nobody_knows(self) -> None:
        """P13, P14: SERVFAIL (a forgery looks so) and time-out are errors, soon asked again; the next name is no way out."""
        for rcode in ("SERVFAIL", "TIMEOUT", "REFUSED"):
            found = self.find(self.target(), fail={f"{AT_MX}/TLSA": rcode})
            self.assertIn(rcode, found.error)
            self.assertEqual((found.records, found.expires), ((), 5.0))
        found = self.find(self.target(ALIASED), fail={f"{AT_ALIASED}/TLSA": "TIMEOUT"})
        self.assertIn("TIMEOUT", found.error)
        self.assertEqual(self.asked(), [f"{AT_ALIASED} TLSA"])

    def test_proof(self) -> None:
        """P15: where the operator wants it, a secure NXDOMAIN for the address proves that there is no TLSA record."""
        fail = {f"{AT_MX}/TLSA": "TIMEOUT"}
        self.assertEqual(self.find(self.target(), {}, fail=fail, proof=True), Found(300.0))
        self.assertEqual(self.asked(), [f"{AT_MX} TLSA", f"{AT_MX} A"])
        self.assertIn("TIMEOUT", self.find(self.target(), {}, fail=fail).error)
        self.assertEqual(self.asked(), [f"{AT_MX} TLSA"])

    def test_no_proof(self) -> None:
        """P15: an insecure NXDOMAIN, a name that exists, and another failure prove nothing."""
        fail = {f"{AT_MX}/TLSA": "TIMEOUT"}
        for records, secure, more in (({}, (), {}), (RECORDS, (".example.org",), {}), ({}, True, {f"{AT_MX}/A": "SERVFAIL"})):
            self.assertIn("TIMEOUT", self.find(self.target(), records, secure, fail | more, proof=True).error)
