"""The contexts of a client: versions, ciphers, weak peers, and our own certificate (C04, C50 to C53)."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from OpenSSL import SSL
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from mta.config.settings import TlsClient
from mta.status import MailError
from mta.testing.pki import Authority
from mta.tls import client_context
from mta.tls.client_context import Contexts, cipher_string
from mta.tls.policy import Level, Parameters
from tests.tls.chains import Made, make
from tests.tls.client_case import AUTHORITY, ClientCase, owed


def old(version: int, ciphers: bytes = b"ALL:@SECLEVEL=0") -> Callable[[SSL.Context], None]:
    """A server that knows nothing newer."""

    def prepare(context: SSL.Context) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.set_cipher_list(ciphers)
        context.set_min_proto_version(SSL.TLS1_VERSION)
        context.set_max_proto_version(version)

    return prepare


class SpokenTests(ClientCase):
    """Versions and ciphers."""

    def test_c52_an_old_server_by_its_own_rule(self) -> None:
        """C52: ciphers = AES128-SHA and min = TLSv1 for one host: used there, and nowhere else."""
        rsa_issued = AUTHORITY.issue("mx.example.org", key="rsa")
        server = old(SSL.TLS1_VERSION, b"AES128-SHA:@SECLEVEL=0")
        special = owed(Level.ENCRYPT, parameters=Parameters(min_version="TLSv1", ciphers="AES128-SHA"))
        achieved = self.achieved(special, rsa_issued, prepare=server)
        self.assertEqual((achieved.version, achieved.cipher), ("TLSv1", "AES128-SHA"))
        self.assertRaises(SSL.Error, self.achieved, owed(Level.ENCRYPT), rsa_issued, prepare=server)
        self.assertRaises(SSL.Error, self.achieved, owed(Level.MAY), rsa_issued, prepare=server)

    def test_c53_tls_1_0_only(self) -> None:
        """C53 A84: refused at may as at encrypt (RFC 8996); with min = TLSv1 it is spoken."""
        for level in (Level.MAY, Level.ENCRYPT):
            self.assertRaises(SSL.Error, self.achieved, owed(level), prepare=old(SSL.TLS1_VERSION))
        achieved = self.achieved(owed(Level.MAY, parameters=Parameters(min_version="TLSv1")), prepare=old(SSL.TLS1_VERSION))
        self.assertEqual(achieved.version, "TLSv1")

    def test_highest_version(self) -> None:
        """max = TLSv1.2 keeps TLS 1.3 away."""
        self.assertEqual(self.achieved(owed()).version, "TLSv1.3")
        self.assertEqual(self.achieved(owed(parameters=Parameters(max_version="TLSv1.2"))).version, "TLSv1.2")

    def test_settings_for_everywhere(self) -> None:
        """[tls_client] min_version and ciphers hold where a policy says nothing."""
        self.tls._contexts = Contexts(TlsClient(min_version="TLSv1.3"))
        self.assertRaises(SSL.Error, self.achieved, owed(), prepare=old(SSL.TLS1_2_VERSION))
        self.tls._contexts = Contexts(TlsClient(ciphers="ECDHE-ECDSA-AES256-GCM-SHA384"))
        cipher = self.achieved(owed(), prepare=old(SSL.TLS1_2_VERSION)).cipher
        self.assertEqual(cipher, "ECDHE-ECDSA-AES256-GCM-SHA384")

    def test_security_level(self) -> None:
        """OpenSSL's own level is lowered where any encryption will do, and for TLS 1.0 and 1.1; never against the operator."""
        for lowest, ciphers, opportunistic, lowered in (
            ("TLSv1.2", "", True, True),
            ("TLSv1.2", "", False, False),
            ("TLSv1.1", "AES128-SHA", False, True),
            ("TLSv1", "AES128-SHA:@SECLEVEL=1", True, False),
        ):
            parameters = Parameters(min_version=lowest, ciphers=ciphers)
            told = cipher_string(TlsClient(), parameters, opportunistic)
            self.assertEqual(told.endswith(":@SECLEVEL=0"), lowered, told)

    def test_nothing_left(self) -> None:
        """Ciphers that do not exist and versions that exclude each other are found before STARTTLS, with their names."""
        for parameters, word in (
            (Parameters(ciphers="RC5-NEVER"), "RC5-NEVER"),
            (Parameters(ciphers="\u00fc"), "\u00fc"),
            (Parameters(max_version="TLSv1.1"), "TLSv1.1"),
        ):
            error = self.assertRaises(MailError, self.tls.creator, owed(parameters=parameters))
            self.assertEqual((error.reply.code, error.reply.enhanced), (451, "4.7.5"))
            self.assertIn(word, error.reply.text)


