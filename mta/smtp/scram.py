"""SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677), both ends, without I/O.

The binding of PLUS is tls-exporter (RFC 9266).  The server asks for the user's `Verifier` (unknown users have one that
was made up: same words, same work) and judges the proof itself; a client that says that it saw no PLUS where PLUS was
offered has been lied to on the way, and fails.  The client believes nobody who cannot sign for its password; a server that
wants less than 4096 iterations (it may be after the password) or so many that we would stand still is not answered.
What is no SCRAM raises `Undecodable`; what is, and proves nothing, ends with an `error`.
"""

from __future__ import annotations

import re
from hashlib import pbkdf2_hmac, sha256
from hmac import compare_digest
from hmac import digest as keyed_digest
from typing import Final

import attrs

from mta.smtp.credentials import (
    ClientExchange,
    JudgedCredentials,
    Login,
    ServerExchange,
    Terms,
    Undecodable,
    Verifier,
    VerifierWanted,
    decode,
    encode,
    saslname_in,
)
from mta.smtp.saslprep import saslprep

__all__ = ["ITERATIONS", "PLUS", "SCRAM", "give_scram", "scram", "serialise", "verifier_in", "verifier_of"]

SCRAM: Final = "SCRAM-SHA-256"
PLUS: Final = "SCRAM-SHA-256-PLUS"
ITERATIONS: Final = 4096  # RFC 7677 4: at least
_MOST_ITERATIONS: Final = 100_000  # of a server: some 30 ms of work
_BINDING: Final = b"tls-exporter"

_PRINTABLE: Final = rb"[!-+\--~]+"  # RFC 5802 7: no blank, no comma
# flag, authzid, [mandatory extension: none is known], user, nonce, extensions that may be ignored
_FIRST: Final = re.compile(
    rb"((?:(n)|(y)|p=([A-Za-z0-9.-]+)),(?:a=([^,\0]+))?,)(n=([^,\0]*),r=(" + _PRINTABLE + rb")(?:,[A-Za-z]=[^,\0]+)*)", re.S
)
_FINAL: Final = re.compile(rb"(c=([A-Za-z0-9+/=]+),r=(" + _PRINTABLE + rb")(?:,[A-Za-z]=[^,\0]+)*),p=([A-Za-z0-9+/=]+)", re.S)
_SERVER_FIRST: Final = re.compile(rb"r=(" + _PRINTABLE + rb"),s=([A-Za-z0-9+/=]+),i=([1-9][0-9]{0,9})(?:,[A-Za-z]=[^,\0]+)*")
_SERVER_FINAL: Final = re.compile(rb"v=([A-Za-z0-9+/=]+)(?:,[A-Za-z]=[^,\0]+)*")
_STORED: Final = re.compile(  # RFC 5803 3 (PostgreSQL writes it too), and as Dovecot writes it
    r"(?:SCRAM-SHA-256\$)?([1-9][0-9]{0,9})[:,]([A-Za-z0-9+/=]+)[$,]([A-Za-z0-9+/=]+)[:,]([A-Za-z0-9+/=]+)"
)


# ---- verifiers


def verifier_of(password: str, salt: bytes, iterations: int = ITERATIONS) -> Verifier:
    """What is to be stored of a password (RFC 5802 3).  Takes some 0.4 microseconds for each iteration."""
    client_key, server_key = _keys(password, salt, iterations)
    return Verifier(salt, iterations, sha256(client_key).digest(), server_key)


def verifier_in(text: str) -> Verifier:
    """A stored one: "SCRAM-SHA-256$4096:salt$stored:server", or Dovecot's "4096,salt,stored,server".  ValueError."""
    match = _STORED.fullmatch(text)
    try:
        if match is None:
            raise Undecodable
        salt, stored, server = (decode(part.encode()) for part in match.groups()[1:])
    except Undecodable:
        raise ValueError("no verifier of SCRAM-SHA-256") from None
    if len(stored) != 32 or len(server) != 32:
        raise ValueError("no verifier of SCRAM-SHA-256")
    return Verifier(salt, int(match[1]), stored, server)


def serialise(verifier: Verifier) -> str:
    """As RFC 5803 3 writes it."""
    salt, stored, server = (encode(key).decode() for key in (verifier.salt, verifier.stored_key, verifier.server_key))
    return f"{SCRAM}${verifier.iterations}:{salt}${stored}:{server}"


def _keys(password: str, salt: bytes, iterations: int) -> tuple[bytes, bytes]:
    """ClientKey and ServerKey."""
    salted = pbkdf2_hmac("sha256", _prepared(password).encode(), salt, iterations)
    return _hmac(salted, b"Client Key"), _hmac(salted, b"Server Key")


