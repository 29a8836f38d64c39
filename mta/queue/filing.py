"""Where a new message is filed: the destination of each recipient by its route, the lane by whose mail it is (pure).

A recipient that cannot be routed (any more) is accepted mail all the same: it is filed under BOUNCE with the refusal as
its reason.  One that cannot be routed just now (4yz) is no reason for a bounce: the message is not filed, and whoever brought
it comes again.  There are 64 lanes; messages with the same `lane_key` (account, sender's domain, client's network) share one.
"""

from __future__ import annotations

from collections.abc import Callable
from zlib import crc32

from mta.envelope import BOUNCE, NewMessage, NewRecipient, Refusal, Route
from mta.status import MailError

__all__ = ["LANES", "filed"]

LANES = 64


def filed(
    message: NewMessage,
    route: Callable[[str], Route | Refusal],
    now: int,
    lifetime: Callable[[str], float] | None = None,
) -> NewMessage:
    """The message with dest, lane and due (now, in ms) of each recipient.  MailError: one cannot be routed just now.

    lifetime: seconds that mail is kept for a destination, 0 for as long as the message says; the longest of them holds.
    """
    lane = crc32(message.lane_key.encode(errors="replace")) & (LANES - 1)
    recipients = []
    for given in message.recipients:
        way = route(given.address)
        if isinstance(way, Refusal) and not way.reply.is_permanent:
            raise MailError(way.reply, f"no way to {given.address} just now")
        refused = way.reply if isinstance(way, Refusal) else None
        dest = BOUNCE if isinstance(way, Refusal) else way.dest
        recipients.append(NewRecipient(given.address, given.orcpt, given.notify, dest, lane, now, refused))
    expires = message.expires
    if lifetime is not None:
        longest = max((lifetime(recipient.dest) for recipient in recipients), default=0)
        expires = max(expires, message.created + int(longest * 1000))
    return NewMessage(
        message.id,
        message.sender,
        tuple(recipients),
        message.body,
        message.prefix,
        message.created,
        expires,
        message.source,
        message.account,
        message.flags,
        message.envid,
        message.trace,
        message.lane_key,
    )
