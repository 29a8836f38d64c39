"""How mail is found that waits in the file: by walks along its destinations, a page at a time.

At the start and behind whatever makes much due at once a walk goes through all of it.  In between some pages are read every
minute, from where the last ones ended and at the end from the beginning again: nothing waits unseen.
"""

from __future__ import annotations

from collections.abc import Callable

from mta.interfaces import IQueue
from mta.queue.state import Lane

__all__ = ["PAGE", "PAGES", "Walk"]

PAGE = 200  # lanes read at once: some ms of the writer's time
PAGES = 5  # in a minute


class Walk:
    """found: told what waits where, of each page."""

    __slots__ = ("_after", "_found", "_queue")

    def __init__(self, queue: IQueue, found: Callable[[list[Lane]], None]) -> None:
        self._queue = queue
        self._found = found
        self._after = ""  # the destination up to which some pages have come

    async def some(self) -> None:
        """Some pages."""
        for _ in range(PAGES):
            self._after = await self._page(self._after)
            if not self._after:
                return

    async def whole(self) -> None:
        """All of the file."""
        after = await self._page("")
        while after:
            after = await self._page(after)

    async def _page(self, after: str) -> str:
        """The destination to go on behind, "" for the end."""
        lanes = await self._queue.lanes(None, after, PAGE)
        self._found(lanes)
        return lanes[-1].dest if len(lanes) >= PAGE else ""
