"""Certificates that a test needs and `mta.testing.pki` has no reason to make: odd uses, weak keys, intermediates."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID, ObjectIdentifier
from OpenSSL import crypto

START = datetime(2025, 1, 1, tzinfo=UTC)
DAY = 86400.0


def at(days: float) -> float:
    """So many days after START, in seconds since the epoch."""
    return START.timestamp() + days * DAY


@attrs.frozen
class Made:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


def make(
    issuer: Made | None = None,
    *,
    ca: bool = False,
    names: Sequence[x509.GeneralName] = (),
    uses: Sequence[ObjectIdentifier] = (),
    days: int = 100,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None,
    digest: hashes.HashAlgorithm | None = None,
    common_name: str = "",
) -> Made:
    """A certificate that is good from START for so many days, self-signed where no issuer is given."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name or f"test {x509.random_serial_number()}"[:60])])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(START)
        .not_valid_after(START + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if uses:
        builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
    return Made(builder.sign((issuer.key if issuer else key), digest or hashes.SHA256()), key)


def store_of(*anchors: Made) -> crypto.X509Store:
    """A trust store with these roots."""
    store = crypto.X509Store()
    for anchor in anchors:
        store.add_cert(crypto.X509.from_cryptography(anchor.certificate))
    return store
