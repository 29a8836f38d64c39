"""Client certificates that cannot be read, or not whole: what a careless authority signs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID, ObjectIdentifier

from mta.testing.pki import Authority

Strange = tuple[bytes, ec.EllipticCurvePrivateKey]  # the leaf in DER, and its key

_ALTERNATIVE_NAME = ObjectIdentifier("2.5.29.17")
_ONE, _TWO = (ObjectIdentifier(f"1.3.6.1.4.1.55555.{last}") for last in (1, 2))
_ONE_DER, _TWO_DER = (bytes.fromhex(f"06092b0601040183b203{last}") for last in ("01", "02"))
_SIGNED_BY = bytes.fromhex("300a06082a8648ce3d040302")  # ecdsa-with-SHA256
_EC_KEY, _NO_KEY = (bytes.fromhex(f"06072a8648ce3d02{last}") for last in ("01", "7f"))


def strange(authority: Authority) -> dict[str, Strange]:
    """By what is wrong with them; the authority has signed them as they are."""
    names = x509.SubjectAlternativeName([x509.RFC822Name("tim@a.example")])
    twins = [x509.UnrecognizedExtension(oid, b"\x05\x00") for oid in (_ONE, _TWO)]
    return {
        "an extension twice": _leaf(authority, [names, *twins], (_TWO_DER, _ONE_DER)),
        "a name of a kind that is not known": _leaf(authority, [_names(b"\x30\x04\xa3\x02\x30\x00")]),
        "names that are none": _leaf(authority, [_names(b"\xff")]),
        "an address that is not ASCII": _leaf(authority, [_names(b"\x30\x05\x81\x03\xffa@")]),
        "a later version": _leaf(authority, [names], (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x07")),
        "a key of a kind that is not known": _leaf(authority, [names], (_EC_KEY, _NO_KEY)),
    }


def _names(value: bytes) -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(_ALTERNATIVE_NAME, value)


def _leaf(authority: Authority, extensions: list[x509.ExtensionType], swap: tuple[bytes, bytes] = (b"", b"")) -> Strange:
    """swap: what stands in place of what in the part that is signed; both are as long."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    builder = x509.CertificateBuilder().issuer_name(authority.certificate.subject).public_key(key.public_key())
    builder = builder.subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tim")]))
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    signed = builder.sign(authority._key, hashes.SHA256()).tbs_certificate_bytes
    if swap[0]:
        assert swap[0] in signed and len(swap[0]) == len(swap[1])
        signed = signed.replace(*swap)
    signature = authority._key.sign(signed, ec.ECDSA(hashes.SHA256()))  # type: ignore[call-arg,arg-type]
    return _tagged(0x30, signed + _SIGNED_BY + _tagged(0x03, b"\0" + signature)), key


def _tagged(tag: int, value: bytes) -> bytes:
    """DER, of up to 64 KiB."""
    size = bytes([len(value)]) if len(value) < 128 else b"\x82" + len(value).to_bytes(2, "big")
    return bytes([tag]) + size + value
