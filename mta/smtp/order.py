"""The order of commands: which verb may come in which state of the receiver.  RFC 5321 3.3 and 4.1.4, RFC 3207 4.2.

`ALLOWED` is the whole table; the machine (server.py) looks verbs up in it and does what they say, and `misplaced` has
the reply for all others.  States change in server.py only, and only when an answer was given.  A `Gate` stands in front
of the table where TLS or AUTH must come first (RFC 3207 4, RFC 4954 6), or where nothing is served at all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import Final

import attrs

from mta.smtp import wording
from mta.status import Reply

__all__ = ["ALLOWED", "REQUIREMENTS", "Gate", "State", "gate", "is_foreign", "misplaced"]


class State(Enum):
    """Where the conversation stands."""

    __hash__ = object.__hash__  # Enum's own runs Python, and every command looks something up

    SILENT = "silent"  # not greeted yet
    CONNECTED = "connected"  # greeted, or TLS has just begun
    READY = "ready"  # EHLO or HELO accepted
    MAIL = "mail"  # sender accepted
    RCPT = "rcpt"  # and at least one recipient
    BODY = "body"  # 354 was said
    CHUNKS = "chunks"  # BDAT has begun the body
    DEAD = "dead"  # a chunk was refused: nothing comes of this transaction (RFC 3030 2)
    TLS = "tls"  # 220 to STARTTLS was said: dead
    ENDED = "ended"


_ALWAYS: Final = frozenset({b"EHLO", b"HELO", b"STARTTLS", b"NOOP", b"RSET", b"HELP", b"QUIT", b"XCLIENT", b"XFORWARD"})
ALLOWED: Final[Mapping[State, frozenset[bytes]]] = {
    State.SILENT: frozenset(),
    State.CONNECTED: _ALWAYS,
    State.READY: _ALWAYS | {b"AUTH", b"VRFY", b"MAIL"},
    # AUTH has words of its own here, and DATA and BDAT without a recipient
    State.MAIL: _ALWAYS | {b"AUTH", b"VRFY", b"RCPT", b"DATA", b"BDAT"},
    State.RCPT: _ALWAYS | {b"AUTH", b"VRFY", b"RCPT", b"DATA", b"BDAT"},
    State.BODY: frozenset(),
    State.CHUNKS: _ALWAYS | {b"AUTH", b"VRFY", b"BDAT"},
    State.DEAD: _ALWAYS | {b"AUTH", b"VRFY"},
    State.TLS: frozenset(),
    State.ENDED: frozenset(),
}

_TOO_EARLY: Final[Mapping[State, Reply]] = {
    State.CONNECTED: wording.HELLO_FIRST,
    State.READY: wording.MAIL_FIRST,
    State.MAIL: wording.MAIL_GIVEN,
    State.RCPT: wording.MAIL_GIVEN,
    State.CHUNKS: wording.BDAT_BEGUN,
    State.DEAD: wording.RSET_FIRST,
}
_SPOKEN: Final = frozenset().union(*ALLOWED.values())
# Words of SMTP that we do not speak: 502, not 500 (RFC 5321 4.2.4).
_NOT_SPOKEN: Final = frozenset({b"EXPN", b"ETRN", b"TURN", b"ATRN", b"SEND", b"SOML", b"SAML"})
# Other protocols' words, and header lines: somebody makes a browser or a proxy talk to us (ALPACA, docs/tls.md).
_FOREIGN: Final = re.compile(rb"(?:GET|POST|PUT|HEAD|OPTIONS|CONNECT|DELETE|PATCH|TRACE|PRI|USER|PASS)(?: |$)|[!-9;-~]+:", re.I)


def misplaced(state: State, verb: bytes) -> tuple[bytes, Reply]:
    """The reply to a verb that `ALLOWED` does not have there; and the verb, b"" for one that is no word of SMTP."""
    if verb in _SPOKEN:
        return verb, _TOO_EARLY[state]
    if verb in _NOT_SPOKEN:
        return verb, wording.HELLO_FIRST if state is State.CONNECTED else wording.NOT_IMPLEMENTED
    return b"", wording.UNKNOWN


def is_foreign(line: bytes) -> bool:
    """An unknown command that shows another protocol: nothing good will follow."""
    return _FOREIGN.match(line) is not None


# ---- what must be done first


@attrs.frozen(slots=True)
class Gate:
    """Every command but the free ones gets this reply."""

    reply: Reply
    free: frozenset[bytes]


_QUIT_ONLY: Final = frozenset({b"QUIT"})
_STARTTLS_FIRST: Final = Gate(wording.STARTTLS_FIRST, _ALWAYS)  # HELO, RSET and HELP do no harm (docs/tls.md)
_AUTH_FIRST: Final = Gate(wording.AUTH_FIRST, _ALWAYS | {b"AUTH"})
_ONE_FIRST: Final = Gate(wording.STARTTLS_OR_AUTH_FIRST, _ALWAYS | {b"AUTH"})
# mail_requires -> the gates in clear text, in TLS, authenticated in clear text; authenticated in TLS nothing is left to ask
_GATES: Final[Mapping[str, tuple[Gate | None, Gate | None, Gate | None]]] = {
    "none": (None, None, None),
    "tls": (_STARTTLS_FIRST, None, _STARTTLS_FIRST),
    "auth": (_AUTH_FIRST, _AUTH_FIRST, None),
    "tls-or-auth": (_ONE_FIRST, None, None),
    "tls+auth": (_STARTTLS_FIRST, _AUTH_FIRST, _STARTTLS_FIRST),
}
REQUIREMENTS: Final = tuple(_GATES)


def gate(mail_requires: str, in_tls: bool, authenticated: bool, refuse_all: Reply | None = None) -> Gate | None:
    """What stands in front of the commands, None for nothing."""
    if refuse_all is not None:  # RFC 3207 4.1
        return Gate(refuse_all, _QUIT_ONLY)
    in_clear, in_tls_only, known_in_clear = _GATES[mail_requires]
    if authenticated:
        return None if in_tls else known_in_clear
    return in_tls_only if in_tls else in_clear