def _prepared(password: str) -> str:
    """As it is where SASLprep knows no way, like PostgreSQL: such a password is one too in PLAIN."""
    try:
        return saslprep(password)
    except ValueError:
        return password


def _hmac(key: bytes, text: bytes) -> bytes:
    return keyed_digest(key, text, sha256)


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes([a ^ b for a, b in zip(left, right, strict=True)])


# ---- the server's part


def scram(mechanism: str, terms: Terms) -> ServerExchange:
    """mechanism: SCRAM or PLUS.  The client speaks first."""
    first = _FIRST.fullmatch(_octets((yield b"")))
    if first is None:
        raise Undecodable
    user, authzid = saslname_in(first[7]), saslname_in(first[5]) if first[5] else ""
    error = _binding_error(mechanism, first, terms)
    verifier = yield VerifierWanted(mechanism, user)
    assert isinstance(verifier, Verifier)
    nonce = first[8] + encode(terms.fresh)
    challenge = b"r=%b,s=%b,i=%d" % (nonce, encode(verifier.salt), verifier.iterations)
    final = _FINAL.fullmatch(_octets((yield challenge)))
    if final is None:
        raise Undecodable
    signed = b",".join((first[6], challenge, final[1]))
    wanted = first[1] + (terms.binding if first[4] else b"")  # RFC 5802 5.1, "c="
    proven = _is_proof(verifier, signed, decode(final[4]))
    if not proven or not verifier.exists:
        error = error or "wrong user or password"
    elif decode(final[2]) != wanted:
        error = error or "another channel: somebody is between"
    elif not compare_digest(final[3], nonce):
        error = error or "another nonce"
    if not error:
        end = yield b"v=" + encode(_hmac(verifier.server_key, signed))
        if end:  # RFC 4954 4: the answer to data that come with success is empty
            raise Undecodable
    return JudgedCredentials(mechanism, authzid, user, error)


def _binding_error(mechanism: str, first: re.Match[bytes], terms: Terms) -> str:
    """RFC 5802 6: "p" with PLUS only, "n" and "y" without only; "y" says that the client saw no PLUS."""
    if mechanism == PLUS:
        return "" if first[4] == _BINDING and terms.binding else "no binding to tls-exporter"
    if first[4]:
        return "a binding without -PLUS"
    return "-PLUS was taken out of what was offered: somebody is between" if first[3] and terms.plus else ""


def _is_proof(verifier: Verifier, signed: bytes, proof: bytes) -> bool:
    if len(proof) != 32:
        raise Undecodable
    client_key = _xor(proof, _hmac(verifier.stored_key, signed))
    return compare_digest(sha256(client_key).digest(), verifier.stored_key)


def _octets(answer: object) -> bytes:
    assert isinstance(answer, bytes)
    return answer


# ---- the client's part


@attrs.frozen(slots=True)
class _Bound:
    header: bytes  # gs2-header
    octets: bytes  # c=, decoded


def give_scram(mechanism: str, login: Login, terms: Terms) -> ClientExchange:
    """mechanism: SCRAM or PLUS.  Says nothing behind a signature that is not that of our password: Undecodable."""
    bound = _bound(mechanism, terms)
    bare = b"n=%b,r=%b" % (_escaped(login.user), encode(terms.fresh))
    challenge = yield bound.header + bare
    match = _SERVER_FIRST.fullmatch(challenge)
    if match is None or not match[1].startswith(encode(terms.fresh)) or len(match[1]) <= len(encode(terms.fresh)):
        raise Undecodable
    salt, iterations = decode(match[2]), int(match[3])
    if not ITERATIONS <= iterations <= _MOST_ITERATIONS:
        raise Undecodable
    client_key, server_key = _keys(login.password, salt, iterations)
    unproven = b"c=%b,r=%b" % (encode(bound.octets), match[1])
    signed = b",".join((bare, challenge, unproven))
    proof = _xor(client_key, _hmac(sha256(client_key).digest(), signed))
    answer = yield unproven + b",p=" + encode(proof)
    signature = _SERVER_FINAL.fullmatch(answer)
    if signature is None or not compare_digest(decode(signature[1]), _hmac(server_key, signed)):
        raise Undecodable
    yield b""


def _bound(mechanism: str, terms: Terms) -> _Bound:
    if mechanism == PLUS:
        header = b"p=" + _BINDING + b",,"
        return _Bound(header, header + terms.binding)
    header = b"y,," if terms.binding and not terms.plus else b"n,,"
    return _Bound(header, header)


def _escaped(user: str) -> bytes:
    return _prepared(user).encode().replace(b"=", b"=3D").replace(b",", b"=2C")
