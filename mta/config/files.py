"""The files that the settings name: can they be read, are they what they should be, do they belong together.

RFC 5280 and RFC 7468 (PEM).  Nothing is created or changed.  The certificate and key of [tls] are given to the same code
that serves them later (`tls/context.py`), which also tries a handshake with itself; with `error = "offer-nothing"` what
we show to clients may be wrong, for then the service runs without TLS and says so.  Files with passwords are looked at
for who else may read them.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mta.config.address_list import read_addresses
from mta.config.mistake import Finding, KeyPath, said
from mta.config.settings import Settings, Tls
from mta.status import MailError
from mta.tls.context import ServerTls

__all__ = ["check_files"]

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def check_files(settings: Settings) -> Iterator[Finding]:
    """All that is wrong with the files."""
    if settings.tls.error != "offer-nothing":
        yield from _identity(settings.tls)
        for index, entry in enumerate(settings.tls.sni):
            yield from _pair(("tls", "sni", index), entry.certificate, entry.key)
    yield from _authorities(("tls", "client_ca"), settings.tls.client_ca)
    yield from _authorities(("tls_client", "trust"), settings.tls_client.trust)
    for index, policy in enumerate(settings.tls_policy):
        yield from _authorities(("tls_policy", index, "ca"), policy.ca)
        yield from _pair(("tls_policy", index), policy.certificate, policy.key)
    if settings.auth.passwords is not None:
        yield from _secret(("auth", "passwords"), settings.auth.passwords, _users_fault)
    for key, file in (("certificates", settings.auth.certificates), ("sender_map", settings.auth.sender_map)):
        if file is not None:
            yield from _read(("auth", key), file, lambda text: None)
    for index, table in enumerate(settings.access.recipients):
        yield from _read(("access", "recipients", index, "file"), table.file, _addresses_fault)
    for index, route in enumerate(settings.route):
        if route.auth is not None:
            yield from _secret(("route", index, "auth", "password_file"), route.auth.password_file, _password_fault)


def _identity(tls: Tls) -> Iterator[Finding]:
    """The default certificate and key, first each by itself and whether they fit, then as they will be used."""
    found = list(_pair(("tls",), tls.certificate, tls.key))
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
            yield Finding(("tls", "key"), error.reason, (("tls", "certificate"),))


def _pair(path: KeyPath, certificate: Path | None, key: Path | None) -> Iterator[Finding]:
    """A certificate and the key that belongs to it; either may be missing, which is judged elsewhere."""
    found: list[Finding] = []
    if certificate:
        found += _read((*path, "certificate"), certificate, _certificates_fault)
    if key:
        found += _read((*path, "key"), key, _key_fault)
    yield from found
    if certificate and key and not found and not _fits(certificate.read_bytes(), key.read_bytes()):
        text = f"{str(key)!r} is not the key of {str(certificate)!r}"
        yield Finding((*path, "key"), text, ((*path, "certificate"),))


def _authorities(path: KeyPath, files: tuple[Path, ...]) -> Iterator[Finding]:
    for index, file in enumerate(files):
        yield from _read((*path, index), file, _certificates_fault)


def _secret(path: KeyPath, file: Path, fault_in: Callable[[bytes], str | None]) -> Iterator[Finding]:
    """A file with passwords, which nobody but its owner may read."""
    found = list(_read(path, file, fault_in))
    yield from found
    if not found:
        open_to_others = file.stat().st_mode & _OTHERS
        text = f"{str(file)!r} may be read or changed by others than its owner; chmod 600 is wanted"
        yield from said(path, text if open_to_others else None)


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
        # Whether the numbers of an RSA key are primes takes 50 ms to find out; a key that fits its certificate is good.
        load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True)
    except TypeError:
        return "encrypted; a key without passphrase is wanted"
    except (ValueError, UnsupportedAlgorithm):
        return "no private key in PEM"
    return None


def _fits(certificate: bytes, key: bytes) -> bool:
    private = load_pem_private_key(key, None, unsafe_skip_rsa_key_validation=True)
    return x509.load_pem_x509_certificates(certificate)[0].public_key() == private.public_key()


def _addresses_fault(text: bytes) -> str | None:
    try:
        read_addresses(text)
    except ValueError as error:
        return str(error)
    return None


def _users_fault(text: bytes) -> str | None:
    """Lines "user:password"; blank ones and comments may be between them."""
    from mta.smtp.secret import secret_in  # here: most servers have no passwords

    try:
        lines = text.decode("utf-8").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError:
        return "not in UTF-8"
    users: set[str] = set()
    for number, line in enumerate(lines, 1):
        if not line or line.startswith("#"):
            continue
        user, _, password = line.partition(":")
        if not (user and password):
            return f"wrong in line {number}; 'user:password' is wanted"
        if user in users:
            return f"wrong in line {number}; this user has a password already"
        try:
            secret_in(password)
        except ValueError as error:
            return f"wrong in line {number}: {error}"
        users.add(user)
    return None if users else "empty; a line 'user:password' for each user is wanted"


def _password_fault(text: bytes) -> str | None:
    """The first line is the password, as it stands."""
    try:
        password = text.partition(b"\n")[0].decode("utf-8").removesuffix("\r")
    except UnicodeDecodeError:
        return "not in UTF-8"
    return None if password.strip() else "without a password in its first line"
