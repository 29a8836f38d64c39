"""Reloads one after the other: who asks while one runs, which may have read the files already, gets one behind it.

However many ask meanwhile, by SIGHUP or through the control socket, it is one more for all of them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred

from mta.control.socket import Answer

__all__ = ["Reloads"]


class Reloads:
    """once: does one.  Never raises."""

    def __init__(self, once: Callable[[], Awaitable[Answer]]) -> None:
        self._once = once
        self._running = False
        self._asked: list[Deferred[Answer]] = []  # for one that has not begun

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
                for answer in waiting:
                    answer.callback(said)
        finally:
            self._running = False
