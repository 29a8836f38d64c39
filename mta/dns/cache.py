"""Answers kept until they expire: bounded in number and in bytes, least recently used out first.

RFC 2308: what does not exist is remembered for the time that the SOA allows (the client has put it into `expires`).
A failure is remembered for at most `FAILURE_SECONDS` (RFC 9520 3.2 wants some, so that a dead zone is not asked once a
recipient) and never for the 300 seconds that libraries give a SERVFAIL.  The verdict of DNSSEC is kept with its answer.

Pure: the clock is passed in.  There is no timer: what has expired goes when it is asked for or when room is needed.
"""

from __future__ import annotations

import attrs

from mta.dns.answer import Answer

__all__ = ["FAILURE_SECONDS", "MOST_BYTES", "Cache"]

FAILURE_SECONDS = 5.0
MOST_BYTES = 64 << 20  # of memory, nearly: one answer by TCP may have 3,000 names that a stranger has chosen, 1 MiB


class Cache:
    """name and type -> `Answer`.  size: answers; a destination needs three of them, of some 500 bytes each."""

    __slots__ = ("_answers", "_bytes", "_size")

    def __init__(self, size: int = 60_000) -> None:
        self._size = size
        self._bytes = 0
        self._answers: dict[tuple[str, str], Answer] = {}  # in the order of use, oldest first

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, name: str, rdtype: str, now: float) -> Answer | None:
        """What is known at `now` (seconds of the clock that `put` was told of)."""
        answer = self._answers.pop((name, rdtype), None)
        if answer is None:
            return None
        if answer.expires <= now:
            self._bytes -= _bytes(answer)
            return None
        self._answers[name, rdtype] = answer
        return answer

    def put(self, answer: Answer, now: float) -> None:
        """Remember until `answer.expires`; a failure only briefly, whatever it says."""
        if answer.failed:
            answer = attrs.evolve(answer, expires=min(answer.expires, now + FAILURE_SECONDS))
        key = answer.name, answer.rdtype
        if key in self._answers:
            self._bytes -= _bytes(self._answers.pop(key))
        if answer.expires <= now:  # a TTL of 0 is for this question only (RFC 1035 3.2.1)
            return
        self._answers[key] = answer
        self._bytes += _bytes(answer)
        while len(self._answers) > self._size or self._bytes > MOST_BYTES:
            self._bytes -= _bytes(self._answers.pop(next(iter(self._answers))))

    def clear(self) -> None:
        """Forget everything."""
        self._answers.clear()
        self._bytes = 0


def _bytes(answer: Answer) -> int:
    """What it costs to keep it."""
    return 500 + sum([100 + len(repr(record)) for record in answer.records])
