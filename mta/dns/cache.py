"""Answers kept until they expire: bounded, least recently used out first.

RFC 2308: what does not exist is remembered for the time that the SOA allows (the client has put it into `expires`).
A failure is remembered for at most `FAILURE_SECONDS` (RFC 9520 3.2 wants some, so that a dead zone is not asked once a
recipient) and never for the 300 seconds that libraries give a SERVFAIL.  The verdict of DNSSEC is kept with its answer.

Pure: the clock is passed in.  There is no timer: what has expired goes when it is asked for or when room is needed.
"""

from __future__ import annotations

import attrs

from mta.dns.answer import Answer

__all__ = ["FAILURE_SECONDS", "Cache"]

FAILURE_SECONDS = 5.0


class Cache:
    """name and type -> `Answer`.  size: answers; a destination needs three of them, of some 500 bytes each."""

    __slots__ = ("_answers", "_size")

    def __init__(self, size: int = 60_000) -> None:
        self._size = size
        self._answers: dict[tuple[str, str], Answer] = {}  # in the order of use, oldest first

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, name: str, rdtype: str, now: float) -> Answer | None:
        """What is known at `now` (seconds of the clock that `put` was told of)."""
        answer = self._answers.pop((name, rdtype), None)
        if answer is None or answer.expires <= now:
            return None
        self._answers[name, rdtype] = answer
        return answer

    def put(self, answer: Answer, now: float) -> None:
        """Remember until `answer.expires`; a failure only briefly, whatever it says."""
        if answer.failed:
            answer = attrs.evolve(answer, expires=min(answer.expires, now + FAILURE_SECONDS))
        key = answer.name, answer.rdtype
        self._answers.pop(key, None)
        if answer.expires <= now:  # a TTL of 0 is for this question only (RFC 1035 3.2.1)
            return
        self._answers[key] = answer
        if len(self._answers) > self._size:
            del self._answers[next(iter(self._answers))]

    def clear(self) -> None:
        """Forget everything."""
        self._answers.clear()
