"""The part of a report for people: what happened, whose fault it probably is, and what to do next (RFC 6522 3; pure).

No word of a server stands alone: each recipient has its reply, and under it an advice by the status (RFC 3463 section 3).
The words are chosen for a sender who knows nothing of mail servers; a postmaster's copy says first why he gets it.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final

from mta.bounce.status_part import Action, Fate
from mta.bounce.text import date, folded
from mta.envelope import Message

__all__ = ["Occasion", "notice"]


class Occasion(Enum):
    """Why a report is written; the value is its subject."""

    FAILURE = "Undelivered Mail Returned to Sender"
    DELAY = "Delayed Mail (you need not send it again)"
    SUCCESS = "Successful Mail Delivery Report"
    COPY = "Postmaster Copy: Undelivered Mail"
    DOUBLE = "Postmaster Notice: Undelivered Report Removed"


_TLS: Final = (
    "The message has to go over a connection that is encrypted by TLS, and no such connection could be had. It was not"
    " sent in clear text. Probably something is wrong with TLS at the recipient's mail server, or with what its domain"
    " publishes about it. Please tell the recipient another way; the postmaster there can find out why TLS fails."
)
_UNREACHABLE: Final = (
    "The recipient's mail server could not be reached. Probably it is down, or the domain is misspelt. Please check the"
    " domain, or try again later."
)
_TOO_LARGE: Final = "The message is too large for the recipient's mail server. Please send a smaller one."
_LOOP: Final = (
    "The message went in circles between mail servers. Probably one of them is set up wrong. Please ask your postmaster,"
    " and include this report."
)

_ADVICE: Final = {  # RFC 3463 3: by the status, by its subject and detail, then by its subject
    "5.4.7": "The time by which it was to be delivered is over. Please give it more time, or reach the recipient another way.",
    ".1": "The address is not known there. Please check the address for mistakes and send the message again.",
    ".1.7": "Your own address was not accepted. Please check the sender's address in your mail program.",
    ".1.8": "The domain of your own address was not accepted. Please check the sender's address in your mail program.",
    ".1.10": "The domain of the address takes no mail at all. Please check the address, or ask the recipient for another.",
    ".2": "The mailbox takes no mail now. Please reach the recipient another way, or try again later.",
    ".2.2": "The mailbox is full; only the recipient can change that. Please try again later, or reach him another way.",
    ".2.3": _TOO_LARGE,
    ".3.4": _TOO_LARGE,
    ".4": _UNREACHABLE,
    ".4.6": _LOOP,
    ".6": "The recipient's mail server cannot take a message of this form. Please send it in a simpler form, as plain text.",
    ".6.7": "The way to the recipient cannot carry addresses with letters beyond ASCII. Please ask for an address without them.",
    ".7": "The recipient's mail server refuses this message. Please ask the administrator there (postmaster) why.",
    ".7.4": _TLS,
    ".7.5": _TLS,
    ".7.8": "The next mail server did not accept our login. That is for your own postmaster to mend: please tell him.",
    ".7.10": _TLS,
    ".7.30": _TLS,
}
_NO_ADVICE: Final = "If this does not explain itself, please ask your postmaster, and include this report."

_SUCCEEDED: Final = {
    Action.DELIVERED: "It was delivered to the recipient's mailbox. Whether it is read, no mail server knows.",
    Action.RELAYED: "It was handed on to another mail server. Unless that reports deliveries, you will hear only if it fails.",
    Action.EXPANDED: "It was handed on to the addresses behind this one: you will hear of them only if one fails.",
}


def notice(
    occasion: Occasion, message: Message, fates: Sequence[Fate], hostname: str, queue_id: str, whole: bool, utf8: bool
) -> bytes:
    """The text.  whole: the message is attached, else its header."""
    lines = [f"This is the mail system at {hostname}.", "", *_intro(occasion, message, whole)]
    for fate in fates:
        reply = fate.claim.last_reply or "no attempt was answered"
        lines += ["", f"<{fate.claim.address}>:", f"  {reply}", f"  {_advice(fate, message)}"]
    lines += ["", f"(queue id {queue_id})"]
    return b"".join(folded(line, utf8, "  " if line.startswith(" ") else "") for line in lines)


def _intro(occasion: Occasion, message: Message, whole: bool) -> list[str]:
    attached = "It is attached." if whole else "Its header is attached."
    if occasion is Occasion.DELAY:
        return [
            "This is only a warning: you need not send your message again.",
            "",
            "It could not be delivered yet to the recipients below. It will be tried until"
            f" {date(message.expires)}; if that fails, you will be told. {attached}",
        ]
    if occasion is Occasion.SUCCESS:
        return [f"You asked for word of your message: it has got to the recipients below. {attached}"]
    failed = "could not be delivered to the recipients below, and no further attempt will be made."
    if occasion is Occasion.FAILURE:
        return [f"I am sorry: your message {failed} {attached}"]
    if occasion is Occasion.COPY:
        return [f"For the postmaster: a message of <{message.sender}> {failed} Its sender has been told. {attached}"]
    return [f"For the postmaster: a message without a sender (most likely a report) {failed} Nobody else is told. {attached}"]


def _advice(fate: Fate, message: Message) -> str:
    if fate.action in _SUCCEEDED:
        return _SUCCEEDED[fate.action]
    status = fate.reason
    detail = status[1:]
    subject = detail[: detail.rindex(".")]
    advice = _ADVICE.get(status) or _ADVICE.get(detail) or _ADVICE.get(subject, _NO_ADVICE)
    wanted = f"You wanted it delivered by {date(message.deliver_by)}. " if fate.outdated else ""
    if fate.action is Action.DELAYED:
        return f"{wanted}Nothing is lost, it will be tried again. The reason so far: {advice}"
    return f"{wanted}It was tried until its time was over. {advice}" if status.startswith("4.") else advice
