"""The throw-away authority: its leaves verify, carry the right names, and can be made wrong on purpose."""

from __future__ import annotations

import stat
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import SSL, crypto
from twisted.trial import unittest

from mta.testing.pki import Authority


def leaf_of(pem: bytes) -> x509.Certificate:
    """The first certificate of a chain."""
    return x509.load_pem_x509_certificates(pem)[0]


def verify(authority: Authority, leaf: x509.Certificate) -> None:
    """Raises X509StoreContextError unless the leaf chains to the authority now."""
    store = crypto.X509Store()
    store.add_cert(crypto.X509.from_cryptography(authority.certificate))
    crypto.X509StoreContext(store, crypto.X509.from_cryptography(leaf)).verify_certificate()


class AuthorityTests(unittest.TestCase):
    """`Authority.issue`."""

    def setUp(self) -> None:
        self.authority = Authority.create()

    def test_names(self) -> None:
        """Names and addresses are in the subjectAltName, each in its own form."""
        leaf = leaf_of(self.authority.issue("mx.example.org", "*.example.net", "127.0.0.1", "::1").certificate_pem)
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual(names.get_values_for_type(x509.DNSName), ["mx.example.org", "*.example.net"])
        self.assertEqual(names.get_values_for_type(x509.IPAddress), [ip_address("127.0.0.1"), ip_address("::1")])

    def test_no_name(self) -> None:
        """A certificate for nobody is refused."""
        self.assertRaises(ValueError, self.authority.issue)

    def test_verifies_by_its_own_authority_only(self) -> None:
        """A leaf chains to the authority that made it and to no other of the same name."""
        leaf = leaf_of(self.authority.issue("mx.example.org").certificate_pem)
        verify(self.authority, leaf)
        self.assertRaises(crypto.X509StoreContextError, verify, Authority.create(), leaf)

    def test_identifiers_and_usage(self) -> None:
        """Key identifiers link leaf and authority; the leaf may play both roles and is no authority."""
        leaf = leaf_of(self.authority.issue("mx.example.org").certificate_pem)
        own = self.authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        link = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
        self.assertEqual(link.key_identifier, own.digest)
        usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        self.assertEqual(set(usage), {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH})
        self.assertFalse(leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)

    def test_expired(self) -> None:
        """An expired leaf was good before yesterday and fails with exactly that reason."""
        leaf = leaf_of(self.authority.issue("mx.example.org", expired=True).certificate_pem)
        self.assertLess(leaf.not_valid_after_utc, datetime.now(UTC))
        self.assertLess(leaf.not_valid_before_utc, leaf.not_valid_after_utc)
        error = self.assertRaises(crypto.X509StoreContextError, verify, self.authority, leaf)
        self.assertIn("expired", str(error))

    def test_rsa(self) -> None:
        """An RSA leaf can be had for clients that know nothing else."""
        issued = self.authority.issue("mx.example.org", key="rsa")
        self.assertIsInstance(load_pem_private_key(issued.key_pem, None), rsa.RSAPrivateKey)
        verify(self.authority, leaf_of(issued.certificate_pem))

    def test_write(self) -> None:
        """The files hold the leaf first and the fitting key, which nobody else may read, even over an open file."""
        directory = Path(self.mktemp())
        directory.mkdir()
        (directory / "key.pem").touch(mode=0o644)
        certificate, key = self.authority.issue("mx.example.org").write(directory)
        self.assertEqual(stat.S_IMODE(key.stat().st_mode), 0o600)
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.use_certificate_chain_file(str(certificate))
        context.use_privatekey_file(str(key))
        context.check_privatekey()
        self.assertEqual(len(x509.load_pem_x509_certificates(certificate.read_bytes())), 2)

    def test_key_is_not_shown(self) -> None:
        """A private key does not leak into a failing test's output."""
        self.assertNotIn("PRIVATE", repr(self.authority.issue("mx.example.org")))
