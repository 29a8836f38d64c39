"""What either side counts of its TLS handshakes for `[metrics]` (pure): additions where one is begun or has come to its end.

Both the receiving side's tally and the relay's are one of these.  Nobody counts failures: what was begun, has not ended well
and is not under way has failed, however it came to that.
"""

from __future__ import annotations

from collections.abc import Iterator

from mta.envelope import Measure

__all__ = ["Handshakes"]


class Handshakes:
    """handshakes: that were begun, and of these those that came to their end, full or resumed.  What is left has failed."""

    __slots__ = ("full", "handshakes", "resumed")

    def __init__(self) -> None:
        self.handshakes = self.full = self.resumed = 0

    def completed(self, resumed: bool) -> None:
        """A handshake has come to its end."""
        self.full += not resumed
        self.resumed += resumed

    def shaken(self, side: str, shaking: int) -> Iterator[Measure]:
        """side: "in" or "out".  shaking: how many are under way."""
        failed = self.handshakes - self.full - self.resumed - shaking
        for result, number in (("full", self.full), ("resumed", self.resumed), ("failed", failed)):
            yield "mta_tls_handshakes_total", (side, result), number
