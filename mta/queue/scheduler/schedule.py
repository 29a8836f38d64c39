"""The scheduler: which transactions start now, and which rows to ask the queue for (pure; docs/queue.md).

It never asks "what is due" of the whole queue, only "the next n of this lane of that destination", and it decides which
destinations have room.  Destinations take turns, in each of them its lanes.  Memory is bounded by `active_limit` and by the
number of distinct destinations, never by the length of the queue: a destination that is stuck or blocked costs the same
with one row as with a million.  New mail is admitted to memory only while no due row of its destination waits in the
file, or else stored mail would starve behind new mail.  Times are ms since the epoch and never go into decisions twice:
whoever calls passes `now` and, where there is chance in it, a `roll` in [0, 1).

Who owns what: `admit` and `offer` count recipients into memory, `released` counts them out (after the commit of their
outcome, or of their return); `next_batch` counts a transaction in and `finished` counts it out (when the agent is done).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from enum import Enum
from heapq import heappop, heappush

import attrs

from mta.config.settings import Concurrency, Retry
from mta.envelope import BOUNCE, Claim, Want
from mta.queue.retry import dead_for
from mta.queue.scheduler.destination import Batch, Destination
from mta.queue.scheduler.destination import Lane as Place
from mta.queue.scheduler.window import Window
from mta.queue.state import DestState, Lane

__all__ = ["Change", "Feedback", "Scheduler"]

READY_LIMIT = 1_000  # recipients of one destination that wait in memory
WANTS = 64  # lanes asked for at once
LANES = 8  # of one destination
ROWS = 512  # asked for at once
LOOK_AGAIN = 5_000  # ms until rows are looked for that the file calls due and does not give (they are on their way)
BUSY_BLOCK = 60_000  # ms without mail for a destination that says it is busy (421)
UNKNOWN = 1 << 62  # a time that never comes
NOBODY: Sequence[Claim] = ()


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


class Scheduler:
    """See above.  To read: `active` recipients in memory, `running` transactions, `hungry` destinations (ask `wants`)."""

    def __init__(self, concurrency: Concurrency, active_limit: int, retry: Retry) -> None:
        self._concurrency = concurrency
        self._retry = retry
        self._destinations: dict[str, Destination] = {}
        self._ring: deque[Destination] = deque()  # those with something ready
        self.hungry: deque[Destination] = deque()  # those that want rows from the file
        self._heap: list[tuple[int, str]] = []
        self._looks: set[str] = set()
        self.active_limit = active_limit
        self.active = 0
        self.running = 0

    def reconfigure(self, concurrency: Concurrency, active_limit: int, retry: Retry) -> None:
        """Other limits from now on.  What is above them already runs out; blocks stand as they were made."""
        self._concurrency, self.active_limit, self._retry = concurrency, active_limit, retry
        for dest in self._destinations.values():
            dest.window.resize(concurrency.initial, concurrency.per_destination)

    def _destination(self, name: str) -> Destination:
        dest = self._destinations.get(name)
        if dest is None:
            window = Window(self._concurrency.initial, self._concurrency.per_destination)
            dest = self._destinations[name] = Destination(name, window)
        dest.idle = False
        return dest

    # What comes into memory

    def restore(self, states: Iterable[DestState], now: int) -> None:
        """What is on disk of destinations that are not plain.  Before the first `admit`."""
        for state in states:
            dest = self._destination(state.name)
            dest.fails, dest.first_fail, dest.suspended = state.fails, state.first_fail, state.suspended
            dest.probing = state.fails > 0
            if state.blocked_until > now:
                dest.blocked_until = state.blocked_until
                self._wake(dest, state.blocked_until)

    def admit(self, name: str) -> bool:
        """May a new recipient be delivered from memory at once?  True keeps its place, see `refund`."""
        dest = self._destination(name)
        if dest.stored or dest.closed or self.active >= self.active_limit:
            return False
        if dest.ready >= min(2 * dest.room * self._concurrency.recipients, READY_LIMIT):
            return False
        dest.ready += 1
        self.active += 1
        return True

    def refund(self, name: str) -> None:
        """A recipient that was admitted does not come."""
        self._destination(name).ready -= 1
        self.active -= 1

    def offer(self, claims: Iterable[Claim], now: int, admitted: bool) -> Sequence[Claim]:
        """Claims to be delivered; admitted: they have their place already.  Returns those to give back: it is closed."""
        returned: list[Claim] = []
        for claim in claims:
            dest = self._destination(claim.dest)
            if not admitted:
                dest.ready += 1
                self.active += 1
            if dest.closed:
                dest.ready -= 1
                returned.append(claim)
                continue
            dest.add(claim, now)
            self._list(dest)
        return returned or NOBODY

    @property
    def eager(self) -> bool:
        """There may be something to start, or to ask the queue for."""
        return bool(self._ring or self.hungry)

    def released(self, count: int) -> None:
        """That many recipients are no longer in memory."""
        self.active -= count

    # What starts, and what its end says

    def next_batch(self) -> Batch | None:
        """The next transaction to start, until there is none."""
        ring = self._ring
        while ring and self.running < self._concurrency.total:
            dest = ring[0]
            if not dest.ring or dest.busy >= dest.room or dest.closed:
                ring.popleft()
                dest.listed = False
                continue
            ring.rotate(-1)
            # One bounce for all who failed: siblings are not parted.
            batch = dest.take(READY_LIMIT if dest.name == BOUNCE else self._concurrency.recipients)
            dest.busy += 1
            self.running += 1
            if dest.stored:
                self._hunger(dest)
            return batch
        return None

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
            wait = dead_for(dest.fails, dest.first_fail, now, self._retry, roll)
            dest.fails += 1
        elif feedback is Feedback.BUSY:
            wait = min(BUSY_BLOCK, int(self._retry.minimal_backoff * 1000))
        else:
            return None
        dest.blocked_until = now + max(wait, 1)
        self._wake(dest, dest.blocked_until)
        return Change(dest.blocked_until, dead=died, returned=dest.drain())

    def unblock(self, name: str | None = None) -> None:
        """Blocks end now, of one destination or of all: each is probed (an operator's flush)."""
        for dest in [self._destination(name)] if name is not None else list(self._destinations.values()):
            if dest.blocked_until:
                dest.blocked_until = 0
                dest.probing = True
                self._open(dest)

    # What waits in the file

    def waiting(self, name: str, number: int, due: int, now: int) -> None:
        """A row waits in the file from now on, or was found there."""
        dest = self._destination(name)
        lane = dest.lane(number)
        lane.last = max(lane.last, due)
        self._expect(dest, lane, due, now)

    def _expect(self, dest: Destination, lane: Place, due: int, now: int) -> None:
        if due <= now:
            dest.store(lane)
            self._hunger(dest)
        elif not lane.due or due < lane.due:
            lane.due = due
            self._wake(dest, due)

    def wants(self) -> list[Want]:
        """What to ask the queue for, in one claim.  Ask again only after `answered`."""
        free = self.active_limit - self.active
        if self.active > 0.8 * self.active_limit:
            free //= 2  # retries do not crowd out new mail
        rows = min(free, ROWS)
        wants: list[Want] = []
        for _ in range(len(self.hungry)):
            if rows <= 0 or len(wants) > WANTS - LANES:
                break
            dest = self.hungry.popleft()
            dest.hungry = False
            appetite = self._appetite(dest)
            if appetite <= 0 or not dest.stored:
                continue
            lanes = dest.next_stored(min(LANES, appetite, rows))
            quota = min(appetite, rows) // len(lanes)
            rows -= quota * len(lanes)
            for lane in lanes:
                lane.fresh = False
                wants.append(Want(dest.name, lane.number, quota))
        return wants

    def answered(self, wants: Sequence[Want], claims: Sequence[Claim], now: int) -> Sequence[Claim]:
        """The claims for what was wanted at `now`.  Returns those to give back, see `offer`."""
        counts: dict[tuple[str, int], int] = {}
        for claim in claims:
            key = (claim.dest, claim.lane)
            counts[key] = counts.get(key, 0) + 1
        returned = self.offer(claims, now, admitted=False)
        for want in wants:
            dest = self._destination(want.dest)
            if counts.get((want.dest, want.lane), 0) < want.quota:
                lane = dest.lane(want.lane)
                dest.drained(lane)
                if lane.last > now:  # there may be more, and we know not when
                    self._looks.add(want.dest)
            self._hunger(dest)
        return returned

    def unanswered(self, wants: Sequence[Want]) -> None:
        """The queue could not say: the lanes stay as they were."""
        for want in wants:
            self._hunger(self._destination(want.dest))

    def looks(self) -> set[str]:
        """Destinations of which to ask `IQueue.lanes`: their later rows are out of sight."""
        looks, self._looks = self._looks, set()
        return looks

    def located(self, name: str, found: Iterable[Lane], now: int) -> None:
        """Where later rows of that destination are.  Rows that are called due are on their way or will be seen soon."""
        dest = self._destination(name)
        seen = {lane.lane for lane in found if self._found(dest, lane, now)}
        for number, lane in dest.lanes.items():
            if number not in seen and not lane.due and not lane.stored:
                lane.last = 0

    def _found(self, dest: Destination, found: Lane, now: int) -> bool:
        lane = dest.lane(found.lane)
        if not lane.stored:
            self._expect(dest, lane, found.due if found.due > now else now + LOOK_AGAIN, now)
        return True

    def discovered(self, found: Iterable[Lane], now: int) -> None:
        """Rows found by a walk through the file, at the start and now and then: nothing waits unseen."""
        for lane in found:
            self.waiting(lane.dest, lane.lane, lane.due, now)
            self._destination(lane.dest).lane(lane.lane).last = UNKNOWN  # only the first is known

    # Time

    def advance(self, now: int) -> None:
        """Blocks end, rows fall due."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            time, name = heappop(heap)
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
        """Forget destinations that had nothing to do since the last call.  Returns those whose record goes with them."""
        forsaken = []
        old = now - int(2000 * self._retry.queue_lifetime)
        for dest in list(self._destinations.values()):
            if dest.working or dest.listed or dest.hungry:
                continue
            if dest.fails:  # dead when last seen: remembered for as long as it may matter
                if (dest.first_fail or now) > old:
                    continue
                forsaken.append(dest.name)
            elif not dest.idle:
                dest.idle = True
                continue
            del self._destinations[dest.name]
        return forsaken

    def _wake(self, dest: Destination, time: int) -> None:
        if not dest.wake or time < dest.wake:
            dest.wake = time
            heappush(self._heap, (time, dest.name))

    def _list(self, dest: Destination) -> None:
        if not dest.listed:
            dest.listed = True
            self._ring.append(dest)

    def _open(self, dest: Destination) -> None:
        if dest.closed:
            return
        if dest.ring:
            self._list(dest)
        self._hunger(dest)

    def _appetite(self, dest: Destination) -> int:
        """How many rows of the file a destination could take into memory; 0 while it has enough to go on with."""
        if dest.closed:
            return 0
        if dest.probing:
            return 0 if dest.ready or dest.busy else 1  # if it is dead still, one row was touched
        enough = 2 * dest.window.size
        if dest.ready >= enough:
            return 0
        return ROWS if dest.name == BOUNCE else max(2 * enough, 2 * self._concurrency.recipients) - dest.ready

    def _hunger(self, dest: Destination) -> None:
        if dest.stored and not dest.hungry and self._appetite(dest) > 0:
            dest.hungry = True
            self.hungry.append(dest)
