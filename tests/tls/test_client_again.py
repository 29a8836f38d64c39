"""One chain, judged for one requirement after another, as time goes by (P01 to P12, H32)."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mta.dns.answer import Tlsa
from mta.status import MailError
from mta.testing.pki import Authority, Issued
from mta.tls import verify
from mta.tls.policy import Level, Parameters, Required, judge
from tests.tls.client_case import AUTHORITY, ISSUED, ClientCase, owed

DAY = 86400.0


def leaf_of(issued: Issued) -> x509.Certificate:
    return x509.load_pem_x509_certificates(issued.certificate_pem)[0]


def key_digest(issued: Issued) -> bytes:
    """SHA-256 of the SubjectPublicKeyInfo."""
    return sha256(leaf_of(issued).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def certificate_digest(certificate: x509.Certificate) -> bytes:
    return sha256(certificate.public_bytes(Encoding.DER)).digest()


def pinned(*fingerprints: str) -> Required:
    return owed(Level.FINGERPRINT, parameters=Parameters(fingerprints=fingerprints))


def by_dane(*records: Tlsa, names: tuple[str, ...] = ("mx.example.org",), half: bool = False) -> Required:
    return owed(Level.DANE, *names, tlsa=records, half=half)


class LevelTests(ClientCase):
    """Each level over good and bad chains: "" or the reason for QUIT."""

    def reason(self, required: Required, issued: Issued = ISSUED, **more: bool) -> str:
        return judge(required, self.achieved(required, issued, **more))

    def test_p01_verify_and_encrypt(self) -> None:
        """P01 P05: verify wants chain and name; encrypt and may take anything."""
        stranger = Authority.create().issue("mx.example.org")
        self.assertEqual(self.reason(owed()), "")
        self.assertIn("not trusted", self.reason(owed(), stranger))
        self.assertIn("for none of: mx.example.net", self.reason(owed(Level.VERIFY, "mx.example.net")))
        for level in (Level.ENCRYPT, Level.MAY):
            self.assertEqual(self.reason(owed(level, "mx.example.net"), stranger), "")

    def test_p02_secure(self) -> None:
        """P02: the next hop's name, or any name below it; never the MX host's just because DNS named it."""
        names = ("example.org", ".example.org")
        for certificate, good in (
            ("example.org", True),
            ("mx.example.org", True),
            ("a.b.example.org", True),
            ("*.example.org", True),
            ("example.net", False),
            ("badexample.org", False),
            ("*.org", False),
        ):
            self.assertEqual(self.reason(owed(Level.SECURE, *names), AUTHORITY.issue(certificate)) == "", good, certificate)
        self.assertTrue(self.reason(owed(Level.SECURE, "example.net", ".example.net")))

    def test_p03_p04_fingerprint(self) -> None:
        """P03 P04: digest of the leaf or of its key; neither name nor authority nor date count; another pin does not match."""
        expired = Authority.create().issue("elsewhere.example", expired=True)
        for issued in (ISSUED, expired):
            for pin in (certificate_digest(leaf_of(issued)).hex(), key_digest(issued).hex()):
                self.assertEqual(self.reason(pinned("00" * 32, pin), issued), "")
        authority = certificate_digest(AUTHORITY.certificate).hex()
        self.assertIn("pinned", self.reason(pinned("00" * 32, authority)))
        self.assertIn("no fingerprint", self.reason(pinned()))

    def test_p10_dane_ee(self) -> None:
        """P10: 3 1 1 that matches is good whatever name and date the leaf bears (RFC 7671 5.1)."""
        for issued in (ISSUED, Authority.create().issue("elsewhere.example", expired=True)):
            self.assertEqual(self.reason(by_dane(Tlsa(3, 1, 1, key_digest(issued))), issued), "")

    def test_p11_dane_mismatch(self) -> None:
        """P11: 3 1 1 that does not match is a failure, though authority and name are right."""
        self.assertIn("no TLSA record", self.reason(by_dane(Tlsa(3, 1, 1, bytes(32)))))

    def test_p12_dane_ta(self) -> None:
        """P12: 2 0 1: names of the host or the next hop; with neither, or with the authority missing in the chain, it fails."""
        record = Tlsa(2, 0, 1, certificate_digest(AUTHORITY.certificate))
        names = ("mx.example.org", "example.org")
        self.assertEqual(self.reason(by_dane(record, names=names)), "")
        self.assertEqual(self.reason(by_dane(record, names=names), AUTHORITY.issue("example.org")), "")
        self.assertTrue(self.reason(by_dane(record, names=names), AUTHORITY.issue("elsewhere.example")))
        self.assertTrue(self.reason(by_dane(record, names=names), chain=False))

    def test_own_authorities(self) -> None:
        """`ca` of a policy replaces the usual trust."""
        other = Authority.create()
        path = Path(self.mktemp())
        path.write_bytes(other.certificate_pem)
        required = owed(parameters=Parameters(trust=(path,)))
        self.assertEqual(self.reason(required, other.issue("mx.example.org")), "")
        self.assertIn("not trusted", self.reason(required))


class AgainTests(ClientCase):
    """C3.5: the chain of a kept connection under the requirement of today."""

    def test_h32_certificate_expired(self) -> None:
        """H32: by our clock, to the second."""
        end = leaf_of(ISSUED).not_valid_after_utc.timestamp()
        self.now = end - 1
        achieved = self.achieved(owed())
        self.assertIs(self.tls.again(owed(), achieved), achieved)
        self.now = end + 1
        self.assertIn("expired", judge(owed(), self.tls.again(owed(), achieved)))

    def test_h32_tlsa_changed(self) -> None:
        """H32: the records of today decide, not those at the handshake."""
        old = by_dane(Tlsa(3, 1, 1, key_digest(ISSUED)))
        achieved = self.achieved(old)
        new = by_dane(Tlsa(3, 1, 1, bytes(32)))
        self.assertEqual(judge(old, achieved), "")
        self.assertTrue(judge(new, self.tls.again(new, achieved)))
        both = by_dane(*new.tlsa, *old.tlsa)
        self.assertEqual(judge(both, self.tls.again(both, achieved)), "")

    def test_h32_tlsa_authority_expired(self) -> None:
        """H32: at DANE-TA dates count, within a minute."""
        required = by_dane(Tlsa(2, 0, 1, certificate_digest(AUTHORITY.certificate)))
        achieved = self.achieved(required)
        self.assertEqual(judge(required, achieved), "")
        self.now = leaf_of(ISSUED).not_valid_after_utc.timestamp() + 60
        self.assertIn("expired", judge(required, self.tls.again(required, achieved)))

    def test_h32_pin_removed(self) -> None:
        """H32: a pin that is not there any more."""
        pin = key_digest(ISSUED).hex()
        achieved = self.achieved(pinned(pin))
        self.assertEqual(judge(pinned(pin), achieved), "")
        self.assertTrue(judge(pinned("00" * 32), self.tls.again(pinned("00" * 32), achieved)))

    def test_h32_sts(self) -> None:
        """H32: a session that was made without names is judged for those that the MTA-STS policy of today asks for."""
        achieved = self.achieved(owed(Level.MAY))
        for name, good in (("mx.example.org", True), ("mx2.example.org", False)):
            required = owed(Level.STS, name, evidence="sts:2:enforce")
            self.assertEqual(judge(required, self.tls.again(required, achieved)) == "", good)

    def test_h32_trust_withdrawn(self) -> None:
        """H32: a file of authorities that was changed, or taken away, is seen; nothing is raised."""
        path = Path(self.mktemp())
        path.write_bytes(AUTHORITY.certificate_pem)
        required = owed(parameters=Parameters(trust=(path,)))
        achieved = self.achieved(required)
        self.assertEqual(judge(required, achieved), "")
        path.write_bytes(Authority.create("another").certificate_pem)
        self.assertIn("not trusted", judge(required, self.tls.again(required, achieved)))
        path.unlink()
        self.assertIn("cannot be read", judge(required, self.tls.again(required, achieved)))
        self.assertRaises(MailError, self.tls.creator, required)

    def test_in_clear_text(self) -> None:
        """Without a chain there is nothing to judge."""
        achieved = attrs.evolve(self.achieved(owed()), version="", chain=())
        self.assertIs(self.tls.again(owed(), achieved), achieved)

    def test_asking_again_costs_no_cryptography(self) -> None:
        """A pick-up reads no certificate and builds no chain: all verdicts are remembered."""
        cases = (owed(), owed(Level.SECURE, ".example.org"), by_dane(Tlsa(2, 0, 1, certificate_digest(AUTHORITY.certificate))))
        before = [self.achieved(required) for required in cases]
        self.patch(verify, "x509", None)
        self.patch(verify, "_patterns", None)
        for required, achieved in zip(cases, before, strict=True):
            again = attrs.evolve(required)  # equal, another object: as when the demands were asked for anew
            self.assertIs(self.tls.again(again, achieved), achieved)

    def test_the_client_certificate_is_remembered(self) -> None:
        """C50: SHA-256 of the one that was named; "" where none was."""
        certificate, key = AUTHORITY.issue("relay.example.com").write(self.directory())
        shown = owed(parameters=Parameters(certificate=certificate, key=key))
        leaf = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
        self.assertEqual(self.achieved(shown).client_certificate, certificate_digest(leaf).hex())
        self.assertEqual(self.achieved(owed()).client_certificate, "")

    def directory(self) -> Path:
        path = Path(self.mktemp())
        path.mkdir()
        return path
