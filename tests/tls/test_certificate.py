"""Contexts out of files: several keys, their chains, weak signatures, and what no context does (S31, X18, X19, A76)."""

from __future__ import annotations

import attrs
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mta.testing.pki import Authority
from mta.tls import certificate
from mta.tls.certificate import ContextMaker, Pair, stamp_of
from mta.tls.context import ServerTls
from tests.tls.chains import at, make
from tests.tls.contexts import AUTHORITY, ContextCase, client_of, leaf_of, only
from tests.tls.hello import ECDSA_SHA256, RSA_PSS_SHA256, answer, certificates, client_hello, messages


class KindsTests(ContextCase):
    """Keys of different kinds for one name."""

    def setUp(self) -> None:
        super().setUp()
        self.second = self.entry("rsa", "*", key="rsa", shows="mx.example.org")

    def test_two_kinds_of_keys(self) -> None:
        """S40: the client's ciphers say which of the two certificates it sees."""
        tls = self.serving(self.second)
        for ciphers, kind in ((b"ECDHE+aECDSA", ec.EllipticCurvePublicKey), (b"ECDHE+aRSA", rsa.RSAPublicKey)):
            client, _ = client_of(tls, only("TLSv1.2", ciphers))
            self.assertIsInstance(leaf_of(client).public_key(), kind)

    def test_signature_algorithms(self) -> None:
        """S40: and so do its signature algorithms, where the ciphers leave both open."""
        tls = self.serving(self.second)
        for scheme, kind in ((ECDSA_SHA256, ec.EllipticCurvePublicKey), (RSA_PSS_SHA256, rsa.RSAPublicKey)):
            flight = answer(tls.prepare().connection, client_hello(schemes=(scheme,)))
            self.assertIsInstance(certificates(flight)[0].public_key(), kind)

    def test_each_leaf_has_its_own_chain(self) -> None:
        """The certificates of another authority are not sent along (RFC 5246 7.4.2: each certifies the one before)."""
        other = Authority.create("another CA")
        other.issue("mx.example.org", key="rsa").write(self.second.certificate.parent)
        tls = self.serving(self.second)
        for scheme, authority in ((ECDSA_SHA256, AUTHORITY), (RSA_PSS_SHA256, other)):
            chain = certificates(answer(tls.prepare().connection, client_hello(schemes=(scheme,))))
            self.assertEqual(chain[1:], [authority.certificate])

    def test_two_of_one_kind(self) -> None:
        """Which of them would be shown nobody could say: a mistake that names both."""
        same = self.entry("ec", "*", shows="mx.example.org")
        reason = self.refused(sni=(same,))
        self.assertIn("keys of different kinds", reason)
        self.assertIn(str(self.certificate), reason)
        self.assertIn(str(same.certificate), reason)

    def test_s31_no_cipher_for_either(self) -> None:
        """S31: with an RSA certificate beside it, ciphers that the ECDSA key cannot serve are no mistake any more."""
        ciphers = "ECDHE-RSA-AES128-GCM-SHA256"
        self.assertIn("TLSv1.2 handshake", self.refused(ciphers=ciphers))
        self.assertTrue(self.serving(self.second, ciphers=ciphers).offered)


class LoadedTests(ContextCase):
    """What is known of a loaded certificate."""

    def loaded(self, *pairs: Pair):
        return ContextMaker(self.settings, lambda: 0.0).make(pairs or (Pair(self.certificate, self.key),))

    def test_facts(self) -> None:
        """Names and last day of the leaf; the stamp is that of the files."""
        loaded = self.loaded()
        (leaf,) = loaded.leaves
        self.assertEqual((leaf.certificate, leaf.names, leaf.weak), (self.certificate, ("mx.example.org",), ""))
        self.assertEqual(loaded.not_after, leaf.not_after)
        self.assertEqual(loaded.stamp, stamp_of([self.certificate, self.key]))

    def test_a76_weak_signature_in_the_chain(self) -> None:
        """A76: a chain with an old signature, even the root's alone, is loaded and known to be weak."""
        self.patch(certificate, "WEAK_DIGESTS", frozenset({"sha384"}))  # nobody signs with MD5 or SHA-1 any more
        root = make(ca=True, digest=hashes.SHA384(), days=900)
        leaf = make(root, days=900)
        chain = b"".join([each.certificate.public_bytes(Encoding.PEM) for each in (leaf, root)])
        self.certificate.write_bytes(chain)
        self.key.write_bytes(_pem(leaf.key))
        (known,) = self.loaded().leaves
        self.assertEqual((known.weak, known.names, known.not_after), ("sha384", (), at(900)))

    def test_stamps(self) -> None:
        """A file that is replaced, grows or goes is another one."""
        stamps = {stamp_of([self.certificate])}
        self.certificate.write_bytes(self.certificate.read_bytes() + b"\n")
        stamps.add(stamp_of([self.certificate]))
        fresh = self.directory / "fresh"
        fresh.write_bytes(self.certificate.read_bytes())
        fresh.rename(self.certificate)
        stamps.add(stamp_of([self.certificate]))
        self.certificate.unlink()
        stamps.add(stamp_of([self.certificate]))
        self.assertEqual(len(stamps), 4)
        self.assertIn((None,), stamps)

    def test_what_makes_contexts_alike(self) -> None:
        """Contexts live on over a reload only where nothing that they are made of is different."""
        maker = ContextMaker(self.settings, lambda: 0.0)
        self.assertTrue(maker.makes_the_same(ContextMaker(attrs.evolve(self.settings, sni_cached=3, watch=1.0), lambda: 0.0)))
        for change in (
            {"min_version": "TLSv1.3"},
            {"ciphers": "ECDHE+AESGCM"},
            {"client_cert": "ask"},
            {"client_cert": "ask", "client_ca": (self.certificate,)},
        ):
            other = ContextMaker(attrs.evolve(self.settings, **change), lambda: 0.0)
            self.assertFalse(maker.makes_the_same(other), change)


class NeverTests(ContextCase):
    """What no handshake with us does."""

    def test_x19_no_compression(self) -> None:
        """X19: the server's flight has neither a compression method nor a session id to come back with, nor a ticket unasked."""
        flight = answer(ServerTls.load(self.settings).prepare().connection, client_hello())
        hello = dict(messages(flight))[2]
        self.assertEqual(hello[34], 0, "a session id")
        self.assertEqual(hello[37], 0, "a compression method")
        self.assertNotIn(b"\x00\x23", hello[38:])


def _pem(key) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
