"""Is a certificate chain good, and is it for one of these names?  (RFC 5280 6, RFC 9525)

One function over the stored chain, used after a handshake and whenever a kept connection is picked up.  It works on
bytes only: the trust store and the time are passed in, nothing is read from disk or clock.  OpenSSL builds and
checks the chain; `X509StoreContext` ignores the extended key usage and weak keys, so both are checked here.  Names are
matched by service_identity one reference identifier at a time, for its optional ids are not "any of" (measured); the
common name is never looked at.  A verdict says until when it holds, so that asking again costs a comparison.  Nothing
here raises: whatever cannot be read does not verify.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address, ip_address
from operator import itemgetter

import attrs
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import crypto
from service_identity import VerificationError
from service_identity.exceptions import CertificateError
from service_identity.hazmat import (
    DNS_ID,
    CertificatePattern,
    DNSPattern,
    IPAddress_ID,
    IPAddressPattern,
    ServiceID,
    verify_service_identity,
)

__all__ = ["CLIENT_USES", "SERVER_USES", "ChainVerdict", "RememberedVerdicts", "dns_names", "match_names", "verify_chain"]

SERVER_USES = frozenset({ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE})
CLIENT_USES = frozenset({ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE})
NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME: a store's own time can be set only once (measured)
WEAK_DIGESTS = frozenset({"md5", "sha1"})
LEAST_RSA_BITS = 2048
BAD_HOLDS = 60.0  # seconds
UNREADABLE = (
    ValueError,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
    crypto.Error,
)


@attrs.frozen(slots=True)
class ChainVerdict:
    """error: why the chain is not trusted, "" when it is.  until: seconds since the epoch, 0 for an error."""

    error: str
    until: float = 0.0


def verify_chain(
    chain: Sequence[bytes], store: crypto.X509Store, now: float, uses: frozenset[x509.ObjectIdentifier] = SERVER_USES
) -> ChainVerdict:
    """Judge a chain as the peer sent it (DER, leaf first) against a trust store at a time (seconds since the epoch).

    uses: extended key usages of which each certificate of the path must have one, where it names any.
    """
    if not chain:
        return ChainVerdict("no certificate")
    try:
        path = _path(x509.load_der_x509_certificate(chain[0]), _issuers(chain[1:], now), store)
        for certificate in path:
            if reason := _untimely(certificate, now) or _unfit(certificate, uses):
                return ChainVerdict(reason)
    except crypto.X509StoreContextError as error:
        return ChainVerdict(str(error))
    except UNREADABLE:
        return ChainVerdict("certificate cannot be read")
    return ChainVerdict("", min(certificate.not_valid_after_utc.timestamp() for certificate in path))


def _issuers(sent: Sequence[bytes], now: float) -> list[x509.Certificate]:
    """What was sent beside the leaf, without what cannot be read.  Those valid now come first: OpenSSL, which is told to look at
    no dates, takes the first of two that fit, and many a server still sends the expired twin of its intermediate."""
    readable = []
    for der in sent:
        with suppress(*UNREADABLE):
            certificate = x509.load_der_x509_certificate(der)
            readable.append((bool(_untimely(certificate, now)), certificate))
    return [certificate for _, certificate in sorted(readable, key=itemgetter(0))]


def _path(leaf: x509.Certificate, others: Sequence[x509.Certificate], store: crypto.X509Store) -> list[x509.Certificate]:
    """The path from the leaf towards an anchor of the store.  Raises X509StoreContextError where there is none.

    The anchor itself is trusted for what it is, its dates, signature and uses do not count (RFC 5280 6.1.1 d): it is left
    out, unless the leaf is the anchor.
    """
    store.set_flags(NO_CHECK_TIME)
    wrapped = [crypto.X509.from_cryptography(certificate) for certificate in others]
    context = crypto.X509StoreContext(store, crypto.X509.from_cryptography(leaf), wrapped)
    built = [certificate.to_cryptography() for certificate in context.get_verified_chain()]
    return built[:-1] or built


def _untimely(certificate: x509.Certificate, now: float) -> str:
    if now < certificate.not_valid_before_utc.timestamp():
        return "certificate is not yet valid"
    if now >= certificate.not_valid_after_utc.timestamp():
        return "certificate has expired"
    return ""


def _unfit(certificate: x509.Certificate, wanted: frozenset[x509.ObjectIdentifier]) -> str:
    """What OpenSSL's store context does not look at: the use, the signature's digest, the key's length."""
    try:
        uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        uses = None
    if uses is not None and wanted.isdisjoint(uses):
        return "certificate is not for servers" if wanted is SERVER_USES else "certificate is not for clients"
    digest = certificate.signature_hash_algorithm
    if digest is not None and digest.name in WEAK_DIGESTS:
        return f"certificate is signed with {digest.name}"
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < LEAST_RSA_BITS:
        return f"RSA key of {key.key_size} bits is too short"
    return ""


