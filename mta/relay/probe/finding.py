"""What a probe has found out about one server address, filled in as far as it got.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum

import attrs

from mta.envelope import Target
from mta.status import Reply
from mta.tls.policy import Achieved, Required

__all__ = ["Finding", "Handover", "Result"]


class Result(IntEnum):
    """Would mail go there, with the TLS that it is owed?  The value is the exit status of `mta tls-probe`."""

    REACHED = 0
    MISSED = 1  # the server gives less than is owed, or refuses
    UNKNOWN = 75  # EX_TEMPFAIL: nobody knows now: no answer from DNS, no connection, a temporary refusal


@attrs.frozen(slots=True)
class Handover:
    """What the server lets us do with a connection between two deliveries.

    steps: what was tried and what came of it, in order.  keep: TLS may stay up.  clear: it may be taken down and started
    again.
    """

    steps: Sequence[tuple[str, str]]
    keep: bool
    clear: bool

    @property
    def suggestion(self) -> str:
        """Which list of [handover] the host belongs in."""
        if self.keep:
            return "keep (hosts_pass_tls)"
        return "clear (hosts_clear_tls)" if self.clear else "quit (hosts_nopass_tls)"


@attrs.define(slots=True, eq=False)
class Finding:
    """One address.

    required: what is owed there.  greeting, starttls: the server's replies, None where it never came to them.
    clear, inside: extensions of EHLO before TLS and in it.  trouble: why it went no further, "" when it did.
    levels: each level, and what would come of it.  again: what a second connection was like, "" for none.
    """

    target: Target
    required: Required
    greeting: Reply | None = None
    clear: Mapping[str, str] | None = None
    starttls: Reply | None = None
    achieved: Achieved = attrs.Factory(Achieved)
    inside: Mapping[str, str] | None = None
    trouble: str = ""
    result: Result = Result.UNKNOWN
    levels: Sequence[tuple[str, str]] = ()
    again: str = ""
    handover: Handover | None = None

    def ends(self, result: Result, trouble: str = "") -> None:
        """The verdict."""
        self.result, self.trouble = result, trouble
