r"""The lines of Dovecot's authentication protocol, version 1 (its design paper "auth-protocol"), as a client says and hears them.

Words stand between tabs, a line ends with LF; \0, \1, tab, CR and LF in a value are written as \1 and a letter.  `resp=` must
be the last word of a request.  Pure.  What is no line of it raises ValueError.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import attrs

from mta.receive.auth.peer import Peer
from mta.smtp.credentials import Undecodable, decode, encode

__all__ = ["Answer", "answer_in", "begin", "cancel", "go_on", "hello"]

_ESCAPES: Final = {b"\0": b"\x010", b"\x01": b"\x011", b"\t": b"\x01t", b"\r": b"\x01r", b"\n": b"\x01n"}
_PLAIN: Final = {escape: octet for octet, escape in _ESCAPES.items()}
_TO_ESCAPE: Final = re.compile(rb"[\0\x01\t\r\n]")
_ESCAPED: Final = re.compile(rb"\x01.?", re.S)
_ID: Final = re.compile(rb"[0-9]{1,10}")


@attrs.frozen(slots=True)
class Answer:
    """OK, FAIL or CONT to one request.  octets: of CONT.  words: name to value, "" for a word without one."""

    verdict: str
    id: int
    words: Mapping[str, str]
    octets: bytes = attrs.field(default=b"", repr=False)

    @property
    def is_denied(self) -> bool:
        """FAIL for what the client said; or OK for a user who must not come in here ("OK Does Not Mean Access Granted")."""
        if self.verdict == "OK":
            return "nologin" in self.words or "proxy" in self.words
        return self.verdict == "FAIL" and not ("temp" in self.words or self.words.get("code") == "temp_fail")


def hello(client: int) -> bytes:
    """What a client says first.  client: a number that no other connection to this Dovecot has."""
    return b"VERSION\t1\t1\nCPID\t%d\n" % client


def begin(id: int, mechanism: str, peer: Peer, response: bytes | None) -> bytes:
    """A request.  response: None where Dovecot speaks first."""
    words = [b"AUTH", b"%d" % id, mechanism.encode(), b"service=smtp"]
    if peer.secure:
        words.append(b"secured")
    if peer.address:
        words.append(b"rip=" + _escape(peer.address.encode()))
    if response is not None:
        words.append(b"resp=" + encode(response))
    return b"\t".join(words) + b"\n"


def go_on(id: int, response: bytes) -> bytes:
    """The response to a challenge."""
    return b"CONT\t%d\t%b\n" % (id, encode(response))


def cancel(id: int) -> bytes:
    """Nobody waits for it any more."""
    return b"CANCEL\t%d\n" % id


def answer_in(line: bytes) -> Answer | None:
    """An answer; None for a line that is no answer (of the handshake, or of a later version).  ValueError."""
    verdict, *rest = line.split(b"\t")
    if verdict not in (b"OK", b"FAIL", b"CONT"):
        return None
    if not rest or not _ID.fullmatch(rest[0]):
        raise ValueError("no id")
    if verdict == b"CONT":
        try:
            return Answer("CONT", int(rest[0]), {}, decode(rest[1] if len(rest) > 1 else b""))
        except Undecodable:
            raise ValueError("no base64") from None
    pairs = (word.partition(b"=") for word in rest[1:])
    words = {_text(name): _text(value) for name, _, value in pairs}
    return Answer(verdict.decode(), int(rest[0]), words)


def _escape(octets: bytes) -> bytes:
    return _TO_ESCAPE.sub(lambda match: _ESCAPES[match[0]], octets)


def _text(octets: bytes) -> str:
    """Nothing where it is not UTF-8: Dovecot repeats the name, and a client may call itself anything."""
    try:
        return _ESCAPED.sub(lambda match: _PLAIN.get(match[0], match[0][1:]), octets).decode()
    except UnicodeDecodeError:
        return ""
