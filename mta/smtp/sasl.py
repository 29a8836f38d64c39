"""The mechanisms of AUTH without SMTP: PLAIN (RFC 4616), LOGIN (no RFC: Username, Password), CRAM-MD5 (RFC 2195), EXTERNAL
(RFC 4422 A), SCRAM-SHA-256 and its -PLUS (RFC 7677, scram.py), as a server OAUTHBEARER and XOAUTH2 (RFC 7628, bearer.py).

A server exchange is a generator: it gives challenges or questions to the session, is sent responses or answers, and returns
the credentials to be judged; who may log in is no question of this file.  A client exchange is sent challenges and gives
responses.  Both speak octets.  What cannot be read raises `Undecodable`.  Passwords stand in no repr, and `identity` has only
a keyed digest of them.  Names are UTF-8 without control characters; no further preparation (SASLprep) is done but in SCRAM.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import sha256
from hmac import digest as keyed_digest
from typing import Final, TypeAlias

from mta.smtp.bearer import BEARER, bearer
from mta.smtp.credentials import (
    ClientExchange,
    CramCredentials,
    ExternalCredentials,
    Held,
    Login,
    PassedOn,
    PlainCredentials,
    ServerExchange,
    Terms,
    Undecodable,
    Verifier,
    cram_digest,
    name_in,
    text_in,
)
from mta.smtp.scram import PLUS, SCRAM, give_scram, scram

__all__ = [
    "CLIENT",
    "MECHANISMS",
    "MUTUAL",
    "SERVER",
    "SERVER_FIRST",
    "TLS_ONLY",
    "Mechanisms",
    "choose",
    "identity",
    "pass_on",
]

_OPEN: Final = frozenset({"PLAIN", "LOGIN"})  # they show the password to whoever listens
_CRAM: Final = re.compile(rb"(.+) ([0-9A-Fa-f]{32})", re.S)  # RFC 2195 2: user, blank, digest

# ---- the server's part: the first challenge, where it is empty or LOGIN's, may be answered before it was given


def _plain(terms: Terms) -> ServerExchange:
    parts = _octets((yield b"")).split(b"\0")
    if len(parts) != 3:
        raise Undecodable
    authzid, user, password = parts
    return PlainCredentials("PLAIN", name_in(authzid) if authzid else "", name_in(user), _password(password))


def _login(terms: Terms) -> ServerExchange:
    user = name_in(_octets((yield b"Username:")))
    return PlainCredentials("LOGIN", "", user, _password(_octets((yield b"Password:"))))


def _cram_md5(terms: Terms) -> ServerExchange:
    match = _CRAM.fullmatch(_octets((yield terms.fresh)))
    if match is None:
        raise Undecodable
    return CramCredentials(name_in(match[1]), terms.fresh, match[2].lower())


def _external(terms: Terms) -> ServerExchange:
    authzid = _octets((yield b""))
    return ExternalCredentials(name_in(authzid) if authzid else "")


def pass_on(mechanism: str, terms: Terms) -> ServerExchange:
    """A mechanism that is held by somebody else, step by step.  He hears when it is over, also when it is thrown away."""
    exchange = Held()
    response = None if mechanism in SERVER_FIRST else _octets((yield b""))
    try:
        while True:
            answer = yield PassedOn(mechanism, response, exchange)
            if not isinstance(answer, bytes):
                assert not isinstance(answer, Verifier)
                return answer
            response = _octets((yield answer))
    finally:
        exchange.end()


def _password(octets: bytes) -> str:
    """Never empty (RFC 4616 2): there are directories that take an empty password for a visitor's."""
    if b"\0" in octets:
        raise Undecodable
    return text_in(octets)


def _octets(answer: object) -> bytes:
    assert isinstance(answer, bytes)
    return answer


Mechanisms: TypeAlias = Mapping[str, Callable[[Terms], ServerExchange]]

SERVER: Final[Mechanisms] = {
    "PLAIN": _plain,
    "LOGIN": _login,
    "CRAM-MD5": _cram_md5,
    SCRAM: partial(scram, SCRAM),
    PLUS: partial(scram, PLUS),
    "EXTERNAL": _external,
    **{name: partial(bearer, name) for name in BEARER},
}
MECHANISMS: Final = tuple(SERVER)
SERVER_FIRST: Final = frozenset({"CRAM-MD5"})  # elsewhere the client may answer the first challenge before it is given
TLS_ONLY: Final = ("EXTERNAL", PLUS, *BEARER)  # RFC 7628 4: who hears a token has it

# ---- the client's part: what may be said at once (no octets: nothing), then a response to each challenge


def _give_plain(login: Login, terms: Terms) -> ClientExchange:
    message = b"\0".join((b"", login.user.encode(), login.password.encode()))
    yield message
    yield message


def _give_login(login: Login, terms: Terms) -> ClientExchange:
    yield b""
    yield login.user.encode()
    yield login.password.encode()


def _give_cram_md5(login: Login, terms: Terms) -> ClientExchange:
    challenge = yield b""
    yield login.user.encode() + b" " + cram_digest(login.password, challenge)


CLIENT: Final[Mapping[str, Callable[[Login, Terms], ClientExchange]]] = {
    "PLAIN": _give_plain,
    "LOGIN": _give_login,
    "CRAM-MD5": _give_cram_md5,
    SCRAM: partial(give_scram, SCRAM),
    PLUS: partial(give_scram, PLUS),
}
# How many challenges must have been answered before 235 is believed: with the last of them the server has proved that it
# knows the password too (RFC 5802 3).
MUTUAL: Final[Mapping[str, int]] = {SCRAM: 2, PLUS: 2}


def choose(offered: str, allowed: Sequence[str], confidential: bool, binding: bool = False) -> str:
    """The first allowed mechanism that the parameters of AUTH offer, "" for none.

    confidential: nobody else can read what is said; without it PLAIN and LOGIN are never chosen (docs/tls.md).
    binding: the connection has a tls-exporter, without which -PLUS is not to be had.
    offered may also begin as in the old "AUTH=LOGIN PLAIN".
    """
    words = offered.upper().replace("=", " ").split()
    for mechanism in allowed:
        if mechanism not in words or mechanism not in CLIENT:
            continue
        if (confidential or mechanism not in _OPEN) and (binding or mechanism != PLUS):
            return mechanism
    return ""


def identity(login: Login, mechanisms: Sequence[str], key: bytes) -> str:
    """As whom, and how: a text for reuse keys and logs.  key: secret octets of this process, so that nobody can try passwords."""
    words = ("/".join(mechanisms), login.user, login.password)
    secret = keyed_digest(key, "\0".join(words).encode(), sha256).hex()[:32]
    return f"{words[0]}:{login.user}:{secret}"
