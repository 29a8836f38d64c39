"""How attempts have ended, counted for `[metrics]` (pure): one addition for each, in the turn that writes its log line.

`outcome` is the log's word: delivered, deferred, bounced; of the agent "bounce" reported and removed; `not-tried` is what an
agent gave back without an attempt.  The delay is that of `delivered`, from the message's begin.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import Final

from mta.envelope import Kind, Measure, Outcome

__all__ = ["DELAYS", "Tally"]

DELAYS: Final = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0)  # seconds: upper ends of the buckets
NOT_TRIED: Final = "not-tried"
OUTCOMES: Final = ("delivered", "deferred", "bounced", NOT_TRIED)
OF_BOUNCE: Final = ("reported", "removed", "deferred", NOT_TRIED)


class Tally:
    """agents: by name, as the queue's service has them; looked at when somebody asks.  expired: while they waited."""

    __slots__ = ("_agents", "_delay", "_delays", "_outcomes", "expired")

    def __init__(self, agents: Mapping[str, object]) -> None:
        self._agents = agents
        self._outcomes: dict[tuple[str, str], int] = {}
        self._delays = [0] * (len(DELAYS) + 1)
        self._delay = 0.0  # seconds, of all
        self.expired = 0

    def add(self, outcome: Outcome, event: str, delay: object) -> None:
        """One recipient.  event: of its log line.  delay: seconds, where it is known."""
        key = outcome.claim.dest.partition(":")[0], NOT_TRIED if outcome.kind is Kind.GIVEN_BACK else event
        self._outcomes[key] = self._outcomes.get(key, 0) + 1
        if event == "delivered" and type(delay) is float:
            self._delays[bisect_left(DELAYS, delay)] += 1
            self._delay += delay

    def measures(self) -> Iterator[Measure]:
        """See IMeasured.  What may happen is told from the first, with 0: else the first time of it would not be seen."""
        counts = {(agent, word): 0 for agent in self._agents for word in (OF_BOUNCE if agent == "bounce" else OUTCOMES)}
        for labels, number in (counts | self._outcomes).items():
            yield "mta_deliveries_total", labels, number
        yield "mta_delivery_delay_seconds", (), (*self._delays, self._delay)
        yield "mta_expired_total", (), self.expired
