"""`mta queue export`, `import` and `move`, beside a whole server and without one."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

from mta.queue.ids import id_text
from tests.cli.queue.test_backup import LARGE
from tests.cli.queue.world import BODY, QueueWorld


class CarryTests(QueueWorld):
    """See the module."""

    def setUp(self) -> None:
        super().setUp()
        self.file = Path(self.mktemp()).absolute()

    async def some(self) -> tuple[str, str]:
        """A server with two messages that were tried once."""
        await self.up()
        return await self.waiting("a@other.test"), await self.waiting("b@other.test", "c@other.test", body=LARGE)

    async def listed(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in (await self.type("list", "--json")).stdout.splitlines()]

    async def test_beside_a_service(self) -> None:
        """A tar of one file a message, as it arrived behind what we added; the service goes on; a name is not used twice."""
        small, _ = await self.some()
        made = await self.type("export", str(self.file))
        self.assertEqual(
            (0, f"2 message(s) to 3 recipient(s), 1 large bodies: exported to {self.file}\n"), (made.exit_code, made.stdout)
        )
        with tarfile.open(self.file) as tar:
            mail = tar.extractfile(f"{small}.eml")
            assert mail is not None
            self.assertTrue(mail.read().endswith(BODY))
        again = await self.type("export", str(self.file))
        self.assertEqual((1, True), (again.exit_code, "is there already" in again.stderr))
        refused = await self.type("import", str(self.file))
        self.assertEqual((1, True), (refused.exit_code, "in use by another process" in refused.stderr))
        moved = await self.type("move", "--to", self.mktemp())
        self.assertEqual((1, True), (moved.exit_code, "in use by another process" in moved.stderr))
        self.assertEqual(3, len(await self.listed()))

    async def test_selected(self) -> None:
        """Recipients, by the conditions of every command; nothing that matches is an export of nothing."""
        _, large = await self.some()
        made = await self.type("export", str(self.file), "--to", "C@*")
        self.assertIn("1 message(s) to 1 recipient(s)", made.stdout)
        with tarfile.open(self.file) as tar:
            self.assertEqual(["mta-queue.json", f"{large}.json", f"{large}.eml", "end.json"], tar.getnames())
        self.file.unlink()
        none = await self.type("export", str(self.file), "--dest", "nobody.test")
        self.assertEqual((0, True), (none.exit_code, "0 message(s)" in none.stdout))

    async def test_import(self) -> None:
        """Held, or with --release as it was; what is there is skipped, which is no error; what is broken is said."""
        await self.some()
        await self.down()
        before = await self.listed()
        self.assertEqual(0, (await self.type("export", str(self.file))).exit_code)
        there = await self.type("import", str(self.file))
        self.assertEqual((0, True), (there.exit_code, "2 message(s) were in the queue already" in there.stderr), there.output)
        for options, state in (((), "held"), (("--release",), "waiting")):
            self.data = Path(self.mktemp()).absolute()
            done = await self.type("import", str(self.file), *options)
            self.assertEqual((0, state == "held"), (done.exit_code, "All of it is held" in done.stderr), done.output)
            self.assertIn("2 message(s) to 3 recipient(s), 1 large bodies: imported", done.stdout)
            self.assertEqual([row | {"state": state} for row in before], await self.listed())
            self.assertEqual("ok", (await self.type("check")).stdout.strip())
        self.data = Path(self.mktemp()).absolute()
        self.file.write_bytes(self.file.read_bytes()[:60_000])
        broken = await self.type("import", str(self.file))
        self.assertEqual(1, broken.exit_code)
        for word in ("record 2 (", "it ends too early", "before it 1 message(s) were imported"):
            self.assertIn(word, broken.stderr)
        self.assertEqual(1, len(await self.listed()))

    async def test_move(self) -> None:
        """Everything is there as it was, and nothing is left here."""
        await self.some()
        await self.down()
        before, target = await self.listed(), Path(self.mktemp()).absolute()
        moved = await self.type("move", "--to", str(target))
        self.assertEqual(0, moved.exit_code, moved.output)
        self.assertIn(f"2 message(s) to 3 recipient(s), 1 large bodies: moved to {target}", moved.stdout)
        self.assertEqual(("ok", []), ((await self.type("check")).stdout.strip(), await self.listed()))
        self.data = target
        self.assertEqual(("ok", before), ((await self.type("check")).stdout.strip(), await self.listed()))
        nowhere = await self.type("move", "--to", str(target))
        self.assertEqual((1, True), (nowhere.exit_code, "is where it is to go" in nowhere.stderr))
        self.assertEqual(2, (await self.type("move")).exit_code)

    async def test_no_queue(self) -> None:
        """Said, and none is made."""
        self.data = Path(self.mktemp()).absolute()
        for command in (("export", str(self.file)), ("move", "--to", self.mktemp())):
            refused = await self.type(*command)
            self.assertEqual((1, True), (refused.exit_code, "there is no queue" in refused.stderr), refused.output)
        self.assertFalse(self.data.exists() or self.file.exists())

    async def test_names_of_ids(self) -> None:
        """The ids of the export are those of replies and log lines."""
        small, large = await self.some()
        await self.type("export", str(self.file))
        with tarfile.open(self.file) as tar:
            names = {name.partition(".")[0] for name in tar.getnames()}
        self.assertEqual({small, large}, {name for name in names if len(name) == len(id_text(0))})
