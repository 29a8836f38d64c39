"""What must hold in the keys of TLS: certificates and their keys, names, levels and what a level needs.

RFC 3207, RFC 6066 3 (SNI), RFC 7672 and RFC 8461 (what may be switched off for a destination); docs/tls.md.  What would
leave somebody with less protection than the file seems to give is a mistake, not a warning.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from OpenSSL import SSL

from mta.config.mistake import Finding, KeyPath, said, shown
from mta.config.name import destination_fault, domain_fault, reference_fault
from mta.config.settings import Settings, Tls, TlsPolicyEntry

__all__ = ["check_tls"]

_SHA256 = re.compile(r"[0-9A-Fa-f]{64}|(?:[0-9A-Fa-f]{2}:){31}[0-9A-Fa-f]{2}")
_LOOK_AT_NO_NAMES = ("none", "may", "encrypt", "fingerprint")
_VERSIONS = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")


def check_tls(settings: Settings) -> Iterator[Finding]:
    """All that is wrong with [tls], [tls_client], [[tls_policy]] and the levels of routes."""
    yield from _pair(("tls",), settings.tls)
    yield from _sni(settings.tls)
    yield from _client_certificates(settings.tls)
    for index, listen in enumerate(settings.listen):
        if listen.tls == "implicit" and settings.tls.certificate is None:
            text = "implicit TLS needs the certificate and key of [tls]"
            yield Finding(("listen", index, "tls"), text, (("tls", "certificate"),))
    yield from said(("tls_client", "ciphers"), _ciphers_fault(settings.tls_client.ciphers))
    yield from _pinned(settings)
    seen: dict[str, int] = {}
    for index, entry in enumerate(settings.tls_policy):
        yield from _patterns(index, settings.tls_policy, seen)
        yield from _entry(("tls_policy", index), entry)


def _pair(path: KeyPath, holder: Tls | TlsPolicyEntry) -> Iterator[Finding]:
    """A certificate and its key go together."""
    certificate: KeyPath = (*path, "certificate")
    key: KeyPath = (*path, "key")
    if holder.certificate and not holder.key:
        yield Finding(key, "missing; a certificate needs its key", (certificate,))
    if holder.key and not holder.certificate:
        yield Finding(certificate, "missing; a key needs its certificate", (key,))


def _sni(tls: Tls) -> Iterator[Finding]:
    for index, entry in enumerate(tls.sni):
        path: KeyPath = ("tls", "sni", index)
        if not entry.names:
            yield Finding((*path, "names"), "at least one name is wanted")
        for at, name in enumerate(entry.names):
            if name != "*" and domain_fault(name.removeprefix("*.")):
                yield Finding((*path, "names", at), f"a host name or '*.domain' is wanted, not {shown(name)}")
    if tls.sni and not tls.certificate:
        text = "missing; [[tls.sni]] needs a certificate for clients that ask for no name"
        yield Finding(("tls", "certificate"), text, (("tls", "sni"),))


def _client_certificates(tls: Tls) -> Iterator[Finding]:
    if tls.client_cert in ("ask", "require") and not tls.client_ca:
        text = "missing; certificates of clients are verified by authorities that it names"
        yield Finding(("tls", "client_ca"), text, (("tls", "client_cert"),))
    if tls.client_ca and tls.client_cert == "none":
        text = "no client is asked for a certificate; client_cert = 'ask' or 'require' is wanted with it"
        yield Finding(("tls", "client_ca"), text, (("tls", "client_cert"),))


def _pinned(settings: Settings) -> Iterator[Finding]:
    """Fingerprints stand in [[tls_policy]] only, so no other place can ask for the level alone."""
    text = "level 'fingerprint' needs a [[tls_policy]] with this level and its fingerprints"
    if settings.tls_client.level == "fingerprint":
        yield Finding(("tls_client", "level"), text)
    if not any(entry.fingerprints for entry in settings.tls_policy):
        for index, route in enumerate(settings.route):
            if route.tls == "fingerprint":
                yield Finding(("route", index, "tls"), text, (("tls_policy",),))


def _patterns(index: int, entries: tuple[TlsPolicyEntry, ...], seen: dict[str, int]) -> Iterator[Finding]:
    """The destinations of one entry; another one for the same can hold only when the first has an end."""
    path: KeyPath = ("tls_policy", index, "match")
    if not entries[index].match:
        yield Finding(path, "at least one pattern is wanted")
    for at, pattern in enumerate(entries[index].match):
        yield from said((*path, at), destination_fault(pattern))
        first = seen.setdefault(pattern.lower(), index)
        if first != index and not entries[first].until:
            yield Finding((*path, at), f"tls_policy[{first}] is for {shown(pattern)} already")


def _entry(path: KeyPath, entry: TlsPolicyEntry) -> Iterator[Finding]:
    yield from _pair(path, entry)
    yield from said((*path, "ciphers"), _ciphers_fault(entry.ciphers))
    if entry.sni:
        yield from said((*path, "sni"), domain_fault(entry.sni))
    for at, name in enumerate(entry.names):
        yield from said((*path, "names", at), reference_fault(name))
    for at, fingerprint in enumerate(entry.fingerprints):
        if not _SHA256.fullmatch(fingerprint):
            text = f"a SHA-256 fingerprint is wanted, 64 hexadecimal digits with or without colons, not {shown(fingerprint)}"
            yield Finding((*path, "fingerprints", at), text)
    if {entry.min, entry.max} <= set(_VERSIONS) and _VERSIONS.index(entry.min) > _VERSIONS.index(entry.max):
        yield Finding((*path, "min"), f"min ({entry.min}) is more than max ({entry.max})", ((*path, "max"),))
    yield from _level_needs(path, entry)


def _level_needs(path: KeyPath, entry: TlsPolicyEntry) -> Iterator[Finding]:
    """What a level cannot do without, and what it would never look at."""
    level: KeyPath = (*path, "level")
    if entry.level == "fingerprint" and not entry.fingerprints:
        yield Finding((*path, "fingerprints"), "missing; level 'fingerprint' needs them", (level,))
    if entry.fingerprints and entry.level != "fingerprint":
        text = "only level = 'fingerprint' looks at them"
        yield Finding((*path, "fingerprints"), text, (level,))
    if entry.names and entry.level in _LOOK_AT_NO_NAMES:
        text = f"level {entry.level!r} looks at no names; 'verify' and 'secure' do"
        yield Finding((*path, "names"), text, (level,))
    for key, needed in (("dane", "dane-only"), ("sts", "sts")):
        if getattr(entry, key) == "off" and entry.level == needed:
            yield Finding((*path, key), f"off, and the level is {needed!r}: nothing could be sent", (level,))


def _ciphers_fault(ciphers: str) -> str | None:
    """OpenSSL's cipher string (openssl-ciphers(1)); "" is no choice."""
    if not ciphers:
        return None
    try:
        SSL.Context(SSL.TLS_CLIENT_METHOD).set_cipher_list(ciphers.encode("ascii"))
    except (SSL.Error, UnicodeEncodeError):
        return f"OpenSSL finds no cipher in {shown(ciphers)}"
    return None
