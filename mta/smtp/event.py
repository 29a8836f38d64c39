"""What can happen in an SMTP conversation: the events of both machines, all frozen.

The receiver's machine (server.py) tells its session what the client wants; those marked *wants an answer* stop the
machine until `reply()` is called.  The sender's machine (client.py) tells its session what the server said.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from mta.smtp.terms import USUAL, Terms
from mta.status import Reply

if TYPE_CHECKING:
    from mta.smtp.address import Path
    from mta.smtp.credentials import Credentials, Question

__all__ = [
    "Auth",
    "AuthAnswered",
    "AuthStep",
    "BodyChunk",
    "BodyEnd",
    "BodyStart",
    "BodyWanted",
    "Broken",
    "ChunkEnd",
    "Ended",
    "Greeted",
    "Hello",
    "HelloAnswered",
    "MailFrom",
    "Quit",
    "QuitAnswered",
    "RcptTo",
    "Refused",
    "Reset",
    "ResetAnswered",
    "StartTls",
    "StartTlsAnswered",
    "Transacted",
    "Verify",
    "XClient",
]

# ---- of the receiver-SMTP (server.py)


@attrs.frozen(slots=True)
class Hello:
    """EHLO or HELO.  Wants an answer; a positive one is completed with the extensions by the machine."""

    name: str
    extended: bool


@attrs.frozen(slots=True)
class AuthStep:
    """AUTH cannot go on without what the session knows.  Wants `Conversation.supply`, or an answer that ends it (535, 454)."""

    question: Question


@attrs.frozen(slots=True)
class Auth:
    """AUTH, its exchange over.  Wants an answer: 235 makes the client authenticated, 535 counts as a failure, 454 does not."""

    credentials: Credentials


@attrs.frozen(slots=True)
class MailFrom:
    """MAIL with its parameters understood.  Wants an answer.  size: as declared, 0 when it was not.  envid: xtext.

    terms: DELIVERBY, FUTURERELEASE and MT-PRIORITY, where they are offered.
    """

    sender: Path
    size: int
    flags: int  # envelope.Flag
    parameters: Mapping[str, str | None]
    envid: str | None = None
    terms: Terms = USUAL


@attrs.frozen(slots=True)
class RcptTo:
    """RCPT.  Wants an answer.  notify: envelope.Notify, 0 when nothing was said; orcpt: as it was given."""

    recipient: Path
    parameters: Mapping[str, str | None]
    notify: int = 0
    orcpt: str | None = None


@attrs.frozen(slots=True)
class BodyStart:
    """DATA, or the first BDAT, with at least one recipient accepted.  Wants an answer: `Reply(354, ...)` opens the body.

    After BDAT 354 is not said, and a refusal is said when the chunk has been read and dropped.
    """


@attrs.frozen(slots=True)
class BodyChunk:
    """Bytes of the body, dots already unstuffed.

    Every line ends with CRLF once the body is complete, but under BODY=BINARYMIME (RFC 3030 3), where there are no lines.
    """

    data: bytes


@attrs.frozen(slots=True)
class ChunkEnd:
    """A chunk of BDAT that is not the last was read (RFC 3030 2).  Wants an answer: a refusal ends the transaction.

    size: bytes of the body so far.  error: as in BodyEnd.
    """

    size: int
    error: Reply | None


@attrs.frozen(slots=True)
class BodyEnd:
    """CRLF.CRLF was seen, or the last chunk was read.  Wants an answer.

    size: bytes of the body.  error: why the body may not be accepted (bare CR or LF, NUL, a line too long, size), else None.
    """

    size: int
    error: Reply | None


@attrs.frozen(slots=True)
class Verify:
    """VRFY with an address, where the options want the session to judge.  Wants an answer (RFC 5321 3.5.3)."""

    address: Path


@attrs.frozen(slots=True)
class StartTls:
    """STARTTLS that may be answered with 220.  Wants an answer; after 220 this machine is dead and the next byte is TLS."""


@attrs.frozen(slots=True)
class XClient:
    """XCLIENT: the client says for whom it speaks.  This machine is dead; a fresh one greets whoever that is.

    attributes: by their names in lower case; None where the client does not know.
    """

    attributes: Mapping[str, str | None]


@attrs.frozen(slots=True)
class Reset:
    """The mail transaction is gone: RSET, a second EHLO, STARTTLS.  Already answered."""


@attrs.frozen(slots=True)
class Refused:
    """A command was refused by the machine itself, already answered: a syntax error, a wrong order, an unknown verb."""

    command: str  # the verb as understood, "" for garbage; safe to log
    reply: Reply


@attrs.frozen(slots=True)
class Quit:
    """QUIT, already answered with 221: write what there is to send, then close."""


# ---- of the sender-SMTP (client.py)


@attrs.frozen(slots=True)
class Greeted:
    """The server's first reply."""

    reply: Reply


@attrs.frozen(slots=True)
class HelloAnswered:
    """The answer to EHLO (or to HELO after EHLO was refused).  extensions: upper-case keyword -> parameter text."""

    reply: Reply
    extensions: Mapping[str, str]


@attrs.frozen(slots=True)
class StartTlsAnswered:
    """The answer to STARTTLS.  Only 220 with nothing behind it means: speak TLS now."""

    reply: Reply


@attrs.frozen(slots=True)
class AuthAnswered:
    """The last answer to AUTH.  Only 235 means: they know us now."""

    reply: Reply
    mechanism: str


@attrs.frozen(slots=True)
class ResetAnswered:
    """The answer to RSET."""

    reply: Reply


@attrs.frozen(slots=True)
class BodyWanted:
    """354 with at least one recipient accepted: send the body now, then `end_body()`."""


@attrs.frozen(slots=True)
class Transacted:
    """The transaction is over.

    replies: the deciding reply for each recipient, in order: that of MAIL, RCPT, DATA or of the end of data.
    mail: the reply to MAIL (None when it was never read).  final: the reply to the end of data, None when it was never
    asked for.
    """

    replies: tuple[Reply, ...]
    mail: Reply | None
    final: Reply | None


@attrs.frozen(slots=True)
class QuitAnswered:
    """The answer to QUIT: close."""

    reply: Reply


@attrs.frozen(slots=True)
class Ended:
    """421 while nothing or something was asked: the server closes.  What was not answered is not answered."""

    reply: Reply


@attrs.frozen(slots=True)
class Broken:
    """The peer broke the protocol: a reply nobody asked for, garbage, a line or reply too long, bytes behind 220.

    Nothing that it says from now on is read; close without QUIT.
    """

    reason: str
