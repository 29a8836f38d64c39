"""`mta.tls.dane`: which records decide, and which chains they vouch for."""

from hashlib import sha256, sha512

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.dns.answer import Tlsa
from mta.tls import dane
from mta.tls.dane import evidence, match, public_key, usable
from tests.tls.chains import at, make

MX = "mx.example.org"
ROOT = make(ca=True)
MIDDLE = make(ROOT, ca=True)
LEAF = make(MIDDLE, names=[x509.DNSName(MX)])
CHAIN = [LEAF.der, MIDDLE.der, ROOT.der]
NOW = at(1)

TLSA = st.builds(Tlsa, st.integers(0, 4), st.integers(0, 2), st.integers(0, 3), st.binary(max_size=70))


def spki(made) -> bytes:
    return made.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def of(usage, selector, mtype, made) -> Tlsa:
    """The record that stands for a certificate."""
    data = spki(made) if selector else made.der
    return Tlsa(usage, selector, mtype, (data, sha256(data).digest(), sha512(data).digest())[mtype])


class UsableTests(SynchronousTestCase):
    """RFC 7672 3.1 and RFC 7671 9."""

    def test_usages(self) -> None:
        """P18: PKIX-TA(0) and PKIX-EE(1) are unusable, as is every number that is not defined."""
        good = [of(usage, 1, 1, LEAF) for usage in (2, 3)]
        bad = [of(usage, 1, 1, LEAF) for usage in (0, 1, 4, 255)]
        self.assertEqual(set(usable(good + bad)), set(good))
        self.assertEqual(usable(bad), ())

    def test_undefined_numbers(self) -> None:
        """Selectors and matching types of the future."""
        self.assertEqual(usable([Tlsa(3, 2, 1, bytes(32)), Tlsa(3, 1, 3, bytes(32)), Tlsa(3, 255, 255, b"")]), ())

    def test_damaged(self) -> None:
        """A digest of another length, full data that is no certificate and no key."""
        damaged = [Tlsa(3, 1, 1, bytes(31)), Tlsa(3, 1, 2, bytes(32)), Tlsa(3, 0, 0, b"\x30\x00"), Tlsa(2, 1, 0, LEAF.der)]
        self.assertEqual(usable([*damaged, Tlsa(3, 1, 1, b"")]), ())

    def test_agility(self) -> None:
        """P22: of digests only the strongest counts, for each usage and selector; full data is no digest."""
        for selector in (0, 1):
            weak, strong, full = [of(3, selector, mtype, LEAF) for mtype in (1, 2, 0)]
            other = of(2, selector, 1, MIDDLE)
            self.assertEqual(set(usable([weak, strong, full, other])), {strong, full, other})
        self.assertEqual(len(usable([of(3, 0, 1, LEAF), of(3, 1, 2, LEAF)])), 2)

    def test_a_damaged_digest_outranks_none(self) -> None:
        """A SHA-512 of the wrong length does not silence the SHA-256 beside it."""
        self.assertEqual(usable([of(3, 1, 1, LEAF), Tlsa(3, 1, 2, bytes(10))]), (of(3, 1, 1, LEAF),))

    def test_order(self) -> None:
        """Whatever order the zone gives them in, the result is the same."""
        records = [of(usage, selector, 1, made) for usage in (2, 3) for selector in (0, 1) for made in (LEAF, MIDDLE)]
        self.assertEqual(usable(records), usable(records[::-1]))
        self.assertEqual(usable(records + records), usable(records))


class HostileTests(SynchronousTestCase):
    """What a zone and its server may bring between them."""

    def test_many_records_and_certificates(self) -> None:
        """Each certificate is digested a few times, however many records there are."""
        records = usable([Tlsa(2, 1, 1, number.to_bytes(32, "big")) for number in range(1000)])
        digests: list[int] = []
        self.patch(dane, "_DIGESTS", {1: lambda data: digests.append(1) or sha256(data).digest()})
        self.assertIn("no authority", match(records, [LEAF.der, *[MIDDLE.der] * 100], [MX], NOW))
        self.assertLessEqual(len(digests), 2 * 101)


