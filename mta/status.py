"""Reply codes and what follows from them, and the one error type of the project.

RFC 5321 4.2 (reply codes), RFC 3463 (enhanced codes).  A `Reply` is a value: what one side of an SMTP
conversation said, wherever it was said.  A `MailError` is a failure that knows its answer: the reply for the
peer, the reason for the log, and *what* failed (`Scope`), from which the rest is decided: next host, defer,
bounce.  A code that is not understood is transient: mail is never bounced by a doubt.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

import attrs

__all__ = ["MailError", "Reply", "Scope", "misconfigured", "permanent", "transient"]


class Scope(Enum):
    """What a failure speaks of (style: "say what failed")."""

    RECIPIENT = "recipient"  # this recipient; the others of the transaction may succeed
    MESSAGE = "message"  # this message; the connection is still good
    SESSION = "session"  # this connection; another host or connection may do
    SITE = "site"  # every host of the destination: negative feedback for the scheduler


@attrs.frozen(slots=True)
class Reply:
    """One SMTP reply.  `text` has its lines joined by a newline; `enhanced` is "" where none was given."""

    code: int
    enhanced: str
    text: str

    @property
    def is_positive(self) -> bool:
        """Command done (2yz)."""
        return 200 <= self.code < 300

    @property
    def is_intermediate(self) -> bool:
        """Go on (3yz)."""
        return 300 <= self.code < 400

    @property
    def is_permanent(self) -> bool:
        """Do not repeat this (5yz).  Everything that is neither this nor positive is transient."""
        return 500 <= self.code < 600

    @property
    def lines(self) -> list[str]:
        """The text, line by line; at least one line."""
        return self.text.split("\n")

    def __str__(self) -> str:
        """The reply on one line, for logs and reports."""
        said = f"{self.enhanced} {self.text}" if self.enhanced and self.text else self.enhanced or self.text
        return f"{self.code} {said}".replace("\n", " ") if said else str(self.code)


class MailError(Exception):
    """A failure with its answer.

    reply: what the peer is told (or what it told us); reason: for the log, "" when the reply says it all;
    scope: what failed; retry_after: seconds until a repeat makes sense, None for the usual ladder.
    """

    def __init__(self, reply: Reply, reason: str = "", scope: Scope = Scope.MESSAGE, retry_after: float | None = None) -> None:
        super().__init__(reply, reason)
        self.reply: Final = reply
        self.reason: Final = reason
        self.scope: Final = scope
        self.retry_after: Final = retry_after

    def __str__(self) -> str:
        return f"{self.reply} ({self.reason})" if self.reason else str(self.reply)


def transient(enhanced: str, text: str, *, code: int = 451, scope: Scope = Scope.MESSAGE, reason: str = "") -> MailError:
    """A failure that may pass: the mail stays, the attempt is repeated."""
    return MailError(Reply(code, enhanced, text), reason, scope)


def misconfigured(reason: str) -> MailError:
    """What the configuration wants cannot be had; clients hear no more than that it may pass."""
    return transient("4.3.5", "Local configuration error", scope=Scope.SITE, reason=reason)


def permanent(enhanced: str, text: str, *, code: int = 550, scope: Scope = Scope.MESSAGE, reason: str = "") -> MailError:
    """A failure that will not pass: refused to the client, or bounced."""
    return MailError(Reply(code, enhanced, text), reason, scope)
