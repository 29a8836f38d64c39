"""One destination: its window, what of it is in memory, and where in the file more of it waits (pure).

Recipients are in one of 64 lanes by whose mail it is; lanes take turns by deficit round robin, so that a campaign of
100,000 is one lane and a single mail waits for one round at most; a lane that had nothing goes first, as a sparse flow
does (RFC 8290 4.2), at most ten such between two turns of the others.  A lane that sends a transaction larger than its
quantum pays for it by missing turns.  Of the rows in the file a lane knows only whether some are due (`stored`), when the
first of the others falls due (`due`) and when the last one may (`last`): memory does not grow with the queue.
"""

from __future__ import annotations

from mta.envelope import Claim
from mta.queue.scheduler.convoy import Convoy
from mta.queue.scheduler.terms import Terms
from mta.queue.scheduler.window import Window
from mta.rate import Bucket

__all__ = ["QUANTUM", "READY_LIMIT", "Batch", "Destination", "Lane"]

QUANTUM = 10  # recipients of a lane in one round
READY_LIMIT = 1_000  # recipients of one destination that wait in memory
AHEAD = 60_000  # ms: no more mail is in memory than a rate lets go in that time


class Batch:
    """Recipients of one message that go to one destination together.  since: when the first came into memory (ms)."""

    __slots__ = ("claims", "dest", "message", "since")

    def __init__(self, dest: str, message: int, claims: list[Claim], since: int) -> None:
        self.dest = dest
        self.message = message
        self.claims = claims
        self.since = since


class Lane:
    """One of the 64 lanes."""

    __slots__ = ("deficit", "due", "fresh", "last", "new", "number", "ready", "stored")

    def __init__(self, number: int) -> None:
        self.number = number
        self.ready: dict[int, Batch] = {}  # by message, in the order in which they came
        self.deficit = QUANTUM
        self.new = False  # it was put in front of the others
        self.stored = False  # rows that are due may wait in the file
        self.fresh = False  # some came since the file was last asked
        self.due = 0  # the first of the later rows in the file; 0: none that we know of
        self.last = 0  # no row in the file is due after this


