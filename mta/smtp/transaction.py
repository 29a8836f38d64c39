"""One mail transaction as the sender wants it: what it needs of the server, and what is said up to the body.

RFC 5321 3.3, with SIZE (RFC 1870), DSN (RFC 3461), 8BITMIME (RFC 6152), BINARYMIME (RFC 3030), SMTPUTF8 (RFC 6531), REQUIRETLS
(RFC 8689), DELIVERBY (RFC 2852) and MT-PRIORITY (RFC 6710).  Only parameters that the server has offered are used: where DSN is
not, what the sender wants to hear of is ours to tell him (RFC 3461 5.2.2).  A body that the server does not take is for the
session to convert, or to send all the same.  SMTPUTF8 is demanded where an address needs it; a domain becomes A-labels where
it is not offered (RFC 5891).  REQUIRETLS is demanded where the message does; but no report is lost for want of it (RFC 8689 5).
Bodies go by DATA, which every server has proved to understand; BODY=BINARYMIME alone wants chunks, and PIPELINING with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs
import idna

from mta.smtp.command import BINARYMIME, EIGHTBITMIME, REQUIRETLS, RET, SMTPUTF8, mail_line, rcpt_line
from mta.smtp.dsn import rcpt_parameters
from mta.smtp.extension import size_limit
from mta.smtp.grammar import CONTROL
from mta.status import Reply

__all__ = ["NEEDS_UTF8", "Transaction", "script", "takes_binary", "unfit", "without_utf8"]

NEEDS_UTF8: Final = Reply(553, "5.6.7", "The next server does not take addresses in UTF-8")
_TOO_BIG: Final = Reply(552, "5.3.4", "Message is larger than the next server takes")
_NEEDS_REQUIRETLS: Final = Reply(550, "5.7.30", "The next server does not support REQUIRETLS")
_NO_DELIVERBY: Final = Reply(550, "5.3.3", "The next server has no DELIVERBY: it would not return the message in time")
_TOO_LATE: Final = Reply(550, "5.4.7", "The time for delivery has passed, or the next server needs more of it")
_BAD_ADDRESS: Final = Reply(553, "5.1.3", "An address has a control character")


@attrs.frozen(slots=True)
class Transaction:
    """One message for recipients of one server.  sender: "" for the null reverse-path; size: bytes; flags: envelope.Flag.

    wishes: (notify, orcpt) of each recipient as the message came with them; () for none.  priority: -9 to 9 (RFC 6710).
    by: value of BY (RFC 2852), "" for none.
    """

    sender: str
    recipients: tuple[str, ...]
    size: int
    flags: int
    envid: str | None = None
    wishes: tuple[tuple[int, str | None], ...] = ()
    priority: int = 0
    by: str = ""


def takes_binary(extensions: Mapping[str, str]) -> bool:
    """BODY=BINARYMIME may be said.  RFC 3030 2: chunks wait for their replies where there is no PIPELINING; then we convert."""
    return "BINARYMIME" in extensions and "CHUNKING" in extensions and "PIPELINING" in extensions


def unfit(transaction: Transaction, extensions: Mapping[str, str]) -> Reply | None:
    """Why a server with these extensions cannot take it (permanent), None when it can, for one recipient at least."""
    limit = size_limit(extensions)
    if limit and transaction.size > limit:
        return _TOO_BIG
    if transaction.flags & REQUIRETLS and transaction.sender and "REQUIRETLS" not in extensions:
        return _NEEDS_REQUIRETLS
    for address in (transaction.sender, *transaction.recipients):
        if CONTROL.search(address):
            return _BAD_ADDRESS
    if transaction.by and (reply := _out_of_time(transaction.by, extensions)):
        return reply
    if "SMTPUTF8" not in extensions and not _all_ascii(transaction):
        recipients = map(without_utf8, transaction.recipients)
        if without_utf8(transaction.sender) is None or all(recipient is None for recipient in recipients):
            return NEEDS_UTF8
    return None


def _out_of_time(by: str, extensions: Mapping[str, str]) -> Reply | None:
    """RFC 2852 4.1: mode R is given to those only that keep it; with mode N a message goes on, whatever the time."""
    seconds, _, mode = by.partition(";")
    if not mode.startswith("R"):
        return None
    if "DELIVERBY" not in extensions:
        return _NO_DELIVERBY
    least = extensions["DELIVERBY"]
    needed = int(least) if least.isascii() and least.isdigit() and len(least) <= 9 else 0
    return _TOO_LATE if int(seconds) < max(needed, 1) else None


def without_utf8(address: str) -> str | None:
    """The address for a server without SMTPUTF8: its domain in A-labels.  None where that is not all that is needed."""
    if address.isascii():
        return address
    local, at, domain = address.rpartition("@")
    if not local.isascii():
        return None
    try:
        return f"{local}{at}{idna.encode(domain, uts46=True).decode('ascii')}"
    except idna.IDNAError:
        return None


def script(transaction: Transaction, extensions: Mapping[str, str], rset: bool) -> list[tuple[str, bytes]]:
    """What is to be said up to the body: whose reply is awaited, and the line; no DATA where chunks follow.

    ValueError for an address that cannot be said: with a control character, or in UTF-8 where that is not offered.
    """
    steps = [("rset", b"RSET\r\n")] if rset else []
    flags = _flags(transaction, extensions)
    utf8 = bool(flags & SMTPUTF8)
    size = transaction.size if "SIZE" in extensions else None
    sender, terms = _said(transaction.sender, utf8), _terms(transaction, extensions)
    recipients = [_said(recipient, utf8) for recipient in transaction.recipients]
    if "DSN" not in extensions:
        steps.append(("mail", mail_line(sender, size, flags, None, terms)))
        steps += [("rcpt", rcpt_line(recipient)) for recipient in recipients]
    else:
        flags |= transaction.flags & RET
        steps.append(("mail", mail_line(sender, size, flags, transaction.envid, terms)))
        wishes = transaction.wishes or ((0, None),) * len(transaction.recipients)
        for address, recipient, (notify, orcpt) in zip(transaction.recipients, recipients, wishes, strict=True):
            steps.append(("rcpt", rcpt_line(recipient, rcpt_parameters(address, notify, orcpt, utf8))))
    if not flags & BINARYMIME:
        steps.append(("data", b"DATA\r\n"))
    return steps


def _flags(transaction: Transaction, extensions: Mapping[str, str]) -> int:
    """Of BODY, SMTPUTF8 and REQUIRETLS what is wanted and offered."""
    flags = transaction.flags & EIGHTBITMIME if "8BITMIME" in extensions else 0
    if transaction.flags & BINARYMIME and takes_binary(extensions):
        flags |= BINARYMIME
    if "SMTPUTF8" in extensions and (transaction.flags & SMTPUTF8 or not _all_ascii(transaction)):
        flags |= SMTPUTF8
    if "REQUIRETLS" in extensions:
        flags |= transaction.flags & REQUIRETLS
    return flags


def _terms(transaction: Transaction, extensions: Mapping[str, str]) -> str:
    by = f" BY={transaction.by}" if transaction.by and "DELIVERBY" in extensions else ""
    if transaction.priority and "MT-PRIORITY" in extensions:
        return f"{by} MT-PRIORITY={transaction.priority}"
    return by


def _said(address: str, utf8: bool) -> str:
    if utf8 or address.isascii():
        return address
    ascii_address = without_utf8(address)
    if ascii_address is None:
        raise ValueError("an address in UTF-8")
    return ascii_address


def _all_ascii(transaction: Transaction) -> bool:
    return transaction.sender.isascii() and all(map(str.isascii, transaction.recipients))
