"""Reloads one after the other: who asks while one runs, which may have read the files already, gets one behind it.

However many ask meanwhile, by SIGHUP or through the control socket, it is one more for all of them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

from twisted.internet.defer import Deferred
from zope.interface import implementer

from mta.control.socket import Answer
from mta.envelope import Measure
from mta.interfaces import IMeasured

__all__ = ["Reloads"]


@implementer(IMeasured)
class Reloads:
    """once: does one.  Never raises."""

    def __init__(self, once: Callable[[], Awaitable[Answer]]) -> None:
        self._once = once
        self._running = False
        self._done = self._refused = 0
        self._succeeded = True  # the last one; the start was one
        self._asked: list[Deferred[Answer]] = []  # for one that has not begun

    def measures(self) -> Iterator[Measure]:
        """See IMeasured."""
        yield "mta_reloads_total", ("done",), self._done
        yield "mta_reloads_total", ("refused",), self._refused
        yield "mta_last_reload_successful", (), int(self._succeeded)

    def ask(self) -> Deferred[Answer]:
        """What that reload has to say that began after this call."""
        answer: Deferred[Answer] = Deferred()
        self._asked.append(answer)
        if not self._running:
            Deferred.fromCoroutine(self._while_asked())
        return answer

    async def _while_asked(self) -> None:
        self._running = True
        try:
            while self._asked:
                waiting, self._asked = self._asked, []
                said = await self._once()
                self._succeeded = said.get("ok") is not False
                self._done += self._succeeded
                self._refused += not self._succeeded
                for answer in waiting:
                    answer.callback(said)
        finally:
            self._running = False