class EndEntityTests(SynchronousTestCase):
    """DANE-EE(3): the leaf or its key, and nothing else (RFC 7671 5.1)."""

    def test_every_form(self) -> None:
        """P10: certificate or key, whole or by either digest; neither names nor dates count."""
        for selector in (0, 1):
            for mtype in (0, 1, 2):
                for now in (at(-1), NOW, at(1000)):
                    self.assertEqual(match([of(3, selector, mtype, LEAF)], CHAIN, ("other.example",), now), "")

    def test_only_the_leaf(self) -> None:
        """P11: a record for something above the leaf, or for another certificate, does not match."""
        for record in (of(3, 1, 1, MIDDLE), of(3, 0, 1, make()), of(3, 1, 2, make())):
            self.assertEqual(match([record], CHAIN, (MX,), NOW), "the certificate matches no TLSA record")

    def test_rollover(self) -> None:
        """P22: the record of the next certificate beside the present one's: either will do."""
        records = usable([of(3, 1, 1, make()), of(3, 1, 1, LEAF)])
        self.assertEqual(match(records, CHAIN, (), NOW), "")
        self.assertEqual(match(records[::-1], CHAIN, (), NOW), "")

    def test_no_chain(self) -> None:
        """A server without a certificate gives nothing to match."""
        self.assertEqual(match([of(3, 1, 1, LEAF)], [], (MX,), NOW), "the server showed no certificate")

    def test_a_leaf_that_nobody_can_read(self) -> None:
        """The digest of the whole certificate is of bytes; its key is not found."""
        data = b"\x30\x03abc"
        self.assertEqual(match([Tlsa(3, 0, 1, sha256(data).digest())], [data], (), NOW), "")
        self.assertNotEqual(match([Tlsa(3, 1, 1, sha256(b"").digest())], [data], (), NOW), "")


class AuthorityTests(SynchronousTestCase):
    """DANE-TA(2): an authority above the leaf, and all that is below it (RFC 7671 5.2)."""

    def check(self, record, chain=CHAIN, names=(MX,), now=NOW):
        return match([record], chain, names, now)

    def test_every_form(self) -> None:
        """P12: the root or an authority in between, certificate or key, whole or by digest."""
        for made in (MIDDLE, ROOT):
            for selector in (0, 1):
                for mtype in (0, 1, 2):
                    self.assertEqual(self.check(of(2, selector, mtype, made)), "")

    def test_names(self) -> None:
        """P12: any of the reference identifiers will do, none will not."""
        self.assertEqual(self.check(of(2, 0, 1, ROOT), names=("example.org", MX)), "")
        self.assertIn("example.net", self.check(of(2, 0, 1, ROOT), names=("example.net",)))
        self.assertIn("no name", self.check(of(2, 0, 1, ROOT), names=()))

    def test_not_in_the_chain(self) -> None:
        """P12: the authority that the record digests was not sent; and the chain without a link of it."""
        self.assertIn("no authority", self.check(of(2, 0, 1, ROOT), chain=CHAIN[:2]))
        self.assertIn("no valid chain", self.check(of(2, 0, 1, ROOT), chain=[LEAF.der, ROOT.der]))

    def test_whole_in_the_record(self) -> None:
        """A certificate that the record has whole need not be sent; a key alone is no certificate."""
        self.assertEqual(self.check(of(2, 0, 0, ROOT), chain=CHAIN[:2]), "")
        self.assertEqual(self.check(of(2, 0, 0, MIDDLE), chain=CHAIN[:1]), "")
        self.assertIn("no authority", self.check(of(2, 1, 0, ROOT), chain=CHAIN[:2]))

    def test_merely_in_the_chain(self) -> None:
        """An authority that was put into the chain and has signed nothing of it."""
        stranger = make(ca=True)
        self.assertIn("no valid chain", self.check(of(2, 0, 1, stranger), chain=[LEAF.der, stranger.der]))
        forged = make(names=[x509.DNSName(MX)])
        self.assertIn("no valid chain", self.check(of(2, 0, 1, MIDDLE), chain=[forged.der, MIDDLE.der, ROOT.der]))

    def test_a_signature_by_another_key(self) -> None:
        """The issuer's name is right and its key is not."""
        impostor = make(ca=True, common_name=MIDDLE.certificate.subject.rfc4514_string().removeprefix("CN="))
        leaf = make(impostor, names=[x509.DNSName(MX)])
        self.assertIn("no valid chain", self.check(of(2, 0, 1, MIDDLE), chain=[leaf.der, MIDDLE.der, ROOT.der]))

    def test_no_authority_at_all(self) -> None:
        """A leaf of the authority is not one, whatever it signs."""
        leaf = make(ROOT, names=[x509.DNSName("a.example.org")])
        below = make(leaf, names=[x509.DNSName(MX)])
        self.assertIn("no valid chain", self.check(of(2, 0, 1, leaf), chain=[below.der, leaf.der, ROOT.der]))
        self.assertIn("no valid chain", self.check(of(2, 0, 1, ROOT), chain=[below.der, leaf.der, ROOT.der]))

    def test_dates(self) -> None:
        """Those of the leaf, of what is between, and of the authority itself."""
        old = make(MIDDLE, names=[x509.DNSName(MX)], days=10)
        self.assertIn("expired", self.check(of(2, 0, 1, MIDDLE), chain=[old.der, MIDDLE.der], now=at(20)))
        self.assertIn("not valid now", self.check(of(2, 0, 1, MIDDLE), now=at(-1)))
        brief = make(ROOT, ca=True, days=10)
        leaf = make(brief, names=[x509.DNSName(MX)])
        self.assertIn("expired", self.check(of(2, 0, 1, ROOT), chain=[leaf.der, brief.der, ROOT.der], now=at(20)))
        self.assertIn("not valid now", self.check(of(2, 0, 1, brief), chain=[leaf.der, brief.der], now=at(20)))

    def test_the_leaf_is_not_its_own_authority(self) -> None:
        """As in OpenSSL: DANE-TA speaks of what stands above the leaf, even where the leaf has signed itself."""
        alone = make(names=[x509.DNSName(MX)])
        for record in (of(2, 0, 1, alone), of(2, 0, 0, alone), of(2, 1, 1, alone)):
            self.assertIn("no authority", self.check(record, chain=[alone.der]))
            self.assertIn("no authority", self.check(record, chain=[alone.der, alone.der]))

    def test_beside_an_end_entity_record(self) -> None:
        """Either kind will do."""
        self.assertEqual(match([of(3, 1, 1, make()), of(2, 0, 1, ROOT)], CHAIN, (MX,), NOW), "")
        self.assertEqual(match([of(3, 1, 1, LEAF), of(2, 0, 1, make())], CHAIN, (), NOW), "")


