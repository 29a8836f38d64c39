"""What a fuzzer's bytes mean: first the choices (their number in one byte, then one byte for each), then what goes over the wire.

Choices stand apart from the wire, so that a byte more or less there does not turn all of them round; those that are missing are
0, which is always the usual.  In the wire 0xFF ends a segment and 0xFE stands for `MARKER`, a word that no reply may repeat.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final, TypeVar

__all__ = ["MARKER", "MOST_CHOICES", "PAUSE", "Draw", "joined"]

MOST_CHOICES: Final = 96
PAUSE: Final = b"\xff"
MARKER: Final = b"zqXjv7"
_MARK: Final = b"\xfe"

T = TypeVar("T")


class Draw:
    """Bytes in, decisions out."""

    def __init__(self, data: bytes) -> None:
        size = min(data[0], MOST_CHOICES) if data else 0
        self._choices = iter(data[1 : 1 + size])
        self.wire = data[1 + size :]

    def below(self, limit: int) -> int:
        """0 to limit - 1; limit at most 256."""
        return next(self._choices, 0) % limit

    def flag(self) -> bool:
        """As a rule no."""
        return self.below(2) == 1

    def pick(self, values: Sequence[T]) -> T:
        """One of them; the first as a rule."""
        return values[self.below(len(values))]

    def segments(self) -> list[bytes]:
        """The wire as it comes, segment by segment."""
        return self.wire.replace(_MARK, MARKER).split(PAUSE)

    def pieces(self, data: bytes) -> list[bytes]:
        """Cut at three places at most, or byte by byte; joined they are the same."""
        how = self.below(4)
        if how == 0:
            return [data]
        if how == 1:
            return [data[at : at + 1] for at in range(len(data))]
        places = sorted(self.below(256) * 256 + self.below(256) for _ in range(how))
        ends = [0, *(place % (len(data) + 1) for place in places), len(data)]
        ends.sort()
        return [data[a:b] for a, b in itertools.pairwise(ends)]


def joined(choices: Sequence[int], wire: bytes) -> bytes:
    """The bytes that mean that."""
    return bytes([len(choices), *choices]) + wire
