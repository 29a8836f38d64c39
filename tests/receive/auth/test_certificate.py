"""Who a client is by its certificate."""

from __future__ import annotations

from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.receive.auth.certificate import login_of, logins_in
from mta.testing.pki import Authority
from tests.receive.auth.strange import strange

AUTHORITY = Authority.create()


def leaf(*names: str) -> x509.Certificate:
    """For these names."""
    return x509.load_pem_x509_certificates(AUTHORITY.issue(*names).certificate_pem)[0]


def der(certificate: x509.Certificate) -> bytes:
    """As it is shown in TLS."""
    return certificate.public_bytes(Encoding.DER)


class AddressTests(SynchronousTestCase):
    """Without a map: the rfc822Name."""

    def test_one(self) -> None:
        """The login, with no authzid or with that one."""
        shown = der(leaf("host.example", "tim@a.example"))
        for authzid, login in (("", "tim@a.example"), ("tim@a.example", "tim@a.example"), ("root@a.example", ""), ("tim", "")):
            self.assertEqual(login_of(shown, authzid, None), login)

    def test_several(self) -> None:
        """The authzid must say which."""
        shown = der(leaf("tim@a.example", "info@a.example"))
        for authzid, login in (
            ("", ""),
            ("tim@a.example", "tim@a.example"),
            ("info@a.example", "info@a.example"),
            ("x@a.example", ""),
        ):
            self.assertEqual(login_of(shown, authzid, None), login)

    def test_none(self) -> None:
        """The name of a host is no login, nor is a subject."""
        self.assertEqual(login_of(der(leaf("host.example")), "", None), "")
        self.assertEqual(login_of(der(leaf("host.example")), "host.example", None), "")

    @settings(deadline=None, max_examples=100)
    @given(st.binary(max_size=100))
    def test_garbage(self, shown: bytes) -> None:
        """What is no certificate is nobody's."""
        for logins in (None, {}):
            self.assertRaises(ValueError, login_of, shown, "", logins)

    def test_unreadable(self) -> None:
        """Whatever an authority has signed, it is a login or cannot be read: nothing else is raised."""
        for what, (shown, _) in strange(AUTHORITY).items():
            if what == "a key of a kind that is not known":
                self.assertEqual(login_of(shown, "", None), "tim@a.example")
            else:
                error = self.assertRaises(ValueError, login_of, shown, "tim@a.example", None)
                self.assertIn("the certificate cannot be read", str(error), what)


class MapTests(SynchronousTestCase):
    """With a map: the fingerprint, and nothing else."""

    def test_fingerprints(self) -> None:
        """Of the certificate or of its key, with colons or without, in any case; an address in it counts no more."""
        shown = leaf("tim@a.example")
        key = shown.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        for octets in (der(shown), key):
            digest = sha256(octets).hexdigest()
            colons = ":".join(digest[at : at + 2] for at in range(0, 64, 2)).upper()
            for text in (f"{digest} tim", f"# who\n\n{colons}\ttim  \n"):
                logins = logins_in(text)
                self.assertEqual([login_of(der(shown), authzid, logins) for authzid in ("", "tim", "root")], ["tim", "tim", ""])
        self.assertEqual(login_of(der(shown), "", {}), "")
        self.assertEqual(login_of(der(shown), "tim@a.example", {}), "")

    def test_unreadable(self) -> None:
        """A certificate that the map names need not be read; one that it does not name is nobody's, or cannot be read."""
        for what, (shown, _) in strange(AUTHORITY).items():
            self.assertEqual(login_of(shown, "", {sha256(shown).hexdigest(): "tim"}), "tim", what)
            if what in ("a later version", "a key of a kind that is not known"):
                self.assertRaises(ValueError, login_of, shown, "", {})
            else:
                self.assertEqual(login_of(shown, "", {}), "", what)

    def test_mistakes(self) -> None:
        """A line that is none is named by its number; one fingerprint has one login."""
        digest = "ab" * 32
        for text in (
            "tim",
            digest,
            f"{digest} tim more",
            f"{digest[1:]} tim",
            f"{digest} tim\n{digest} tom",
            f"# x\n{digest}0 tim",
        ):
            error = self.assertRaises(ValueError, logins_in, text)
            self.assertIn(f"line {text.count(chr(10)) + 1}", str(error))
