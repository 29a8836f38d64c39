"""`mta queue hold` and its like, on a whole server: what becomes of the mail, what is said, and the status."""

from __future__ import annotations

from mta.cli.queue import alter, source
from mta.queue.state import Move, Selector
from tests.cli.queue.world import QueueWorld


class AlterTests(QueueWorld):
    """Each command."""

    async def said(self, status: int, text: str, *arguments: str) -> None:
        result = await self.type(*arguments)
        self.assertEqual((status, text), (result.exit_code, result.stdout), result.stderr)

    async def test_hold_and_release(self) -> None:
        """What is held stays where it is; what is released is tried at once."""
        await self.up()
        await self.waiting("a@other.test", "b@other.test")
        await self.said(0, "1 recipient(s) held\n", "hold", "--to", "a@*")
        self.assertEqual({"a@other.test": ("held", 1), "b@other.test": ("waiting", 1)}, await self.states())
        await self.said(1, "", "hold", "--to", "a@*")
        await self.said(0, "1 recipient(s) released\n", "release", "--all")
        self.assertEqual("waiting", (await self.states())["a@other.test"][0])

    async def test_retry_and_flush(self) -> None:
        """retry makes mail due; flush ends the block of its destination too, and it is tried."""
        await self.up()
        await self.waiting("a@other.test")
        await self.said(0, "1 recipient(s) due now\n", "retry", "--to", "a@*")
        await self.happened(self.server, "deferred", 2)
        result = await self.type("flush", "--dest", self.dest)
        self.assertEqual((0, True), (result.exit_code, result.stdout.endswith(f"; {self.dest} is not blocked\n")))
        await self.happened(self.server, "deferred", 3)
        result = await self.type("flush", "--all")
        self.assertEqual((0, True), (result.exit_code, result.stdout.endswith("; no destination is blocked\n")))
        await self.happened(self.server, "deferred", 4)

    async def test_remove(self) -> None:
        """Asked for, unless --yes; no and an end of input remove nothing."""
        await self.up()
        id = await self.waiting("a@other.test", "b@other.test")
        for keys in ("n\n", ""):
            result = await self.type("remove", "--id", id, keys=keys)
            self.assertEqual((1, True), (result.exit_code, "Remove 2 recipient(s) for good?" in result.stderr))
            self.assertEqual(2, len(await self.states()))
        result = await self.type("remove", "--to", "a@*", keys="y\n")
        self.assertEqual((0, "1 recipient(s) removed\n"), (result.exit_code, result.stdout))
        await self.said(0, "1 recipient(s) removed\n", "remove", "--all", "--yes")
        self.assertEqual({}, await self.states())
        result = await self.type("remove", "--all")
        self.assertEqual((1, ""), (result.exit_code, result.stdout))  # nothing is there: it does not even ask
        self.assertNotIn("Remove", result.stderr)

    async def test_remove_many(self) -> None:
        """Where there are more than a page it says "at least"."""
        await self.up()
        self.patch(alter, "PAGE", 2)
        await self.waiting("a@other.test", "b@other.test", "c@other.test")
        self.assertIn("Remove at least 2 recipient(s)", (await self.type("remove", "--all", keys="n\n")).stderr)

    async def test_reroute(self) -> None:
        """Mail goes where the routes of now say."""
        await self.up()
        await self.waiting("a@other.test")
        await self.said(1, "", "reroute", "--all")
        queue = self.server.mta.queue.queue
        (row,) = await queue.browse(Selector())
        await queue.refile([Move(row.id, "smtp:old/gone.test")], row.due)
        await self.said(0, "1 recipient(s) moved to other destinations\n", "reroute", "--to", "a@*")
        (row,) = await queue.browse(Selector())
        self.assertEqual(self.dest, row.dest)

    async def test_the_log_has_it(self) -> None:
        """Who asks afterwards where mail went finds it."""
        await self.up()
        await self.waiting("a@other.test")
        await self.type("remove", "--to", "a@*", "--yes")
        self.assertEqual([{"action": "remove", "to": "a@*", "recipients": 1}], self.server.events.of("operator"))

    async def test_nothing_selected(self) -> None:
        """A command line that may mean everything is wrong: status 2, and nothing is done."""
        await self.up()
        await self.waiting("a@other.test")
        for command in ("hold", "release", "retry", "remove", "reroute"):
            result = await self.type(command)
            self.assertEqual((2, True), (result.exit_code, "Nothing is selected" in result.stderr), result.stderr)
            self.assertEqual(2, (await self.type(command, "--all", "--to", "x")).exit_code)
        self.assertEqual([2, 2], [(await self.type("flush", *more)).exit_code for more in ((), ("--all", "--dest", "x"))])
        self.assertEqual({"a@other.test": ("waiting", 1)}, await self.states())

    async def test_service_down(self) -> None:
        """Nothing but the service writes: status 75 and why, the files stay as they are."""
        await self.up()
        await self.waiting("a@other.test")
        await self.down()
        before = (self.data / "queue" / "0.db").read_bytes()
        for command in ("hold", "release", "retry", "remove", "reroute", "flush"):
            result = await self.type(command, "--all")
            self.assertEqual((75, ""), (result.exit_code, result.stdout))
            self.assertIn("no service is running", result.stderr)
        self.assertEqual(before, (self.data / "queue" / "0.db").read_bytes())

    async def test_many_bites(self) -> None:
        """More than one bite: all of them, counted together."""
        await self.up()
        asked: list[int] = []
        answers = iter(
            [{"ok": True, "count": 500, "after": 7}, {"ok": True, "count": 0, "after": 9}, {"ok": True, "count": 3, "after": 0}]
        )

        def ask(path: object, request: dict[str, int], seconds: float) -> object:
            asked.append(request["after"])
            return next(answers)

        self.patch(source, "ask", ask)
        await self.said(0, "503 recipient(s) held\n", "hold", "--all")
        self.assertEqual([0, 7, 9], asked)

    async def test_refused(self) -> None:
        """What the service refuses is status 1, with its words."""
        await self.up()
        self.patch(source, "ask", lambda *_: {"ok": False, "error": "internal trouble: see the log"})
        result = await self.type("hold", "--all")
        self.assertEqual((1, True), (result.exit_code, "internal trouble: see the log" in result.stderr))
