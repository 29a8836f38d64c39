"""The client's contexts over in-memory handshakes: what it offers, what it takes, what it says of the peer (C50 to C56)."""

from __future__ import annotations

import warnings
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from zope.interface.verify import verifyObject

from mta.config.settings import TlsClient
from mta.status import MailError
from mta.testing.pki import Authority
from mta.tls.client import ClientTls
from mta.tls.policy import Level, judge
from tests.tls.client_case import AUTHORITY, ISSUED, ClientCase, owed, shake


class ClientTlsTests(ClientCase):
    """`ClientTls`."""

    def test_provides_what_start_tls_wants(self) -> None:
        """The creator is one that Twisted takes."""
        verifyObject(IOpenSSLClientConnectionCreator, self.tls.creator(owed()))

    def test_what_is_achieved(self) -> None:
        """P01: version, cipher, chain and verdict of a good peer; a name or an address of the certificate will do."""
        client, _ = self.connect()
        achieved = self.tls.achieved(client, owed(Level.VERIFY, "mx.example.org"))
        self.assertEqual((achieved.version, achieved.verified, len(achieved.chain)), ("TLSv1.3", "verified", 2))
        self.assertTrue(achieved.cipher)
        self.assertGreaterEqual(achieved.bits, 128)
        self.assertEqual(self.tls.achieved(client, owed(Level.VERIFY, "192.0.2.1")).verified, "verified")
        self.assertEqual(self.tls.achieved(client, owed(Level.VERIFY, "mx.example.net")).verified, "trusted")
        self.assertIs(self.tls.again(owed(), achieved), achieved)

    def test_bad_certificates_do_not_end_the_handshake(self) -> None:
        """C56: expired, self-signed and of a stranger are recorded, so that "may" can go on and "verify" can say QUIT."""
        for issued in (AUTHORITY.issue("mx.example.org", expired=True), Authority.create().issue("mx.example.org")):
            client, _ = self.connect(issued)
            achieved = self.tls.achieved(client, owed(Level.VERIFY, "mx.example.org"))
            self.assertEqual(achieved.verified, "untrusted")
            self.assertIn("not trusted", judge(owed(), achieved))

    def test_a_certificate_that_cannot_be_read_does_not_end_the_handshake(self) -> None:
        """C56: OpenSSL takes a certificate of a version that never was: it does not verify, and "may" goes on in TLS."""
        der = x509.load_pem_x509_certificate(ISSUED.certificate_pem).public_bytes(Encoding.DER)
        strange = Path(self.mktemp())
        strange.write_bytes(der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05", 1))
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.use_certificate_file(str(strange), crypto.FILETYPE_ASN1)
        context.use_privatekey(load_pem_private_key(ISSUED.key_pem, None))
        client = self.tls.creator(owed()).clientConnectionForTLS(None)
        shake(client, SSL.Connection(context, None))
        achieved = self.tls.achieved(client, owed(Level.VERIFY, "mx.example.org"))
        self.assertEqual((achieved.verified, achieved.chain_error), ("untrusted", "certificate cannot be read"))
        self.assertFalse(achieved.names_ok)

    def test_without_trust_file_the_authority_is_a_stranger(self) -> None:
        """Trust comes from the system's roots and the files named, from nowhere else."""
        client, _ = self.connect()
        self.assertEqual(ClientTls(TlsClient()).achieved(client, owed(Level.VERIFY, "mx.example.org")).verified, "untrusted")

    def test_server_name_indication(self) -> None:
        """C51: the MX host's name is sent; an address never is (RFC 6066 3), nor what is no host name."""
        for name, sent in (
            ("mx.example.org", b"mx.example.org"),
            ("192.0.2.1", None),
            ("2001:db8::1", None),
            ("", None),
            ("m\u00fcller.example", None),
            ("a" * 300, None),
        ):
            seen: list[bytes | None] = []
            prepare = lambda context: context.set_tlsext_servername_callback(lambda c: seen.append(c.get_servername()))  # noqa: E731
            self.connect(required=owed(sni=name), prepare=prepare)
            self.assertEqual(seen, [sent])

    def test_client_hello(self) -> None:
        """C51: at most 64 suites, none with 3DES, RC4, NULL or without authentication; the record is TLS, not SSLv2."""
        for level in (Level.MAY, Level.VERIFY):
            self.hello(level)

    def hello(self, level: Level) -> None:
        client = self.tls.creator(owed(level)).clientConnectionForTLS(None)
        client.set_connect_state()
        self.assertRaises(SSL.WantReadError, client.do_handshake)
        hello = client.bio_read(65536)
        self.assertEqual(hello[0], 0x16)
        session = 5 + 4 + 2 + 32
        start = session + 1 + hello[session]
        suites = int.from_bytes(hello[start : start + 2], "big") // 2
        self.assertTrue(10 <= suites <= 64, suites)
        names = client.get_cipher_list()
        for word in ("RC4", "3DES", "DES-CBC", "NULL", "ADH", "AECDH", "MD5", "PSK", "EXP"):
            self.assertFalse([name for name in names if word in name], word)

    def test_old_versions_are_refused(self) -> None:
        """A84: TLS 1.1 is not spoken, TLS 1.2 is (RFC 8996)."""

        def only(version: int, context: SSL.Context) -> None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                context.set_cipher_list(b"ALL:@SECLEVEL=0")
            context.set_min_proto_version(version)
            context.set_max_proto_version(version)

        client, _ = self.connect(prepare=lambda context: only(SSL.TLS1_2_VERSION, context))
        self.assertEqual(self.tls.achieved(client, owed()).version, "TLSv1.2")
        self.assertRaises(SSL.Error, self.connect, prepare=lambda context: only(SSL.TLS1_1_VERSION, context))

    def test_no_client_certificate(self) -> None:
        """C50: a server that asks for a certificate gets none and the handshake stands."""
        asked = lambda context: context.set_verify(SSL.VERIFY_PEER, lambda *args: True)  # noqa: E731
        client, server = self.connect(prepare=asked)
        self.assertIsNone(server.get_peer_certificate(as_cryptography=True))
        self.assertEqual(self.tls.achieved(client, owed(Level.VERIFY, "mx.example.org")).verified, "verified")

    def test_unreadable_trust_file(self) -> None:
        """A trust file that is missing or no certificate ends the start with its name."""
        junk = Path(self.mktemp())
        junk.write_text("no certificate")
        for path in (Path("/nonexistent/ca.pem"), junk):
            error = self.assertRaises(MailError, ClientTls, TlsClient(trust=(path,)))
            self.assertIn(str(path), str(error))