class CertificateTests(ClientCase):
    """C50: what we show when a server asks."""

    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.certificate, self.key = AUTHORITY.issue("relay.example.com").write(self.folder)
        self.named = owed(parameters=Parameters(certificate=self.certificate, key=self.key))

    def seen(self, required) -> list[str]:
        """The subjects in the chain that the server is shown."""
        asked = lambda context: context.set_verify(SSL.VERIFY_PEER, lambda *args: True)  # noqa: E731
        _, server = self.connect(required=required, prepare=asked)
        chain = [server.get_peer_certificate(as_cryptography=True)]
        chain += server.get_peer_cert_chain(as_cryptography=True) or []  # a server's has no leaf
        return [certificate.subject.rfc4514_string() for certificate in chain if certificate is not None]

    def test_c50_only_where_it_is_named(self) -> None:
        """C50: without a named one an empty answer; with it the leaf and not the self-signed root, which stands in the file."""
        self.assertEqual(self.seen(owed()), [])
        self.assertEqual(self.seen(self.named), ["CN=relay.example.com"])

    def test_c50_intermediates_are_sent(self) -> None:
        """C50: what lies between leaf and root is sent."""
        root = make(ca=True)
        middle = make(root, ca=True, common_name="middle")
        leaf = make(middle, common_name="leaf")
        self.write(leaf, middle, root)
        self.assertEqual(self.seen(self.named), ["CN=leaf", "CN=middle"])

    def write(self, leaf: Made, *others: Made) -> None:
        pem = [made.certificate.public_bytes(Encoding.PEM) for made in (leaf, *others)]
        self.certificate.write_bytes(b"".join(pem))
        self.key.write_bytes(leaf.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    def test_c50_weak_signatures_are_warned_of(self) -> None:
        """C50 A76: an MD5 or SHA-1 signature in the chain is told at load, also one of a root that is not sent."""
        root = make(ca=True, digest=hashes.SHA384())
        self.write(make(root), root)
        # Nobody signs with SHA-1 any more, the library included: another digest stands in for it.
        self.patch(client_context, "WEAK_DIGESTS", {"sha384"})
        with capturedLogs() as events:
            self.tls.creator(self.named)
            self.tls.creator(self.named)
        self.assertEqual([formatEvent(event).split("; ")[0] for event in events], [f"{self.certificate}: signed with sha384"])

    def test_c04_what_cannot_be_used(self) -> None:
        """C04 A50: a certificate or key that is missing, junk, encrypted or another's: 4.7.5 with the file, nothing else."""
        good, other = self.key.read_bytes(), ec.generate_private_key(ec.SECP256R1())
        secret = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
        stranger = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        for text in (None, b"junk", secret, stranger):
            self.unusable(self.key, text)
        self.key.write_bytes(good)
        for text in (None, b"junk", b""):
            self.unusable(self.certificate, text)

    def unusable(self, path: Path, text: bytes | None) -> None:
        path.unlink()
        if text is not None:
            path.write_bytes(text)
        error = self.assertRaises(MailError, self.tls.creator, self.named)
        self.assertEqual((error.reply.code, error.reply.enhanced), (451, "4.7.5"))
        self.assertIn(str(path), error.reply.text)
        path.touch()

    def test_a_renewed_certificate_is_read(self) -> None:
        """A changed file makes a new context; an unchanged one does not."""
        contexts = self.tls._contexts
        first = contexts.get(self.named.parameters, False)
        self.assertIs(contexts.get(self.named.parameters, False), first)
        Authority.create().issue("new.example.com").write(self.folder)
        self.assertEqual(self.seen(self.named), ["CN=new.example.com"])
        self.assertIsNot(contexts.get(self.named.parameters, False), first)

    def test_fingerprint(self) -> None:
        """A context knows the SHA-256 of the leaf that it shows, reckoned when the file is read and not again; "" for none."""
        contexts = self.tls._contexts
        first = contexts.get(self.named.parameters, False).get_app_data()
        self.assertEqual(first, self.fingerprint())
        self.assertIs(contexts.get(self.named.parameters, False).get_app_data(), first)
        AUTHORITY.issue("relay.example.com").write(self.folder)  # the same name and path, another certificate
        self.assertEqual(contexts.get(self.named.parameters, False).get_app_data(), self.fingerprint())
        self.assertNotEqual(self.fingerprint(), first)
        self.assertEqual(contexts.get(Parameters(), False).get_app_data(), "")

    def fingerprint(self) -> str:
        """Of the leaf that is in the file now."""
        leaf, *_ = x509.load_pem_x509_certificates(self.certificate.read_bytes())
        return leaf.fingerprint(hashes.SHA256()).hex()

    def test_what_would_be_shown(self) -> None:
        """The fingerprint without a connection: none is named, one that is replaced in its place, one that cannot be used."""
        self.assertEqual((self.tls.shown(owed()), self.tls.shown(self.named)), ("", self.fingerprint()))
        AUTHORITY.issue("relay.example.com").write(self.folder)
        self.assertEqual(self.tls.shown(self.named), self.fingerprint())
        self.assertEqual(self.tls.creator(self.named).certificate, self.fingerprint())
        self.certificate.write_bytes(b"half wri")
        self.assertEqual(self.tls.shown(self.named), "unusable")
        self.assertEqual(self.tls.creator(owed()).certificate, "")

    def test_key_in_the_same_file(self) -> None:
        """A policy without a key means that the certificate's file has it."""
        self.certificate.write_bytes(self.certificate.read_bytes() + self.key.read_bytes())
        self.assertEqual(self.seen(owed(parameters=Parameters(certificate=self.certificate))), ["CN=relay.example.com"])


class CacheTests(SynchronousTestCase):
    """How many contexts there are."""

    def test_bounded(self) -> None:
        """One for each way to speak TLS, used again; the oldest goes at the limit."""
        contexts = Contexts(TlsClient(), limit=2)
        plain = contexts.get(Parameters(), False)
        self.assertIs(contexts.get(Parameters(fingerprints=("00",), trust=(Path("/x"),)), False), plain)
        self.assertIsNot(contexts.get(Parameters(), True), plain)
        contexts.get(Parameters(min_version="TLSv1.3"), False)
        self.assertEqual(len(contexts._known), 2)
        self.assertIsNot(contexts.get(Parameters(), False), plain)
