"""A report as a message: multipart/report (RFC 6522, RFC 3464), internationalised by RFC 6533 (pure).

A message, what became of recipients and the beginning or all of what was sent go in, the bytes of the report come out;
clock and randomness are passed in.  Three parts: a text for people (notice.py), the delivery status for programs
(status_part.py), what is returned of the original (original.py).  Everything but that is ASCII, unless sender, recipients
or message needed SMTPUTF8.  It says that a machine wrote it (RFC 3834 5), and whatever it is about never gets out of its
place (text.py).
"""

from __future__ import annotations

import attrs

from mta.bounce.notice import Occasion, notice
from mta.bounce.original import is_sound, returned
from mta.bounce.status_part import Fate, delivery_status
from mta.bounce.text import date, encoding, field, part
from mta.envelope import Flag, Message

__all__ = ["Report", "build_report"]


@attrs.frozen(slots=True)
class Report:
    """What is told to whom.  original: at least the header of the message; all of it where that shall go back (`whole`)."""

    occasion: Occasion
    to: str
    message: Message
    fates: tuple[Fate, ...]
    original: bytes
    whole: bool = False


def build_report(report: Report, *, hostname: str, queue_id: str, report_id: str, now: int, token: str) -> bytes:
    """From its first header to its last boundary.

    queue_id, report_id: the ids in text of the message and of the report.  now: ms since the epoch.  token: letters and
    digits nobody can foresee.
    """
    message, fates = report.message, report.fates
    addresses = (report.to, message.sender, *(fate.claim.address for fate in fates))
    utf8 = bool(message.flags & Flag.SMTPUTF8) or not all(map(str.isascii, addresses))
    whole = report.whole and is_sound(report.original)
    text = notice(report.occasion, message, fates, hostname, queue_id, whole, utf8)
    parts = (
        part("text/plain; charset=utf-8", text),
        part(f"message/{'global-' if utf8 else ''}delivery-status", delivery_status(message, fates, hostname, queue_id, utf8)),
        returned(report.original, whole, utf8),
    )
    content = b"".join(parts)
    boundary = f"=_{token}"
    while boundary.encode() in content:
        boundary += "x"
    replied = report.occasion in (Occasion.FAILURE, Occasion.DELAY, Occasion.SUCCESS)
    top = (
        field("From", f"Mail Delivery System <MAILER-DAEMON@{hostname}>", utf8),
        field("To", report.to, utf8),
        field("Subject", report.occasion.value, utf8),
        field("Date", date(now), utf8),
        field("Message-ID", f"<{report_id}@{hostname}>", utf8),
        field("Auto-Submitted", "auto-replied" if replied else "auto-generated", utf8),  # RFC 3834 5
        field("MIME-Version", "1.0", utf8),
        b'Content-Type: multipart/report; report-type=delivery-status;\r\n boundary="%s"\r\n' % boundary.encode(),
        encoding(content),
    )
    separator = b"\r\n--%s" % boundary.encode()
    return b"".join(top) + b"".join(separator + b"\r\n" + piece for piece in parts) + separator + b"--\r\n"