class PublicKeyTests(SynchronousTestCase):
    """The bytes of the SubjectPublicKeyInfo as they stand."""

    def test_as_the_library_says(self) -> None:
        """Keys of every kind, chains of every kind."""
        keys = [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)]
        for made in (LEAF, MIDDLE, ROOT, *[make(ROOT, key=key) for key in keys], *[make(key=key) for key in keys]):
            self.assertEqual(public_key(made.der), spki(made))

    def test_without_a_version(self) -> None:
        """A certificate of version 1 leaves the field out."""
        key = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        body = b"\x02\x01\x07" + b"\x30\x00" * 4 + key
        der = b"\x30" + bytes([2 + len(body)]) + b"\x30" + bytes([len(body)]) + body
        self.assertEqual(public_key(der), key)

    @settings(deadline=None, max_examples=200)
    @given(st.integers(0, len(LEAF.der)), st.binary(max_size=6))
    def test_damaged(self, place: int, noise: bytes) -> None:
        """Cut off or overwritten anywhere: some bytes of it or none, never an exception."""
        for der in (LEAF.der[:place], LEAF.der[:place] + noise + LEAF.der[place + len(noise) :]):
            self.assertIn(public_key(der), der)


class AnyBytesTests(SynchronousTestCase):
    """Whatever comes from zones and servers."""

    @settings(deadline=None, max_examples=200)
    @given(st.lists(TLSA, max_size=5), st.lists(st.binary(max_size=40) | st.sampled_from(CHAIN), max_size=4))
    def test_never_raises(self, records: list[Tlsa], chain: list[bytes]) -> None:
        """And what is not usable never makes a match."""
        good = usable(records)
        self.assertLessEqual(set(good), set(records))
        why = match(good, chain, (MX,), NOW)
        self.assertTrue(why or good)
        self.assertIsInstance(evidence(good, MX, half=False), str)

    @settings(deadline=None, max_examples=100)
    @given(st.integers(0, len(MIDDLE.der) - 1), st.integers(1, 255), st.sampled_from([2, 3]))
    def test_a_changed_octet(self, place: int, change: int, usage: int) -> None:
        """A chain with one octet changed is no match where the changed certificate is what the record speaks of."""
        broken = bytearray(LEAF.der if usage == 3 else MIDDLE.der)
        broken[place % len(broken)] ^= change
        record = Tlsa(usage, 0, 1, sha256(LEAF.der if usage == 3 else MIDDLE.der).digest())
        chain = [bytes(broken), MIDDLE.der] if usage == 3 else [LEAF.der, bytes(broken)]
        self.assertNotEqual(match([record], chain, (MX,), NOW), "")


class EvidenceTests(SynchronousTestCase):
    """What the reuse key compares."""

    def test_tells_apart(self) -> None:
        """Another record, base domain or half makes another evidence; the zone's order does not."""
        one, two = of(3, 1, 1, LEAF), of(3, 1, 1, MIDDLE)
        kinds = [
            evidence([one], MX, False),
            evidence([two], MX, False),
            evidence([one, two], MX, False),
            evidence([one], "mx2.example.org", False),
            evidence([one], MX, True),
            evidence([of(3, 0, 1, LEAF)], MX, False),
        ]
        self.assertEqual(len(set(kinds)), len(kinds))
        self.assertEqual(evidence([two, one], MX, False), evidence([one, two], MX, False))
        self.assertTrue(kinds[0].startswith(f"dane:{MX}:"))
        self.assertTrue(kinds[4].endswith(":half"))
