"""The scheduler: which transactions start now, and what their end says of a destination (pure; docs/queue.md).

Destinations take turns, in each of them its lanes.  Which have room is decided here: by the window that success widens and
failure narrows, by their own limits (`[[destination]]`), and by what is left of `total`: once three quarters of it are in
use a destination starts nothing while it holds half as much as is free.  So those that are stuck leave room for the next.
What is in memory and what is asked of the queue is in `stock.py`.  Times are ms since the epoch and never go into decisions
twice: whoever calls passes `now` and, where there is chance in it, a `roll` in [0, 1).

Who owns what: `admit` and `offer` count recipients into memory, `released` counts them out (after the commit of their
outcome, or of their return); `next_batch` counts a transaction in and `finished` counts it out (when the agent is done).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from heapq import heappop
from math import ceil

import attrs

from mta.config.settings import Concurrency, DestinationEntry, Retry
from mta.envelope import BOUNCE, Claim, Measure
from mta.queue.retry import dead_for
from mta.queue.scheduler.convoy import Convoy
from mta.queue.scheduler.destination import READY_LIMIT, Batch, Destination
from mta.queue.scheduler.stock import NOBODY, Stock
from mta.queue.scheduler.terms import Terms, TermsTable
from mta.queue.state import DestState

__all__ = ["Change", "Feedback", "Scheduler"]

BUSY_BLOCK = 60_000  # ms without mail for a destination that says it is busy (421)


class Feedback(Enum):
    """What a finished transaction says about its destination."""

    GOOD = "good"  # somebody is there
    BAD = "bad"  # no server could be reached, none greeted us
    BUSY = "busy"  # "later, please": 421
    NONE = "none"  # it was not tried


@attrs.frozen(slots=True)
class Change:
    """What a transaction's end changed for its destination.

    dead: it was found dead (to be recorded), until `until`; alive: it was dead before and is not (its record goes).
    returned: claims that were ready and must be given back.
    """

    until: int = 0
    dead: bool = False
    alive: bool = False
    returned: Sequence[Claim] = NOBODY


class Scheduler(Stock):
    """See above.  To read: `running` transactions, and what `Stock` says of memory."""

    def __init__(
        self,
        concurrency: Concurrency,
        active_limit: int,
        retry: Retry,
        destinations: Sequence[DestinationEntry] = (),
    ) -> None:
        super().__init__(TermsTable(concurrency, retry, destinations), active_limit)
        self._total = concurrency.total
        self._retry = retry
        self.running = 0

    def reconfigure(
        self,
        concurrency: Concurrency,
        active_limit: int,
        retry: Retry,
        destinations: Sequence[DestinationEntry] = (),
    ) -> None:
        """Other limits from now on.  What is above them already runs out; blocks stand as they were made."""
        self._table = TermsTable(concurrency, retry, destinations)
        self._total, self.active_limit, self._retry = concurrency.total, active_limit, retry
        for dest in self._destinations.values():
            dest.renew(self._table.of(dest.name))
            self._open(dest)

    def restore(self, states: Iterable[DestState], now: int) -> None:
        """What is on disk of destinations that are not plain.  Before the first `admit`."""
        for state in states:
            dest = self._destination(state.name)
            dest.fails, dest.first_fail, dest.suspended = state.fails, state.first_fail, state.suspended
            dest.probing = state.fails > 0
            if state.blocked_until > now:
                dest.blocked_until = state.blocked_until
                self._wake(dest, state.blocked_until)

    def terms(self, name: str) -> Terms:
        """What holds for a destination."""
        dest = self._destinations.get(name)
        return dest.terms if dest is not None else self._table.of(name)

    def measures(self) -> Iterator[Measure]:
        """See IMeasured."""
        ready = 0
        states = {"open": 0, "probed": 0, "blocked": 0, "suspended": 0, "asleep": len(self._asleep)}
        for dest in self._destinations.values():
            ready += dest.ready
            states[dest.state] += 1
        yield "mta_queue_active", (), self.active
        yield "mta_queue_active_limit", (), self.active_limit
        yield "mta_queue_ready", (), ready
        yield "mta_queue_running", (), self.running
        for state, number in states.items():
            yield "mta_queue_destinations", (state,), number

    # What starts, and what its end says

    def next_batch(self, now: int) -> Batch | None:
        """The next transaction to start, until there is none."""
        ring, free = self._ring, self._total - self.running
        if free <= 0:
            return None
        share = max(free // 2, 1) if 4 * free < self._total else self._total
        left = len(ring)
        while left > 0 and ring:
            left -= 1
            dest = ring[0]
            if dest.ring and dest.busy < dest.room and not dest.closed:
                if dest.busy >= share:  # these are few, for each of them runs
                    ring.rotate(-1)
                    continue
                plain = dest.bucket is None and dest.convoy is None and not dest.rests_until
                if plain or self._may_go(dest, now):
                    ring.rotate(-1)
                    return self._begin(dest, now)
            ring.popleft()
            dest.listed = False
            if dest.convoy is not None and self._follow(dest):
                left += 1
        return None

    def _may_go(self, dest: Destination, now: int) -> bool:
        """Its rest, its rate and its convoy let it; else whoever gives it room lists it again."""
        if dest.rests_until > now:
            return False
        if dest.bucket is not None and (then := ceil(dest.bucket.next(now))) > now:
            self.rest(dest.name, then)
            return False
        if dest.convoy is not None and dest.convoy.full:
            dest.convoy.waiting[dest.name] = dest
            return False
        return True

    def _begin(self, dest: Destination, now: int) -> Batch:
        if dest.bucket is not None:
            dest.bucket.take(now)
        if dest.convoy is not None:
            dest.convoy.begin()
        # One bounce for all who failed: siblings are not parted.
        batch = dest.take(READY_LIMIT if dest.name == BOUNCE else dest.terms.recipients)
        dest.busy += 1
        self.running += 1
        if dest.stored:
            self._hunger(dest)
        return batch

    def rest(self, name: str, until: int) -> None:
        """Nothing of a destination is started before a time, by its rate or because its agent wants no more."""
        dest = self._destination(name)
        dest.rests_until = until
        self._wake(dest, until)

    def finished(self, name: str, feedback: Feedback, now: int, roll: float) -> Change | None:
        """A transaction has ended.  None: nothing changed beside the window."""
        dest = self._destination(name)
        change = None
        if feedback is Feedback.GOOD:
            change = self._alive(dest)
        elif feedback is not Feedback.NONE and not dest.closed:  # the rest of a cohort that died is no news
            change = self._failed(dest, feedback, now, roll)
        dest.busy -= 1
        self.running -= 1
        if dest.convoy is not None:
            dest.convoy.busy -= 1
            self._follow(dest)
        if not dest.closed:
            if dest.ring:
                self._list(dest)
            if dest.stored:
                self._hunger(dest)
        return change

    def _alive(self, dest: Destination) -> Change | None:
        if not dest.fails and not dest.probing:
            if not dest.closed:
                dest.window.succeeded(dest.busy)
            return None
        dead, dest.fails, dest.first_fail = dest.fails > 0, 0, None
        dest.probing = False
        dest.window.restart()
        if dead:  # a block for a 421 stands, one for death is over
            dest.blocked_until = 0
        self._open(dest)
        return Change(alive=True) if dead else None

    def _failed(self, dest: Destination, feedback: Feedback, now: int, roll: float) -> Change | None:
        died = dest.window.failed() or (dest.probing and feedback is Feedback.BAD)
        if died:
            dest.first_fail = dest.first_fail or now
            wait = dead_for(dest.fails, dest.first_fail, now, dest.terms.retry, roll, dest.terms.waits)
            dest.fails += 1
        elif feedback is Feedback.BUSY:
            wait = min(BUSY_BLOCK, int(self._retry.minimal_backoff * 1000))
        else:
            return None
        dest.blocked_until = now + max(wait, 1)
        self._wake(dest, dest.blocked_until)
        return Change(dest.blocked_until, dead=died, returned=self._drain(dest))

    def _drain(self, dest: Destination) -> Sequence[Claim]:
        """Everything of a closed destination that is ready; what shares connections with it goes on."""
        returned = dest.drain()
        self._follow(dest)
        return returned or NOBODY

    # The operator

    def unblock(self, name: str | None = None) -> None:
        """Blocks end now, of one destination or of all: each is probed (an operator's flush)."""
        for dest in [self._destination(name)] if name is not None else list(self._destinations.values()):
            if dest.blocked_until:
                dest.blocked_until = 0
                dest.probing = True
                self._open(dest)

    def suspend(self, name: str) -> Sequence[Claim]:
        """Nothing is started, asked for or admitted any more; what runs goes on.  Returns what must be given back."""
        dest = self._destination(name)
        dest.suspended = True
        return self._drain(dest)

    def resume(self, name: str) -> None:
        """A suspension ends, and a block with it: the destination is probed at once."""
        dest = self._destination(name)
        dest.suspended = False
        dest.blocked_until = 0
        dest.probing = True
        self._open(dest)

    # Modes

    def spool(self, spooling: bool) -> None:
        """New mail is only stored from now on, or delivered again."""
        self.spooling = spooling
        if not spooling:
            for dest in self._destinations.values():
                self._hunger(dest)

    def begin_run(self, now: int) -> None:
        """A run begins: of destinations that `join`, what is due now is delivered."""
        self._horizon = now

    def join(self, name: str, convoy: Convoy | None) -> None:
        """A destination takes part in the run.  convoy: with which others, None: by itself and as fast as it can."""
        dest = self._destination(name)
        if convoy is not None:
            convoy.take_in(dest)
        dest.runs = True
        self._open(dest)

    def _follow(self, dest: Destination) -> bool:
        """There may be room in its convoy: somebody else was listed.  Who has nothing left for the run leaves the convoy."""
        convoy = dest.convoy
        if convoy is None:
            return False
        if (following := convoy.next()) is not None:
            self._list(following)
        if not (dest.busy or dest.ready or dest.runs):
            dest.convoy = None
        return following is not None

    # Time

    def advance(self, now: int) -> None:
        """Blocks end, rows fall due."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            time, name = heappop(heap)
            if name in self._asleep and self._asleep[name][0] <= now:
                self._destination(name)
            dest = self._destinations.get(name)
            if dest is None or dest.wake != time:  # it had an earlier entry
                continue
            dest.wake = 0
            following = dest.ripen(now)
            if following:
                self._wake(dest, following)
            self._open(dest)

    def next_time(self) -> int:
        """When to call `advance`; 0: nothing is expected."""
        return self._heap[0][0] if self._heap else 0

    def tidy(self, now: int) -> list[str]:
        """Forget destinations that had nothing to do since the last call, but for the time when they will have something.
        Returns those whose record goes with them."""
        forsaken = []
        old = now - int(2000 * self._retry.queue_lifetime)
        for dest in list(self._destinations.values()):
            if dest.working or (dest.bucket is not None and dest.bucket.next(now) > now):
                continue
            due, lanes = dest.later
            if dest.fails:  # dead when last seen: remembered for as long as it may matter
                if due or (dest.first_fail or now) > old:
                    continue
                forsaken.append(dest.name)
            elif not dest.idle:
                dest.idle = True
                continue
            del self._destinations[dest.name]
            if due:
                self._doze(dest.name, due, lanes)
        return forsaken

    def _open(self, dest: Destination) -> None:
        if dest.closed:
            return
        if dest.ring:
            self._list(dest)
        self._hunger(dest)
