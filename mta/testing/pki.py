"""A throw-away certificate authority for tests, ours and our users'.

RFC 5280 profile as mail servers meet it: an authority of its own, leaves with subjectAltName (RFC 9525; no name in the
subject counts), extended key usage for both roles, subject and authority key identifiers.  Nothing here is meant to
guard real mail: keys are made in memory, live as long as the test and are written only on request, mode 0600.

    authority = Authority.create()
    certificate, key = authority.issue("mx.example.org", "127.0.0.1").write(directory)
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["Authority", "Issued"]

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
KeyKind = Literal["ec", "rsa"]

_SKEW = timedelta(hours=1)  # certificates begin in the past: clocks differ


@attrs.frozen(slots=True)
class Issued:
    """A leaf with its private key.  certificate_pem is a chain: the leaf first, then its authority."""

    certificate_pem: bytes
    key_pem: bytes = attrs.field(repr=False)

    def write(self, directory: Path) -> tuple[Path, Path]:
        """Write `cert.pem` and `key.pem` (mode 0600) into an existing directory, over what is there; give their paths."""
        certificate, key = directory / "cert.pem", directory / "key.pem"
        certificate.write_bytes(self.certificate_pem)
        with open(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            os.fchmod(file.fileno(), 0o600)  # a file that was there keeps its mode otherwise
            file.write(self.key_pem)
        return certificate, key


@attrs.frozen(slots=True)
class Authority:
    """A self-signed certificate authority with its key."""

    certificate: x509.Certificate
    _key: PrivateKey = attrs.field(repr=False)

    @classmethod
    def create(cls, name: str = "mta test CA") -> Authority:
        """A new authority with a fresh P-256 key, good for a year."""
        key = _private_key("ec")
        subject = _subject(name)
        now = datetime.now(UTC)
        usage = _key_usage(digital_signature=True, key_cert_sign=True, crl_sign=True)
        builder = _builder(subject, subject, key, now - _SKEW, now + timedelta(days=365))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(usage, critical=True)
        return cls(builder.sign(key, hashes.SHA256()), key)

    @property
    def certificate_pem(self) -> bytes:
        """The authority's certificate: what a client is told to trust."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, *names: str, days: int = 30, expired: bool = False, key: KeyKind = "ec") -> Issued:
        """A leaf for these DNS names and IP addresses.  expired: its last day was yesterday."""
        if not names:
            raise ValueError("a certificate needs at least one name")
        private = _private_key(key)
        end = datetime.now(UTC) + timedelta(days=-1 if expired else days)
        issuer_id = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        builder = _builder(_subject(names[0]), self.certificate.subject, private, end - timedelta(days=days) - _SKEW, end)
        for extension, critical in (
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_key_usage(digital_signature=True, key_encipherment=key == "rsa"), True),
            (x509.SubjectAlternativeName([_general_name(name) for name in names]), False),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), False),
            (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_id), False),
        ):
            builder = builder.add_extension(extension, critical=critical)
        leaf = builder.sign(self._key, hashes.SHA256())
        return Issued(leaf.public_bytes(serialization.Encoding.PEM) + self.certificate_pem, _key_pem(private))


def _private_key(kind: KeyKind) -> PrivateKey:
    if kind == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(ec.SECP256R1())


def _key_pem(key: PrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])  # RFC 5280 ub-common-name


def _general_name(name: str) -> x509.GeneralName:
    """An rfc822Name or iPAddress where the name is one, else a dNSName in A-labels."""
    if "@" in name:
        return x509.RFC822Name(name)
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _builder(subject: x509.Name, issuer: x509.Name, key: PrivateKey, begin: datetime, end: datetime) -> x509.CertificateBuilder:
    """What authority and leaf have in common."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_usage(
    *, digital_signature: bool, key_encipherment: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )
