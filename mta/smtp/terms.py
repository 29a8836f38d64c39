"""The terms on which a sender wants his mail delivered: parameters of MAIL, read.  Offered only where the options say so.

DELIVERBY (RFC 2852 4: `BY=seconds;mode`), FUTURERELEASE (RFC 4865 3: `HOLDFOR=seconds` or `HOLDUNTIL=date`), MT-PRIORITY
(RFC 6710 4: `MT-PRIORITY=-9..9`).  What cannot be read, or is more than we offer, raises MailError with the reply for the
client.  No clock is read here: the time is passed in.  A moment that has passed holds nothing back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

import attrs

from mta.envelope import NO_FACTS, Flag
from mta.smtp.dsn import BAD_PARAMETER
from mta.status import MailError, Reply

__all__ = [
    "PARAMETERS",
    "USUAL",
    "DeliverBy",
    "Terms",
    "parse_by",
    "parse_hold_for",
    "parse_hold_until",
    "parse_priority",
    "read_terms",
]

PARAMETERS: Final = frozenset({"BY", "HOLDFOR", "HOLDUNTIL", "MT-PRIORITY"})

_TOO_SOON: Final = Reply(555, "5.5.4", "Delivery by that time cannot be promised")
_TOO_LATE: Final = Reply(501, "5.5.4", "Held for longer than is offered")

_BY: Final = re.compile(r"([+-]?[0-9]{1,9});([NR])(T)?", re.I)
_SECONDS: Final = re.compile(r"[0-9]{1,9}")
_PRIORITY: Final = re.compile(r"0|-?[1-9]")
_DATE: Final = re.compile(  # RFC 3339 5.6, date-time (RFC 4865, erratum 2040)
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(\.[0-9]{1,9})?(?:Z|([+-])([0-9]{2}):([0-9]{2}))", re.I
)


@attrs.frozen(slots=True)
class DeliverBy:
    """RFC 2852 4.  seconds: from now, may lie in the past with mode N.

    mode: "R", else return the message; "N", else tell the sender and go on.  trace: "relayed" is to be reported.
    """

    seconds: int
    mode: str
    trace: bool = False

    @property
    def flags(self) -> int:
        """envelope.Flag.  Whose time had passed before he came to us has been told so by whoever had the message then."""
        told = Flag.DELAY_WARNED if self.mode == "N" and self.seconds <= 0 else 0
        return int((Flag.BY_RETURN if self.mode == "R" else 0) | (Flag.BY_TRACE if self.trace else 0) | told)

    def __str__(self) -> str:
        return f"{self.seconds};{self.mode}{'T' if self.trace else ''}"


@attrs.frozen(slots=True)
class Terms:
    """What MAIL said; None and 0 where it said nothing.

    release: not before, in seconds since the epoch (RFC 4865).  priority: -9 to 9 (RFC 6710); lowered: it asked for more.
    """

    deliver_by: DeliverBy | None = None
    release: float | None = None
    priority: int = 0
    lowered: bool = False

    @property
    def facts(self) -> Mapping[str, object]:
        """What was asked for, for the log."""
        if self is USUAL:
            return NO_FACTS
        release = None if self.release is None else f"{datetime.fromtimestamp(self.release, UTC):%Y-%m-%dT%H:%M:%SZ}"
        return {"by": str(self.deliver_by) if self.deliver_by else None, "release": release, "priority": self.priority or None}


USUAL: Final = Terms()


def read_terms(parameters: Mapping[str, str | None], least: int, most: int, now: float) -> Terms:
    """Of the parameters of MAIL.  least: of BY, in seconds; most: seconds that mail is held; now: since the epoch."""
    if PARAMETERS.isdisjoint(parameters):
        return USUAL
    by, release = None, None
    if "BY" in parameters:
        by = parse_by(parameters["BY"], least)
    if "HOLDFOR" in parameters:
        if "HOLDUNTIL" in parameters:  # RFC 4865 3: one of them
            raise MailError(BAD_PARAMETER)
        release = now + parse_hold_for(parameters["HOLDFOR"])
    elif "HOLDUNTIL" in parameters:
        release = parse_hold_until(parameters["HOLDUNTIL"])
    if release is not None and release > now + most:
        raise MailError(_TOO_LATE)
    return Terms(by, release, parse_priority(parameters["MT-PRIORITY"]) if "MT-PRIORITY" in parameters else 0)


def parse_by(value: str | None, least: int) -> DeliverBy:
    """BY.  least: the fewest seconds that we promise to return a message in; mode R asks for no less."""
    match = _BY.fullmatch(value or "")
    if match is None:
        raise MailError(BAD_PARAMETER)
    seconds, mode = int(match[1]), match[2].upper()
    if mode == "R" and seconds <= 0:  # RFC 2852 4: no syntax
        raise MailError(BAD_PARAMETER)
    if mode == "R" and seconds < least:
        raise MailError(_TOO_SOON)
    return DeliverBy(seconds, mode, match[3] is not None)


def parse_hold_for(value: str | None) -> int:
    """HOLDFOR, in seconds."""
    if not _SECONDS.fullmatch(value or ""):
        raise MailError(BAD_PARAMETER)
    return int(value or "")


def parse_hold_until(value: str | None) -> float:
    """HOLDUNTIL, in seconds since the epoch, 0 for what lies before: some such dates have in UTC no year at all."""
    match = _DATE.fullmatch(value or "")
    if match is None:
        raise MailError(BAD_PARAMETER)
    *numbers, fraction, sign, hours, minutes = match.groups()
    year, month, day, hour, minute, second = map(int, numbers)
    try:
        zone = UTC if sign is None else timezone(timedelta(hours=int(hours), minutes=int(minutes)) * (-1 if sign == "-" else 1))
        moment = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=zone).timestamp()  # 60: a leap second
    except (ValueError, OverflowError):
        raise MailError(BAD_PARAMETER) from None
    if second > 60:
        raise MailError(BAD_PARAMETER)
    return max(moment + float(fraction or 0), 0.0)


def parse_priority(value: str | None) -> int:
    """MT-PRIORITY."""
    if not _PRIORITY.fullmatch(value or ""):
        raise MailError(BAD_PARAMETER)
    return int(value or "")
