"""A whole queue service on a fake clock: engine in memory, agents that do as they are told, a log to read.

`Station().start()`; `accept("a@example.org")`; `advance(seconds)`.  Agents answer at once with what `answer` gives for a
claim, or keep their jobs in `jobs` while `wait` is set.  `faults` are raised by the engine's methods, one for each call.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from mta.config.settings import Concurrency, Queue, Seconds, Settings
from mta.envelope import BOUNCE, BodyRef, Claim, Job, Kind, NewMessage, NewRecipient, Outcome, Refusal, Route, Settlement
from mta.interfaces import IDeliveryAgent, IEventLog, IQueue, IRouter
from mta.queue.memory import MemoryQueue
from mta.queue.service import QueueService
from mta.queue.warning import Report
from mta.status import Reply, Scope

START = 1_800_000_000
DAY = 86_400
OK = Reply(250, "2.0.0", "taken")
LATER = Reply(450, "4.2.1", "mailbox busy")
NO = Reply(550, "5.1.1", "no such user")
DOWN = Reply(451, "4.4.1", "connection refused")
UNROUTABLE = Reply(550, "5.1.2", "no such domain")

Answer = Callable[[Claim], Outcome]


def delivered(claim: Claim) -> Outcome:
    return Outcome(claim, Kind.DELIVERED, OK)


def deferred(claim: Claim) -> Outcome:
    return Outcome(claim, Kind.DEFERRED, LATER)


def failed(claim: Claim) -> Outcome:
    return Outcome(claim, Kind.FAILED, NO)


def down(claim: Claim) -> Outcome:
    return Outcome(claim, Kind.DEFERRED, DOWN, Scope.SITE)


@implementer(IRouter)
class FakeRouter:
    """Every domain by smtp, but for those under .invalid; `agent` for another way."""

    digest = "1"
    agent = "smtp"

    def route(self, address: str) -> Route | Refusal:
        domain = address.rpartition("@")[2]
        return Refusal(UNROUTABLE) if domain.endswith(".invalid") else Route("default", self.agent, domain)


@implementer(IDeliveryAgent)
class FakeAgent:
    """Answers at once, or when it is told to."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.wait = False
        self.jobs: list[tuple[Job, Deferred[Settlement]]] = []
        self.seen: list[tuple[str, ...]] = []  # the addresses of each job

    def deliver(self, job: Job) -> Deferred[Settlement]:
        self.seen.append(tuple(claim.address for claim in job.claims))
        if not self.wait:
            return succeed(Settlement(tuple(map(self.answer, job.claims))))
        waiting: Deferred[Settlement] = Deferred()
        self.jobs.append((job, waiting))
        return waiting

    def finish(self, number: int = 0, answer: Answer | None = None) -> None:
        """Answer one of the waiting jobs."""
        job, waiting = self.jobs.pop(number)
        waiting.callback(Settlement(tuple(map(answer or self.answer, job.claims))))


@implementer(IQueue)
class FaultyQueue:
    """The engine with faults: `faults[method]` is a list of exceptions, one for each call; `held` keeps answers back.

    `stalled` keeps accepts back before they are begun.
    """

    def __init__(self, engine: MemoryQueue) -> None:
        self.engine = engine
        self.faults: dict[str, list[Exception]] = defaultdict(list)
        self.calls: dict[str, int] = defaultdict(int)
        self.held: list[tuple[Deferred[Any], Any]] | None = None
        self.free: int | None = None  # bytes of the disk
        self.stalled: list[Callable[[], None]] | None = None  # what is not even begun

    def room(self) -> int | None:
        return self.free

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.engine, name)
        if not callable(method):
            return method

        def call(*args: Any, **more: Any) -> Any:
            self.calls[name] += 1
            if self.faults[name]:
                return fail(self.faults[name].pop(0))
            if self.stalled is not None and name == "enqueue":
                begun: Deferred[Any] = Deferred()
                self.stalled.append(lambda: method(*args, **more).chainDeferred(begun))
                return begun
            answer = method(*args, **more)
            if self.held is None or name not in ("enqueue", "settle", "claim"):
                return answer
            waiting: Deferred[Any] = Deferred()
            self.held.append((waiting, answer))
            return waiting

        return call

    def begin(self) -> None:
        """Do what was not even begun."""
        stalled, self.stalled = self.stalled or [], None
        for call in stalled:
            call()

    def let_go(self) -> None:
        """Give the answers that were kept back."""
        held, self.held = self.held or [], None
        for waiting, answer in held:
            answer.chainDeferred(waiting)


