"""How a message goes to a server that does not offer all that it asks for: who of its recipients, and what of it changed (pure).

RFC 6152 3 and RFC 3030 3 (a body that must be converted), RFC 6531 3.6 (addresses and headers in UTF-8), RFC 9422 (limits).
Most mail needs nothing of this, and `is_plain` sees that at once.  Else `fitted` says how it goes, or why it never can: the
reply for the bounce.  Where that hangs on what is in the message it must be surveyed before (`wants_look`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

import attrs

from mta.envelope import Flag, Message
from mta.relay.limits import admitted
from mta.smtp.client import Transaction
from mta.smtp.command import BINARYMIME, EIGHTBITMIME, SMTPUTF8
from mta.smtp.convert.survey import Findings, Plan
from mta.smtp.transaction import NEEDS_UTF8, takes_binary, unfit, without_utf8
from mta.status import Reply

__all__ = ["Fit", "by_value", "fitted", "is_plain", "is_traced", "wants_look", "without_receiver"]

_NEEDS: Final = EIGHTBITMIME | BINARYMIME | SMTPUTF8
_HEADER_UTF8: Final = Reply(550, "5.6.9", "The header is in UTF-8, and the next server does not take that (no SMTPUTF8)")
_NO_CONVERSION: Final = "The message has octets over 127, and the next server does not take them (no 8BITMIME)"
_RETURN: Final = int(Flag.BY_RETURN)
_TRACE: Final = int(Flag.BY_TRACE)
_MOST_BY: Final = 999_999_999  # RFC 2852 4: nine digits
_FOR: Final = re.compile(rb"\r\n\tfor <[^<>\r\n]*>")
_NONE_REFUSED: Final[Mapping[int, Reply]] = MappingProxyType({})


@attrs.frozen(slots=True)
class Fit:
    """A transaction as this server gets it.

    places: of the job's recipients, those that are in it, None for all; refused: by place, those that this server never takes.
    Who is in neither waits for another transaction.  plan: how the message is converted.  converted: what was, for the log.
    """

    transaction: Transaction
    places: Sequence[int] | None = None
    refused: Mapping[int, Reply] = _NONE_REFUSED
    plan: Plan | None = None
    converted: str = ""


def is_plain(transaction: Transaction, extensions: Mapping[str, str]) -> bool:
    """It goes to a server with these extensions as it is."""
    flags = transaction.flags
    if transaction.by:
        return False
    if flags & _NEEDS and (_is_missing(flags, SMTPUTF8, "SMTPUTF8", extensions) or _body_is_missing(flags, extensions)):
        return False
    if "LIMITS" in extensions and len(transaction.recipients) > 1:
        return False
    return "SMTPUTF8" in extensions or (transaction.sender.isascii() and all(map(str.isascii, transaction.recipients)))


def by_value(message: Message, now: int) -> str:
    """BY as it must be said at that time (ms since the epoch), "" for a message without (RFC 2852 4: what is left of it)."""
    if not message.deliver_by:
        return ""
    left = max(min((message.deliver_by - now) // 1000, _MOST_BY), -_MOST_BY)
    return f"{left};{'R' if message.flags & _RETURN else 'N'}{'T' if message.flags & _TRACE else ''}"


def without_receiver(prefix: bytes) -> bytes:
    """Our own Received line for a server without SMTPUTF8: without the clause that names a recipient in UTF-8 (RFC 5321 4.4)."""
    return prefix if prefix.isascii() else _FOR.sub(lambda match: match[0] if match[0].isascii() else b"", prefix)


def is_traced(message: Message, extensions: Mapping[str, str]) -> bool:
    """RFC 2852 4.1.4: its sender hears that it went on, where he asked for a trace, or wants to be told of its time (mode N) and
    the next server cannot tell him (4.1.4.2)."""
    if not message.deliver_by or not message.sender:
        return False
    return bool(message.flags & _TRACE) or not (message.flags & _RETURN or "DELIVERBY" in extensions)


def wants_look(transaction: Transaction, extensions: Mapping[str, str], eightbit: str) -> bool:
    """What is in the message decides.  eightbit: "convert", "bounce" or "send" (`[relay] eightbit`)."""
    flags = transaction.flags
    if _is_missing(flags, SMTPUTF8, "SMTPUTF8", extensions) or (flags & BINARYMIME and not takes_binary(extensions)):
        return True
    return eightbit != "send" and _body_is_missing(flags, extensions)


def fitted(transaction: Transaction, extensions: Mapping[str, str], findings: Findings | None, eightbit: str) -> Fit | Reply:
    """How it goes, or the refusal of it all.  findings: where `wants_look`.  `unfit` was asked before."""
    converted, refused = [], _NONE_REFUSED
    if "SMTPUTF8" not in extensions:
        if _is_missing(transaction.flags, SMTPUTF8, "SMTPUTF8", extensions) and findings is not None and findings.header_high:
            return _HEADER_UTF8
        refused = {place: NEEDS_UTF8 for place, address in enumerate(transaction.recipients) if without_utf8(address) is None}
        if not all(map(str.isascii, (transaction.sender, *transaction.recipients))):
            converted.append("utf8")
    plan = None
    if findings is not None and _body_is_missing(transaction.flags, extensions):
        body = _body(transaction, extensions, findings, eightbit)
        if isinstance(body, Reply):
            return body
        transaction, plan = body
        if plan is not None:
            converted.append("binary" if findings.raw else "8bit")
    if reply := unfit(transaction, extensions):
        return reply
    return _chosen(transaction, extensions, refused, plan, ",".join(converted))


def _is_missing(flags: int, flag: int, keyword: str, extensions: Mapping[str, str]) -> bool:
    return bool(flags & flag) and keyword not in extensions


def _body_is_missing(flags: int, extensions: Mapping[str, str]) -> bool:
    """The body is of a kind that this server has not offered to take."""
    return bool(flags & BINARYMIME and not takes_binary(extensions)) or _is_missing(flags, EIGHTBITMIME, "8BITMIME", extensions)


def _body(
    transaction: Transaction, extensions: Mapping[str, str], findings: Findings, eightbit: str
) -> tuple[Transaction, Plan | None] | Reply:
    """The transaction with a body that the server takes, and how that is made."""
    offered = "8BITMIME" in extensions
    eight = offered or eightbit == "send"
    raw = findings.raw and bool(transaction.flags & BINARYMIME)
    flags = transaction.flags & ~(BINARYMIME | EIGHTBITMIME)
    if offered and findings.high:
        flags |= EIGHTBITMIME
    if not raw and (eight or not findings.high):
        return attrs.evolve(transaction, flags=flags), None
    if not raw and eightbit == "bounce":
        return Reply(554, "5.6.3", f"{_NO_CONVERSION}; conversion is switched off")
    plan = findings.plan(eight)
    if isinstance(plan, str):
        if not (raw or transaction.sender):  # a report: it would be lost, and most such servers take it
            return attrs.evolve(transaction, flags=flags), None
        if raw:
            return Reply(554, "5.6.1", f"The next server does not take binary bodies; this one cannot be converted: {plan}")
        return Reply(554, "5.6.3", f"{_NO_CONVERSION}; it cannot be converted: {plan}")
    return attrs.evolve(transaction, flags=flags, size=plan.size), plan


def _chosen(
    transaction: Transaction, extensions: Mapping[str, str], refused: Mapping[int, Reply], plan: Plan | None, converted: str
) -> Fit:
    """With those of the recipients that are for this transaction."""
    left = [place for place in range(len(transaction.recipients)) if place not in refused]
    chosen = admitted([transaction.recipients[place] for place in left], extensions)
    places = left if chosen is None else [left[place] for place in chosen]
    if len(places) == len(transaction.recipients):
        return Fit(transaction, None, refused, plan, converted)
    recipients = tuple([transaction.recipients[place] for place in places])
    wishes = tuple([transaction.wishes[place] for place in places]) if transaction.wishes else ()
    return Fit(attrs.evolve(transaction, recipients=recipients, wishes=wishes), tuple(places), refused, plan, converted)
