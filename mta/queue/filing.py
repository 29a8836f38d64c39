"""Where a new message is filed: the destination of each recipient by its route, the lane by whose mail it is (pure).

A recipient that cannot be routed (any more) is accepted mail all the same: it is filed under BOUNCE with the refusal as
its reason.  One that cannot be routed just now (4yz) is no reason for a bounce: the message is not filed, and whoever brought
it comes again.  There are 64 lanes; messages with the same `lane_key` (account, sender's domain, client's network) share one,
unless their priorities differ (RFC 6710): so what is urgent goes past the rest of its sender's mail as a sparse lane, and what
can wait holds nobody up.
"""

from __future__ import annotations

from collections.abc import Callable
from zlib import crc32

from mta.envelope import BOUNCE, Flag, NewMessage, NewRecipient, Refusal, Route
from mta.status import MailError

__all__ = ["LANES", "filed"]

LANES = 64
BY_RETURN = int(Flag.BY_RETURN)  # plain numbers: arithmetic with enum flags is slow
PUT_OFF = int(Flag.PUT_OFF)


def filed(
    message: NewMessage,
    route: Callable[[str], Route | Refusal],
    now: int,
    lifetime: Callable[[str], float] | None = None,
) -> NewMessage:
    """The message with dest, lane and due (now, or its release, in ms) of each recipient.  MailError: one cannot be routed
    just now.  With a release to come it is marked PUT_OFF.

    lifetime: seconds that mail is kept for a destination, 0 for as long as the message says; the longest of them holds.
    """
    key = f"{message.lane_key} {message.priority}" if message.priority else message.lane_key
    lane, due = crc32(key.encode(errors="replace")) & (LANES - 1), max(now, message.release)
    recipients = []
    for given in message.recipients:
        way = route(given.address)
        if isinstance(way, Refusal) and not way.reply.is_permanent:
            raise MailError(way.reply, f"no way to {given.address} just now")
        refused = way.reply if isinstance(way, Refusal) else None
        dest = BOUNCE if isinstance(way, Refusal) else way.dest
        recipients.append(NewRecipient(given.address, given.orcpt, given.notify, dest, lane, now if refused else due, refused))
    expires = message.expires + due - now  # RFC 4865 4.2.3: its time begins with its release
    if lifetime is not None:
        longest = max((lifetime(recipient.dest) for recipient in recipients), default=0)
        expires = max(expires, message.created + int(longest * 1000) + due - now)
    if message.flags & BY_RETURN:
        expires = min(expires, message.deliver_by)
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
        message.flags | PUT_OFF if due > now else message.flags,
        message.envid,
        message.trace,
        message.lane_key,
        message.hold,
        message.release,
        message.priority,
        message.deliver_by,
    )
