"""What is in memory, and which rows of the file are to follow (pure; docs/queue.md).

It never asks "what is due" of the whole queue, only "the next n of this lane of that destination".  Memory is bounded by
`active_limit` and by the number of distinct destinations, never by the length of the queue: a destination that is stuck or
blocked costs the same with one row as with a million, and one whose mail is all due later is asleep: a time and 64 bits.
New mail is admitted to memory only while no due row of its destination waits in the file, or else stored mail would starve
behind new mail; but a lane that has nothing there does not wait for those that have: a few recipients between two claims.

While it is `spooling` new mail is only stored and nothing is asked for, but for destinations that take part in a run (what
was due when the run began goes, what comes later waits for the next) and for bounces that are owed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from heapq import heapify, heappush

from mta.envelope import BOUNCE, Claim, Want
from mta.queue.ids import id_at
from mta.queue.scheduler.destination import Destination
from mta.queue.scheduler.destination import Lane as Place
from mta.queue.scheduler.terms import TermsTable
from mta.queue.state import Lane

__all__ = ["LAST_CHANCE", "LOOK_AGAIN", "NOBODY", "ROWS", "Stock"]

WANTS = 64  # lanes asked for at once
LANES = 8  # of one destination
ROWS = 512  # asked for at once
LOOK_AGAIN = 5_000  # ms until rows are looked for that the file calls due and does not give (they are on their way)
OUTLIVED = 64  # entries of the heap that are borne with beside two for each destination
LAST_CHANCE = 60_000  # ms: mail that is tried is tried for the last time at the end of its life
UNKNOWN = 1 << 62  # a time that never comes
NOBODY: Sequence[Claim] = ()


class Stock:
    """To read: `active` recipients in memory, `hungry` destinations (ask `wants`), `spooling`."""

    def __init__(self, table: TermsTable, active_limit: int) -> None:
        self._table = table
        self._destinations: dict[str, Destination] = {}
        self._ring: deque[Destination] = deque()  # those with something ready
        self.hungry: deque[Destination] = deque()  # those that want rows from the file
        self._heap: list[tuple[int, str]] = []
        self._looks: set[str] = set()
        self._asleep: dict[str, tuple[int, int]] = {}  # when the first row may fall due, and the lanes of all, as bits
        self.active_limit = active_limit
        self.active = 0
        self.spooling = False
        self._horizon = 0  # of the last run: what is due later waits for the next, while spooling

    @property
    def lifetime(self) -> Callable[[str], float] | None:
        """Seconds that mail is kept for a destination, 0: as long as it says itself.  None: so it is for all."""
        return self._lifetime if self._table.mortal else None

    def _lifetime(self, name: str) -> float:
        return self._table.of(name).lifetime

    def mortals(self) -> list[tuple[str, float]]:
        """Destinations where mail waits for its turn, and after how long (seconds) by their own lifetime it is too old."""
        found = []
        for dest in self._destinations.values():
            lifetime = dest.terms.lifetime
            if lifetime and (dest.closed or self.spooling):
                found.append((dest.name, lifetime))
            elif lifetime and (dest.stored or dest.rests_until):
                found.append((dest.name, lifetime + LAST_CHANCE / 1000))
        if self.spooling:
            found += [(name, lifetime) for name in self._asleep if (lifetime := self._lifetime(name))]
        return found

    def outlived(self, now: int) -> list[Claim]:
        """What is too old by the lifetime of its destination and waits for its turn in memory, taken out: to be given back.

        No more is asked of the file for it before the next walk: that would be as old.
        """
        claims = []
        for dest in self._destinations.values():
            if dest.ring and dest.terms.lifetime:
                claims += dest.outlived(id_at(now - int(dest.terms.lifetime * 1000) - LAST_CHANCE))
        return claims

    def _destination(self, name: str) -> Destination:
        dest = self._destinations.get(name)
        if dest is None:
            dest = self._destinations[name] = Destination(name, self._table.of(name))
            if self._asleep and (sleeper := self._asleep.pop(name, None)) is not None:
                due, lanes = sleeper
                for number in range(lanes.bit_length()):
                    if lanes >> number & 1:
                        dest.expect(dest.lane(number), due, UNKNOWN)
                self._wake(dest, due)
        dest.idle = False
        return dest

    def _doze(self, name: str, due: int, lanes: int) -> None:
        """Nothing is to be done for that destination until a row in one of these lanes falls due."""
        known, others = self._asleep.get(name, (UNKNOWN, 0))
        self._asleep[name] = (min(due, known), lanes | others)
        if due < known:
            self._alarm(due, name)

    # What comes into memory

    def admit(self, name: str, lane: int) -> bool:
        """May a new recipient be delivered from memory at once?  True keeps its place, see `refund`."""
        dest = self._destination(name)
        if dest.closed or self.active >= self.active_limit or (dest.stored and not dest.may_pass(lane)):
            return False
        if (dest.ready and dest.ready >= dest.depth) or (self.spooling and name != BOUNCE):
            return False
        dest.ready += 1
        self.active += 1
        if dest.stored:
            dest.passed += 1
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

    # What waits in the file

    def waiting(self, name: str, number: int, due: int, now: int) -> None:
        """A row waits in the file from now on, or was found there."""
        self._waits(name, number, due, due, now)

    def _waits(self, name: str, number: int, due: int, last: int, now: int) -> None:
        if due > now and name not in self._destinations:
            self._doze(name, due, 1 << number)
            return
        dest = self._destination(name)
        self._expect(dest, dest.lane(number), due, last, now)

    def _expect(self, dest: Destination, lane: Place, due: int, last: int, now: int) -> None:
        if due <= now:
            lane.last = max(lane.last, last)
            dest.store(lane)
            self._hunger(dest)
        elif dest.expect(lane, due, last):
            self._wake(dest, due)

    def horizon(self, wants: Sequence[Want], now: int) -> int:
        """Up to when rows may be due that are claimed for these wants."""
        return min(self._horizon, now) if self.spooling and wants[0].dest != BOUNCE else now

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
            if self.spooling and wants and BOUNCE in (self.hungry[0].name, wants[0].dest):
                break  # bounces have another horizon
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
            dest.passed = 0
            if counts.get((want.dest, want.lane), 0) < want.quota:
                lane = dest.lane(want.lane)
                dest.drained(lane)
                if lane.last > now:  # there may be more, and we know not when
                    self._looks.add(want.dest)
            if not dest.stored:
                self._ran(dest)
            self._hunger(dest)
        return returned

    def _ran(self, dest: Destination) -> None:
        """All that was due at the run's begin is in memory."""
        dest.runs = False
        if not (dest.busy or dest.ready):
            dest.convoy = None

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
            self._expect(dest, lane, found.due if found.due > now else now + LOOK_AGAIN, lane.last, now)
        return True

    def discovered(self, found: Iterable[Lane], now: int) -> None:
        """Rows found by a walk through the file, at the start and now and then: nothing waits unseen."""
        for lane in found:
            self._waits(lane.dest, lane.lane, lane.due, UNKNOWN, now)  # only the first is known

    def _list(self, dest: Destination) -> None:
        if not dest.listed:
            dest.listed = True
            self._ring.append(dest)

    def _wake(self, dest: Destination, time: int) -> None:
        if not dest.wake or time < dest.wake:
            dest.wake = time
            self._alarm(time, dest.name)

    def _alarm(self, time: int, name: str) -> None:
        heap = self._heap
        if len(heap) < OUTLIVED + 2 * (len(self._destinations) + len(self._asleep)):
            heappush(heap, (time, name))
            return
        # Most are outlived: who rests again and again before a later time leaves one entry for that time each time.
        heap[:] = [(known.wake, name) for name, known in self._destinations.items() if known.wake]
        heap += [(due, name) for name, (due, _) in self._asleep.items()]
        heapify(heap)

    def _appetite(self, dest: Destination) -> int:
        """How many rows of the file a destination could take into memory; 0 while it has enough to go on with."""
        if dest.closed or (self.spooling and not dest.runs and dest.name != BOUNCE):
            return 0
        if dest.probing:
            return 0 if dest.ready or dest.busy else 1  # if it is dead still, one row was touched
        enough = 2 * dest.window.size
        if dest.ready >= enough:
            return 0
        if dest.name == BOUNCE:
            return ROWS
        most = max(2 * enough, 2 * dest.terms.recipients)
        return (most if dest.bucket is None else min(most, dest.depth)) - dest.ready

    def _hunger(self, dest: Destination) -> None:
        if dest.stored and not dest.hungry and self._appetite(dest) > 0:
            dest.hungry = True
            self.hungry.append(dest)
