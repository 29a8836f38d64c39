"""What must hold in [limits] beyond words and ranges: the rates, and a tarpit that honest clients survive.

RFC 5321 4.5.3.2 lets a client wait five minutes for a reply; many wait for less.  docs/configuration.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mta.config.check_destinations import rate_fault
from mta.config.mistake import Finding, said
from mta.config.settings import Settings

__all__ = ["RATES", "check_limits"]

RATES: Final = (  # keys of [limits] whose values are rates
    "connection_rate",
    "message_rate",
    "recipient_rate",
    "rejected_rate",
    "auth_failure_rate",
    "login_failure_rate",
    "login_messages",
    "login_recipients",
)
_SLOWEST: Final = 60.0  # seconds


def check_limits(settings: Settings) -> Iterator[Finding]:
    """All that is wrong with the limits."""
    limits = settings.limits
    for key in RATES:
        for index, text in enumerate(getattr(limits, key)):
            yield from said(("limits", key, index), rate_fault(text))
    if limits.tarpit > _SLOWEST:
        yield Finding(("limits", "tarpit"), f"at most {_SLOWEST:g}s is wanted: clients that wait for longer give up")
