"""The mechanisms of AUTH without SMTP: PLAIN (RFC 4616), LOGIN (no RFC: Username, Password), CRAM-MD5 (RFC 2195).

A server exchange is a generator: it gives challenges, is sent responses, and returns the credentials to be judged;
who may log in is no question of this file.  A client exchange is sent challenges and gives responses.  Both speak
octets; `decode` and `encode` are the strict base64 of RFC 4954 4.  What cannot be read raises `Undecodable`.  Passwords
stand in no repr, and `identity` has only a keyed digest of them.  Names are UTF-8 without control characters; no
further preparation (SASLprep) is done.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from hashlib import sha256
from hmac import HMAC, compare_digest
from hmac import digest as keyed_digest
from typing import Final, TypeAlias

import attrs

from mta.smtp.grammar import CONTROL

__all__ = [
    "CLIENT",
    "MECHANISMS",
    "SERVER",
    "CramCredentials",
    "Credentials",
    "Login",
    "PlainCredentials",
    "Undecodable",
    "choose",
    "cram_digest",
    "decode",
    "encode",
    "identity",
]

MECHANISMS: Final = ("PLAIN", "LOGIN", "CRAM-MD5")
_OPEN: Final = frozenset({"PLAIN", "LOGIN"})  # they show the password to whoever listens
_BASE64: Final = re.compile(rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_CRAM: Final = re.compile(rb"(.+) ([0-9A-Fa-f]{32})", re.S)  # RFC 2195 2: user, blank, digest


class Undecodable(Exception):
    """Not base64, or not what the mechanism says."""


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

    def is_proof_of(self, password: str) -> bool:
        """The client knows that password."""
        return compare_digest(cram_digest(password, self.challenge), self.digest)


Credentials: TypeAlias = PlainCredentials | CramCredentials
ServerExchange: TypeAlias = Generator[bytes, bytes, Credentials]
ClientExchange: TypeAlias = Generator[bytes, bytes, None]


def cram_digest(password: str, challenge: bytes) -> bytes:
    """RFC 2195 2: the keyed MD5 of the challenge, in lower-case hexadecimal digits."""
    return HMAC(password.encode(), challenge, "md5").hexdigest().encode("ascii")


# ---- base64 (RFC 4954 4)


def decode(text: bytes) -> bytes:
    """The octets; Undecodable for any character outside the alphabet and for padding that is not at the end."""
    if not _BASE64.fullmatch(text):
        raise Undecodable
    return binascii.a2b_base64(text)


def encode(octets: bytes) -> bytes:
    """Base64 on one line."""
    return binascii.b2a_base64(octets, newline=False)


# ---- the server's part: the first challenge may be answered before it was asked, but for CRAM-MD5


def _plain(challenge: bytes) -> ServerExchange:
    parts = (yield b"").split(b"\0")
    if len(parts) != 3:
        raise Undecodable
    authzid, user, password = parts
    return PlainCredentials("PLAIN", _name(authzid) if authzid else "", _name(user), _password(password))


def _login(challenge: bytes) -> ServerExchange:
    user = _name((yield b"Username:"))
    return PlainCredentials("LOGIN", "", user, _password((yield b"Password:")))


def _cram_md5(challenge: bytes) -> ServerExchange:
    match = _CRAM.fullmatch((yield challenge))
    if match is None:
        raise Undecodable
    return CramCredentials(_name(match[1]), challenge, match[2].lower())


def _name(octets: bytes) -> str:
    text = _text(octets)
    if CONTROL.search(text):  # RFC 4013 2.3
        raise Undecodable
    return text


def _password(octets: bytes) -> str:
    """Never empty (RFC 4616 2): there are directories that take an empty password for a visitor's."""
    if b"\0" in octets:
        raise Undecodable
    return _text(octets)


def _text(octets: bytes) -> str:
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        raise Undecodable from None
    if not text:
        raise Undecodable
    return text


SERVER: Final[Mapping[str, Callable[[bytes], ServerExchange]]] = {"PLAIN": _plain, "LOGIN": _login, "CRAM-MD5": _cram_md5}

# ---- the client's part: what may be said at once (no octets: nothing), then a response to each challenge


@attrs.frozen(slots=True)
class Login:
    """Who we are at another server."""

    user: str
    password: str = attrs.field(repr=False)


def _give_plain(login: Login) -> ClientExchange:
    message = b"\0".join((b"", login.user.encode(), login.password.encode()))
    yield message
    yield message


def _give_login(login: Login) -> ClientExchange:
    yield b""
    yield login.user.encode()
    yield login.password.encode()


def _give_cram_md5(login: Login) -> ClientExchange:
    challenge = yield b""
    yield login.user.encode() + b" " + cram_digest(login.password, challenge)


CLIENT: Final[Mapping[str, Callable[[Login], ClientExchange]]] = {
    "PLAIN": _give_plain,
    "LOGIN": _give_login,
    "CRAM-MD5": _give_cram_md5,
}


def choose(offered: str, allowed: Sequence[str], confidential: bool) -> str:
    """The first allowed mechanism that the parameters of AUTH offer, "" for none.

    confidential: nobody else can read what is said; without it PLAIN and LOGIN are never chosen (docs/tls.md).
    offered may also begin as in the old "AUTH=LOGIN PLAIN".
    """
    words = offered.upper().replace("=", " ").split()
    for mechanism in allowed:
        if mechanism in words and mechanism in CLIENT and (confidential or mechanism not in _OPEN):
            return mechanism
    return ""


def identity(login: Login, mechanisms: Sequence[str], key: bytes) -> str:
    """As whom, and how: a text for reuse keys and logs.  key: secret octets of this process, so that nobody can try passwords."""
    words = ("/".join(mechanisms), login.user, login.password)
    secret = keyed_digest(key, "\0".join(words).encode(), sha256).hex()[:32]
    return f"{words[0]}:{login.user}:{secret}"
