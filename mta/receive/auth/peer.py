"""What is known of the client that wants to log in, for those who check it.  Pure."""

from __future__ import annotations

import attrs

__all__ = ["Peer"]


@attrs.frozen(slots=True)
class Peer:
    """address: of the client.  secure: in TLS.  certificate: the verified leaf that it has shown, in DER, b"" for none."""

    address: str = ""
    secure: bool = False
    certificate: bytes = b""
