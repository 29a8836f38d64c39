"""One mail transaction as the sender wants it: what it needs of the server, and what is said up to DATA.

RFC 5321 3.3, with SIZE (RFC 1870), DSN (RFC 3461), 8BITMIME (RFC 6152), SMTPUTF8 (RFC 6531) and REQUIRETLS (RFC 8689).
Only parameters that the server has offered are used: where DSN is not, what the sender wants to hear of is ours to tell
him (RFC 3461 5.2.2).  8BITMIME is never demanded: servers without it are known to take 8-bit bodies, and
refusing would lose mail.  SMTPUTF8 is demanded where an address needs it, REQUIRETLS where the message does; but no
report is lost for want of REQUIRETLS (RFC 8689 5).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import attrs

from mta.smtp.command import EIGHTBITMIME, REQUIRETLS, RET, SMTPUTF8, mail_line, rcpt_line
from mta.smtp.dsn import rcpt_parameters
from mta.smtp.extension import size_limit
from mta.smtp.grammar import CONTROL
from mta.status import Reply

__all__ = ["Transaction", "script", "unfit"]

_TOO_BIG: Final = Reply(552, "5.3.4", "Message is larger than the next server takes")
_NEEDS_UTF8: Final = Reply(553, "5.6.7", "The next server does not take addresses in UTF-8")
_NEEDS_REQUIRETLS: Final = Reply(550, "5.7.30", "The next server does not support REQUIRETLS")
_BAD_ADDRESS: Final = Reply(553, "5.1.3", "An address has a control character")


@attrs.frozen(slots=True)
class Transaction:
    """One message for recipients of one server.  sender: "" for the null reverse-path; size: bytes; flags: envelope.Flag.

    wishes: (notify, orcpt) of each recipient as the message came with them; () for none.
    """

    sender: str
    recipients: tuple[str, ...]
    size: int
    flags: int
    envid: str | None = None
    wishes: tuple[tuple[int, str | None], ...] = ()


def unfit(transaction: Transaction, extensions: Mapping[str, str]) -> Reply | None:
    """Why a server with these extensions cannot take it (permanent), None when it can."""
    limit = size_limit(extensions)
    if limit and transaction.size > limit:
        return _TOO_BIG
    if transaction.flags & REQUIRETLS and transaction.sender and "REQUIRETLS" not in extensions:
        return _NEEDS_REQUIRETLS
    for address in (transaction.sender, *transaction.recipients):
        if not address.isascii() and "SMTPUTF8" not in extensions:
            return _NEEDS_UTF8
        if CONTROL.search(address):
            return _BAD_ADDRESS
    return None


def script(transaction: Transaction, extensions: Mapping[str, str], rset: bool) -> Iterator[tuple[str, bytes]]:
    """What is to be said up to DATA: whose reply is awaited, and the line.  ValueError for a control character in an address."""
    if rset:
        yield "rset", b"RSET\r\n"
    flags = transaction.flags & EIGHTBITMIME if "8BITMIME" in extensions else 0
    if "SMTPUTF8" in extensions and (transaction.flags & SMTPUTF8 or not _all_ascii(transaction)):
        flags |= SMTPUTF8
    if "REQUIRETLS" in extensions:
        flags |= transaction.flags & REQUIRETLS
    size = transaction.size if "SIZE" in extensions else None
    if "DSN" not in extensions:
        yield "mail", mail_line(transaction.sender, size, flags)
        for recipient in transaction.recipients:
            yield "rcpt", rcpt_line(recipient)
    else:
        yield "mail", mail_line(transaction.sender, size, flags | transaction.flags & RET, transaction.envid)
        wishes = transaction.wishes or ((0, None),) * len(transaction.recipients)
        for recipient, (notify, orcpt) in zip(transaction.recipients, wishes, strict=True):
            yield "rcpt", rcpt_line(recipient, rcpt_parameters(recipient, notify, orcpt, bool(flags & SMTPUTF8)))
    yield "data", b"DATA\r\n"


def _all_ascii(transaction: Transaction) -> bool:
    return transaction.sender.isascii() and all(map(str.isascii, transaction.recipients))
