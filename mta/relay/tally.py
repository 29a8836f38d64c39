"""What the relay counts for `[metrics]` (pure): additions where a connection or a delivery takes a turn anyway.

One tally lasts as long as its service; the connections of every generation of the configuration count in it.
"""

from __future__ import annotations

from collections.abc import Iterator

from mta.envelope import Measure
from mta.relay.destination import Trouble
from mta.tls.tally import Handshakes

__all__ = ["Tally"]


class Tally(Handshakes):
    """opened: connections begun; reused: deliveries on a kept one.  verdicts: of the hand-over.  faults: by Trouble."""

    __slots__ = ("faults", "opened", "reused", "verdicts")

    def __init__(self) -> None:
        super().__init__()
        self.opened = self.reused = 0
        self.verdicts = {"keep": 0, "clear": 0, "quit": 0}
        self.faults = {trouble.value: 0 for trouble in Trouble}

    def measures(self, busy: int, idle: int, shaking: int) -> Iterator[Measure]:
        """The connections that there are: in use, kept, and in a handshake just now."""
        yield "mta_relay_connections_opened_total", (), self.opened
        yield "mta_relay_connections_reused_total", (), self.reused
        yield "mta_relay_connections_open", ("busy",), busy
        yield "mta_relay_connections_open", ("idle",), idle
        for verdict, number in self.verdicts.items():
            yield "mta_relay_handover_total", (verdict,), number
        for trouble, number in self.faults.items():
            yield "mta_relay_faults_total", (trouble,), number
        yield from self.shaken("out", shaking)
