"""The trace of a message: the Received header line that we add, and what is read in the header that others made.

RFC 5321 4.4 (trace information), RFC 3848 and RFC 6531 4.3 (the `with` keywords), RFC 8314 4.3 (the TLS cipher),
RFC 8689 5 (TLS-Required).
What the client said is written with all but harmless characters replaced, so that no EHLO name can end the line, open
a comment or begin a header.  A message with more than [limits] received_hops lines goes in circles (RFC 5321 6.3).
Pure: the time is given.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from mta.receive.access import Address
from mta.status import Reply
from mta.tls.policy import Achieved

__all__ = ["HEADER_TOO_BIG", "TOO_MANY_HOPS", "HeaderScan", "date", "protocol", "received"]

TOO_MANY_HOPS: Final = Reply(554, "5.4.6", "Too many hops: the message goes in circles")
HEADER_TOO_BIG: Final = Reply(552, "5.3.4", "Message header too big")

_UNSAFE = re.compile(r"[^A-Za-z0-9.:_\[\]-]")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_RECEIVED: Final = b"\r\nreceived:"
_TLS_REQUIRED: Final = b"\r\ntls-required:"
_NO: Final = re.compile(rb"\r\ntls-required:[ \t]{0,20}(?:\r\n[ \t]{1,20})?no[ \t]{0,20}\r\n(?=[^ \t])")
_END: Final = re.compile(rb"\r\n(?![ \t])[!-9;-~]{0,90}+(?:[^!-~ \t]|[ \t]{1,2}[^: \t]|(?<=\n):)")  # empty, or no field
_LONGEST: Final = 96  # bytes: no match is longer


def received(
    *,
    helo: str,
    client: Address | None,
    hostname: str,
    with_protocol: str,
    name: str,
    recipient: str,
    seconds: float,
    tls: Achieved,
    client_name: str = "",
    priority: int = 0,
) -> bytes:
    """The header line, folded, with its CRLF.

    name: the queue id as people see it.  recipient: the only one, or "": more than one would tell each of the others.
    seconds: the time of receipt since the epoch, written in UTC.  client_name: what the DNS calls the client, "" not known.
    priority: RFC 6710.
    """
    helo = _UNSAFE.sub("?", helo[:255]) or "unknown"
    comment = f"\r\n\t({tls.version} with cipher {tls.cipher} ({tls.bits} bits))" if tls.version else ""
    tcp_info = f"{_UNSAFE.sub('?', client_name[:255])} {_literal(client)}" if client_name else _literal(client)  # RFC 5321 4.4
    receiver = f"\r\n\tfor <{recipient}>" if recipient else ""
    clause = f"\r\n\tpriority {priority}" if priority else ""  # RFC 6710: behind all else, as RFC 5321 4.4 has it
    return (
        f"Received: from {helo} ({tcp_info}){comment}\r\n"
        f"\tby {hostname} with {with_protocol} id {name}{receiver}{clause};\r\n"
        f"\t{date(seconds)}\r\n"
    ).encode()


def protocol(extended: bool, utf8: bool, tls: bool, authenticated: bool = False) -> str:
    """The `with` keyword (RFC 3848): there is none for HELO in TLS, whose cipher stands in the comment all the same."""
    if not extended:
        return "SMTP"
    return ("UTF8SMTP" if utf8 else "ESMTP") + ("S" if tls else "") + ("A" if authenticated else "")


def _literal(client: Address | None) -> str:
    """TCP-info: an address literal (RFC 5321 4.1.3)."""
    if client is None:
        return "local"
    return f"[IPv6:{client}]" if client.version == 6 else f"[{client}]"


def date(seconds: float) -> str:
    """The time in RFC 5322 3.3, in English whatever the locale, in UTC."""
    return _date(int(seconds))


@lru_cache(maxsize=2)
def _date(seconds: int) -> str:
    """The calendar is asked once in a second."""
    at = datetime.fromtimestamp(seconds, UTC)
    day, month = _DAYS[at.weekday()], _MONTHS[at.month - 1]
    return f"{day}, {at.day} {month} {at.year} {at.hour:02}:{at.minute:02}:{at.second:02} +0000"


class HeaderScan:
    """What the server needs to know of a header that comes in pieces, in one pass.

    It ends with its empty line, or as in Postfix with a line that is no field: a body without a header is not all header.

    hops: how many Received lines.  size: its bytes, without that line.  headless: it begins with a blank, which would make
    it the fold of whatever is put in front of it.  tls_required_no: "TLS-Required: No" is in it (RFC 8689 5); the field's name
    must be exact, the value may be in any letters and folded once, and anything else beside it means that it was not said.
    """

    __slots__ = ("_done", "_no", "_tail", "headless", "hops", "size")

    def __init__(self) -> None:
        self.headless = False
        self.hops = 0
        self.size = 0
        self._no = False
        self._done = False
        self._tail = b"\r\n"  # so that the first line begins like every other

    @property
    def tls_required_no(self) -> bool:
        """Of what was fed so far."""
        return self._no or (not self._done and _says_no(self._tail + b"\r\n"))

    def feed(self, data: bytes) -> None:
        """The next piece of the message."""
        if self._done:
            return
        if not self.size:
            self.headless = data[:1] in (b" ", b"\t")
        seen = len(self._tail)
        data = self._tail + data
        end = _END.search(data, max(0, seen - _LONGEST + 1))
        if end:
            self._done = True
            data = data[: end.end()]  # with the beginning of that line: what follows a field decides where it ends
        self.size += (end.start() + 2 if end else len(data)) - seen
        data = data.lower()
        self.hops += data.count(_RECEIVED, max(0, seen + 1 - len(_RECEIVED)))  # what lies whole in the tail was counted
        self._no = self._no or _says_no(data)
        self._tail = data[-_LONGEST:]


def _says_no(header: bytes) -> bool:
    """In lower case.  The name is looked for first: a regular expression costs more than all the rest."""
    return _TLS_REQUIRED in header and _NO.search(header) is not None
