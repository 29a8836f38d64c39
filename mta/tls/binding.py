"""What ties a login to its TLS connection: the tls-exporter of RFC 9266.

Octets that both ends of one connection know and nobody between two connections can make equal.  In TLS 1.2 that holds with
the extended master secret only (RFC 7627, RFC 9266 3): without it there is nothing to bind to.
"""

from __future__ import annotations

from typing import Any, Final

from OpenSSL import SSL

__all__ = ["has_extended_master_secret", "tls_exporter"]

_LABEL: Final = b"EXPORTER-Channel-Binding"
_LENGTH: Final = 32
_lib: Any = SSL._lib  # type: ignore[attr-defined]  # pyOpenSSL has no method for this question


def tls_exporter(handle: SSL.Connection) -> bytes:
    """Of a connection whose handshake is done; b"" where it has none."""
    version = handle.get_protocol_version_name()
    if version != "TLSv1.3" and not (version == "TLSv1.2" and has_extended_master_secret(handle)):
        return b""
    return handle.export_keying_material(_LABEL, _LENGTH, b"")  # RFC 9266 2: an empty context, which is not none in TLS 1.2


def has_extended_master_secret(handle: SSL.Connection) -> bool:
    """Of a connection in TLS 1.2 whose handshake is done.  False where the library cannot say."""
    if not getattr(_lib, "Cryptography_HAS_GET_EXTMS_SUPPORT", True) or not hasattr(_lib, "SSL_get_extms_support"):
        return False
    return bool(_lib.SSL_get_extms_support(handle._ssl) == 1)
