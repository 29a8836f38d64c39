"""Power loss at any moment: what was answered is there, whole; what was settled does not come back (queue law R2, R4, R5)."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from random import Random

import apsw
from twisted.internet.defer import gatherResults

from mta.envelope import BOUNCE, Claim, Kind, Outcome
from mta.queue.sqlite import writer
from mta.queue.sqlite.operation import Enqueue, Settle
from mta.queue.sqlite.reads import load
from mta.queue.sqlite.schema import open_writer, recover
from mta.status import MailError
from tests.queue.harness import BUSY, OK, UNKNOWN
from tests.queue.sqlite.case import HOMELESS, UNCOUNTED, SqliteCase
from tests.queue.sqlite.powerloss import RecordingVFS, crash_states

STATES = 350


class PowerLossCase(SqliteCase):
    """A recorded run, cut at many moments."""

    async def setUp(self) -> None:
        self.random = Random(7)
        self.vfs = RecordingVFS(f"recording-{id(self)}")
        self.addCleanup(self.vfs.unregister)
        self.settings = {"vfs": self.vfs.name, **self.settings}
        self.bodies: dict[int, bytes] = {}
        self.recipients: dict[int, int] = {}
        await super().setUp()
        deliver = self.writer.deliver

        def recording(results):
            for operation, result, error in results:
                if error is None and isinstance(operation, Enqueue):
                    self.vfs.log.append(("accepted", "", [message.id for message in operation.messages]))
                if error is None and isinstance(operation, Settle):
                    ids = [outcome.claim.id for outcome in operation.outcomes]
                    kinds = [outcome.kind for outcome in operation.outcomes]
                    self.vfs.log.append(("settled", "", ids, kinds))
                    self.vfs.log.append(("accepted", "", [message.id for message in operation.spawn]))
            deliver(results)

        self.writer.deliver = recording

    async def work(self) -> None:
        """Bursts of accepting and settling, with checkpoints between."""
        for round in range(14):
            if round % 4 == 3:
                self.writer._checkpoint_at = 1
            burst = [await self.message() for _ in range(self.random.choice((1, 1, 5, 12)))]
            found = await gatherResults(
                [self.queue.enqueue([message], lambda _: self.random.random() < 0.7) for message in burst]
            )
            claims = [claim for some in found for claim in some]
            await gatherResults([await self.settling(claim) for claim in claims if self.random.random() < 0.8])

    async def message(self):
        size = self.random.choice((0, 10, 3000, 70_000))
        data = self.random.randbytes(size)
        message = await self.new(*[f"u{n}@example.org" for n in range(self.random.choice((1, 1, 3)))], data=data)
        self.bodies[message.id] = data
        self.recipients[message.id] = len(message.recipients)
        return message

    async def settling(self, claim: Claim, kind: Kind | None = None):
        spawn = [await self.message()] if kind is None and self.random.random() < 0.2 else []
        kind = kind or self.random.choice((Kind.DELIVERED, Kind.DELIVERED, Kind.DEFERRED, Kind.FAILED))
        reply = {Kind.DELIVERED: OK, Kind.DEFERRED: BUSY, Kind.FAILED: UNKNOWN}[kind]
        self.vfs.log.append(("asked", "", claim.id))
        return self.queue.settle([Outcome(claim, kind, reply, due=self.now + 1000)], spawn)

    def losses(self, states: int, end: bool = False) -> Counter[str]:
        """What is wrong in the states that a cut may leave; end: with nothing of what is unsynced now."""
        wrong: Counter[str] = Counter()
        for moment, files in crash_states(self.vfs.log, states, self.random, end):
            directory = Path(self.mktemp())
            directory.mkdir()
            for name, content in files.items():
                if not name.endswith("-shm"):
                    (directory / name).write_bytes(content)
            for offence in self.offences(directory / "0.db", self.vfs.log[:moment]):
                wrong[offence] += 1
            shutil.rmtree(directory)
        return wrong

    def offences(self, path: Path, log) -> set[str]:
        """Compare what the next start finds with what had been answered."""
        accepted = {id for kind, _, *rest in log if kind == "accepted" for id in rest[0]}
        asked = {rest[0] for kind, _, *rest in log if kind == "asked"}
        settled = {id: kind for entry in log if entry[0] == "settled" for id, kind in zip(*entry[2:], strict=True)}
        if not path.exists() or not path.stat().st_size:
            return {"answered message missing"} if accepted else set()
        db = open_writer(path)
        try:
            db.execute("PRAGMA synchronous=OFF")  # only this copy's speed
            db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            recover(db)
            found = set()
            if db.execute("PRAGMA integrity_check").get != "ok":
                found.add("not whole")
            if db.execute(UNCOUNTED).get is not None or db.execute(HOMELESS).get is not None:
                found.add("half a message")
            rows = dict(db.execute("SELECT id,dest FROM delivery"))
            found |= self.missing(accepted, asked, settled, rows)
            for (message,) in list(db.execute("SELECT id FROM message")):
                try:
                    if load(db, message).body != self.bodies[message]:
                        found.add("wrong body")
                except MailError:
                    found.add("half a body")
            return found
        finally:
            db.close()

    def missing(self, accepted, asked, settled, rows) -> set[str]:
        found = set()
        for message in accepted:
            for id in range(message + 1, message + 1 + self.recipients[message]):
                if id not in asked and id not in rows:
                    found.add("answered message missing")
        for id, kind in settled.items():
            if kind is Kind.DELIVERED and id in rows:
                found.add("delivered again")
            elif kind is not Kind.DELIVERED and id not in rows:
                found.add("deferred or failed recipient missing")
            elif kind is Kind.FAILED and rows[id] != BOUNCE:
                found.add("failure forgotten")
        return found


class StrictTests(PowerLossCase):
    """The default."""

    async def test_q45_nothing_answered_is_lost(self) -> None:
        """synchronous=FULL: every state is whole and keeps all that was answered."""
        await self.work()
        self.assertTrue(len(self.bodies) > 40 and any(entry[:2] == ("sync", "0.db") for entry in self.vfs.log))
        self.assertEqual(Counter(), self.losses(STATES))

    async def test_q45_normal_would_lose(self) -> None:
        """The test tests itself: with synchronous=NORMAL the same run loses answered messages."""
        await self.sql("PRAGMA synchronous=NORMAL")
        await self.work()
        losses = self.losses(100)
        self.assertTrue(losses["answered message missing"] > 10, losses)
        self.assertFalse(losses["not whole"], losses)


class LazyTests(PowerLossCase):
    """Lazy completions: a cut may deliver again, but never loses."""

    settings = {"completions": "lazy"}

    async def test_q45_lazy_repeats_and_never_loses(self) -> None:
        """Deliveries may be repeated and failures forgotten, nothing else; and that does happen."""
        await self.work()
        losses = self.losses(150)
        self.assertEqual(set(), set(losses) - {"delivered again", "failure forgotten"}, losses)

    async def test_q45_lazy_is_lazy(self) -> None:
        """A cut right after a completion was answered undoes it; the accept before it stands."""
        self.patch(writer, "FLUSH", 60)
        message = await self.message()
        claims = await self.queue.enqueue([message], lambda _: True)
        self.assertEqual(Counter(), self.losses(0, end=True))
        for claim in claims:
            await (await self.settling(claim, Kind.DELIVERED))
        self.assertEqual(Counter({"delivered again": 1}), self.losses(0, end=True))
