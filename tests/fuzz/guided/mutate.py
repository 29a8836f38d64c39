"""Changes to inputs without a fuzzer: for the short run in the suite, which is the same each time, and to make a finding small."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random

from tests.fuzz.guided.target import Target

__all__ = ["inputs", "shrunk"]


def inputs(target: Target, number: int, seed: int = 1) -> Iterator[bytes]:
    """The seeds, half of all at most, and changed ones, so many in all; the same for the same seed."""
    seeds = list(target.seeds())
    random = Random(seed)
    unchanged = random.sample(seeds, min(len(seeds), number // 2))
    yield from unchanged
    for _ in range(number - len(unchanged)):
        data = random.choice(seeds)
        for _ in range(random.choice((1, 1, 2, 4, 8))):
            data = _changed(data, random, seeds, target.words)
        yield data[: target.max_length]


def _changed(data: bytes, random: Random, seeds: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    at = random.randrange(len(data) + 1)
    end = min(len(data), at + random.choice((1, 1, 2, 5, 30)))
    match random.randrange(6):
        case 0:
            return data[:at] + data[end:]
        case 1:
            return data[:at] + random.randbytes(1) + data[at + 1 :]
        case 2 if words:
            return data[:at] + random.choice(words) + data[at:]
        case 3:
            return data[:end] + data[at:]
        case 4:
            other = random.choice(seeds)
            return data[:at] + other[random.randrange(len(other) + 1) :]
    return data[:at] + random.randbytes(random.randrange(1, 4)) + data[at:]


def shrunk(data: bytes, fails: Callable[[bytes], bool]) -> bytes:
    """The shortest that still fails, by leaving out pieces, then by plainer bytes."""
    size = len(data) // 2
    while size:
        at = 0
        while at < len(data):
            shorter = data[:at] + data[at + size :]
            if fails(shorter):
                data = shorter
            else:
                at += size
        size //= 2
    for at in range(len(data)):
        for plain in (b"\0", b"a"):
            if data[at : at + 1] not in (b"\0", b"a") and fails(data[:at] + plain + data[at + 1 :]):
                data = data[:at] + plain + data[at + 1 :]
    return data
