"""A transaction on its way, as the sender-SMTP remembers it: what was answered, and how the body leaves.

RFC 5321 3.3, RFC 3030 2.  A body leaves dot-stuffed behind DATA, or in chunks.  Law: each recipient has exactly one deciding
reply (`decided`): that of MAIL where it was refused, else that of its RCPT where that was refused, else the reply to what
ended the transaction.
"""

from __future__ import annotations

from collections.abc import Iterator

from mta.smtp.chunk_writer import ChunkWriter
from mta.smtp.data import DotStuffer
from mta.smtp.transaction import Transaction
from mta.status import Reply

__all__ = ["Exchange"]


class Exchange:
    """See the module.  steps: whose reply is awaited and the line, not sent yet; chunked: no DATA, the body goes in chunks."""

    __slots__ = ("accepted", "chunked", "mail", "refusal", "replies", "steps", "stuffer", "transaction")

    def __init__(self, transaction: Transaction, steps: Iterator[tuple[str, bytes]], chunked: bool) -> None:
        self.transaction = transaction
        self.steps = steps
        self.chunked = chunked
        self.mail: Reply | None = None
        self.replies: list[Reply] = []  # to RCPT
        self.accepted = 0
        self.stuffer: DotStuffer | ChunkWriter | None = None  # while and after the body is sent
        self.refusal: Reply | None = None  # of a chunk

    @property
    def mail_refused(self) -> bool:
        """MAIL was not answered 2yz."""
        return self.mail is None or not self.mail.is_positive

    def decided(self, decider: Reply | None) -> tuple[Reply, ...]:
        """The recipients that were accepted get the decider's reply; all get that of MAIL where it was refused."""
        if self.mail is not None and not self.mail.is_positive:
            return (self.mail,) * len(self.transaction.recipients)
        return tuple([decider if decider and reply.is_positive else reply for reply in self.replies])
