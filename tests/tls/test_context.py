"""The server's context: what is offered, what is refused at load, and what a reload may not break (S30a to S35, S44)."""

from __future__ import annotations

from unittest.mock import patch

import attrs
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface.verify import verifyObject

from mta.config.settings import Tls
from mta.status import MailError
from mta.tls.context import ServerTls, closed_by_peer, facts
from tests.tls.contexts import AUTHORITY, ContextCase, carry, client_of


class LoadTests(ContextCase):
    """`ServerTls.load`."""

    def test_s30a_nothing_configured(self) -> None:
        """S30a, A58: without a certificate nothing is offered, and asking for it anyway is a local problem."""
        tls = ServerTls.load(Tls())
        self.assertEqual((tls.offered, tls.fault), (False, ""))
        self.assertEqual(self.assertRaises(MailError, tls.prepare).reply.code, 454)

    def test_offered(self) -> None:
        """A good pair is offered, and its last day is known."""
        tls = ServerTls.load(self.settings)
        self.assertTrue(tls.offered)
        self.assertGreater(tls.not_after, self.certificate.stat().st_mtime)
        self.assertTrue(verifyObject(IOpenSSLServerConnectionCreator, tls.prepare()))

    def test_s31_key_of_another_certificate(self) -> None:
        """S31, A59: a key that does not fit its certificate ends the start, and the message names both files."""
        self.key.write_bytes(AUTHORITY.issue("mx.example.org").key_pem)
        reason = self.refused()
        self.assertIn(str(self.key), reason)
        self.assertIn(str(self.certificate), reason)

    def test_s31_key_of_another_kind(self) -> None:
        """S31: the same with a key of another algorithm."""
        self.key.write_bytes(AUTHORITY.issue("mx.example.org", key="rsa").key_pem)
        self.assertIn("does not fit", self.refused())

    def test_s31_no_cipher_for_the_key(self) -> None:
        """S31: ciphers that the ECDSA key cannot serve are found by the self-test, though TLS 1.3 would work."""
        self.assertIn("TLSv1.2 handshake", self.refused(ciphers="ECDHE-RSA-AES128-GCM-SHA256"))
        self.assertTrue(ServerTls.load(attrs.evolve(self.settings, ciphers="ECDHE-ECDSA-AES128-GCM-SHA256")).offered)

    def test_unknown_ciphers(self) -> None:
        """A cipher string that means nothing is a mistake."""
        self.assertIn("tls.ciphers", self.refused(ciphers="NONSENSE"))
        self.assertIn("tls.ciphers", self.refused(ciphers="ÄES"))

    def test_s33_fatal(self) -> None:
        """S33, A63: a key that cannot be read ends the start with the file and the trouble in the message."""
        self.key.unlink()
        self.assertIn(f"{self.key}: No such file", self.refused())

    def test_s33_offer_nothing(self) -> None:
        """S33, A63: where the operator says so the start goes on without STARTTLS, and the fault is kept for the metric."""
        self.key.unlink()
        tls = ServerTls.load(attrs.evolve(self.settings, error="offer-nothing"))
        self.assertFalse(tls.offered)
        self.assertIn("No such file", tls.fault)
        self.assertIn("No such file", self.assertRaises(MailError, tls.prepare).reason)

    def test_bad_files(self) -> None:
        """Garbage, a missing key setting, an encrypted key and a version from the past: each has its own words."""
        self.assertIn("needs its key", self.refused(key=None))
        self.assertIn("'TLSv1.1' is none of TLSv1.2, TLSv1.3", self.refused(min_version="TLSv1.1"))
        garbage = self.directory / "garbage"
        garbage.write_bytes(b"-----BEGIN CERTIFICATE-----\nMIIB")
        self.assertIn("not a chain", self.refused(certificate=garbage))
        self.assertIn("not a private key", self.refused(key=garbage))
        key = load_pem_private_key(self.key.read_bytes(), None)
        locked = BestAvailableEncryption(b"secret")
        garbage.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked))
        self.assertIn("passphrase", self.refused(key=garbage))

    def test_s32_no_connection(self) -> None:
        """S32: whatever goes wrong when a connection is made is 454 for the client, and said in words to us."""
        tls = ServerTls.load(self.settings)
        for error, words in (
            (SSL.Error([("SSL routines", "", "malloc failure")]), "malloc failure"),
            (MemoryError(), "MemoryError"),
            (ValueError("the engine has gone"), "the engine has gone"),
        ):
            with patch.object(SSL.Connection, "set_accept_state", side_effect=error):
                refused = self.assertRaises(MailError, tls.prepare)
            self.assertEqual((refused.reply.code, refused.reason), (454, f"no TLS connection can be made: {words}"))
        tls.prepare()

    def test_s34_expired(self) -> None:
        """S34, A66: an expired certificate is still offered, and its date lies in the past for the alarm."""
        AUTHORITY.issue("mx.example.org", expired=True).write(self.directory)
        tls = ServerTls.load(self.settings)
        self.assertTrue(tls.offered)
        self.assertLess(tls.not_after, self.certificate.stat().st_mtime)


