"""Chains and names judged over bytes, with the time passed in: what is trusted, what is not, and until when (P01, P06)."""

from __future__ import annotations

from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID as Use
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.tls import verify
from mta.tls.verify import CLIENT_USES, ChainVerdict, RememberedVerdicts, dns_names, match_names, verify_chain
from tests.tls.chains import at, make, store_of

ROOT = make(ca=True, days=1000)
MIDDLE = make(ROOT, ca=True, days=50)
LEAF = make(ROOT, names=[x509.DNSName("mx.example.org")])
STORE = store_of(ROOT)


class ChainTests(SynchronousTestCase):
    """`verify_chain`."""

    def error(self, *chain: bytes, day: float = 10) -> str:
        return verify_chain(chain, STORE, at(day)).error

    def test_good_chain_holds_until_its_first_date(self) -> None:
        """P01: a leaf under a trusted root is good until the leaf ends."""
        self.assertEqual(verify_chain([LEAF.der], STORE, at(10)), ChainVerdict("", at(100)))

    def test_intermediate_must_be_sent_and_bounds_the_time(self) -> None:
        """The path goes by what the peer sent; an intermediate that ends first ends the verdict."""
        leaf = make(MIDDLE, names=[x509.DNSName("mx.example.org")])
        self.assertEqual(verify_chain([leaf.der, MIDDLE.der], STORE, at(10)), ChainVerdict("", at(50)))
        self.assertIn("unable to get local issuer", self.error(leaf.der))
        self.assertIn("expired", self.error(leaf.der, MIDDLE.der, day=60))

    def test_what_is_not_needed_does_no_harm(self) -> None:
        """An expired twin of the intermediate, before or behind it, and bytes that nobody can read."""
        leaf = make(MIDDLE, names=[x509.DNSName("mx.example.org")])
        subject = MIDDLE.certificate.subject.rfc4514_string().removeprefix("CN=")
        old = make(ROOT, ca=True, days=5, key=MIDDLE.key, common_name=subject)
        for chain in ([old.der, MIDDLE.der], [MIDDLE.der, old.der], [b"0\x03abc", MIDDLE.der], [MIDDLE.der, b""]):
            self.assertEqual(self.error(leaf.der, *chain), "")
        self.assertIn("expired", self.error(leaf.der, old.der))
        self.assertIn("cannot be read", self.error(b"0\x03abc", MIDDLE.der))

    def test_dates_are_of_the_time_passed_in(self) -> None:
        """Not yet valid, and expired, by our clock and not by the machine's."""
        self.assertIn("not yet valid", self.error(LEAF.der, day=-1))
        self.assertIn("expired", self.error(LEAF.der, day=101))

    def test_strangers(self) -> None:
        """A self-signed leaf and a chain of another authority are not trusted, whatever name they bear."""
        self.assertIn("self-signed", self.error(make(names=[x509.DNSName("mx.example.org")]).der))
        other = make(ca=True)
        self.assertIn("self-signed", self.error(make(other).der, other.der))

    def test_extended_key_usage(self) -> None:
        """OpenSSL's store context does not look at it; we do: for servers, for anything, or not said."""
        self.assertEqual("certificate is not for servers", self.error(make(ROOT, uses=[Use.CLIENT_AUTH]).der))
        self.assertEqual("", self.error(make(ROOT, uses=[Use.CLIENT_AUTH, Use.SERVER_AUTH]).der))
        self.assertEqual("", self.error(make(ROOT, uses=[Use.ANY_EXTENDED_KEY_USAGE]).der))
        middle = make(ROOT, ca=True, uses=[Use.CODE_SIGNING])
        self.assertEqual("certificate is not for servers", self.error(make(middle).der, middle.der))

    def test_extended_key_usage_of_clients(self) -> None:
        """The same judge for client certificates: one that is for servers only is not for clients."""
        for uses, error in (
            ([Use.SERVER_AUTH], "certificate is not for clients"),
            ([Use.SERVER_AUTH, Use.CLIENT_AUTH], ""),
            ([Use.ANY_EXTENDED_KEY_USAGE], ""),
            ([], ""),
        ):
            chain = [make(ROOT, uses=uses).der]
            self.assertEqual(error, verify_chain(chain, STORE, at(10), CLIENT_USES).error)
            self.assertEqual(error, RememberedVerdicts(STORE, uses=CLIENT_USES).verdict(chain, at(10)).error)

    def test_leaf_that_signs(self) -> None:
        """A certificate that is no authority cannot make one for another name."""
        self.assertIn("invalid CA", self.error(make(LEAF, names=[x509.DNSName("bank.example")]).der, LEAF.der))

    def test_weak_keys_and_signatures(self) -> None:
        """Short RSA keys and weak digests are not trusted; the anchor's own are not looked at (RFC 5280 6.1)."""
        short = rsa.generate_private_key(public_exponent=65537, key_size=1024)
        self.assertIn("1024 bits", self.error(make(ROOT, key=short).der))
        anchor = make(ca=True, key=short)
        self.assertEqual("", verify_chain([make(anchor).der], store_of(anchor), at(1)).error)
        # Nobody signs with SHA-1 any more, the library included: another digest stands in for it.
        self.patch(verify, "WEAK_DIGESTS", {"sha384"})
        self.assertIn("sha384", self.error(make(ROOT, digest=hashes.SHA384()).der))
        anchor = make(ca=True, digest=hashes.SHA384())
        self.assertEqual("", verify_chain([make(anchor).der], store_of(anchor), at(1)).error)

    def test_anchor_past_its_day(self) -> None:
        """An anchor that the operator keeps is trusted as long as it is kept (RFC 5280 6.1.1 d)."""
        anchor = make(ca=True, days=5)
        self.assertEqual("", verify_chain([make(anchor).der], store_of(anchor), at(10)).error)

    def test_pinned_leaf(self) -> None:
        """A self-signed certificate that is itself an anchor is good."""
        own = make(names=[x509.DNSName("mx.example.org")])
        self.assertEqual("", verify_chain([own.der], store_of(own), at(1)).error)

    def test_no_certificate_at_all(self) -> None:
        """An empty chain is an answer, not an exception."""
        self.assertEqual("no certificate", self.error())

    @settings(deadline=None, max_examples=100)
    @given(st.lists(st.binary(max_size=40), max_size=3), st.integers(0, 400), st.integers(0, 255))
    def test_whatever_is_sent_only_has_an_error(self, junk: list[bytes], place: int, value: int) -> None:
        """Junk, and a chain with a byte changed, never raise; a changed byte is never trusted."""
        self.assertTrue(verify_chain(junk, STORE, at(10)).error)
        place %= len(LEAF.der)
        if LEAF.der[place] != value:
            changed = LEAF.der[:place] + bytes([value]) + LEAF.der[place + 1 :]
            self.assertTrue(verify_chain([changed, *junk], STORE, at(10)).error)
        self.flushWarnings()  # `cryptography` complains of serial numbers below 1


