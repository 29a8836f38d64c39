"""What the tests of the bounce room have in common: messages, recipients, and reports read back."""

from __future__ import annotations

import email
import email.policy
from email.message import Message as Parsed

from mta.bounce.notice import Occasion
from mta.bounce.report import Report, build_report
from mta.bounce.status_part import Fate, fate_at_bounce
from mta.envelope import Claim, Flag, Message

HEAD = b"Received: from a by b\r\n\tfor <x@y>; now\r\nFrom: alice@example.org\r\nSubject: hello\r\n\r\nsecret body\r\n"
CREATED = 1_790_000_000_000
EXPIRES = CREATED + 432_000_000

# the fields of a report, in their order
TOP_FIELDS = [
    "From",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "Auto-Submitted",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
]


def message(sender: str = "alice@example.org", flags: int = 0, envid: str | None = None, deliver_by: int = 0) -> Message:
    expires = deliver_by if flags & Flag.BY_RETURN else EXPIRES
    return Message(64, sender, CREATED, expires, 100, flags, 2, b"", envid=envid, deliver_by=deliver_by)


def claim(
    address: str = "bob@example.net", reply: str | None = "550 5.1.1 no such user", orcpt: str | None = None, **more
) -> Claim:
    return Claim(65, 64, "bounce:", 0, 0, 1, address, orcpt=orcpt, last_reply=reply, **more)


def report(
    *claims: Claim,
    occasion: Occasion = Occasion.FAILURE,
    fates: tuple[Fate, ...] = (),
    to: str = "",
    head: bytes = HEAD,
    whole: bool = False,
    token: str = "7f" * 16,
    **more,
) -> bytes:
    """of claims at BOUNCE, or of fates."""
    told = message(**more)
    fates = fates or tuple(fate_at_bounce(each, told) for each in claims or (claim(),))
    return build_report(
        Report(occasion, to or told.sender, told, fates, head, whole),
        hostname="mx1.example.org",
        queue_id="QUEUEID",
        report_id="REPORTID",
        now=CREATED + 60_000,
        token=token,
    )


def parsed(data: bytes) -> Parsed:
    return email.message_from_bytes(data, policy=email.policy.compat32)


def text_of(data: bytes) -> str:
    """The part for people, unfolded."""
    return " ".join(parsed(data).get_payload(0).get_payload(decode=True).decode().split())


def status_groups(data: bytes) -> list[dict[str, str]]:
    """The groups of fields of the delivery status, unfolded, by hand: the stdlib knows only the ASCII form."""
    part = data.split(b"delivery-status\r\n", 2)[-1].split(b"\r\n\r\n", 1)[1].split(b"\r\n--=_")[0].decode()
    groups = []
    for group in part.rstrip("\r\n").split("\r\n\r\n"):
        unfolded = group.replace("\r\n ", " ").replace("  ", " ")
        pairs = (line.partition(":") for line in unfolded.split("\r\n"))
        groups.append({name: value.strip(" ") for name, _, value in pairs})
    return groups
