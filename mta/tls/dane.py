"""DANE: do these TLSA records vouch for this chain?

RFC 6698 (TLSA), RFC 7671 (how to use it), RFC 7672 3 (for SMTP).  Mail uses DANE-EE(3), which speaks of the server's own
certificate or key alone, whatever names and dates it bears, and DANE-TA(2), which speaks of an authority above it: that one
must be in the chain that the server sent (or as a whole in the record), and from it downwards everything counts, dates,
signatures and names.  PKIX-TA(0) and PKIX-EE(1) mean nothing between mail servers (RFC 7672 3.1.3): unusable.

Pure.  Nothing here raises, whatever bytes a zone or a server sends: a record that cannot be read is unusable, a
certificate that cannot be read does not match.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256, sha512
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_public_key
from OpenSSL import crypto

from mta.tls.verify import match_names, verify_chain

if TYPE_CHECKING:
    from mta.dns.answer import Tlsa

__all__ = ["evidence", "match", "public_key", "usable"]

DANE_TA: Final = 2
DANE_EE: Final = 3
CERT, SPKI = 0, 1  # selectors (RFC 6698 2.1.2)
FULL, SHA2_256, SHA2_512 = 0, 1, 2  # matching types (RFC 6698 2.1.3); of digests the larger number is the stronger

_DIGESTS: Final[dict[int, Callable[[bytes], bytes]]] = {
    FULL: lambda data: data,
    SHA2_256: lambda data: sha256(data).digest(),
    SHA2_512: lambda data: sha512(data).digest(),
}
_SIZES: Final = {SHA2_256: 32, SHA2_512: 64}
_UNREADABLE: Final = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion, crypto.Error)
_SEQUENCE, _VERSION = 0x30, 0xA0  # tags of DER


def usable(records: Iterable[Tlsa]) -> tuple[Tlsa, ...]:
    """Those records that decide, in an order that does not depend on the zone's.

    Left out is what RFC 7672 3.1 makes unusable, what is damaged, and, for each usage and selector, the digests that are
    weaker than its strongest one (RFC 7671 9); full data is no digest and stays.
    """
    sound = {record for record in records if _is_sound(record)}
    strongest: dict[tuple[int, int], int] = {}
    for record in sound:
        kind = record.usage, record.selector
        strongest[kind] = max(strongest.get(kind, FULL), record.mtype)
    deciding = [record for record in sound if record.mtype in (FULL, strongest[record.usage, record.selector])]
    return tuple(sorted(deciding, key=_order))


def _order(record: Tlsa) -> tuple[int, int, int, bytes]:
    """DANE-EE first: it costs one digest."""
    return -record.usage, record.selector, record.mtype, record.data


def _is_sound(record: Tlsa) -> bool:
    if record.usage not in (DANE_TA, DANE_EE) or record.selector not in (CERT, SPKI) or record.mtype not in _DIGESTS:
        return False
    if record.mtype != FULL:
        return len(record.data) == _SIZES[record.mtype]
    try:
        if record.selector == CERT:
            x509.load_der_x509_certificate(record.data)
        else:
            load_der_public_key(record.data)
    except _UNREADABLE:
        return False
    return True


def match(records: Sequence[Tlsa], chain: Sequence[bytes], names: Sequence[str], now: float) -> str:
    """Does any of the usable records vouch for the chain?  "" when one does, else why none.

    chain: DER as the server sent it, leaf first.  names: the reference identifiers of RFC 7672 3.2.2, for DANE-TA only.
    now: seconds since the epoch.
    """
    if not chain:
        return "the server showed no certificate"
    shown = _presentations(chain[0])
    if any((record.selector, record.mtype, record.data) in shown for record in records if record.usage == DANE_EE):
        return ""  # RFC 7671 5.1: no names, no dates
    below = [record for record in records if record.usage == DANE_TA]
    if not below:
        return "the certificate matches no TLSA record"
    return _match_authority(below, chain, names, now)


def _match_authority(records: Sequence[Tlsa], chain: Sequence[bytes], names: Sequence[str], now: float) -> str:
    """RFC 7671 5.2.  The leaf is never its own authority; as in OpenSSL, the authority's dates count too."""
    wanted = {(record.selector, record.mtype, record.data) for record in records}
    authorities = [der for der in chain[1:] if not wanted.isdisjoint(_presentations(der))]
    authorities += [data for selector, mtype, data in sorted(wanted) if (selector, mtype) == (CERT, FULL)]
    authorities = [der for der in authorities if der != chain[0]]
    if not authorities:
        return "no authority in the chain matches a TLSA record"
    if not match_names(chain[0], names):
        return f"certificate is for none of: {', '.join(names) or '(no name to look for)'}"
    store = crypto.X509Store()
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)  # an intermediate authority may be the one vouched for
    if not [der for der in authorities if _trust(store, der, now)]:
        return "the authority of the TLSA record is not valid now"
    error = verify_chain(chain, store, now).error
    return f"no valid chain to the authority of the TLSA record: {error}" if error else ""


def _trust(store: crypto.X509Store, der: bytes, now: float) -> bool:
    try:
        certificate = x509.load_der_x509_certificate(der)
        if not certificate.not_valid_before_utc.timestamp() <= now < certificate.not_valid_after_utc.timestamp():
            return False
        store.add_cert(crypto.X509.from_cryptography(certificate))
    except _UNREADABLE:
        return False
    return True


def _presentations(der: bytes) -> frozenset[tuple[int, int, bytes]]:
    """All that records can say of a certificate, made once: a hostile zone and its server bring a thousand records and
    hundreds of certificates."""
    parts = [(selector, data) for selector, data in ((CERT, der), (SPKI, public_key(der))) if data]
    return frozenset([(selector, mtype, made(data)) for selector, data in parts for mtype, made in _DIGESTS.items()])


def public_key(der: bytes) -> bytes:
    """The SubjectPublicKeyInfo of a certificate, byte by byte as it stands there; b"" where there is none.

    A library would decode the key and encode it anew: other bytes for an unusual encoding, none at all for an algorithm
    that it does not know, and digests are of bytes.
    """
    try:
        _, start, _ = _element(der, 0, _SEQUENCE)  # Certificate
        _, at, end = _element(der, start, _SEQUENCE)  # TBSCertificate (RFC 5280 4.1)
        if der[at] == _VERSION:
            at = _element(der, at, _VERSION)[2]
        for _ in range(5):  # serialNumber, signature, issuer, validity, subject
            at = _element(der, at)[2]
        begin, _, after = _element(der, at, _SEQUENCE)
    except (IndexError, ValueError):
        return b""
    return der[begin:after] if after <= end else b""


def _element(der: bytes, at: int, tag: int = 0) -> tuple[int, int, int]:
    """Where the element at an offset begins, where its content begins and where it ends.  ValueError, IndexError."""
    if tag and der[at] != tag:
        raise ValueError("another tag")
    size, start = der[at + 1], at + 2
    if size >= 0x80:  # X.690 8.1.3.5: so many octets of length follow
        start += size & 0x7F
        size = int.from_bytes(der[at + 2 : start], "big")
    if start + size > len(der):
        raise ValueError("cut off")
    return at, start, start + size


def evidence(records: Sequence[Tlsa], base_domain: str, half: bool) -> str:
    """What a DANE requirement rests on, for reuse keys and logs: base domain and digest of the usable records."""
    digest = sha256()
    for record in sorted(records, key=_order):
        digest.update(bytes((record.usage, record.selector, record.mtype)) + len(record.data).to_bytes(4, "big") + record.data)
    return f"dane:{base_domain}:{digest.hexdigest()[:32]}{':half' if half else ''}"
