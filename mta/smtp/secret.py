"""What stands behind the colon of a password file: a password, or its hash.  Pure but for the libraries that know the hashes.

`$argon2id$...` (RFC 9106), `$2b$...` (bcrypt), `$5$...` and `$6$...` (SHA-crypt), `{SCRAM-SHA-256}...` (RFC 5803), each also
behind the scheme's name in braces as Dovecot writes it; `{PLAIN}...` or anything else is the password itself.  The libraries
of bcrypt and SHA-crypt are wanted only where the file has such a hash (`mta[passwords]`), and then at once, not at the first
login.  What cannot be read is a ValueError that never repeats it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import sha256
from hmac import compare_digest
from importlib import import_module
from typing import Any, Final

import attrs

from mta.smtp.credentials import Verifier
from mta.smtp.scram import serialise, verifier_in, verifier_of

__all__ = ["SCHEMES", "Secret", "hashed", "secret_in"]

# Of every scheme there is, known or not: a hash that is taken for a password lets in whoever has seen it.
_MARKED: Final = re.compile(r"\{([A-Za-z0-9._-]+)\}|\$([A-Za-z0-9_-]+)\$")
_BCRYPT: Final = re.compile(r"\$2[aby]\$[0-3][0-9]\$[./A-Za-z0-9]{53}")


@attrs.frozen(slots=True)
class Secret:
    """matches: is this the password?  It may take long (`is_slow`); it never raises.  cost: a text that is the same for secrets
    that take the same work.

    plain: the password itself, where the file has it.  verifier: what SCRAM needs, where the file has that.
    """

    matches: Callable[[bytes], bool] = attrs.field(repr=False)
    cost: str = attrs.field(default="", repr=False)
    plain: bytes | None = attrs.field(default=None, repr=False)
    verifier: Verifier | None = attrs.field(default=None, repr=False)

    @property
    def is_slow(self) -> bool:
        """To be asked in a thread."""
        return self.plain is None


def secret_in(text: str) -> Secret:
    """What stands behind the colon.  ValueError, with what is wrong in words."""
    marked = _MARKED.match(text)
    if marked is None:
        return _plain(text)
    scheme = (marked[1] or _OF_PREFIX.get(marked[2], "")).upper()
    read = _READERS.get(scheme)
    if read is None:
        raise ValueError("a scheme that is not known; a password that begins like this is written with {PLAIN} in front")
    return read(text[marked.end() :] if marked[1] else text)


def _plain(text: str) -> Secret:
    if not text:
        raise ValueError("a password is wanted")
    password = text.encode()
    digest = sha256(password).digest()  # so that its length is in no time either
    return Secret(lambda given: compare_digest(sha256(given).digest(), digest), cost="plain", plain=password)


def _argon2(text: str) -> Secret:
    argon2 = _library("argon2", "argon2-cffi")
    try:
        argon2.extract_parameters(text)
    except argon2.exceptions.InvalidHashError:
        raise ValueError("no hash of argon2") from None
    verify = argon2.PasswordHasher().verify

    def matches(given: bytes) -> bool:
        try:
            return bool(verify(text, given))
        except argon2.exceptions.Argon2Error:
            return False
        except argon2.exceptions.InvalidHashError:
            return False

    return Secret(matches, text.rpartition("$")[0].rpartition("$")[0])


def _bcrypt(text: str) -> Secret:
    checkpw = _library("bcrypt", "bcrypt").checkpw
    if not _BCRYPT.fullmatch(text):
        raise ValueError("no hash of bcrypt")

    def matches(given: bytes) -> bool:
        try:
            return bool(checkpw(given, text.encode()))
        except ValueError:  # over 72 bytes, or with a NUL: no password of bcrypt
            return False

    return Secret(matches, text[: len("$2b$12")])


def _sha_crypt(name: str, text: str) -> Secret:
    scheme = getattr(_library("passlib.hash", "libpass"), name)
    try:
        read = scheme.from_string(text)
        whole, rounds = read.checksum is not None, read.rounds
    except ValueError:
        whole = False
    if not whole:
        raise ValueError("no hash of SHA-crypt")

    def matches(given: bytes) -> bool:
        try:
            return bool(scheme.verify(given, text))
        except ValueError:  # with a NUL, or longer than 4096
            return False

    return Secret(matches, f"{name} {rounds}")


def _crypt(text: str) -> Secret:
    """{CRYPT}: its prefix says which."""
    marked = _MARKED.match(text)
    if marked is None or not marked[2]:
        raise ValueError("an old hash of crypt(3), which is not known")
    return secret_in(text)


def _scram(text: str) -> Secret:
    verifier = verifier_in(text)

    def matches(given: bytes) -> bool:
        try:
            fresh = verifier_of(given.decode(), verifier.salt, verifier.iterations)
        except UnicodeDecodeError:
            return False
        # A key of HMAC is filled up with zero octets (RFC 2104 2): with them it would be the same password.
        return compare_digest(fresh.stored_key, verifier.stored_key) and b"\0" not in given

    return Secret(matches, f"scram {len(verifier.salt)} {verifier.iterations}", verifier=verifier)


def _library(name: str, package: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise ValueError(f"this hash needs {package}: pip install 'mta[passwords]'") from None


_READERS: Final[Mapping[str, Callable[[str], Secret]]] = {
    "PLAIN": _plain,
    "CLEARTEXT": _plain,
    "ARGON2": _argon2,
    "ARGON2I": _argon2,
    "ARGON2ID": _argon2,
    "BLF-CRYPT": _bcrypt,
    "SHA256-CRYPT": partial(_sha_crypt, "sha256_crypt"),
    "SHA512-CRYPT": partial(_sha_crypt, "sha512_crypt"),
    "CRYPT": _crypt,
    "SCRAM-SHA-256": _scram,
}
_OF_PREFIX: Final = {
    "argon2id": "ARGON2ID",
    "argon2i": "ARGON2I",
    "argon2d": "ARGON2",
    "2a": "BLF-CRYPT",
    "2b": "BLF-CRYPT",
    "2y": "BLF-CRYPT",
    "5": "SHA256-CRYPT",
    "6": "SHA512-CRYPT",
}

# ---- new ones, for `mta passwd`

SCHEMES: Final = ("argon2", "scram-sha-256", "bcrypt", "sha512-crypt", "plain")


def hashed(password: str, scheme: str, random: Callable[[int], bytes]) -> str:
    """What goes behind the colon, one of SCHEMES.  random: that many unforeseeable bytes.  ValueError as above."""
    return _WRITERS[scheme](password, random)


def _write_argon2(password: str, random: Callable[[int], bytes]) -> str:
    return str(_library("argon2", "argon2-cffi").PasswordHasher().hash(password, salt=random(16)))


def _write_scram(password: str, random: Callable[[int], bytes]) -> str:
    return "{SCRAM-SHA-256}" + serialise(verifier_of(password, random(16)))


def _write_bcrypt(password: str, random: Callable[[int], bytes]) -> str:
    bcrypt = _library("bcrypt", "bcrypt")
    if len(password.encode()) > 72:
        raise ValueError("bcrypt knows no password of more than 72 bytes")
    return str(bcrypt.hashpw(password.encode(), bcrypt.gensalt()).decode())


def _write_sha512_crypt(password: str, random: Callable[[int], bytes]) -> str:
    return str(_library("passlib.hash", "libpass").sha512_crypt.hash(password))


def _write_plain(password: str, random: Callable[[int], bytes]) -> str:
    return "{PLAIN}" + password


_WRITERS: Final = dict(zip(SCHEMES, (_write_argon2, _write_scram, _write_bcrypt, _write_sha512_crypt, _write_plain), strict=True))
