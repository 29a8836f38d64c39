"""What the receiving side counts for `[metrics]` (pure): additions where something is refused, proved or begun anyway.

One tally lasts as long as its service: a reload goes on counting.  Labels come from tables: a command that we do not know is
"other", whatever it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from mta.envelope import Measure
from mta.receive.limits.table import TABLE, Limit
from mta.status import Reply
from mta.tls.tally import Handshakes

__all__ = ["STAGES", "Tally"]

STAGES: Final = ("connect", "helo", "starttls", "auth", "mail", "rcpt", "data", "end", "vrfy", "other")
_OF_COMMANDS: Final = {"ehlo": "helo", "bdat": "data"}
_REPLIES: Final = ("4yz", "5yz")


class Tally(Handshakes):
    """See the module."""

    __slots__ = ("_connections", "_limited", "_logins", "_rejected")

    def __init__(self) -> None:
        super().__init__()
        self._connections: Counter[str] = Counter()
        self._rejected = {(stage, reply): 0 for stage in STAGES for reply in _REPLIES}
        self._limited = {limit.key: 0 for limit in TABLE}
        self._logins: Counter[tuple[str, str]] = Counter()

    def connected(self, listener: str) -> None:
        """A connection to that port."""
        self._connections[listener] += 1

    def rejected(self, stage: str, reply: Reply) -> None:
        """Something was refused.  stage: of the log, or a command in small letters."""
        stage = _OF_COMMANDS.get(stage, stage)
        self._rejected[stage if stage in STAGES else "other", _REPLIES[reply.is_permanent]] += 1

    def limited(self, stage: str, limit: Limit) -> None:
        """Somebody is over a limit; he was refused, unless he is only slowed down."""
        self._limited[limit.key] += 1
        if limit.reply is not None:
            self.rejected(stage, limit.reply)

    def logged_in(self, mechanism: str, result: str) -> None:
        """A login was tried; both are words of ours."""
        self._logins[mechanism, result] += 1

    def measures(self, listeners: Mapping[str, int], shaking: int) -> Iterator[Measure]:
        """listeners: those that there are, and how many connections are open at each.  shaking: in a handshake just now."""
        for listener, number in (dict.fromkeys(listeners, 0) | self._connections).items():
            yield "mta_connections_total", (listener,), number
        for listener, number in listeners.items():
            yield "mta_connections_open", (listener,), number
        for labels, number in self._rejected.items():
            yield "mta_rejected_total", labels, number
        for limit, number in self._limited.items():
            yield "mta_limited_total", (limit,), number
        for labels, number in self._logins.items():
            yield "mta_logins_total", labels, number
        yield from self.shaken("in", shaking)
