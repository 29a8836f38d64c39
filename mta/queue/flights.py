"""The flight recorder: which jobs are on their way, written where it outlives a process that is killed (pure).

A job's first recipient stands in a slot of 8 bytes from its start to its settlement.  The slots are a buffer: for the
durable queue a file in memory (queue/sqlite/poison.py), so that the next start reads in it what was in the air when the
process ended.  Those are suspects: whichever of them ends the process must not do it for ever, and must not have the
innocent held with it.  So suspects fly one at a time, and who lands is none any more.  What finds no slot flies unrecorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from struct import Struct
from typing import Any, Final

import attrs

__all__ = ["SIZE", "Flights", "Held", "read"]

SLOTS: Final = 4096  # jobs at once; more than any sensible [concurrency] total
SLOT: Final = Struct("<q")
SIZE: Final = SLOTS * SLOT.size  # bytes
WAIT: Final = 50  # ms between two tries of suspects


@attrs.frozen(slots=True)
class Held:
    """What was held at this start: recipients of a message at a destination, after so many strikes."""

    message: int
    dest: str
    recipients: int
    strikes: int


class Flights:
    """buffer: SIZE bytes, zeros.  suspects: recipients that were in the air when the process last ended.

    acquitted: called with one that has landed.  held: for the log.
    """

    __slots__ = ("_acquitted", "_buffer", "_free", "_pack", "_put_off", "_suspect", "_suspects", "held")

    def __init__(
        self,
        buffer: Any = None,
        suspects: Iterable[int] = (),
        acquitted: Callable[[int], object] = lambda _: None,
        held: Sequence[Held] = (),
    ) -> None:
        self.held = held
        self._buffer = bytearray(SIZE) if buffer is None else buffer
        self._pack = SLOT.pack_into
        self._free = list(range(0, SIZE, SLOT.size))
        self._suspects = set(suspects)
        self._suspect: tuple[int, int] | None = None  # the one in the air: slot, recipient
        self._acquitted = acquitted
        self._put_off = 0

    def began(self, recipient: int) -> int:
        """A job starts: the slot to give to `ended`.  Below 0: not now, but so many ms later."""
        if self._suspects and recipient in self._suspects and self._suspect is not None:
            self._put_off += 1
            return -WAIT * (1 + self._put_off % len(self._suspects))
        slot = self._free.pop() if self._free else SIZE
        if slot < SIZE:
            self._pack(self._buffer, slot, recipient)
        if recipient in self._suspects:
            self._suspect = (slot, recipient)
        return slot

    def ended(self, slot: int) -> None:
        """The job is done, whatever became of it."""
        if slot < SIZE:
            self._pack(self._buffer, slot, 0)
            self._free.append(slot)
        if self._suspect is not None and self._suspect[0] == slot:
            recipient = self._suspect[1]
            self._suspect = None
            self._suspects.discard(recipient)
            self._acquitted(recipient)

    def close(self) -> None:
        """The process ends in good order: nothing that is in the air is suspect.  The buffer is not used any more."""
        self._buffer[:] = bytes(SIZE)
        self._buffer = bytearray(SIZE)
        self._acquitted = lambda _: None


def read(buffer: bytes) -> list[int]:
    """The recipients in a buffer."""
    return [recipient for (recipient,) in SLOT.iter_unpack(buffer) if recipient > 0]
