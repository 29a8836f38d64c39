"""A queue in this process, ready to be measured: the durable engine, the service on it, and what its writer has cost.

`Rig` counts on the writer's own way: its commits, those of them that were synced, the bytes that they added to the log,
checkpoints.  Agents answer for the next mail server; what they do costs next to nothing, so the queue is what is measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.task import deferLater
from zope.interface import implementer

from bench.day.ours import ByDomain, NoLog
from mta.config.settings import Concurrency, Queue, Settings
from mta.envelope import BodyRef, Claim, Job, Kind, NewMessage, NewRecipient, Outcome, Settlement
from mta.interfaces import IDeliveryAgent
from mta.queue.service import QueueService
from mta.queue.sqlite.engine import SqliteQueue
from mta.queue.sqlite.writer import Writer
from mta.status import Reply

__all__ = ["Agent", "Counts", "Rig", "abreast"]

PAGE = 4096 + 24  # bytes of the log for a page
PREFIX = b"Received: from client.test ([192.0.2.1])\r\n\tby mx.test with ESMTP id 0123456789ABC\r\n"
OK = Reply(250, "2.0.0", "taken")
LATER = Reply(451, "4.2.1", "mailbox busy, try again later")
LIFETIME = 5 * 86_400_000  # ms


@attrs.define
class Counts:
    """What the writer has done."""

    commits: int = 0
    syncs: int = 0  # fdatasyncs of commits
    checkpoints: int = 0
    wal: int = 0  # bytes
    wal_most: int = 0  # bytes: how long the log ever was
    _pages: int = 0

    def watch(self, writer: Writer) -> None:
        """Count from now on."""
        commit, checkpoint = writer.commit, writer.checkpoint
        self._pages = writer.wal_pages

        def counted_commit() -> None:
            commit()
            self.commits += 1
            self.syncs += writer.db.pragma("synchronous") == 2
            pages = writer.wal_pages
            self.wal += (pages - self._pages if pages >= self._pages else pages) * PAGE
            self._pages, self.wal_most = pages, max(self.wal_most, pages * PAGE)

        def counted_checkpoint(at: int = 0) -> None:
            before = writer.wal_moved
            checkpoint(at)
            self.checkpoints += writer.wal_moved != before

        writer.commit = counted_commit  # type: ignore[method-assign]
        writer.checkpoint = counted_checkpoint  # type: ignore[method-assign]


@implementer(IDeliveryAgent)
class Agent:
    """Answers each job with a reply after so many seconds.  done: called with the job and when it began."""

    def __init__(
        self,
        reactor: Any,
        reply: Reply = OK,
        seconds: Callable[[Job], float] = lambda _: 0.0,
        done: Callable[[Job], None] = lambda _: None,
    ) -> None:
        self._reactor = reactor
        self._reply = reply
        self._kind = Kind.DELIVERED if reply.is_positive else Kind.DEFERRED
        self._seconds = seconds
        self._done = done

    def deliver(self, job: Job) -> Deferred[Settlement]:
        """See IDeliveryAgent."""
        seconds = self._seconds(job)
        if not seconds:
            return succeed(self._settled(job))
        return deferLater(self._reactor, seconds, self._settled, job)

    def _settled(self, job: Job) -> Settlement:
        self._done(job)
        return Settlement(tuple(Outcome(claim, self._kind, self._reply) for claim in job.claims))


class Rig:
    """The queue of a data directory.  `start` and `stop` it; `serve` puts the service on it, which starts it too."""

    def __init__(self, directory: Path, reactor: Any, *, completions: str = "strict", size: int = 4096) -> None:
        self.counts = Counts()
        self.directory = directory
        self.queue = SqliteQueue(directory, reactor, now=self.now, completions=completions)
        self.service: QueueService | None = None
        self._reactor = reactor
        self._body = b"Subject: measured\r\n\r\n".ljust(size, b"x")
        self._made = 0

    @staticmethod
    def now() -> int:
        """ms since 1970."""
        return int(time.time() * 1000)

    async def start(self) -> Rig:
        """The engine alone."""
        await self.queue.start()
        self.counts.watch(self.queue.writer)
        return self

    async def serve(self, agent: IDeliveryAgent, active_limit: int = 20_000, **concurrency: int) -> Rig:
        """The service, with that agent for all mail."""
        agents: Mapping[str, IDeliveryAgent] = {"smtp": agent, "bounce": agent}
        queue, limits = Queue(active_limit=active_limit), Concurrency(**concurrency)
        settings = Settings("mx.example.org", Path("/nowhere"), queue=queue, concurrency=limits)
        self.service = QueueService(
            self.queue,
            ByDomain(),
            agents,
            settings,
            reactor=self._reactor,
            log=NoLog(),
            random=Random(1),
            now=self.now,
            load=lambda: 0.0,
        )
        self.service.startService()
        assert self.service.ready is not None
        await self.service.ready
        self.counts.watch(self.queue.writer)
        return self

    async def stop(self) -> None:
        """The service where there is one, and the engine.  May be called twice."""
        service, self.service = self.service, None
        await (service.stopService() if service is not None else self.queue.stop())

    def message(self, domain: str = "", lane_key: str = "") -> NewMessage:
        """A new message for one recipient, as the receiver makes it."""
        self._made += 1
        sink = self.queue.create_body(1)
        sink.write(self._body)
        domain = domain or f"site{self._made % 1000}.test"
        now = self.now()
        to = NewRecipient(f"user@{domain}", dest=f"smtp:default/{domain}", lane=self._made % 64, due=now)
        body = BodyRef(len(self._body), self._body)
        key = lane_key or f"sender{self._made % 64}"
        return NewMessage(sink.id, "sender@example.com", (to,), body, PREFIX, now, now + LIFETIME, lane_key=key)

    async def enqueue(self, many: int, concurrency: int) -> tuple[list[float], list[Claim]]:
        """By the engine alone, as many at once: how long each waited (seconds), and the claims."""
        waits: list[float] = []
        claims: list[Claim] = []

        async def one() -> None:
            message = self.message()
            began = time.perf_counter()
            claims.extend(await self.queue.enqueue([message], lambda _: True))
            waits.append(time.perf_counter() - began)

        await abreast(one, many, concurrency)
        return waits, claims

    async def settle(self, claims: list[Claim], concurrency: int) -> None:
        """All delivered, in settlements of one, as many at once."""
        left = iter(claims)

        async def one() -> None:
            await self.queue.settle([Outcome(next(left), Kind.DELIVERED, OK)])

        await abreast(one, len(claims), concurrency)

    async def accept(self, many: int, concurrency: int) -> list[float]:
        """By the service: how long each waited for what is its 250 (seconds)."""
        assert self.service is not None
        service, waits = self.service, list[float]()

        async def one() -> None:
            message = self.message()
            began = time.perf_counter()
            await service.accept(message)
            waits.append(time.perf_counter() - began)

        await abreast(one, many, concurrency)
        return waits


async def abreast(work: Callable[[], Any], many: int, concurrency: int) -> None:
    """Do it so often, as many at once: each begins the next when it has done one."""
    left = many

    async def worker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await work()

    workers = [Deferred.fromCoroutine(worker()) for _ in range(min(concurrency, many))]
    await DeferredList(workers, fireOnOneErrback=True, consumeErrors=True)
