"""Who a client is by the certificate that it has shown, for EXTERNAL (RFC 4422 A; RFC 5280 4.2.1.6, rfc822Name).

Asked only about certificates that a `client_ca` verifies.  With a map (`[auth] certificates`: lines "fingerprint login") the
map decides and nothing else; without one the login is the mail address in the certificate: all who can get a certificate
there can be anybody of that address.  Pure: bytes in, a name out, "" for nobody; ValueError where a certificate would have to
be read that cannot be: an authority may have signed anything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mta.tls.verify import UNREADABLE

__all__ = ["login_of", "logins_in"]

_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")


def login_of(certificate: bytes, authzid: str, logins: Mapping[str, str] | None) -> str:
    """The login of this certificate (DER); authzid says which where it has several addresses, and else must be it, or "".

    logins: by SHA-256 of the certificate or of its public key; None: there is no map.  ValueError: it cannot be read.
    """
    try:
        names = _addresses(certificate) if logins is None else _mapped(certificate, logins)
    except UNREADABLE as error:
        raise ValueError(f"the certificate cannot be read: {type(error).__name__}") from None
    if authzid:
        return authzid if authzid in names else ""
    return names[0] if len(names) == 1 else ""


def logins_in(text: str) -> dict[str, str]:
    """The lines of a map; "#" begins a comment.  ValueError with the number of the line."""
    logins: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        fingerprint = words[0].replace(":", "").lower()
        if len(words) != 2 or not _FINGERPRINT.fullmatch(fingerprint):
            raise ValueError(f"line {number}: a SHA-256 fingerprint and a login are wanted")
        if logins.setdefault(fingerprint, words[1]) != words[1]:
            raise ValueError(f"line {number}: this fingerprint has a login already")
    return logins


def _addresses(certificate: bytes) -> list[str]:
    try:
        extensions = x509.load_der_x509_certificate(certificate).extensions
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return list(dict.fromkeys(names.get_values_for_type(x509.RFC822Name)))


def _mapped(certificate: bytes, logins: Mapping[str, str]) -> list[str]:
    """By its own fingerprint, for which it need not be read, else by that of its key."""
    name = logins.get(sha256(certificate).hexdigest())
    if name is None:
        key = x509.load_der_x509_certificate(certificate).public_key()
        name = logins.get(sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest())
    return [] if name is None else [name]
