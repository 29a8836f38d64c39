"""The log line of each delivery attempt: `delivered`, `deferred`, `bounced`, and `reported` for a bounce (pure).

Times are in seconds: `delay` since the message was begun, `delays` its parts as in Postfix: before the queue (which for a
repeated attempt is everything before it) / in the queue / connection and TLS / transfer.
"""

from __future__ import annotations

from mta.envelope import BOUNCE, Claim, Kind, Message, Outcome

__all__ = ["delivery_line"]

EVENTS = {
    Kind.DELIVERED: "delivered",
    Kind.CONFIRMED: "delivered",  # and the sender will be told so: another line when that is done
    Kind.DEFERRED: "deferred",
    Kind.GIVEN_BACK: "deferred",
    Kind.FAILED: "bounced",
}


def delivery_line(outcome: Outcome, message: Message | None, since: int, started: int, now: int) -> tuple[str, dict[str, object]]:
    """Event and fields.  since: when the recipient came into memory; started: when its transaction began (all ms)."""
    claim, reply = outcome.claim, outcome.reply
    fields: dict[str, object] = {"to": claim.address}
    if message is not None:
        created = message.created
        fields["from"] = message.sender
        fields["relay"] = claim.dest  # the agent's facts know better
        fields["delay"] = max(now - created, 0) / 1000
        fields["delays"] = (
            f"{max(since - created, 0) / 1000:.2f}/{max(started - since, 0) / 1000:.2f}"
            f"/{outcome.connect:.2f}/{outcome.transfer:.2f}"
        )
    event = EVENTS[outcome.kind]
    fields["dsn"] = reply.enhanced
    fields["status"] = event if event == "delivered" else outcome.kind.value
    fields["reply"] = str(reply)
    fields.update(outcome.facts)
    if claim.dest == BOUNCE:
        return _of_bounce(event, claim, fields)
    if event != "delivered" and outcome.due is not None:
        fields["retry"] = max(outcome.due - now, 0) / 1000
    return event, fields


def _of_bounce(event: str, claim: Claim, fields: dict[str, object]) -> tuple[str, dict[str, object]]:
    """What failed has had its line, unless it was refused by routing or expired: the reason is told again.

    Settled without a report (a double bounce, NOTIFY=NEVER) it was removed, and the facts say why.
    """
    fields["why"] = claim.last_reply
    if event != "delivered":
        return event, fields
    return ("reported" if "report" in fields else "removed"), fields
