"""Mail that waits goes the new way when the routes have changed: at start, and at a reload.

The digest of the routes that the mail was filed by is kept with it (`IQueue.note`).  When it is another one, everything
that waits or is held is routed anew, in bites of 500, while mail is accepted and delivered; what is due before the walk has
come to it is not delivered the old way (`is_stray`).  What is in flight stays and is met again a minute later, and so is what
was being stored when the routes changed; when a walk leaves nothing the new digest is kept, so a crash in between begins
again.  A recipient whom the new routes refuse for good (5yz) is filed under
BOUNCE, as at its arrival; one that they refuse for now stays where it is, and so does what is owed at BOUNCE.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from mta.envelope import BOUNCE, Claim, Refusal, Route, split_dest
from mta.interfaces import IEventLog, IQueue, IRouter
from mta.queue.filing import PUT_OFF
from mta.queue.state import Move, Row, Selector

__all__ = ["Rerouting"]

KEY = "routes"  # in the queue's memory: the digest
BITE = 500  # recipients
STORING = 60_000  # ms after a reload in which mail may still be stored that was filed by the old routes

Waiting = Callable[[str, int, int, int], None]  # dest, lane, due, now


class Rerouting:
    """waiting: told where something waits now.  now: ms."""

    def __init__(self, queue: IQueue, router: IRouter, *, waiting: Waiting, now: Callable[[], int], log: IEventLog) -> None:
        self._queue = queue
        self._waiting = waiting
        self._now = now
        self._events = log
        self._done: str | None = None  # the digest that all mail is filed by, as far as we know
        self._running = False
        self._router = router
        self._last = 0  # ms; a walk that begins later is the last one
        self._doubts = 0  # how often mail has come that was filed by nobody knows which routes

    def use(self, router: IRouter) -> None:
        """Other routes from now on; `run` is to be called."""
        self._router = router
        self._last = self._now() + STORING

    async def doubt(self) -> None:
        """Mail has come that other routes may have filed; `run` is to be called."""
        self._doubts += 1
        await self._queue.note(KEY, "")
        self._done = ""

    def is_stray(self, claims: Sequence[Claim]) -> bool:
        """Is one of these not yet where it is to go?  Asked before each job; once all are, this is one comparison."""
        if self._done == self._router.digest:
            return False
        return any(_moved(claim.address, claim.dest, self._router) is not None for claim in claims)

    async def run(self) -> None:
        """Bring everything on its way by the routes of now, if that has not been done.  May be called at any time."""
        if self._running:
            return  # that run sees that the routes have changed
        self._running = True
        try:
            if self._done is None:
                self._done = await self._queue.noted(KEY)
            while (router := self._router).digest != self._done:
                if self._done:  # from now on the mail is filed by none of both, whatever comes: also by the old ones again
                    await self._queue.note(KEY, "")
                    self._done = ""
                is_last, doubts = self._now() >= self._last, self._doubts
                if await self._walk(router):
                    return
                if router is self._router and doubts == self._doubts:
                    if not is_last:
                        return
                    await self._queue.note(KEY, router.digest)
                    self._done = router.digest
        finally:
            self._running = False

    async def _walk(self, router: IRouter) -> int:
        """Through all recipients, unless the routes change meanwhile: how many are to be moved and could not yet."""
        after = moved = left = 0
        while router is self._router and (rows := await self._queue.browse(Selector(), after, BITE)):
            after = rows[-1].id
            count, wanted = await self._refile(rows, router)
            moved, left = moved + count, left + wanted - count
        if moved:
            self._events.event("rerouted", "", {"recipients": moved})
        return left if router is self._router else 0

    async def bite(self, selector: Selector, after: int, limit: int) -> tuple[int, int]:
        """Some of those recipients, at most 500, for an operator: how many were moved, and 0 or where to go on."""
        limit = min(limit, BITE)
        rows = await self._queue.browse(selector, after, limit)
        count, _ = await self._refile(rows, self._router)
        return count, rows[-1].id if len(rows) == limit else 0

    async def _refile(self, rows: Sequence[Row], router: IRouter) -> tuple[int, int]:
        """How many were moved, how many were to be."""
        moves = [move for row in rows if (move := _move(row, router)) is not None]
        if not moves:
            return 0, 0
        now = self._now()
        count = await self._queue.refile(moves, now)
        self._tell(rows, moves, now)
        return count, len(moves)

    def _tell(self, rows: Sequence[Row], moves: Sequence[Move], now: int) -> None:
        lanes = {row.id: row.lane for row in rows}
        for dest, lane in {(move.dest, lanes[move.id]) for move in moves}:
            self._waiting(dest, lane, now, now)


def _move(row: Row, router: IRouter) -> Move | None:
    """Where it is to go, None where it is right."""
    moved = _moved(row.address, row.dest, router)
    if moved is None:
        return None
    if moved[0] == BOUNCE:
        return Move(row.id, *moved)
    return Move(
        row.id, *moved, due=row.due if row.flags & PUT_OFF and not row.attempts else 0
    )  # not before its release (RFC 4865)


def _moved(address: str, dest: str, router: IRouter) -> tuple[str, str | None] | None:
    """Where a recipient is to go that is filed there, and why it is refused; None where it is right."""
    if dest == BOUNCE:
        return None
    way = router.route(address)
    if isinstance(way, Refusal):
        return (BOUNCE, str(way.reply)) if way.reply.is_permanent else None
    wanted = _demanding(way, dest).dest
    return (wanted, None) if wanted != dest else None


def _demanding(way: Route, dest: str) -> Route:
    """What was accepted under a demand for TLS keeps it (see Route); the relay adds what the new route demands."""
    agent, name, _ = split_dest(dest)
    level = name.partition("+")[2]
    return attrs.evolve(way, tls=level) if level and way.agent == agent else way
