"""The part of a report for programs: message/delivery-status (RFC 3464 2, RFC 3461 6.3, RFC 6533 3, RFC 2852 5; pure).

What became of a recipient is read off its row: a positive last reply of one whose sender asked for that (NOTIFY=SUCCESS, or
BY) is a success, and where it had got to says which; everything else at BOUNCE has failed.  Remote-MTA is the mail server that
said the diagnostic text; where it was we, or nobody, it is the host that the next hop names, if it names one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum
from typing import Final

import attrs

from mta.bounce.text import date, field
from mta.envelope import Claim, Message, Notify, split_dest
from mta.smtp.dsn import from_xtext, original_recipient

__all__ = ["Action", "Fate", "delivery_status", "fate_at_bounce", "status_of"]

_REPLY = re.compile(r"([245])\d\d(?:[ -](?:([245])(\.\d{1,3}\.\d{1,3})(?= |$))?|$)")
_HOST = re.compile(r"\[([^\[\]]+)\](?::\d+)?")
_SUCCESS: Final = int(Notify.SUCCESS)
_NEVER: Final = int(Notify.NEVER)


class Action(Enum):
    """RFC 3464 2.3.3."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"  # to a server that does not report successes
    EXPANDED = "expanded"  # to the addresses behind an alias


_REACHED: Final = {"smtp": Action.RELAYED, "alias": Action.EXPANDED}  # by the agent that has taken it; others deliver
_CLASSES: Final = {Action.FAILED: "54", Action.DELAYED: "4"}  # of a status, the usual one first; a success is 2


@attrs.frozen(slots=True)
class Fate:
    """What became of a recipient."""

    claim: Claim
    action: Action
    outdated: bool = False  # the time by which its sender wanted it delivered has passed

    @property
    def status(self) -> str:
        """RFC 3463.  Who was not refused, and is late, has 5.4.7: delivery time expired; the diagnostic code says why."""
        return "5.4.7" if self.outdated and self.action is Action.FAILED and self.reason.startswith("4.") else self.reason

    @property
    def reason(self) -> str:
        """What was said last, as a status."""
        return status_of(self.claim.last_reply or "", _CLASSES.get(self.action, "2"))


def fate_at_bounce(claim: Claim, message: Message) -> Fate:
    """Of a row that waits at BOUNCE."""
    reply = claim.last_reply or ""
    asked = claim.notify & _SUCCESS or (message.deliver_by and not claim.notify & _NEVER)
    if not (asked and reply.startswith("2") and _REPLY.match(reply)):
        return Fate(claim, Action.FAILED, bool(message.return_by))
    return Fate(claim, _REACHED.get(split_dest(claim.failed_dest or "")[0], Action.DELIVERED))


def status_of(reply: str, classes: str) -> str:
    """The status of a recipient from the text of its reply, in the class that the reply's code has (RFC 3464 2.3.4).

    classes: those that may be; the first is taken where the reply has another one, or says nothing.
    """
    match = _REPLY.match(reply)
    if match is None or match[1] not in classes:
        return f"{classes[0]}.0.0"
    code, enhanced, detail = match.groups()
    return code + detail if code == enhanced else f"{code}.0.0"


def delivery_status(message: Message, fates: Sequence[Fate], hostname: str, queue_id: str, utf8: bool) -> bytes:
    """The fields of RFC 3464 2.2 for the message, of 2.3 for each recipient, an empty line between the groups."""
    fields = []
    if message.envid:  # RFC 3461 6.3 a
        fields.append(field("Original-Envelope-Id", from_xtext(message.envid), utf8))
    fields.append(field("Reporting-MTA", f"dns; {hostname}", utf8))
    fields.append(field("Arrival-Date", date(message.created), utf8))
    if message.deliver_by:  # RFC 2852 5
        fields.append(field("Deliver-By-Date", date(message.deliver_by), utf8))
    fields.append(field("X-MTA-Queue-ID", queue_id, utf8))
    for fate in fates:
        fields.append(b"\r\n")
        fields += [field(name, value, utf8) for name, value in _of_recipient(message, fate, utf8)]
    return b"".join(fields)


def _of_recipient(message: Message, fate: Fate, utf8: bool) -> list[tuple[str, str]]:
    """RFC 3464 2.3, in its order."""
    claim, action = fate.claim, fate.action
    fields = []
    if claim.orcpt:  # RFC 3461 6.3 d
        fields.append(("Original-Recipient", "{}; {}".format(*original_recipient(claim.orcpt, utf8))))
    kind = "rfc822" if claim.address.isascii() else "utf-8"  # RFC 6533 3
    fields += [("Final-Recipient", f"{kind}; {claim.address}"), ("Action", action.value), ("Status", fate.status)]
    if action not in (Action.DELIVERED, Action.EXPANDED):
        agent, _, next_hop = split_dest(claim.failed_dest or (claim.dest if action is Action.DELAYED else ""))
        host = _HOST.fullmatch(next_hop)
        if agent == "smtp" and (remote := claim.last_host or (host and host[1])):  # RFC 3461 6.3 h
            fields.append(("Remote-MTA", f"dns; {remote}"))
        if claim.last_reply:
            fields.append(("Diagnostic-Code", f"smtp; {claim.last_reply}"))
    if action is Action.DELAYED:
        fields.append(("Will-Retry-Until", date(message.expires)))
    return fields
