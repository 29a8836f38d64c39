"""A queue goes to another data directory: nothing is lost and nothing is twice, wherever it is cut short."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import apsw
import attrs

from mta.envelope import Kind
from mta.queue.carry import passage
from mta.queue.sqlite import still
from mta.queue.sqlite.check import check, spool_path
from mta.queue.sqlite.export import export, import_
from mta.queue.sqlite.move import move
from mta.queue.sqlite.still import Owned
from mta.queue.state import Alteration, CopyReport, Row, Selector, State
from mta.status import MailError
from tests.queue.harness import DEST
from tests.queue.sqlite.case import SqliteCase

LARGE = 200_000
Found = tuple[list[Row], dict[int, bytes]]

# Dies by kill -9 at the n-th thing that it asks of the disk; bites of three messages.
CHILD = """
import os, signal, sys
from pathlib import Path
from mta.queue.carry import passage
from mta.queue.sqlite import schema
from mta.queue.sqlite.move import move
left = int(sys.argv[3])
def tick(*_):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    return True
def before(function):
    return lambda *given, **more: tick() and function(*given, **more)
os.fsync, os.link, os.unlink = before(os.fsync), before(os.link), before(os.unlink)
Path.unlink = before(Path.unlink)
opened = schema.open_writer
def traced(path, vfs=""):
    db = opened(path, vfs)
    db.set_exec_trace(tick)
    return db
