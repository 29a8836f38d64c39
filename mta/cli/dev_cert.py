"""`mta dev-cert`: a throw-away certificate for the loopback names, so that STARTTLS can be tried on one machine.

The service itself never makes a certificate.  A valid one of ours is left as it is, a worn-out one of ours is replaced;
whatever somebody else put there is never touched.  The certificate is written first and the key after it, each by
rename: a run that was cut off leaves a pair that does not fit, which the next one replaces.
"""

from __future__ import annotations

import os
import tempfile
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import rich_click as click
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import NameOID

from mta.testing.pki import Authority

__all__ = ["dev_cert"]

_NAMES = ("localhost", "127.0.0.1", "::1")
_AUTHORITY = "mta dev-cert"
_DAYS = 30
_SPARE = timedelta(days=1)  # a development session outlives no certificate


@click.command("dev-cert")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
def dev_cert(directory: Path) -> None:
    """Write cert.pem and key.pem for localhost into DIRECTORY, unless a valid pair is there."""
    certificate, key = directory / "cert.pem", directory / "key.pem"
    try:
        if (certificate.exists() or key.exists()) and not _is_ours(certificate):
            click.echo(f"{directory}: there is a certificate or a key that dev-cert did not make; left as it is", err=True)
        elif _is_valid(certificate, key):
            click.echo(f"{certificate}: valid, left as it is")
        else:
            _write(certificate, key)
            click.echo(f"{certificate}: written, for {', '.join(_NAMES)}, good for {_DAYS} days")
    except OSError as error:
        raise click.ClickException(f"{error.filename or directory}: {error.strerror}") from error


def _leaf(certificate: Path) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificates(certificate.read_bytes())[0]
    except (FileNotFoundError, ValueError):
        return None


def _is_ours(certificate: Path) -> bool:
    """Issued by an authority with our name, which nobody else uses."""
    leaf = _leaf(certificate)
    names = leaf.issuer.get_attributes_for_oid(NameOID.COMMON_NAME) if leaf else []
    return any(name.value == _AUTHORITY for name in names)


def _is_valid(certificate: Path, key: Path) -> bool:
    """For all our names, for another day at least, and the key belongs to it."""
    leaf = _leaf(certificate)
    if leaf is None or leaf.not_valid_after_utc < datetime.now(UTC) + _SPARE:
        return False
    try:
        private = load_pem_private_key(key.read_bytes(), None)
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (FileNotFoundError, ValueError, TypeError, UnsupportedAlgorithm, x509.ExtensionNotFound):
        return False
    addresses = set(names.get_values_for_type(x509.IPAddress))
    has_names = "localhost" in names.get_values_for_type(x509.DNSName)
    return has_names and {ip_address(name) for name in _NAMES[1:]} <= addresses and private.public_key() == leaf.public_key()


def _write(certificate: Path, key: Path) -> None:
    issued = Authority.create(_AUTHORITY).issue(*_NAMES, days=_DAYS)
    certificate.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _replace(certificate, issued.certificate_pem, 0o644)
    _replace(key, issued.key_pem, 0o600)


def _replace(path: Path, data: bytes, mode: int) -> None:
    handle, fresh = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with open(handle, "wb") as file:
        os.fchmod(handle, mode)
        file.write(data)
    Path(fresh).replace(path)