def match_names(leaf: bytes, names: Sequence[str]) -> bool:
    """Is any of these names in the certificate's subjectAltName (RFC 9525 6)?

    names: DNS names, IP addresses in text, or ".example.org" for any name below that one (Postfix's dot-nexthop).
    """
    try:
        patterns = _patterns(x509.load_der_x509_certificate(leaf))
    except (*UNREADABLE, x509.ExtensionNotFound):
        return False
    for name in names:
        if name.startswith("."):
            if _is_below(name, patterns):
                return True
            continue
        try:
            verify_service_identity(patterns, [_reference(name)], [])
        except (VerificationError, CertificateError, ValueError):
            continue
        return True
    return False


def dns_names(leaf: bytes) -> tuple[str, ...]:
    """The DNS names of a certificate, those without a wildcard: they name its owner.  None of what cannot be read."""
    try:
        names = x509.load_der_x509_certificate(leaf).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return tuple(name for name in names.get_values_for_type(x509.DNSName) if not name.startswith("*"))
    except (*UNREADABLE, x509.ExtensionNotFound):
        return ()


def _patterns(leaf: x509.Certificate) -> list[DNSPattern | IPAddressPattern]:
    """The names that count, each by itself: the library refuses the whole certificate for one odd name beside the right one (an
    address written as a DNS name, "*.com", a URI with a port).  Raises what is in UNREADABLE, and ExtensionNotFound."""
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = names.get_values_for_type(x509.IPAddress)
    patterns: list[DNSPattern | IPAddressPattern] = [
        IPAddressPattern(address) for address in addresses if isinstance(address, (IPv4Address, IPv6Address))
    ]
    for name in names.get_values_for_type(x509.DNSName):
        with suppress(CertificateError):
            patterns.append(DNSPattern.from_bytes(name.encode("utf-8")))
    return patterns


def _is_below(tail: str, patterns: Sequence[CertificatePattern]) -> bool:
    """Is one of the certificate's DNS names, a wildcard or not, below this one?"""
    end = tail.lower().encode("ascii", "replace")
    return any(
        isinstance(pattern, DNSPattern) and len(pattern.pattern) > len(end) > 1 and pattern.pattern.lower().endswith(end)
        for pattern in patterns
    )


def _reference(name: str) -> ServiceID:
    """The reference identifier for a name or an address.  ValueError for what is neither."""
    try:
        address = ip_address(name)
    except ValueError:
        return DNS_ID(name)
    return IPAddress_ID(str(address))


class RememberedVerdicts:
    """Verdicts by the digest of their chain, so that the next handshake with the same host costs one hash, and so does every
    mail on a kept connection to a server that DANE or a pin vouches for, whose chain no authority knows.

    Bad ones are kept for `BAD_HOLDS`: a certificate that becomes valid must be seen.  The oldest goes when `limit` is reached.
    """

    __slots__ = ("_known", "_limit", "_store", "_uses")

    def __init__(self, store: crypto.X509Store, limit: int = 1000, uses: frozenset[x509.ObjectIdentifier] = SERVER_USES) -> None:
        self._store = store
        self._limit = limit
        self._uses = uses
        self._known: OrderedDict[bytes, ChainVerdict] = OrderedDict()

    def verdict(self, chain: Sequence[bytes], now: float) -> ChainVerdict:
        """What `verify_chain` says now, remembered until its `until`."""
        digest = _digest(chain)
        known = self._known.get(digest)
        if known is not None and now < known.until and not (known.error and now + BAD_HOLDS < known.until):  # the clock went back
            return known
        verdict = verify_chain(chain, self._store, now, self._uses)
        if verdict.error:
            verdict = attrs.evolve(verdict, until=now + BAD_HOLDS)
        self._known.pop(digest, None)
        self._known[digest] = verdict
        if len(self._known) > self._limit:
            self._known.popitem(last=False)
        return verdict


def _digest(chain: Sequence[bytes]) -> bytes:
    """One digest for a whole chain: DER says its own length, so that no two chains join to the same bytes."""
    return sha256(b"".join(chain)).digest()
