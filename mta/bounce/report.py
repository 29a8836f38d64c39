"""The report of a failed delivery: RFC 3464 in a multipart/report (RFC 6522), internationalised by RFC 6533.

Pure: a message, its failed recipients and the head of what was sent go in, the bytes of the report come out; clock and
randomness are passed in.  Three parts: a text for people, the delivery status for programs, the original headers.
Promises: lines end in CRLF and have at most 998 bytes (RFC 5322 2.1.1); whatever addresses, replies and headers say,
they never start a field, a part or a line of their own; nothing of the original body is returned, which RFC 8689 5 also
demands of every message with REQUIRETLS.  Everything but the original headers is ASCII, unless sender, recipients or
message needed SMTPUTF8.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Final

from mta.envelope import Claim, Flag, Message

__all__ = ["HEAD_LIMIT", "build_report", "header_section", "status_of"]

HEAD_LIMIT: Final = 65_536  # bytes of original headers that go into a report
LINE_LIMIT: Final = 998  # RFC 5322 2.1.1, without CRLF
FOLD_AT: Final = 76
WORD_LIMIT: Final = 800  # bytes; a longer word is cut, every real address is shorter (RFC 5321 4.5.3.1.3: 256)

_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:")  # RFC 5322 3.6.8, with the white space of 4.5.8
_REPLY = re.compile(r"([45])\d\d(?:[ -](?:([245])(\.\d{1,3}\.\d{1,3})(?= |$))?|$)")
_XTEXT = re.compile(r"\+([0-9A-F]{2})")  # RFC 3461 section 4
_WORD = re.compile(r" *[^ ]+")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")

_ADVICE: Final = (  # RFC 3463 section 3: the beginning of a status without its class, and what the sender can do
    (".1.", "Please check the address for mistakes and send the message again."),
    (".2.2", "The mailbox is full. Please try again later, or reach the recipient another way."),
    (".2.3", "The message is too large for the recipient. Please send a smaller one."),
    (".3.4", "The message is too large for the recipient. Please send a smaller one."),
    (".4.", "The recipient's mail server could not be reached. Please check the domain, or try again later."),
    (".7.", "The recipient's mail server refuses this message. Please ask its administrator (postmaster) why."),
    ("", "If this does not explain itself, please ask your postmaster, and include this report."),
)


def build_report(
    message: Message, claims: Sequence[Claim], head: bytes, *, hostname: str, queue_id: str, report_id: str, now: int, token: str
) -> bytes:
    """The report on these failed recipients of a message, from its first header to its last boundary.

    head: the beginning of the message; its header section is returned, at most HEAD_LIMIT bytes.  queue_id, report_id: the
    ids in text of the message and of the report.  now: ms since the epoch.  token: letters and digits nobody can foresee.
    """
    utf8 = bool(message.flags & Flag.SMTPUTF8) or not all(a.isascii() for a in (message.sender, *(c.address for c in claims)))
    headers = header_section(head)
    parts = (
        _part("text/plain; charset=utf-8", _notice(claims, hostname, queue_id, utf8)),
        _part(f"message/{'global-' if utf8 else ''}delivery-status", _delivery_status(message, claims, hostname, queue_id, utf8)),
        _part("message/global-headers" if utf8 and _is_utf8(headers) else "text/rfc822-headers", headers),
    )
    content = b"".join(parts)
    boundary = f"=_{token}"
    while boundary.encode() in content:
        boundary += "x"
    top = (
        _field("From", f"Mail Delivery System <MAILER-DAEMON@{hostname}>", utf8),
        _field("To", message.sender, utf8),
        _field("Subject", "Undelivered Mail Returned to Sender", utf8),
        _field("Date", _date(now), utf8),
        _field("Message-ID", f"<{report_id}@{hostname}>", utf8),
        _field("Auto-Submitted", "auto-replied", utf8),  # RFC 3834 section 5
        _field("MIME-Version", "1.0", utf8),
        b'Content-Type: multipart/report; report-type=delivery-status;\r\n boundary="%s"\r\n' % boundary.encode(),
        _encoding(content),
    )
    separator = b"\r\n--%s" % boundary.encode()
    return b"".join(top) + b"".join(separator + b"\r\n" + part for part in parts) + separator + b"--\r\n"


def header_section(head: bytes, limit: int = HEAD_LIMIT) -> bytes:
    """The header fields at the beginning of a message: whole lines, at most `limit` bytes, never a line of the body.

    Ends at the empty line, or at the first line that is no field (a message without headers returns nothing).
    """
    lines: list[bytes] = []
    for line in head[:limit].split(b"\r\n")[:-1]:  # what follows the last CRLF may be half a line
        folded = line[:1] in (b" ", b"\t")
        if not (lines if folded else _FIELD.match(line)):
            break
        lines.append(re.sub(rb"[\r\n\0]", b" ", line[:LINE_LIMIT]))
    return b"".join(line + b"\r\n" for line in lines)


def status_of(reply: str) -> str:
    """The status (RFC 3463) of a failure from the text of its reply, in the class that the reply's code has."""
    match = _REPLY.match(reply)
    if match is None:
        return "5.0.0"
    code, enhanced, detail = match.groups()
    return code + detail if code == enhanced else f"{code}.0.0"


