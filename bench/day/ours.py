"""A day of our own queue: the real service, scheduler and engine in memory, on a clock that runs as fast as they can.

The only things that are not the server's own are the clock, the agent (which asks the world what a site answers, and
settles after the seconds that it takes) and the bounce's (which notes whose sender was told).  The clock has nothing
but the service's one timer on it; arrivals and ends of transactions come from a heap beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from heapq import heappop, heappush
from pathlib import Path
from random import Random

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from bench.day.diary import Diary, End
from bench.day.world import Answer, Mail, Word, World
from mta.config.settings import Retry, Seconds, Settings
from mta.envelope import BodyRef, Job, Kind, NewMessage, NewRecipient, Outcome, Refusal, Route, Settlement
from mta.interfaces import IDeliveryAgent, IEventLog, IRouter
from mta.queue.memory import MemoryQueue
from mta.queue.service import QueueService
from mta.status import Reply, Scope

__all__ = ["Ours"]

START = 1_800_000_000  # seconds since 1970; any moment
COMPANIES = 8  # of the senders: each has its lane
OUTCOMES = {
    Word.TAKEN: (Kind.DELIVERED, Reply(250, "2.0.0", "taken"), Scope.RECIPIENT),
    Word.LATER: (Kind.DEFERRED, Reply(450, "4.7.1", "greylisted"), Scope.RECIPIENT),
    Word.BUSY: (Kind.DEFERRED, Reply(421, "4.7.0", "too much mail"), Scope.SESSION),
    Word.REFUSED: (Kind.FAILED, Reply(550, "5.1.1", "no such user"), Scope.RECIPIENT),
    Word.NOBODY: (Kind.DEFERRED, Reply(451, "4.4.1", "connection timed out"), Scope.SITE),
}


@implementer(IRouter)
class ByDomain:
    """Every domain is its own destination."""

    digest = "1"

    def route(self, address: str) -> Route | Refusal:
        """See IRouter."""
        return Route("default", "smtp", address.rpartition("@")[2])


@implementer(IEventLog)
class NoLog:
    """Nobody reads it."""

    def event(self, name: str, queue_id: str, fields: Mapping[str, object]) -> None:
        """See IEventLog."""


class CountedQueue(MemoryQueue):
    """The engine in memory; notes how often a recipient was written again instead of removed."""

    updates = 0

    def settle(self, outcomes: Sequence[Outcome], spawn: Sequence[NewMessage] = ()) -> Deferred[list[bool]]:
        """See IQueue."""
        self.updates += sum(outcome.kind is not Kind.DELIVERED for outcome in outcomes)
        return super().settle(outcomes, spawn)


@implementer(IDeliveryAgent)
class Reporter:
    """The bounce: whose sender was told."""

    def __init__(self, day: Ours) -> None:
        self._day = day

    def deliver(self, job: Job) -> Deferred[Settlement]:
        """See IDeliveryAgent."""
        for claim in job.claims:
            self._day.diary.end(self._day.numbers[claim.message], End.BOUNCED, self._day.time())
        return succeed(Settlement(tuple(Outcome(claim, Kind.DELIVERED, Reply(250, "2.0.0", "told")) for claim in job.claims)))


@implementer(IDeliveryAgent)
class Courier:
    """Tries one message after the other, as the world answers."""

    def __init__(self, day: Ours) -> None:
        self._day = day

    def deliver(self, job: Job) -> Deferred[Settlement]:
        """See IDeliveryAgent."""
        day, settled = self._day, Deferred[Settlement]()
        mail = day.world.mail[day.numbers[job.message.id]]
        day.diary.attempt(mail, day.time())
        answer = day.world.sites[mail.site].attempt(mail, day.time())
        day.expect(answer.seconds, (mail, answer, job, settled))
        return settled


_Ending = tuple[Mail, Answer, Job, Deferred[Settlement]]


class Ours:
    """`run` lives through the day and all that follows from it."""

    def __init__(self, world: World, seed: int = 0, lifetime: float = 5 * 86_400.0) -> None:
        self.world = world
        self.diary = Diary(world)
        self.numbers: dict[int, int] = {}  # of messages, by their ids
        self._lifetime = int(lifetime * 1000)
        self._clock = Clock()
        self._clock.advance(START)
        self._ends: list[tuple[float, int, _Ending]] = []
        self._ended = 0
        self._refused: list[Failure] = []
        self._queue = CountedQueue(self._now)
        settings = Settings("mx.example.org", Path("/nowhere"), retry=Retry(queue_lifetime=Seconds(lifetime)))
        self._service = QueueService(
            self._queue,
            ByDomain(),
            {"smtp": Courier(self), "bounce": Reporter(self)},
            settings,
            reactor=self._clock,
            log=NoLog(),
            random=Random(seed),
            load=lambda: 0.0,
        )

    def _now(self) -> int:
        return int(self._clock.seconds() * 1000)

    def time(self) -> float:
        """Seconds from the begin of the day."""
        return self._clock.seconds() - START

    def expect(self, seconds: float, ending: _Ending) -> None:
        """A transaction that ends then."""
        self._ended += 1
        heappush(self._ends, (self.time() + seconds, self._ended, ending))

    def run(self) -> Diary:
        """Fill in the diary."""
        self._service.startService()
        mail, arrived, calls = self.world.mail, 0, self._clock.calls
        while len(self.diary.ends) < len(mail):
            arrival = mail[arrived].at if arrived < len(mail) else float("inf")
            ended = self._ends[0][0] if self._ends else float("inf")
            timer = calls[0].getTime() - START
            self._clock.advance(max(min(arrival, ended, timer) - self.time(), 0))  # the timer's turn comes by this
            if ended <= min(arrival, timer):
                self._end(*heappop(self._ends)[2])
            elif arrival <= timer:
                self._accept(mail[arrived])
                arrived += 1
            if self._refused:
                self._refused[0].raiseException()
        self._service.stopService()
        self._clock.advance(60)
        self.diary.updates = self._queue.updates
        return self.diary

    def _accept(self, mail: Mail) -> None:
        sink = self._service.create_body(1)
        self.numbers[sink.id] = mail.number
        to = NewRecipient(f"user{mail.user}@site{mail.site}.test")
        domain, now = f"company{mail.sender % COMPANIES}.test", self._now()
        sender, expires = f"sender{mail.sender}@{domain}", now + self._lifetime
        message = NewMessage(sink.id, sender, (to,), BodyRef(6, b"hello\n"), b"", now, expires, lane_key=domain)
        self._service.accept(message).addErrback(self._refused.append)

    def _end(self, mail: Mail, answer: Answer, job: Job, settled: Deferred[Settlement]) -> None:
        kind, reply, scope = OUTCOMES[answer.word]
        if kind is Kind.DELIVERED:
            self.diary.end(mail.number, End.DELIVERED, self.time())
        settled.callback(Settlement(tuple(Outcome(claim, kind, reply, scope) for claim in job.claims)))
