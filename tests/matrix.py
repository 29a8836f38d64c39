"""Every command in every state: what the receiver's machine answers, as docs/smtp-states.md.

`python -m tests.matrix` writes the page from the machine itself; tests/smtp/test_matrix.py fails while page and machine
differ, so the page cannot lie.  A cell is the code of the reply and, behind an arrow, the state that follows where it is
another one; the session of these talks says yes to everything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import attrs

from mta.smtp.order import State
from mta.smtp.server import Receiver
from mta.status import Reply
from tests.smtp.talk import CHALLENGE, OPTIONS, Talk

__all__ = ["PAGE", "render"]

PAGE: Final = Path(__file__).parent.parent / "docs" / "smtp-states.md"

_ENVELOPE: Final = (b"MAIL FROM:<a@c.test>\r\n", b"RCPT TO:<b@mx.test>\r\n")
_EHLO: Final = b"EHLO c.test\r\n"
# How a conversation gets into each state in which the client may speak.
WAYS: Final[Mapping[State, tuple[bytes, ...]]] = {
    State.SILENT: (),
    State.CONNECTED: (),
    State.READY: (_EHLO,),
    State.MAIL: (_EHLO, _ENVELOPE[0]),
    State.RCPT: (_EHLO, *_ENVELOPE),
    State.BODY: (_EHLO, *_ENVELOPE, b"DATA\r\n"),
    State.CHUNKS: (_EHLO, *_ENVELOPE, b"BDAT 2\r\nab"),
    State.DEAD: (_EHLO, *_ENVELOPE, b"BDAT 2\r\n\n\n"),
}
COMMANDS: Final = (
    b"EHLO c.test",
    b"HELO c.test",
    b"STARTTLS",
    b"AUTH PLAIN AHRpbQB0YW4=",
    b"MAIL FROM:<a@c.test>",
    b"RCPT TO:<b@mx.test>",
    b"DATA",
    b"BDAT 2\r\nab",
    b"BDAT 2 LAST\r\nab",
    b"BDAT 2\r\n\n\n",
    b"BDAT x",
    b"RSET",
    b"NOOP",
    b"VRFY b@mx.test",
    b"EXPN list",
    b"ETRN c.test",
    b"HELP",
    b"QUIT",
    b"XCLIENT ADDR=192.0.2.1",
    b"XFORWARD ADDR=192.0.2.1",
    b"XYZZY",
    b"GET / HTTP/1.1",
    b"NOOP\n",
)
_PORT_25: Final = attrs.evolve(OPTIONS, max_errors=99)
_LOGINS: Final = attrs.evolve(_PORT_25, auth=("PLAIN",), challenge=lambda: CHALLENGE)
# Where the same is asked: heading, and a conversation that has just been greeted (or has not).
PLACES: Final[Mapping[str, Callable[[bool], Talk]]] = {
    "In clear, STARTTLS offered": lambda greet: Talk(_PORT_25, greet=greet),
    "In TLS, AUTH offered": lambda greet: Talk(_LOGINS, implicit=True, greet=greet),
    'In clear, `mail_requires = "tls"`': lambda greet: Talk(attrs.evolve(_PORT_25, mail_requires="tls"), greet=greet),
    'In TLS, `mail_requires = "auth"`': lambda greet: Talk(
        attrs.evolve(_LOGINS, mail_requires="auth"), implicit=True, greet=greet
    ),
    "A client certificate is required and was not shown": lambda greet: Talk(
        attrs.evolve(_PORT_25, refuse_all=Reply(554, "5.7.1", "No")), implicit=True, greet=greet
    ),
}
HEAD: Final = """# Every command in every state

Written by `python -m tests.matrix` from the machine itself (`mta/smtp/server.py`; its table is `mta/smtp/order.py`); a test
fails while this page and the machine differ. The session of these talks says yes to everything. A cell is the code of the
reply, and behind an arrow the state that follows where it is another one; "more" means that there is no reply yet, for the
client is in the middle of a body. `ended` closes the connection.

| state | meaning |
|---|---|
| silent | not greeted yet |
| connected | greeted, no EHLO yet; also where TLS has just begun |
| ready | EHLO or HELO accepted |
| mail | sender accepted |
| rcpt | and at least one recipient |
| body | 354 was said: lines are no commands until CRLF.CRLF |
| chunks | a chunk of BDAT was taken, the last is to come |
| dead | a chunk was refused: a LAST chunk, RSET, EHLO or HELO end that transaction (RFC 3030 2) |
| tls | 220 to STARTTLS: the next byte is TLS, and a fresh machine |

The bytes of a chunk stand behind its command (`⏎` is CRLF, `␊` a bare LF). Where BDAT is refused they are read and
dropped first, in every state; where its size cannot be read the connection ends.
"""


def talk_in(place: Callable[[bool], Talk], state: State) -> Talk | None:
    """A conversation that stands there, None where that state is never reached."""
    talk = place(state is not State.SILENT)
    for said in WAYS[state]:
        talk.say(said)
    return talk if _state(talk.machine) is state else None


def cell(place: Callable[[bool], Talk], state: State, command: bytes) -> str:
    """What comes of a command there."""
    talk = talk_in(place, state)
    assert talk is not None
    said = talk.say(command + b"\r\n" if command[-1:] != b"\n" and b"\r\n" not in command else command)
    if state is State.SILENT:
        talk.machine.greet()
        said += talk.machine.data_to_send()
    codes = [line[:3].decode() for line in said.split(b"\r\n") if line[3:4] == b" "]
    after = _state(talk.machine)
    return (" ".join(codes) or "more") + ("" if after is state else f" → {after.value}")


def _state(machine: Receiver) -> State:
    return machine._state


def _shown(command: bytes) -> str:
    return "`" + command.decode().replace("\r\n", "⏎").replace("\n", "␊") + "`"


def render() -> str:
    """The page."""
    lines = [HEAD]
    for heading, place in PLACES.items():
        states = [state for state in WAYS if talk_in(place, state) is not None]
        lines += [f"## {heading}", "", f"| | {' | '.join(state.value for state in states)} |", "|---" * (len(states) + 1) + "|"]
        lines += [
            f"| {_shown(command)} | {' | '.join(cell(place, state, command) for state in states)} |" for command in COMMANDS
        ]
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(render(), "utf-8")
