"""One mail transaction on a submission port: RFC 6409, with what a mail program left out or should have left out mended.

As `transaction.py`, and: domains in the envelope are fully qualified (4.2); the header passes through `submission.py` on its
way to the queue, and what it lacks stands in the prefix, below our Received line (8.2, 8.3); mail may be held for later (RFC
4865).  A message without From gets its reverse-path, as Postfix does; with the null one there is nobody to name, and it is
refused.  With `check_from` every author must be one that the login may send as, or the message is 550: a From that can be
read in two ways is nobody's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from mta.envelope import BodyRef, NewMessage
from mta.receive.submission import SubmittedHeader, authors, missing
from mta.receive.trace import date
from mta.receive.transaction import Transaction
from mta.smtp.address import Path
from mta.smtp.event import BodyEnd, ChunkEnd, MailFrom, RcptTo
from mta.status import Reply

if TYPE_CHECKING:
    from mta.receive.session import Session

__all__ = ["Submitted"]

SENDER_NOT_QUALIFIED: Final = Reply(554, "5.1.8", "Sender address rejected: need fully-qualified domain")
RECIPIENT_NOT_QUALIFIED: Final = Reply(554, "5.1.2", "Recipient address rejected: need fully-qualified domain")
NO_AUTHOR: Final = Reply(550, "5.6.0", "Message has no From header field")
NOT_THE_AUTHOR: Final = Reply(550, "5.7.1", "From header field rejected: not owned by user")


class Submitted(Transaction):
    """See the module."""

    __slots__ = ("_fields",)
    source = "submission"

    def __init__(self, session: Session, mail: MailFrom) -> None:
        super().__init__(session, mail)
        self._fields = SubmittedHeader()

    # ---- the envelope

    def mail(self) -> None:
        """MAIL: and is it clear where the sender is?"""
        sender = self._mail.sender
        if self._is_qualified(sender):
            super().mail()
        else:
            self._session.refuse("mail", SENDER_NOT_QUALIFIED, **{"from": sender.address})

    def rcpt(self, event: RcptTo) -> None:
        """RCPT: and is it clear where to?"""
        if self._is_qualified(event.recipient):
            super().rcpt(event)
        else:
            addresses = {"from": self._sender, "to": event.recipient.address}
            self._session.refuse("rcpt", RECIPIENT_NOT_QUALIFIED, **addresses)

    def _is_qualified(self, path: Path) -> bool:
        """A name without a dot is nobody's but ours; `<>` and `<postmaster>` have no domain."""
        domain = path.domain_key
        return not domain or domain[0] == "[" or "." in domain or domain in self._session.common.access.domains

    # ---- the body

    def chunk(self, data: bytes) -> None:
        """A piece of the body, on its way through what mends the header."""
        super().chunk(self._fields.feed(data))

    def end(self, event: BodyEnd | ChunkEnd) -> None:
        """The end of data, with what was kept back."""
        if type(event) is BodyEnd and (rest := self._fields.end()):
            super().chunk(rest)
        super().end(event)

    def _fault(self) -> Reply | None:
        return super()._fault() or self._fields.error or (self._author_fault() if type(self._end) is BodyEnd else None)

    def _author_fault(self) -> Reply | None:
        session, froms = self._session, self._fields.froms
        if not froms and not self._mail.sender.domain:
            return NO_AUTHOR
        if not session.listener.listen.check_from or session.login is None:
            return None
        found = [authors(field) for field in froms]
        if all(found) and all(map(session.login.may_send, [author for field in found for author in field])):
            return None
        return NOT_THE_AUTHOR

    # ---- to the queue

    def _message(self, body: BodyRef) -> NewMessage:
        """Not to be delivered before the release that MAIL has named (RFC 4865)."""
        message, release = super()._message(body), self._mail.terms.release
        return message if release is None else attrs.evolve(message, release=int(release * 1000))

    def _prefix(self, name: str, seconds: float) -> bytes:
        hostname = self._session.common.settings.hostname
        added = missing(
            self._fields.has,
            sender=self._sender,
            date=date(seconds),
            message_id=f"{name}@{hostname}",  # no queue id is ever given twice
        )
        return super()._prefix(name, seconds) + added
