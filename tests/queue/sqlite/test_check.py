"""The check of the queue on disk: clean while all is well, and every kind of damage is found."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import apsw

from mta.envelope import Kind
from mta.queue.sqlite.check import MOST, Finding, check
from mta.status import MailError
from tests.queue.sqlite.case import SqliteCase

SIZES = (0, 1, 65_536, 65_537, 131_072, 131_073)


class CheckTests(SqliteCase):
    """On the files of an engine."""

    def findings(self) -> list[Finding]:
        """Of the files as they are now."""
        assert self.directory is not None
        return check(self.directory / "queue" / "0.db", self.directory / "spool")

    async def filled(self) -> list[int]:
        """Messages of all sizes, waiting, taken, held."""
        ids = [(await self.accept("a@example.org", "b@example.org", data=b"x" * size))[0] for size in SIZES]
        return [*ids, (await self.taken())[0].message]

    async def damaged(self, *texts: str) -> list[tuple[str, int, bool]]:
        """What is found after statements run on the file of an engine that was stopped."""
        await self.queue.stop()
        assert self.directory is not None
        db = apsw.Connection(str(self.directory / "queue" / "0.db"))
        for text in texts:
            db.execute(text)
        db.close()
        return [(finding.what, finding.id, finding.grave) for finding in self.findings() if finding.grave]

    async def test_clean(self) -> None:
        """While the service runs, after a crash (what was taken is told, harmless), and after the next start."""
        ids = await self.filled()
        self.assertEqual([], self.findings())
        await self.crash()
        self.assertEqual([], self.findings())
        claims = await self.claim()
        await self.settle(claims, Kind.DELIVERED)
        await self.removals()
        self.assertEqual([], self.findings())
        self.assertEqual(2 * len(ids) - 1, len(claims))

    async def test_taken_by_nobody(self) -> None:
        """Recipients that a killed process had taken: told, harmless."""
        await self.filled()
        self.assertEqual([], await self.damaged("UPDATE delivery SET state=1"))
        (finding,) = self.findings()
        self.assertEqual(("taken", False), (finding.what, finding.grave))
        self.assertIn("13 recipients", str(finding))

    async def test_wrong_count(self) -> None:
        """pending is not the number of recipients that are left, or nothing is left."""
        ids = await self.filled()
        found = await self.damaged(
            f"UPDATE message SET pending=1 WHERE id={ids[0]}", f"DELETE FROM delivery WHERE message={ids[1]}"
        )
        self.assertEqual([("pending", ids[0], True), ("pending", ids[1], True)], found)

    async def test_recipient_of_nobody(self) -> None:
        """Its message is gone, or it is outside the range of its message's ids."""
        ids = await self.filled()
        found = await self.damaged(
            f"DELETE FROM message WHERE id={ids[0]}",
            f"DELETE FROM body WHERE id={ids[0]}",
            f"UPDATE delivery SET id=id+1000 WHERE id={ids[1] + 2}",
        )
        self.assertEqual([("pending", ids[1], True)], found[:1])
        self.assertEqual([("recipient", id, True) for id in (ids[0] + 1, ids[0] + 2, ids[1] + 1002)], found[1:])

    async def test_bodies(self) -> None:
        """A chunk that is missing, short, or of no message."""
        ids = await self.filled()
        found = await self.damaged(
            f"DELETE FROM body WHERE id={ids[1]}",
            f"UPDATE body SET data=x'00' WHERE id={ids[3] + 1}",
            f"DELETE FROM body WHERE id={ids[3]}",
            f"INSERT INTO body VALUES ({ids[2] + 1}, x'00')",
            "INSERT INTO body VALUES (77, x'00')",
        )
        self.assertEqual({("body", id, True) for id in (ids[1], ids[3], ids[2] + 1, 77)}, set(found))

    async def test_unknown_state(self) -> None:
        """A state that nobody knows is never delivered."""
        ids = await self.filled()
        self.assertEqual(
            [("recipient", ids[0] + 1, True)], await self.damaged(f"UPDATE delivery SET state=7 WHERE id={ids[0] + 1}")
        )

    async def test_r6_files(self) -> None:
        """A large body that is missing or cut is grave; a file without a row is told when it is old, and harmless."""
        for harm in (lambda path: path.unlink(), lambda path: os.truncate(path, 5)):
            id, _ = await self.accept(data=b"x" * 200_000)
            self.harm(id, harm)
            self.assertEqual([("spool", id, True)], [(finding.what, finding.id, finding.grave) for finding in self.findings()])
            await self.settle(await self.claim(), Kind.DELIVERED)
            await self.removals()
        sink, _ = await self.body(1, b"y" * 200_000)
        self.assertEqual([], self.findings())
        self.harm(sink, lambda path: os.utime(path, (0, 0)))
        self.assertEqual([("orphan", sink, False)], [(finding.what, finding.id, finding.grave) for finding in self.findings()])

    def harm(self, id: int, harm: Callable[[Path], object]) -> None:
        harm(self.queue._spool.path(id))

    async def test_indexes(self) -> None:
        """An index that does not agree with its table: mail that is never claimed."""
        await self.filled()
        found = await self.damaged(
            "DROP INDEX delivery_ready",
            "CREATE INDEX delivery_ready ON delivery(dest, lane, due, id) WHERE state = 9",
            "PRAGMA writable_schema=ON",
            "UPDATE sqlite_schema SET sql=replace(sql,'= 9','= 0') WHERE name='delivery_ready'",
        )
        self.assertTrue(found and all(what == "file" and grave for what, _, grave in found), found)

    async def test_much_damage(self) -> None:
        """Findings of one kind are bounded."""
        for _ in range(3):
            await self.accept(*[f"u{n}@example.org" for n in range(MOST)])
        found = await self.damaged("DELETE FROM message", "DELETE FROM body")
        self.assertEqual([("recipient", True)] * MOST, [(what, grave) for what, _, grave in found])

    async def test_no_queue_file(self) -> None:
        """None there, or another program's: said plainly."""
        folder = Path(self.mktemp())
        folder.mkdir()
        self.assertRaises(MailError, check, folder / "0.db", folder)
        (folder / "1.db").write_bytes(b"no database" * 1000)
        (finding,) = check(folder / "1.db", folder)
        self.assertIn("not a database", finding.text)
        apsw.Connection(str(folder / "2.db")).execute("CREATE TABLE t(x)")
        (finding,) = check(folder / "2.db", folder)
        self.assertIn("not a queue file", str(finding))