class NamesTests(SynchronousTestCase):
    """`match_names` (P06)."""

    def match(self, *patterns: str, names: tuple[str, ...], common_name: str = "") -> bool:
        alternatives = [x509.DNSName(pattern) for pattern in patterns]
        return match_names(make(ROOT, names=alternatives, common_name=common_name).der, names)

    def test_exact_and_one_label_wildcards(self) -> None:
        """P06: exact in any case; `*` stands for one whole label at the left."""
        self.assertTrue(self.match("MX.example.org", names=("mx.example.org",)))
        self.assertTrue(self.match("*.example.org", names=("mx.example.org",)))
        self.assertFalse(self.match("*.example.org", names=("a.b.example.org",)))
        self.assertFalse(self.match("*.example.org", names=("example.org",)))
        self.assertFalse(self.match("example.org", names=("mx.example.org",)))

    def test_names_below(self) -> None:
        """P02: ".example.org" is any name below it, however deep, wildcards too; not the name itself nor one that ends alike."""
        for pattern, good in (
            ("mx.example.org", True),
            ("A.B.Example.org", True),
            ("*.example.org", True),
            ("example.org", False),
            ("badexample.org", False),
            ("*.org", False),
        ):
            self.assertEqual(self.match(pattern, names=(".example.org",)), good, pattern)
        self.assertFalse(self.match("mx.example.org", names=(".",)))
        address = make(ROOT, names=[x509.IPAddress(ip_address("192.0.2.1"))])
        self.assertFalse(match_names(address.der, (".0.2.1",)))

    def test_dns_names(self) -> None:
        """The names of an owner: no wildcard, no address, and none at all of what is no certificate."""
        names = [x509.DNSName("mx.example.org"), x509.DNSName("*.example.org"), x509.IPAddress(ip_address("192.0.2.1"))]
        self.assertEqual(("mx.example.org",), dns_names(make(ROOT, names=names).der))
        self.assertEqual(((), ()), (dns_names(make(ROOT, names=None, common_name="x.example").der), dns_names(b"junk")))

    def test_partial_wildcards_match_nothing(self) -> None:
        """RFC 9525 6.3: `smtp*.example.org` and a lone `*` are no patterns; they do not raise either."""
        self.assertFalse(self.match("smtp*.example.org", names=("smtp1.example.org",)))
        self.assertFalse(self.match("*", names=("org",)))

    def test_an_odd_name_costs_no_other(self) -> None:
        """P06: an address as a DNS name, wildcards that mean nothing, a URI with a port: the right name beside them counts."""
        for odd in ("192.0.2.1", "*.com", "a.*.org", "*.*.example.org", "*"):
            self.assertTrue(self.match(odd, "mx.example.org", names=("mx.example.org",)), odd)
        uri = x509.UniformResourceIdentifier("https://mx.example.org:443/")
        leaf = make(ROOT, names=[uri, x509.DNSName("mx.example.org")])
        self.assertTrue(match_names(leaf.der, ("mx.example.org",)))
        self.assertFalse(match_names(make(ROOT, names=[uri]).der, ("mx.example.org",)))
        self.assertFalse(self.match("192.0.2.1", names=("192.0.2.1",)))

    def test_any_of_several_names_will_do(self) -> None:
        """The trap of optional ids: each name is tried by itself."""
        self.assertTrue(self.match("b.example", names=("a.example", "b.example")))
        self.assertFalse(self.match("c.example", names=("a.example", "b.example")))
        self.assertFalse(self.match("c.example", names=()))

    def test_common_name_does_not_count(self) -> None:
        """RFC 9525 2: a name in the subject is no name."""
        self.assertFalse(self.match("other.example", names=("mx.example.org",), common_name="mx.example.org"))
        self.assertFalse(match_names(make(ROOT, common_name="mx.example.org").der, ("mx.example.org",)))

    def test_addresses(self) -> None:
        """An address literal wants an iPAddress entry; a dNSName that looks like one is none."""
        leaf = make(ROOT, names=[x509.IPAddress(ip_address("192.0.2.1")), x509.IPAddress(ip_address("2001:db8::1"))])
        self.assertTrue(match_names(leaf.der, ("192.0.2.1",)))
        self.assertTrue(match_names(leaf.der, ("2001:DB8:0::1",)))
        self.assertFalse(match_names(leaf.der, ("192.0.2.2",)))

    def test_a_labels(self) -> None:
        """A-labels are compared as they stand."""
        self.assertTrue(self.match("xn--mller-kva.example", names=("xn--mller-kva.example",)))

    def test_bad_input(self) -> None:
        """Neither a broken certificate nor an impossible name raises."""
        self.assertFalse(match_names(b"junk", ("a.example",)))
        self.assertFalse(self.match("a.example", names=("", "a..b", "-")))