def _notice(claims: Iterable[Claim], hostname: str, queue_id: str, utf8: bool) -> bytes:
    """The part for people."""
    lines = [
        f"This is the mail system at {hostname}.",
        "",
        "I am sorry: your message could not be delivered to the recipients below,",
        "and no further attempt will be made. Its headers are attached.",
    ]
    for claim in claims:
        reply = claim.last_reply or "delivery failed"
        status = status_of(reply)
        advice = next(advice for prefix, advice in _ADVICE if status[1:].startswith(prefix))
        if status.startswith("4."):
            advice = "It was tried until its time was over. " + advice
        lines += ["", f"<{claim.address}>:", f"  {reply}", f"  {advice}"]
    lines += ["", f"(queue id {queue_id})"]
    return b"".join(_folded(line, utf8, "  ") for line in lines)


def _delivery_status(message: Message, claims: Iterable[Claim], hostname: str, queue_id: str, utf8: bool) -> bytes:
    """The part for programs: RFC 3464 2.2 for the message, 2.3 for each recipient, an empty line between the groups."""
    fields = [_field("Reporting-MTA", f"dns; {hostname}", utf8)]
    if message.envid:
        fields.append(_field("Original-Envelope-Id", _from_xtext(message.envid), utf8))
    fields += [_field("X-MTA-Queue-ID", queue_id, utf8), _field("Arrival-Date", _date(message.created), utf8)]
    for claim in claims:
        fields.append(b"\r\n")
        if claim.orcpt:
            kind, _, address = claim.orcpt.partition(";")  # RFC 3461 4.2
            fields.append(_field("Original-Recipient", f"{kind}; {_from_xtext(address)}", utf8))
        kind = "rfc822" if claim.address.isascii() else "utf-8"  # RFC 6533 section 3
        fields.append(_field("Final-Recipient", f"{kind}; {claim.address}", utf8))
        fields += [_field("Action", "failed", utf8), _field("Status", status_of(claim.last_reply or ""), utf8)]
        if claim.last_reply:
            fields.append(_field("Diagnostic-Code", f"smtp; {claim.last_reply}", utf8))
    return b"".join(fields)


def _part(kind: str, content: bytes) -> bytes:
    """A body part.  The CRLF in front of the next boundary belongs to the boundary (RFC 2046 5.1.1)."""
    return b"Content-Type: %s\r\n%s\r\n%s" % (kind.encode(), _encoding(content), content)


def _encoding(content: bytes) -> bytes:
    return b"Content-Transfer-Encoding: %s\r\n" % (b"7bit" if content.isascii() else b"8bit")


def _field(name: str, value: str, utf8: bool) -> bytes:
    return _folded(f"{name}: {value}", utf8, " ")


def _folded(line: str, utf8: bool, indent: str) -> bytes:
    """One logical line as lines that end in CRLF: control characters blanked, folded in front of spaces (RFC 5322 2.2.3)."""
    out, width = [], 0
    for word in _WORD.findall(_printable(line, utf8)):
        if width and width + len(word) > FOLD_AT and word.startswith(" "):
            out.append("\r\n" + indent[1:])
            width = len(indent) - 1
        if len(word.encode()) > WORD_LIMIT:
            word = f"\r\n{indent}".join(word[start : start + WORD_LIMIT // 4] for start in range(0, len(word), WORD_LIMIT // 4))
        out.append(word)
        width += len(word)
    return "".join(out).encode() + b"\r\n"


def _printable(text: str, utf8: bool) -> str:
    """Text in which nothing ends a line; ASCII with RFC 6533's escapes, unless utf8."""
    clean = _CONTROL.sub(" ", text)
    if utf8:
        return clean
    return _NOT_ASCII.sub(lambda match: f"\\x{{{ord(match[0]):X}}}", clean)


def _from_xtext(text: str) -> str:
    return _XTEXT.sub(lambda match: chr(int(match[1], 16)), text)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _date(milliseconds: int) -> str:
    return format_datetime(datetime.fromtimestamp(milliseconds / 1000, UTC))
