"""`mta queue list`, `summary`, `show`: through the running service, and from the files of one that is down."""

from __future__ import annotations

import json
import os
from typing import Any

from click.testing import Result

from mta.cli.queue import look
from mta.cli.queue.look import rows_of
from tests.cli.queue.world import BODY, QueueWorld


class LookTests(QueueWorld):
    """What people and programs see."""

    def shape(self) -> dict[str, tuple[int, int]]:
        """Every file of the queue, its size and when it was written."""
        files = [path for path in (self.data / "queue").rglob("*") if path.is_file()]
        return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}

    def json_lines(self, result: Result) -> list[dict[str, Any]]:
        return [json.loads(line) for line in result.stdout.splitlines()]

    async def both(self, *arguments: str) -> Result:
        """The same is said by the service and, when it is down, out of the files, which stay as they are."""
        live = await self.type(*arguments)
        self.assertEqual("", live.stderr)
        await self.down()
        before = self.shape()
        dead = await self.type(*arguments)
        self.assertEqual((live.exit_code, before), (dead.exit_code, self.shape()))
        self.assertEqual(f"the service is down; read from {self.data}/queue/0.db\n", dead.stderr)
        self.assertEqual(live.stdout, dead.stdout)
        return live

    async def test_list_json(self) -> None:
        """One object a line, the oldest first, with all that is known."""
        await self.up()
        id = await self.waiting("a@other.test", "b@other.test")
        first, second = self.json_lines(await self.both("list", "--json"))
        self.assertEqual((id, id, "a@other.test", "b@other.test"), (first["id"], second["id"], first["to"], second["to"]))
        self.assertEqual((self.dest, "waiting", 1), (first["dest"], first["state"], first["attempts"]))
        self.assertIn("4.4.1", first["last_reply"])

    async def test_list_table(self) -> None:
        """A head, a line for each; ages may differ by a second, so only one of both is looked at."""
        await self.up()
        id = await self.waiting("a@other.test")
        head, line = (await self.type("list")).stdout.splitlines()
        self.assertEqual(["id", "age", "size", "from", "to", "destination"], head.split()[:6])
        self.assertEqual([id, "a@other.test"], [line.split()[0], line.split()[5]])

    async def test_selectors(self) -> None:
        """Each condition on the command line; nothing matched is status 1, an empty queue is none."""
        await self.up()
        empty = await self.type("list")
        self.assertEqual((0, "", "the queue is empty\n"), (empty.exit_code, empty.stdout, empty.stderr))
        id = await self.waiting("a@other.test", "b@other.test")
        await self.waiting("c@other.test", sender="boss@a.test")
        for arguments, found in (
            (("--id", id), "ab"),
            (("--to", "[ac]@*"), "ac"),
            (("--from", "BOSS@*"), "c"),
            (("--dest", self.dest, "--to", "b@*"), "b"),
            (("--state", "waiting"), "abc"),
            (("--older", "0s"), "abc"),
            (("--older", "1h"), ""),
            (("--state", "held"), ""),
            (("--account", "nobody"), ""),
            (("--dest", "other.test"), ""),
        ):
            result = await self.type("list", "--json", *arguments)
            self.assertEqual(found, "".join(row["to"][0] for row in self.json_lines(result)), arguments)
            self.assertEqual(0 if found else 1, result.exit_code, arguments)
        self.assertEqual("nothing matched\n", (await self.type("list", "--state", "held")).stderr)

    async def test_limit(self) -> None:
        """So many, and that there are more; pages are joined."""
        await self.up()
        self.patch(look, "PAGE", 2)
        await self.waiting(*[f"{letter}@other.test" for letter in "abcde"])
        result = await self.type("list", "--limit", "3")
        self.assertEqual((4, "the first 3; there are more (--limit)\n"), (len(result.stdout.splitlines()), result.stderr))
        self.assertEqual(6, len((await self.type("list", "--limit", "5")).stdout.splitlines()))
        self.assertEqual(5, len(self.json_lines(await self.type("list", "--json"))))
        self.assertEqual(2, len(self.json_lines(await self.type("list", "--json", "--limit", "2"))))

    async def test_follow(self) -> None:
        """What is there, what changes, what goes; ends when it is interrupted."""
        await self.up()
        await self.waiting("a@other.test")
        alter = self.type
        looks: list[float] = []

        def pause(seconds: float) -> None:
            from twisted.internet import reactor
            from twisted.internet.threads import blockingCallFromThread

            looks.append(seconds)
            if len(looks) == 3:
                raise KeyboardInterrupt
            action = ("hold", "remove")[len(looks) - 1]
            blockingCallFromThread(reactor, lambda: self.server.mta.queue.queue.alter(*selected(action)))

        self.patch(look.time, "sleep", pause)
        result = await alter("list", "--follow", "--json")
        told = [(line["change"], line["to"], line["state"]) for line in self.json_lines(result)]
        self.assertEqual([("new", "a@other.test", "waiting"), ("changed", "a@other.test", "held")], told[:2])
        self.assertEqual([("gone", "a@other.test", "held")], told[2:])
        self.assertEqual((0, [2.0] * 3), (result.exit_code, looks))

    async def test_follow_wants_the_service(self) -> None:
        """Status 75 when it is down."""
        await self.up()
        await self.down()
        result = await self.type("list", "--follow")
        self.assertEqual((75, True), (result.exit_code, "no service is running" in result.stderr))

    async def test_summary(self) -> None:
        """By destination, from both."""
        await self.up()
        await self.waiting("a@other.test", "b@other.test")
        (found,) = json.loads((await self.both("summary", "--json")).stdout)["destinations"]
        self.assertEqual((self.dest, 2, 2), (found["dest"], found["total"], found["waiting"]))
        self.assertIn(self.dest, (await self.type("summary")).stdout)

    async def test_empty_summary(self) -> None:
        """Nothing is no failure."""
        await self.up()
        result = await self.type("summary")
        self.assertEqual((0, "", "the queue is empty\n"), (result.exit_code, result.stdout, result.stderr))

    async def test_show(self) -> None:
        """Envelope, recipients and header; strangers' escapes are shown as what they are."""
        await self.up()
        id = await self.waiting("a@other.test", "b@other.test")
        said = (await self.type("show", id, "--headers")).stdout
        for text in (f"id            {id}", "from          me@a.test", "to            b@other.test", "Subject: hello"):
            self.assertIn(text, said)
        self.assertIn("X-Escape: ?[2J", said)
        self.assertNotIn("first line", said)
        facts = json.loads((await self.both("show", id, "--json")).stdout)
        self.assertEqual((id, 2, False), (facts["id"], len(facts["recipients"]), facts["header_cut"]))
        self.assertIn("\nSubject: hello\n", facts["header"])

    async def test_show_large(self) -> None:
        """A body in the spool: its header, and with --body every byte as it is stored."""
        await self.up()
        large = BODY + b"x" * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * 4000
        id = await self.waiting("a@other.test", body=large)
        self.assertEqual(1, len(self.server.spool()))
        facts = json.loads((await self.both("show", id, "--json")).stdout)
        self.assertIn("Subject: hello", facts["header"])
        whole = (await self.type("show", id, "--body")).stdout_bytes
        self.assertTrue(whole.startswith(b"Received: "))
        self.assertTrue(whole.endswith(b"\r\n" + large))
        self.assertEqual(facts["size"], len(whole))

    async def test_show_body(self) -> None:
        """A small one, beside the running service."""
        await self.up()
        id = await self.waiting("a@other.test")
        self.assertTrue((await self.type("show", id, "--body")).stdout_bytes.endswith(b"\r\n" + BODY))

    async def test_not_there(self) -> None:
        """A message that has gone is status 1, an id that is none 2."""
        await self.up()
        for arguments in (("show", "0000000000000"), ("show", "0000000000000", "--body")):
            result = await self.type(*arguments)
            self.assertEqual(1, result.exit_code)
            self.assertIn("the message 0000000000000 is not in the queue", result.stderr)
        self.assertEqual(2, (await self.type("show", "xyz")).exit_code)
        await self.down()
        self.assertEqual(1, (await self.type("show", "0000000000000")).exit_code)

    async def test_killed(self) -> None:
        """What a killed service leaves, with its log, is read too, and what was only in the log is there."""
        await self.up()
        await self.waiting("a@other.test")
        copy = self.folder / "copy"
        (copy / "queue").mkdir(parents=True)
        for name in ("0.db", "0.db-wal"):
            (copy / "queue" / name).write_bytes((self.data / "queue" / name).read_bytes())
        self.data = copy
        result = await self.type("list", "--json")
        self.assertEqual(["a@other.test"], [row["to"] for row in self.json_lines(result)])

    async def test_read_only_folder(self) -> None:
        """Nothing has to be written for a look: not even a file that would be gone again."""
        await self.up()
        await self.waiting("a@other.test")
        await self.down()
        queue = self.data / "queue"
        before = sorted(os.listdir(queue))
        self.assertEqual(0, (await self.type("list")).exit_code)
        self.assertEqual(before, sorted(os.listdir(queue)))
        self.assertNotIn("0.db-wal", before)

    async def test_no_queue(self) -> None:
        """A folder without one, and a file that is none: status 1 and why."""
        self.data = self.folder
        self.assertIn("there is no queue", (await self.type("list")).stderr)
        (self.folder / "queue").mkdir()
        (self.folder / "queue" / "0.db").write_bytes(b"x" * 4096)
        result = await self.type("list")
        self.assertEqual((1, True), (result.exit_code, "file is not a database" in result.stderr), result.stderr)

    async def test_another_file(self) -> None:
        """A database that is not ours."""
        import apsw

        self.data = self.folder
        (self.folder / "queue").mkdir()
        other = apsw.Connection(str(self.folder / "queue" / "0.db"))
        other.execute("CREATE TABLE t(x)")
        other.close()
        result = await self.type("list")
        self.assertEqual((1, True), (result.exit_code, "not a queue of this version" in result.stderr))

    def test_pages(self) -> None:
        """`rows_of` goes on after an empty page and ends with the last."""
        pages = {0: (["a", "b"], 2), 2: ([], 7), 7: (["c"], 0)}

        class Pages:
            def page(self, selector: Any, after: int, limit: int) -> Any:
                return pages[after]

        source: Any = Pages()
        self.assertEqual(["a", "b", "c"], list(rows_of(source, {}, 0)))
        self.assertEqual(["a", "b"], list(rows_of(source, {}, 2)))


def selected(action: str) -> tuple[Any, ...]:
    """What the engine is asked for."""
    from mta.queue.state import Alteration, Selector

    return Selector(), Alteration(action), 0
