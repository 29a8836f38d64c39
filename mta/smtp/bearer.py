"""OAUTHBEARER (RFC 7628) and XOAUTH2 (Google's, of before it), the server's part: a client shows a token that somebody gave it.

Both are one message of pairs "key=value", each behind %x01; only `auth` counts, and must be a bearer token (RFC 6750 2.1).
What the token is worth, and whose it is, is no question of this file.  A client whose token is refused must first hear why, in
JSON behind a challenge (RFC 7628 3.2.2), and answer that with anything; then comes the refusal.  What cannot be read raises
`Undecodable`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from mta.smtp.credentials import BearerCredentials, ServerExchange, Terms, Undecodable, name_in, saslname_in

__all__ = ["BEARER", "bearer", "message_of", "why_refused"]

OAUTHBEARER: Final = "OAUTHBEARER"
XOAUTH2: Final = "XOAUTH2"

# RFC 7628 3.1: gs2-header ("p" is for mechanisms with a channel binding), then pairs; here and below the last %x01 ends them.
_MESSAGE: Final = re.compile(rb"[ny],(?:a=([^,\0\x01]+))?,\x01((?:[A-Za-z]+=[\t\n\r -~]*\x01)+)\x01", re.S)
_GOOGLES: Final = re.compile(rb"user=([^\0\x01]+)\x01((?:[A-Za-z]+=[\t\n\r -~]*\x01)+)\x01", re.S)
_TOKEN: Final = re.compile(r"bearer +([A-Za-z0-9._~+/-]+=*) *", re.I)  # RFC 6750 2.1, RFC 9110 11.4: any case, blanks


def bearer(mechanism: str, terms: Terms) -> ServerExchange:
    """mechanism: one of BEARER.  The client speaks first."""
    message = yield b""
    assert isinstance(message, bytes)
    return _READERS[mechanism](message)


def message_of(mechanism: str, user: str, token: str) -> bytes:
    """As a client says it; what `bearer` understands as the same."""
    head = f"user={user}" if mechanism == XOAUTH2 else f"n,{_authzid(user)},"
    return f"{head}\1auth=Bearer {token}\1\1".encode()


def _authzid(user: str) -> str:
    return "a=" + user.replace("=", "=3D").replace(",", "=2C") if user else ""


def why_refused(mechanism: str) -> bytes:
    """What the client hears before it is refused, b"" for a mechanism that says nothing then."""
    return _WHY.get(mechanism, b"")


def _oauthbearer(message: bytes) -> BearerCredentials:
    match = _MESSAGE.fullmatch(message)
    if match is None:
        raise Undecodable
    return BearerCredentials(OAUTHBEARER, saslname_in(match[1]) if match[1] else "", _token_in(match[2]))


def _xoauth2(message: bytes) -> BearerCredentials:
    match = _GOOGLES.fullmatch(message)
    if match is None:
        raise Undecodable
    return BearerCredentials(XOAUTH2, name_in(match[1]), _token_in(match[2]))


def _token_in(pairs: bytes) -> str:
    """What `auth` shows; nothing where it is empty: so a client asks what it would need."""
    words = (pair.partition("=") for pair in pairs.decode("ascii").split("\1"))
    shown = [value for key, _, value in words if key.lower() == "auth"]
    if len(shown) != 1:
        raise Undecodable
    match = _TOKEN.fullmatch(shown[0])
    if match is None and shown[0]:
        raise Undecodable
    return match[1] if match else ""


_READERS: Final[dict[str, Callable[[bytes], BearerCredentials]]] = {OAUTHBEARER: _oauthbearer, XOAUTH2: _xoauth2}
_WHY: Final = {OAUTHBEARER: b'{"status":"invalid_token","schemes":"bearer"}', XOAUTH2: b'{"status":"401","schemes":"bearer"}'}
BEARER: Final = tuple(_READERS)