@implementer(IEventLog)
class FakeLog:
    """Keeps (event, queue id, fields)."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, Mapping[str, object]]] = []

    def event(self, name: str, queue_id: str, fields: Mapping[str, object]) -> None:
        self.lines.append((name, queue_id, fields))

    def of(self, *names: str) -> list[tuple[str, object]]:
        return [(name, fields.get("to")) for name, _, fields in self.lines if name in names]


class Station:
    """See above.  `again()` is a restart after a kill -9: a new service on what the engine holds."""

    warn: Report | None = None

    def __init__(self, accept_deadline: float = 60, active_limit: int = 20_000, **concurrency: int) -> None:
        self.clock = Clock()
        self.clock.advance(START)
        self.engine = MemoryQueue(self.now)
        self.router = FakeRouter()
        self.smtp = FakeAgent(delivered)
        self.bounce = FakeAgent(delivered)
        self.agents: dict[str, IDeliveryAgent] = {"smtp": self.smtp, "bounce": self.bounce}
        self.log = FakeLog()
        self.settings = Settings(
            "mx.example.org",
            Path("/nowhere"),
            queue=Queue(active_limit=active_limit, accept_deadline=Seconds(accept_deadline)),
            concurrency=Concurrency(**concurrency),
        )
        self.random = Random(4)
        self.make()

    def make(self) -> None:
        self.queue = FaultyQueue(self.engine)
        seams = {"reactor": self.clock, "log": self.log, "random": self.random, "warn": self.warn}
        self.service = QueueService(self.queue, self.router, self.agents, self.settings, **seams)

    def now(self) -> int:
        return int(self.clock.seconds() * 1000)

    def start(self) -> Station:
        self.service.startService()
        return self

    def again(self) -> None:
        """Kill -9: the old service and its timers are gone, the engine forgets claims when it is started."""
        for call in self.clock.getDelayedCalls():
            call.cancel()
        self.smtp.jobs.clear()
        self.bounce.jobs.clear()
        self.make()
        self.start()

    def advance(self, seconds: float, step: float = 0) -> None:
        """Let time pass, in steps so that what is set up on the way comes at its time."""
        end = self.clock.seconds() + seconds
        while (left := end - self.clock.seconds()) > 1e-6:
            waits = [call.getTime() - self.clock.seconds() for call in self.clock.getDelayedCalls()]
            self.clock.advance(min([left, *(max(wait, 0.0005) for wait in waits)]))

    def message(self, *addresses: str, sender: str = "ann@example.com", lifetime: float = 5 * DAY) -> NewMessage:
        sink = self.engine.create_body(len(addresses))
        recipients = tuple(map(NewRecipient, addresses))
        now = self.now()
        return NewMessage(
            sink.id, sender, recipients, BodyRef(5, b"hello"), b"", now, now + int(lifetime * 1000), lane_key=sender
        )

    def accept(self, *addresses: str, **more: Any) -> Deferred[int]:
        return self.service.accept(self.message(*addresses, **more))

    @property
    def left(self) -> list[tuple[str, bool]]:
        """Recipients in the queue: address, is a bounce owed."""
        return [(row.address, row.dest == BOUNCE) for row in self.engine._rows.values()]
