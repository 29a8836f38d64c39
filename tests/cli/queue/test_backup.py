"""`mta queue backup` and `restore`, beside a whole server and without one."""

from __future__ import annotations

from pathlib import Path

from tests.cli.queue.world import QueueWorld

LARGE = b"Subject: large\r\n\r\n" + b"x" * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * 2500


class BackupTests(QueueWorld):
    """See the module."""

    async def test_of_a_running_service(self) -> None:
        """Made by the service; put back when it is down: what is there is left out; into a new place: all of it, held."""
        await self.up()
        small, large = await self.waiting("a@other.test"), await self.waiting("b@other.test", "c@other.test", body=LARGE)
        dest = Path(self.mktemp()).absolute()
        made = await self.type("backup", str(dest))
        self.assertEqual((0, f"2 message(s) to 3 recipient(s), 1 large bodies: saved in {dest}\n"), (made.exit_code, made.stdout))
        self.assertEqual(1, len(self.server.events.of("operator")))
        again = await self.type("backup", str(dest))
        self.assertEqual(1, again.exit_code)
        self.assertIn("is there already", again.stderr)
        refused = await self.type("restore", str(dest))
        self.assertIn("in use by another process", refused.stderr)
        await self.down()
        twice = await self.type("restore", str(dest))
        self.assertEqual(1, twice.exit_code)
        for id in (small, large):
            self.assertIn(f"{id}: left out: its id is in the queue already", twice.stdout)
        self.data = Path(self.mktemp()).absolute()
        restored = await self.type("restore", str(dest))
        self.assertEqual(0, restored.exit_code, restored.output)
        self.assertIn("2 message(s) to 3 recipient(s), 1 large bodies: restored", restored.stdout)
        self.assertIn("held", restored.stderr)
        listed = await self.type("list", "--state", "held")
        self.assertEqual(2, listed.stdout.count(large))
        self.assertEqual("ok", (await self.type("check")).stdout.strip())

    async def test_without_a_service(self) -> None:
        """Copied from the files, which is said."""
        await self.up()
        await self.waiting("a@other.test")
        await self.down()
        dest = Path(self.mktemp()).absolute()
        made = await self.type("backup", str(dest))
        self.assertEqual(0, made.exit_code, made.output)
        self.assertIn("service is down", made.stderr)
        self.assertTrue((dest / "0.db").is_file())

    async def test_no_backup(self) -> None:
        """A folder that is none, and no queue to copy."""
        self.data = Path(self.mktemp()).absolute()
        empty = Path(self.mktemp()).absolute()
        empty.mkdir()
        refused = await self.type("restore", str(empty))
        self.assertEqual(1, refused.exit_code)
        self.assertIn("is no backup of a queue", refused.stderr)
        self.assertEqual(1, (await self.type("backup", str(empty / "new"))).exit_code)
        self.assertFalse(self.data.exists())
