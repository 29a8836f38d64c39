"""What a client claims or has proved in AUTH, who we are at another server, and base64 as AUTH wants it (RFC 4954 4).

Frozen values that travel between the mechanisms (sasl.py, scram.py), the machines and whoever judges them.  Passwords
stand in no repr.  Every value has `mechanism` and `user`, for the log.  What cannot be read raises `Undecodable`.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Generator
from hmac import HMAC, compare_digest
from typing import ClassVar, Final, TypeAlias

import attrs

from mta.smtp.grammar import CONTROL

__all__ = [
    "BearerCredentials",
    "ClientExchange",
    "CramCredentials",
    "Credentials",
    "ExternalCredentials",
    "Held",
    "JudgedCredentials",
    "Login",
    "PassedOn",
    "PlainCredentials",
    "Question",
    "ServerExchange",
    "Step",
    "Terms",
    "Undecodable",
    "Verifier",
    "VerifierWanted",
    "cram_digest",
    "decode",
    "encode",
    "name_in",
    "saslname_in",
    "text_in",
]

_BASE64: Final = re.compile(rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


class Undecodable(Exception):
    """Not base64, or not what the mechanism says."""


@attrs.frozen(slots=True)
class Terms:
    """On what an exchange is held.

    fresh: unforeseeable printable octets, new each time.  binding: the tls-exporter of the connection (RFC 9266), b"" where
    there is none.  plus: the server offers SCRAM with channel binding here.
    """

    fresh: bytes = b""
    binding: bytes = attrs.field(default=b"", repr=False)
    plus: bool = False


# ---- what a client has proved, or claims


@attrs.frozen(slots=True)
class PlainCredentials:
    """PLAIN or LOGIN.  authzid: as whom the client wants to act, "" for the user itself."""

    mechanism: str
    authzid: str
    user: str
    password: str = attrs.field(repr=False)


@attrs.frozen(slots=True)
class CramCredentials:
    """CRAM-MD5.  challenge: as we gave it; digest: 32 hexadecimal digits in lower case, as the client gave them."""

    user: str
    challenge: bytes
    digest: bytes
    mechanism: ClassVar[str] = "CRAM-MD5"
    authzid: ClassVar[str] = ""

    def is_proof_of(self, password: str) -> bool:
        """The client knows that password."""
        return compare_digest(cram_digest(password, self.challenge), self.digest)


@attrs.frozen(slots=True)
class JudgedCredentials:
    """Judged by the exchange itself (SCRAM), or by whoever held it.  error: why the client has not proved to be the user, "" when
    it has."""

    mechanism: str
    authzid: str
    user: str
    error: str = ""


@attrs.frozen(slots=True)
class ExternalCredentials:
    """EXTERNAL (RFC 4422 A): who it is says the certificate.  authzid: as whom the client wants to act, "" for that one."""

    authzid: str
    mechanism: ClassVar[str] = "EXTERNAL"

    @property
    def user(self) -> str:
        """What the client said, for the log."""
        return self.authzid


@attrs.frozen(slots=True)
class BearerCredentials:
    """A token (OAUTHBEARER, XOAUTH2), "" for none.  user: as whom the client wants to act, "" where the token is to say that."""

    mechanism: str
    user: str
    token: str = attrs.field(repr=False)
    authzid: ClassVar[str] = ""


Credentials: TypeAlias = PlainCredentials | CramCredentials | JudgedCredentials | ExternalCredentials | BearerCredentials

# ---- what an exchange must know of the accounts before it can go on


@attrs.frozen(slots=True)
class Verifier:
    """What a server knows of a SCRAM password (RFC 5802 3).  exists: False for one made up for an unknown user."""

    salt: bytes
    iterations: int
    stored_key: bytes = attrs.field(repr=False)
    server_key: bytes = attrs.field(repr=False)
    exists: bool = True


@attrs.frozen(slots=True)
class VerifierWanted:
    """SCRAM goes on with the `Verifier` of this user; there is one for everybody."""

    mechanism: str
    user: str


class Held:
    """One exchange that somebody else holds.  He is told when it is over here, however that came."""

    __slots__ = ("__weakref__", "_is_over", "_tell")

    def __init__(self) -> None:
        self._is_over = False
        self._tell: Callable[[], object] | None = None

    def when_over(self, tell: Callable[[], object]) -> None:
        """Call this then, at once if it is over already.  It must not raise."""
        if self._is_over:
            tell()
        else:
            self._tell = tell

    def end(self) -> None:
        """It is over."""
        tell, self._tell, self._is_over = self._tell, None, True
        if tell is not None:
            tell()


@attrs.frozen(slots=True)
class PassedOn:
    """A mechanism that somebody else understands goes on with his challenge (octets), or ends with credentials.

    response: None where he speaks first and the client has said nothing.  exchange: the same object at each step of one
    exchange, and of no other.
    """

    mechanism: str
    response: bytes | None = attrs.field(repr=False)
    exchange: Held
    user: ClassVar[str] = ""


Question: TypeAlias = VerifierWanted | PassedOn
Step: TypeAlias = bytes | Question  # a challenge, or a question to the session
ServerExchange: TypeAlias = Generator[Step, "bytes | Verifier | Credentials", Credentials]
ClientExchange: TypeAlias = Generator[bytes, bytes, None]


@attrs.frozen(slots=True)
class Login:
    """Who we are at another server."""

    user: str
    password: str = attrs.field(repr=False)


def cram_digest(password: str, challenge: bytes) -> bytes:
    """RFC 2195 2: the keyed MD5 of the challenge, in lower-case hexadecimal digits."""
    return HMAC(password.encode(), challenge, "md5").hexdigest().encode("ascii")


# ---- octets and texts


def decode(text: bytes) -> bytes:
    """The octets; Undecodable for any character outside the alphabet and for padding that is not at the end."""
    if not _BASE64.fullmatch(text):
        raise Undecodable
    return binascii.a2b_base64(text)


def encode(octets: bytes) -> bytes:
    """Base64 on one line."""
    return binascii.b2a_base64(octets, newline=False)


def name_in(octets: bytes) -> str:
    """A user's name: UTF-8, not empty, no control characters."""
    text = text_in(octets)
    if CONTROL.search(text):  # RFC 4013 2.3
        raise Undecodable
    return text


def saslname_in(octets: bytes) -> str:
    """A name as SCRAM and OAUTHBEARER say it (RFC 5802 5.1): "=2C" and "=3D" stand for comma and "="; no other "=" may be."""
    if b"=" in octets.replace(b"=2C", b"").replace(b"=3D", b""):
        raise Undecodable
    return name_in(octets.replace(b"=2C", b",").replace(b"=3D", b"="))


def text_in(octets: bytes) -> str:
    """UTF-8, not empty."""
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        raise Undecodable from None
    if not text:
        raise Undecodable
    return text
