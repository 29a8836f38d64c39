"""What is fuzzed: a name, a check that takes any bytes, seeds to begin with, and words that a fuzzer may put in."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import attrs

__all__ = ["Target"]


@attrs.frozen(slots=True)
class Target:
    """check: AssertionError, or any exception, for what must not be.  max_length: bytes that are worth trying."""

    name: str
    check: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    words: tuple[bytes, ...] = ()
    max_length: int = 4096