schema.open_writer = traced
passage.MESSAGES = 3
move(Path(sys.argv[1]), Path(sys.argv[2]), lambda *_: None)
print(left)
"""


class MoveTests(SqliteCase):
    """From the engine's directory, once it has stopped, to another."""

    async def setUp(self) -> None:
        await super().setUp()
        self.target = Path(self.mktemp())

    async def filled(self, count: int = 8) -> Found:
        """Waiting, tried, held, taken when the engine was killed; large and small."""
        for number in range(count):
            await self.accept(f"a{number}@example.org", "b@example.org", data=os.urandom(LARGE if number % 4 == 0 else 900))
        claims = await self.claim(6)
        await self.defer(*claims[:2])
        await self.settle(claims[2:3], Kind.DELIVERED)
        await self.settle(claims[3:], Kind.GIVEN_BACK)
        await self.queue.alter(Selector(to="a5@*"), Alteration.HOLD, self.now)
        await self.queue.mark(DEST, suspended=True, why="moving")
        await self.taken("taken@example.org")
        rows = await self.rows()
        bodies = {row.message: await self.read(row.message) for row in rows}
        await self.crash()  # a copy of the files, with rows that are taken
        await self.queue.stop()
        return rows, bodies

    def moved(self) -> CopyReport:
        assert self.directory is not None
        report = move(self.directory, self.target, lambda *_: None)
        self.check_sound_both()
        return report

    def check_sound_both(self) -> None:
        for directory in (self.directory, self.target):
            assert directory is not None
            if (directory / "queue" / "0.db").exists():
                found = check(directory / "queue" / "0.db", directory / "spool")
                self.assertEqual([], [finding for finding in found if finding.grave])

    async def inside(self, directory: Path | None) -> Found:
        """What a service finds there."""
        mine, self.directory = self.directory, directory
        self.queue = self.make_engine()
        await self.queue.start()
        rows = await self.rows()
        bodies = {row.message: await self.read(row.message) for row in rows}
        await self.queue.stop()
        self.directory = mine
        return rows, bodies

    def files(self, directory: Path | None) -> list[Path]:
        assert directory is not None
        return [path for path in (directory / "spool").rglob("*") if path.is_file()]

    async def test_whole(self) -> None:
        """Ids, attempts, due, states, replies, bodies; the source is empty; suspended stays suspended; taken waits."""
        rows, bodies = await self.filled()
        assert self.directory is not None
        db = apsw.Connection(str(self.directory / "queue" / "0.db"))
        db.execute("UPDATE delivery SET state=1 WHERE address='taken@example.org'")  # as a killed service leaves it
        db.close()
        self.assertEqual(CopyReport(9, 16, 2), self.moved())
        self.assertEqual(([], {}), await self.inside(self.directory))
        self.assertEqual([], self.files(self.directory))
        found, there = await self.inside(self.target)
        self.assertEqual((bodies, [_waiting(row) for row in rows]), (there, found))
        self.directory = self.target
        self.queue = self.make_engine()
        await self.queue.start()
        self.assertEqual([(DEST, True)], [(state.name, state.suspended) for state in await self.queue.destinations()])

    async def test_service_runs(self) -> None:
        """At either side: neither is touched, and it says which."""
        assert self.directory is not None
        await self.accept()
        said = f"{self.directory}/queue/0.db: is in use"
        self.assertIn(said, str(self.assertRaises(MailError, self.moved)))
        self.assertFalse(self.target.exists())
        with still.owning(self.target):
            pass
        self.assertIn(said, str(self.assertRaises(MailError, move, self.target, self.directory, print)))
        self.assertEqual(1, len(await self.rows()))

    async def test_nowhere(self) -> None:
        """From nothing, or to itself by another name."""
        await self.filled(1)
        assert self.directory is not None
        self.target.symlink_to(self.directory.absolute())
        self.assertIn("where it is to go", str(self.assertRaises(MailError, move, self.directory, self.target, print)))
        self.assertRaises(MailError, move, Path(self.mktemp()), self.target, print)

    async def test_cut_before_the_removal(self) -> None:
        """A bite that is at both is at the target once, and goes from the source when it is repeated."""
        rows, bodies = await self.filled()
        with patch.object(passage, "MESSAGES", 3), patch.object(Owned, "remove", side_effect=KeyboardInterrupt):
            self.assertRaises(KeyboardInterrupt, self.moved)
        self.check_sound_both()
        self.assertEqual((9, 3), (len((await self.inside(self.directory))[1]), len((await self.inside(self.target))[1])))
        report = self.moved()
        self.assertEqual((6, 3, ()), (report.messages, report.skipped, report.refused))
        self.assertEqual(([], {}), await self.inside(self.directory))
        found, there = await self.inside(self.target)
        self.assertEqual(([_waiting(row) for row in rows], bodies), (found, there))

    async def test_what_cannot_go(self) -> None:
        """A lost body, an id that is another's there: they stay, with the reason; all else goes."""
        rows, _ = await self.filled()
        assert self.directory is not None
        ids = sorted({row.message for row in rows})
        spool_path(self.directory / "spool", ids[0]).unlink()
        mine, self.directory = self.directory, self.target
        self.queue = self.make_engine()
        await self.queue.start()
        await self.queue.enqueue([await self.new("other@example.org")])
        await self.queue.stop()
        db = apsw.Connection(str(self.target / "queue" / "0.db"))
        db.execute(f"UPDATE message SET id={ids[3] + 1},body={ids[3] + 1}; UPDATE body SET id={ids[3] + 1}")
        db.execute(f"UPDATE delivery SET id={ids[3] + 2},message={ids[3] + 1}")
        db.close()
        self.directory = mine
        report = move(mine, self.target, lambda *_: None)
        self.assertEqual(((7, 0), [ids[0], ids[3]]), ((report.messages, report.skipped), [id for id, _ in report.refused]))
        db = apsw.Connection(str(mine / "queue" / "0.db"))
        self.addCleanup(db.close)
        self.assertEqual([(ids[0],), (ids[3],)], list(db.execute("SELECT id FROM message ORDER BY id")))

    async def test_there_in_part(self) -> None:
        """Recipients that are not there, although their message is, stay: nobody can say whether they were delivered."""
        rows, _ = await self.filled()
        assert self.directory is not None
        file, chosen = Path(self.mktemp()), [row for row in rows if row.address.startswith("b@")]
        export(self.directory, Selector(to="b@*"), file, self.now, lambda *_: None)
        import_(file, self.target, True, lambda *_: None)
        report = self.moved()
        reasons = {why for _, why in report.refused}
        self.assertEqual({"it is there without 1 of its recipients"}, reasons)
        left, there = (await self.inside(self.directory))[0], (await self.inside(self.target))[0]
        self.assertEqual({row.id for row in rows}, {row.id for row in left} | {row.id for row in there})
        self.assertEqual(set(), {row.id for row in left} & {row.id for row in there})
        self.assertEqual(
            {row.id for row in chosen}, {row.id for row in there if row.state is State.HELD} & {row.id for row in chosen}
        )

    async def test_full(self) -> None:
        """No room at the target: 452, nothing has left the source but what is there; with room the rest goes."""
        rows, bodies = await self.filled()
        adopt, calls = still.alteration.adopt, []

        def full(*given: object) -> None:
            calls.append(1)
            if len(calls) == 2:
                raise apsw.FullError("full")
            adopt(*given)  # type: ignore[arg-type]

        with patch.object(passage, "MESSAGES", 3), patch.object(still.alteration, "adopt", full):
            error = self.assertRaises(MailError, self.moved)
        self.assertEqual(
            (452, "full; 3 message(s) were moved: repeat it before a service is started"), (error.reply.code, error.reason)
        )
        self.check_sound_both()
        first, second = await self.inside(self.directory), await self.inside(self.target)
        self.assertEqual((6, 3, bodies), (len(first[1]), len(second[1]), first[1] | second[1]))
        self.assertEqual(6, self.moved().messages)
        self.assertEqual(([_waiting(row) for row in rows], bodies), await self.inside(self.target))

    async def test_killed(self) -> None:
        """kill -9 at any call of the disk, again and again: at each death all mail is at one side or both, and at the end at one."""
        rows, bodies = await self.filled(14)
        wanted = {row.id for row in rows}
        at_both = False
        for moment in (1, 25, 38, 43, 46, 48, 50, 52, 54, 10_000):
            child = [sys.executable, "-c", CHILD, str(self.directory), str(self.target), str(moment)]
            done = subprocess.run(child, capture_output=True, text=True, timeout=60, check=False)
            self.assertIn(done.returncode, (0, -signal.SIGKILL), done.stderr)
            self.check_sound_both()
            there = self.ids_at(self.directory), self.ids_at(self.target)
            self.assertEqual(wanted, there[0] | there[1])
            at_both |= bool(there[0] & there[1])
        self.assertEqual((0, set(), True), (done.returncode, self.ids_at(self.directory), at_both))
        self.assertEqual(([_waiting(row) for row in rows], bodies), await self.inside(self.target))
        self.assertEqual(len(bodies) // 4 + 1, len(self.files(self.target)))

    def ids_at(self, directory: Path | None) -> set[int]:
        assert directory is not None
        path = directory / "queue" / "0.db"
        if not path.exists():
            return set()
        db = apsw.Connection(str(path))
        try:
            return {id for (id,) in db.execute("SELECT id FROM delivery")}
        except apsw.SQLError:  # it had no time to make its tables
            return set()
        finally:
            db.close()


def _waiting(row: Row) -> Row:
    """As it is when nobody has it."""
    return attrs.evolve(row, state=State.WAITING) if row.state is State.TAKEN else row
