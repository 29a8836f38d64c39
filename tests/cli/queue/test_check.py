"""`mta queue check`: what it prints, and its status; what it looks at is tested in tests/queue/sqlite/test_check.py."""

from __future__ import annotations

from pathlib import Path

import apsw

from mta.cli.queue import check
from mta.queue.sqlite.check import Finding
from tests.cli.queue.world import BODY, QueueWorld


class CheckTests(QueueWorld):
    """On a queue with mail in it."""

    def spoil(self, statement: str) -> None:
        db = apsw.Connection(str(self.data / "queue" / "0.db"))
        db.execute(statement)
        db.close()

    async def test_sound(self) -> None:
        """ok and status 0, beside the service and without it."""
        await self.up()
        await self.waiting("a@other.test", body=BODY + (b"y" * 70 + b"\r\n") * 4000)
        for _ in range(2):
            result = await self.type("check")
            self.assertEqual((0, "ok\n"), (result.exit_code, result.stdout), result.stdout)
            await self.down()
        self.assertEqual(["0.db", "0.flights", "0.lock"], sorted(path.name for path in (self.data / "queue").iterdir()))

    async def test_a_service_starts_meanwhile(self) -> None:
        """What was read as a file that stands still is looked at again when it did not."""
        await self.up()
        await self.down()
        calls: list[int] = []

        def findings_of(path: Path, spool: Path) -> list[Finding]:
            path.with_name("0.db-wal").write_bytes(b"")
            calls.append(1)
            return [Finding("file", "torn")] if len(calls) == 1 else []

        self.patch(check, "findings_of", findings_of)
        result = await self.type("check")
        self.assertEqual((0, "ok\n", 2), (result.exit_code, result.stdout, len(calls)))

    async def test_grave(self) -> None:
        """Every finding on a line, status 1."""
        await self.up()
        id = await self.waiting("a@other.test")
        await self.down()
        self.spoil("UPDATE message SET pending=5")
        result = await self.type("check")
        self.assertEqual((1, f"pending: {id}: says 5 recipients are left, 1 are there\n"), (result.exit_code, result.stdout))

    async def test_harmless(self) -> None:
        """What the next start puts right is told, and is status 0."""
        await self.up()
        await self.waiting("a@other.test")
        await self.down()
        self.spoil("UPDATE delivery SET state=1")
        result = await self.type("check")
        first, last = result.stdout.splitlines()
        self.assertEqual((0, True, "ok"), (result.exit_code, first.endswith("(harmless)"), last))

    async def test_no_queue(self) -> None:
        """Nothing to check is status 1, and no file is made."""
        self.data = self.folder
        result = await self.type("check")
        self.assertEqual((1, True), (result.exit_code, "there is no queue" in result.stderr))
        self.assertEqual([], list(self.folder.iterdir()))