class RememberedTests(SynchronousTestCase):
    """`RememberedVerdicts` (C3.5)."""

    def test_good_verdicts_are_remembered_until_they_end(self) -> None:
        """A second question is answered from memory, and after the last day the answer changes."""
        verdicts = RememberedVerdicts(STORE)
        first = verdicts.verdict([LEAF.der], at(10))
        self.assertIs(verdicts.verdict([LEAF.der], at(99)), first)
        self.assertIn("expired", verdicts.verdict([LEAF.der], at(101)).error)
        self.assertEqual(verdicts.verdict([LEAF.der], at(50)).error, "")

    def test_bad_verdicts_are_asked_again(self) -> None:
        """A chain that is not valid yet is valid a minute later, or when the clock went back; meanwhile it costs one hash."""
        for later in (60.0, -1.0):
            verdicts = RememberedVerdicts(STORE)
            first = verdicts.verdict([LEAF.der], at(-1))
            self.assertTrue(first.error)
            self.assertIs(verdicts.verdict([LEAF.der], at(-1) + 59.9), first)
            self.assertIsNot(verdicts.verdict([LEAF.der], at(-1) + later), first)
        self.assertFalse(verdicts.verdict([LEAF.der], at(1)).error)

    def test_memory_is_bounded(self) -> None:
        """The oldest goes."""
        verdicts = RememberedVerdicts(STORE, limit=2)
        leaves = [make(ROOT).der for _ in range(3)]
        first = verdicts.verdict(leaves[:1], at(1))
        for leaf in leaves[1:]:
            verdicts.verdict([leaf], at(1))
        self.assertEqual(len(verdicts._known), 2)
        self.assertIsNot(verdicts.verdict(leaves[:1], at(1)), first)