class HandshakeTests(ContextCase):
    """What a context agrees to."""

    def test_facts(self) -> None:
        """Version, cipher and bits are told as they are."""
        client, server = client_of(ServerTls.load(self.settings))
        self.assertEqual(facts(server).version, "TLSv1.3")
        self.assertEqual(facts(server).cipher, client.get_cipher_name())
        self.assertIn(facts(server).bits, (128, 256))

    def test_old_version(self) -> None:
        """TLS 1.1 is refused, and 1.2 where the operator wants 1.3."""

        def tls12(context: SSL.Context) -> None:
            context.set_max_proto_version(SSL.TLS1_2_VERSION)

        def tls11(context: SSL.Context) -> None:
            context.set_cipher_list(b"ALL:@SECLEVEL=0")
            context.set_min_proto_version(SSL.TLS1_1_VERSION)
            context.set_max_proto_version(SSL.TLS1_1_VERSION)

        self.assertEqual(facts(client_of(ServerTls.load(self.settings), tls12)[1]).version, "TLSv1.2")
        self.assertRaises(SSL.Error, client_of, ServerTls.load(self.settings), tls11)
        newest = ServerTls.load(attrs.evolve(self.settings, min_version="TLSv1.3"))
        self.assertRaises(SSL.Error, client_of, newest, tls12)

    def test_s44_alpn(self) -> None:
        """S44: smtp is selected among others, nothing offered is fine, anything else gets alert 120."""
        tls = ServerTls.load(self.settings)
        client, _ = client_of(tls, lambda context: context.set_alpn_protos([b"h2", b"smtp"]))
        self.assertEqual(client.get_alpn_proto_negotiated(), b"smtp")
        self.assertEqual(client_of(tls)[0].get_alpn_proto_negotiated(), b"")
        error = self.assertRaises(SSL.Error, client_of, tls, lambda context: context.set_alpn_protos([b"h2"]))
        self.assertIn("no application protocol", str(error))

    def test_renegotiation(self) -> None:
        """S45: a client of TLS 1.2 that asks for a second handshake gets none."""
        client, server = client_of(
            ServerTls.load(self.settings), lambda context: context.set_max_proto_version(SSL.TLS1_2_VERSION)
        )
        client.renegotiate()
        with self.assertRaises(SSL.Error):
            for _ in range(4):
                for end, other in ((client, server), (server, client)):
                    try:
                        end.do_handshake()
                        end.recv(1)
                    except SSL.WantReadError:
                        pass
                    carry(end, other)

    def test_whole_chain(self) -> None:
        """The client sees the leaf and its authority."""
        client, _ = client_of(ServerTls.load(self.settings))
        self.assertEqual(len(client.get_peer_cert_chain(as_cryptography=True)), 2)

    def test_closed_by_peer(self) -> None:
        """close_notify is told from a bare end."""
        client, server = client_of(ServerTls.load(self.settings))
        self.assertFalse(closed_by_peer(server))
        client.shutdown()
        carry(client, server)
        self.assertRaises((SSL.ZeroReturnError, SSL.WantReadError), server.recv, 1)
        self.assertTrue(closed_by_peer(server))


class ReloadTests(ContextCase):
    """`ServerTls.reload`."""

    def serial(self, tls: ServerTls) -> int:
        """Which certificate a new handshake shows."""
        leaf = client_of(tls)[0].get_peer_certificate(as_cryptography=True)
        assert leaf is not None
        return leaf.serial_number

    def test_s35_new_certificate(self) -> None:
        """S35: a connection made before the reload lives on, the next one has the new certificate."""
        tls = ServerTls.load(self.settings)
        client, server = client_of(tls)
        old = self.serial(tls)
        AUTHORITY.issue("mx.example.org").write(self.directory)
        tls.reload()
        self.assertNotEqual(self.serial(tls), old)
        client.send(b"EHLO a\r\n")
        carry(client, server)
        self.assertEqual(server.recv(100), b"EHLO a\r\n")

    def test_s31_s36_mistake_keeps_the_old(self) -> None:
        """S31, S36: a half-written certificate and a wrong key leave the old context in use; the repair is taken."""
        tls = ServerTls.load(self.settings)
        old = self.serial(tls)
        new = AUTHORITY.issue("mx.example.org")
        for certificate in (new.certificate_pem[:300], b"", new.certificate_pem):
            self.certificate.write_bytes(certificate)
            self.assertRaises(MailError, tls.reload)
            self.assertEqual(self.serial(tls), old)
            self.assertTrue(tls.fault)
        new.write(self.directory)
        tls.reload()
        self.assertNotEqual(self.serial(tls), old)
        self.assertEqual(tls.fault, "")

    def test_new_settings(self) -> None:
        """A reload may take new settings; refused ones are forgotten."""
        tls = ServerTls.load(self.settings)
        self.assertRaises(MailError, tls.reload, attrs.evolve(self.settings, ciphers="NONSENSE"))
        tls.reload()
        self.assertTrue(tls.offered)
        tls.reload(Tls())
        self.assertFalse(tls.offered)

    def test_fault_at_start_then_repaired(self) -> None:
        """What could not be offered at the start is offered after the reload that finds the files right."""
        self.key.unlink()
        tls = ServerTls.load(attrs.evolve(self.settings, error="offer-nothing"))
        AUTHORITY.issue("mx.example.org").write(self.directory)
        tls.reload()
        self.assertTrue(tls.offered)
