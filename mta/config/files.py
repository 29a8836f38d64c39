"""The files that the settings name: can they be read, are they what they should be, do they belong together.

RFC 5280 and RFC 7468 (PEM).  Nothing is created or changed.  The certificate and key of [tls] are given to the same code
that serves them later (`tls/context.py`), which also tries a handshake with itself; with `error = "offer-nothing"` they
may be wrong, for then the service runs without TLS and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mta.config.mistake import Finding, KeyPath
from mta.config.settings import Settings, Tls
from mta.status import MailError
from mta.tls.context import ServerTls

__all__ = ["check_files"]


def check_files(settings: Settings) -> Iterator[Finding]:
    """All that is wrong with the files."""
    if settings.tls.error != "offer-nothing":
        yield from _identity(settings.tls)
    for index, path in enumerate(settings.tls_client.trust):
        yield from _read(("tls_client", "trust", index), path, _certificates_fault)


def _identity(tls: Tls) -> Iterator[Finding]:
    """Certificate and key, first each by itself, then both together."""
    certificate: KeyPath = ("tls", "certificate")
    key: KeyPath = ("tls", "key")
    found: list[Finding] = []
    if tls.certificate:
        found += _read(certificate, tls.certificate, _certificates_fault)
    if tls.key:
        found += _read(key, tls.key, _key_fault)
    yield from found
    if found or not (tls.certificate and tls.key):
        return
    try:
        ServerTls().reload(tls)
    except MailError as error:
        name, colon, fault = error.reason.partition(": ")
        if colon and name.startswith("tls."):  # it speaks of a key of its own: tls.ciphers, tls.min_version
            yield Finding(("tls", name.removeprefix("tls.")), fault)
        else:
            yield Finding(key, error.reason, (certificate,))


def _read(path: KeyPath, file: Path, fault_in: Callable[[bytes], str | None]) -> Iterator[Finding]:
    try:
        fault = fault_in(file.read_bytes())
    except OSError as error:
        yield Finding(path, f"{str(file)!r} cannot be read: {error.strerror}")
        return
    if fault:
        yield Finding(path, f"{str(file)!r} is {fault}")


def _certificates_fault(pem: bytes) -> str | None:
    try:
        x509.load_pem_x509_certificates(pem)
    except ValueError:
        return "no certificate in PEM"
    return None


def _key_fault(pem: bytes) -> str | None:
    try:
        load_pem_private_key(pem, None)
    except TypeError:
        return "encrypted; a key without passphrase is wanted"
    except (ValueError, UnsupportedAlgorithm):
        return "no private key in PEM"
    return None
