"""A full disk and a locked file at random moments, in the middle of whatever is asked for: nothing is lost, nothing stuck.

Every round asks for many things at once while the disk fails at some write, or a shell holds a lock.  When all is answered
the file holds exactly what was accepted and is not delivered, and the writer knows as taken exactly what we have.
"""

from __future__ import annotations

from random import Random
from typing import Any

import apsw
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from mta.envelope import Claim, Kind, NewMessage, Outcome, Want
from mta.queue.state import Alteration, Selector
from mta.status import MailError
from tests.queue.harness import BUSY, DEST, OK
from tests.queue.sqlite.case import SqliteCase
from tests.queue.sqlite.test_failure import FailingFile, FailingVFS

ROUNDS = 60
FULL = apsw.FullError("no room")


class ChancyVFS(FailingVFS):
    """Some writes to the log fail: those numbers, counted from now."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.failing: set[int] = set()

    def xOpen(self, name, flags):
        return ChancyFile(self, name, flags)


class ChancyFile(FailingFile):
    """One open file of it."""

    def _fail(self, call: str) -> None:
        if call == "write" and self._name.endswith("-wal") and self._vfs.failing:
            self._vfs.failing = {number - 1 for number in self._vfs.failing}
            if 0 in self._vfs.failing:
                raise FULL


class FaultTests(SqliteCase):
    """See the module."""

    completions = "strict"

    async def setUp(self) -> None:
        self.vfs = ChancyVFS(f"chancy-{id(self)}")
        self.addCleanup(self.vfs.unregister)
        self.fatal: list[BaseException] = []
        self.settings = {"vfs": self.vfs.name, "on_fatal": self.fatal.append, "completions": self.completions}
        await super().setUp()
        assert self.directory is not None
        self.shell = apsw.Connection(str(self.directory / "queue" / "0.db"))
        self.addCleanup(self.shell.close)
        self.writer.db.set_busy_timeout(1)
        self.due: set[int] = set()  # accepted and not delivered
        self.mine: dict[int, Claim] = {}
        self.doubtful: set[int] = set()  # of accepts that were cancelled

    async def test_faults(self) -> None:
        """Accepts, claims, settlements, operators, cancelled calls."""
        for seed in range(ROUNDS):
            await self.round(Random(1000 + seed))
            self.assertEqual([], self.fatal)
            await self.compare(seed)
        self.assertGreater(len(self.due), 20)
        await self.check_sound()
        held = set(self.mine)
        await self.crash()
        self.writer.db.set_busy_timeout(1)
        self.mine.clear()
        await self.compare(ROUNDS)
        self.now += 10_000
        while (await self.queue.alter(Selector(), Alteration.RELEASE, self.now))[1]:
            pass
        again = {claim.id for claim in await self.claim(100_000)}
        self.assertEqual((set(), self.due), (held - again, again))

    async def round(self, random: Random) -> None:
        self.now += 1000
        messages = [await self.message(random) for _ in range(random.randint(1, 12))]
        reports = [await self.message(random) for _ in range(2)]
        locks = random.random() < 0.2
        if locks:
            self.shell.execute("BEGIN IMMEDIATE")
        elif random.random() < 0.7:
            self.vfs.failing = set(random.sample(range(1, 60), random.randint(1, 25)))
        calls: list[Deferred[Any]] = []
        claims = list(self.mine.values())
        random.shuffle(claims)
        for _ in range(random.randint(1, 6)):
            bite = [claims.pop() for _ in range(min(len(claims), random.randint(1, 5)))]
            kind = random.choice((Kind.DELIVERED, Kind.DELIVERED, Kind.DEFERRED, Kind.GIVEN_BACK))
            calls.append(self.settling(bite, kind, [reports.pop()] if bite and reports and random.random() < 0.2 else []))
        calls += [self.accepting(message, random) for message in messages]
        calls.append(self.claiming(random))
        calls.append(self.altering(random))
        random.shuffle(calls)
        await gatherResults(calls)
        while self.queue._writing or self.queue._gathered:  # of cancelled ones the writer knows longer than we
            await deferLater(self.queue._reactor, 0.001)
        self.vfs.failing = set()
        if locks:
            self.shell.execute("ROLLBACK")

    async def message(self, random: Random) -> NewMessage:
        """Small, or with a body that is a file."""
        data = b"x" * (200_000 if random.random() < 0.1 else 100)
        return await self.new(*[f"u{n}@example.org" for n in range(random.randint(1, 4))], data=data)

    def accepting(self, message: NewMessage, random: Random) -> Deferred[Any]:
        admits = random.random() < 0.5
        ids = set(recipients(message))
        call = self.queue.enqueue([message], lambda _: admits)
        if random.random() < 0.1:
            self.doubtful |= ids
            self.queue._reactor.callLater(random.choice((0, 0.002)), call.cancel)

        def stored(claims: list[Claim]) -> None:
            self.due |= ids
            self.doubtful -= ids
            self.mine.update((claim.id, claim) for claim in claims)

        return call.addCallbacks(stored, self.refused)

    def settling(self, claims: list[Claim], kind: Kind, spawn: list[NewMessage]) -> Deferred[Any]:
        def settled(results: list[bool]) -> None:
            self.assertEqual([True] * len(claims), results)
            for claim in claims:
                del self.mine[claim.id]
                if kind is Kind.DELIVERED:
                    self.due.discard(claim.id)
            for message in spawn:
                self.due.update(recipients(message))

        due = self.now + 1500 if kind is Kind.DEFERRED else None
        outcomes = [Outcome(claim, kind, OK if kind is Kind.DELIVERED else BUSY, due=due) for claim in claims]
        call = self.queue.settle(outcomes, spawn)
        return call.addCallbacks(settled, self.refused)

    def claiming(self, random: Random) -> Deferred[Any]:
        def claimed(claims: list[Claim]) -> None:
            self.assertEqual(set(), {claim.id for claim in claims} & set(self.mine), "given to two")
            self.mine.update((claim.id, claim) for claim in claims)

        call = self.queue.claim([Want(DEST, 0, random.randint(1, 30))], self.now)
        if random.random() < 0.2:
            self.queue._reactor.callLater(0.001, call.cancel)
        return call.addCallbacks(claimed, self.refused)

    def altering(self, random: Random) -> Deferred[Any]:
        action = random.choice((Alteration.HOLD, Alteration.RELEASE, Alteration.RETRY))
        return self.queue.alter(Selector(dest=DEST), action, self.now, random.randint(1, 20)).addErrback(self.refused)

    def refused(self, failure: Failure) -> None:
        if failure.check(MailError) is None:
            self.assertEqual("CancelledError", failure.type.__name__)

    async def compare(self, seed: int) -> None:
        """The file and the writer against what we were told.  Of cancelled accepts either is right."""
        await self.queue.mark("any", 1)  # what could not be given back is, with this
        await self.sql("SELECT 1")
        rows = {row.id for row in await self.rows()}
        self.assertEqual((set(), set()), (self.due - rows, rows - self.due - self.doubtful), seed)
        self.due |= rows & self.doubtful
        self.doubtful.clear()
        self.assertEqual(set(self.mine), set(self.writer.claims.taken), seed)


class LazyFaultTests(FaultTests):
    """The same where completions may be synced later."""

    completions = "lazy"


def recipients(message: NewMessage) -> range:
    """Their ids."""
    return range(message.id + 1, message.id + 1 + len(message.recipients))