class Destination:
    """Everything the scheduler knows of one destination."""

    __slots__ = (
        "blocked_until",
        "bucket",
        "busy",
        "convoy",
        "fails",
        "first_fail",
        "hungry",
        "idle",
        "jumped",
        "lanes",
        "listed",
        "name",
        "passed",
        "probing",
        "ready",
        "rests_until",
        "ring",
        "runs",
        "stored",
        "suspended",
        "terms",
        "turn",
        "wake",
        "window",
    )

    def __init__(self, name: str, terms: Terms) -> None:
        self.name = name
        self.terms = terms
        self.window = Window(terms.initial, terms.limit)
        self.bucket = Bucket(terms.rate) if terms.rate else None
        self.rests_until = 0  # its rate lets nothing go before; 0: it does
        self.busy = 0  # transactions that run
        self.ready = 0  # recipients in memory that do not run, those whose commit is awaited included
        self.lanes: dict[int, Lane] = {}
        self.ring: list[Lane] = []  # lanes with something ready: at most 64, and an empty deque has 760 bytes
        self.jumped = 0  # lanes that were put in front since one of the others has had a turn
        self.stored = 0  # lanes with `stored`
        self.turn = -1  # the lane that was asked for last
        self.passed = 0  # recipients admitted since the last claim although others wait in the file
        self.blocked_until = 0
        self.probing = False  # the block has ended, no success yet: one transaction at a time
        self.suspended = False
        self.fails = 0  # how often it was found dead, one after the other
        self.first_fail: int | None = None
        self.runs = False  # its due mail goes although new mail is only stored
        self.convoy: Convoy | None = None  # with whom it shares connections in that run
        self.listed = False  # in the scheduler's ring
        self.hungry = False  # among those that want rows from the file
        self.idle = False  # nothing to do since the last look
        self.wake = 0  # the time of its valid entry in the scheduler's heap; 0: none

    @property
    def closed(self) -> bool:
        """Nothing is started, asked for or admitted."""
        return self.blocked_until > 0 or self.suspended

    @property
    def state(self) -> str:
        """How it stands, in a word."""
        return "suspended" if self.suspended else "blocked" if self.closed else "probed" if self.probing else "open"

    @property
    def room(self) -> int:
        """Transactions that may run at once."""
        return 1 if self.probing else self.window.size

    @property
    def working(self) -> bool:
        """There is something to do for it now, or it is known until when there is not."""
        return bool(self.busy or self.ready or self.stored or self.closed or self.rests_until or self.listed or self.hungry)

    def may_pass(self, number: int) -> bool:
        """Mail of a lane with nothing in the file or in memory need not wait for what other lanes have in the file.  Only
        so much of it passes between two claims that the others' turn comes."""
        lane = self.lanes.get(number)
        return self.passed < QUANTUM and (lane is None or not (lane.stored or lane.ready))

    @property
    def later(self) -> tuple[int, int]:
        """When the first row falls due that is known of, 0 for none, and the lanes of all such rows as bits."""
        waiting = [lane for lane in self.lanes.values() if lane.due]
        return min((lane.due for lane in waiting), default=0), sum(1 << lane.number for lane in waiting)

    def expect(self, lane: Lane, due: int, last: int) -> bool:
        """Rows of that lane fall due from `due` to `last`.  True: earlier than was known."""
        lane.last = max(lane.last, last)
        if lane.due and lane.due <= due:
            return False
        lane.due = due
        return True

    @property
    def depth(self) -> int:
        """Recipients that may wait in memory: two windows of full transactions, or what the rate lets go before long."""
        terms = self.terms
        transactions = 2 * self.room
        if terms.rate is not None:
            transactions = min(transactions, max(int(AHEAD / terms.rate.interval), 1))
        return min(transactions * terms.recipients, READY_LIMIT)

    def renew(self, terms: Terms) -> None:
        """Other terms from now on; what was learnt, and the tokens of a rate that stays, are kept."""
        if terms.rate != self.terms.rate:
            self.bucket = Bucket(terms.rate) if terms.rate else None
            self.rests_until = 0
        self.terms = terms
        self.window.resize(terms.initial, terms.limit)

    def lane(self, number: int) -> Lane:
        """The lane, made when it is first seen."""
        lane = self.lanes.get(number)
        if lane is None:
            lane = self.lanes[number] = Lane(number)
        return lane

    def add(self, claim: Claim, now: int) -> None:
        """A claim that may be delivered.  `ready` is counted by the caller."""
        lane = self.lane(claim.lane)
        batch = lane.ready.get(claim.message)
        if batch is not None:
            batch.claims.append(claim)
            return
        if not lane.ready:
            self._enter(lane)
        lane.ready[claim.message] = Batch(self.name, claim.message, [claim], now)

    def _enter(self, lane: Lane) -> None:
        """Into the ring: behind those lanes in front that came before it, or at the end."""
        lane.deficit = QUANTUM
        lane.new = self.jumped < QUANTUM
        if lane.new:
            self.jumped += 1
            place = next((place for place, other in enumerate(self.ring) if not other.new), len(self.ring))
            self.ring.insert(place, lane)
        else:
            self.ring.append(lane)

    def take(self, limit: int) -> Batch:
        """The next transaction, of at most `limit` recipients.  Only when the ring is not empty."""
        ring = self.ring
        lane = ring[0]
        while lane.deficit <= 0:
            lane.deficit += QUANTUM
            self._turned(lane)
            ring.append(ring.pop(0))
            lane = ring[0]
        batch = next(iter(lane.ready.values()))
        if len(batch.claims) > limit:
            rest = batch.claims[limit:]
            del batch.claims[limit:]
            lane.ready[batch.message] = Batch(self.name, batch.message, rest, batch.since)
        else:
            del lane.ready[batch.message]
            if not lane.ready:
                self._turned(lane)
                ring.pop(0)
        lane.deficit -= len(batch.claims)
        self.ready -= len(batch.claims)
        return batch

    def _turned(self, lane: Lane) -> None:
        """A lane has had its turn, whole or all it had."""
        if not lane.new:
            self.jumped = 0
        lane.new = False

    def drain(self) -> list[Claim]:
        """Everything that is ready, taken out."""
        claims = [claim for lane in self.ring for batch in lane.ready.values() for claim in batch.claims]
        for lane in self.ring:
            lane.ready.clear()
        self.ring.clear()
        self.ready -= len(claims)
        return claims

    def outlived(self, id: int) -> list[Claim]:
        """What is ready of messages with smaller ids, taken out."""
        claims = []
        for lane in self.ring:
            for message in [message for message in lane.ready if message < id]:
                claims += lane.ready.pop(message).claims
        self.ring = [lane for lane in self.ring if lane.ready]
        self.ready -= len(claims)
        return claims

    def store(self, lane: Lane) -> None:
        """Rows of that lane are due in the file."""
        lane.fresh = True
        if not lane.stored:
            lane.stored = True
            self.stored += 1

    def drained(self, lane: Lane) -> None:
        """The file had fewer due rows of that lane than were asked for."""
        if lane.stored and not lane.fresh:
            lane.stored = False
            self.stored -= 1

    def next_stored(self, count: int) -> list[Lane]:
        """Up to `count` lanes with due rows in the file, going round."""
        numbers = sorted(number for number, lane in self.lanes.items() if lane.stored)
        turn = [n for n in numbers if n > self.turn] + [n for n in numbers if n <= self.turn]
        del turn[count:]
        self.turn = turn[-1] if turn else -1
        return [self.lanes[number] for number in turn]

    def ripen(self, now: int) -> int:
        """Lanes whose time has come are `stored`; returns the next time at which something changes, 0 for none."""
        if 0 < self.blocked_until <= now:
            self.blocked_until = 0
            self.probing = True
        if 0 < self.rests_until <= now:
            self.rests_until = 0
        following = self.blocked_until
        if self.rests_until and (not following or self.rests_until < following):
            following = self.rests_until
        for lane in self.lanes.values():
            if 0 < lane.due <= now:
                lane.due = 0
                self.store(lane)
            elif lane.due and (not following or lane.due < following):
                following = lane.due
        return following
