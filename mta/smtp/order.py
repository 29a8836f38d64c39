"""The order of commands: which verb may come in which state of the receiver.  RFC 5321 3.3 and 4.1.4, RFC 3207 4.2.

`ALLOWED` is the whole table; the machine (server.py) looks verbs up in it and does what they say, and `misplaced` has
the reply for all others.  States change in server.py only, and only when an answer was given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import Final

from mta.smtp import wording
from mta.status import Reply

__all__ = ["ALLOWED", "State", "is_foreign", "misplaced"]


class State(Enum):
    """Where the conversation stands."""

    SILENT = "silent"  # not greeted yet
    CONNECTED = "connected"  # greeted, or TLS has just begun
    READY = "ready"  # EHLO or HELO accepted
    MAIL = "mail"  # sender accepted
    RCPT = "rcpt"  # and at least one recipient
    BODY = "body"  # 354 was said
    TLS = "tls"  # 220 to STARTTLS was said: dead
    ENDED = "ended"


_ALWAYS: Final = frozenset({b"EHLO", b"HELO", b"STARTTLS", b"NOOP", b"RSET", b"HELP", b"QUIT"})
ALLOWED: Final[Mapping[State, frozenset[bytes]]] = {
    State.SILENT: frozenset(),
    State.CONNECTED: _ALWAYS,
    State.READY: _ALWAYS | {b"VRFY", b"MAIL"},
    State.MAIL: _ALWAYS | {b"VRFY", b"RCPT", b"DATA"},  # DATA has words of its own when no recipient was accepted
    State.RCPT: _ALWAYS | {b"VRFY", b"RCPT", b"DATA"},
    State.BODY: frozenset(),
    State.TLS: frozenset(),
    State.ENDED: frozenset(),
}

_TOO_EARLY: Final[Mapping[State, Reply]] = {
    State.CONNECTED: wording.HELLO_FIRST,
    State.READY: wording.MAIL_FIRST,
    State.MAIL: wording.MAIL_GIVEN,
    State.RCPT: wording.MAIL_GIVEN,
}
_SPOKEN: Final = frozenset().union(*ALLOWED.values())
# Words of SMTP that we do not speak: 502, not 500 (RFC 5321 4.2.4).
_NOT_SPOKEN: Final = frozenset({b"AUTH", b"BDAT", b"EXPN", b"ETRN", b"TURN", b"ATRN", b"SEND", b"SOML", b"SAML"})
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
