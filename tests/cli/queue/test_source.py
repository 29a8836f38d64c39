"""Where the facts come from: the service when there is one, the files when there is none, neither when it does not answer."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mta.cli.ask import NoAnswer, NobodyThere
from mta.cli.queue import source
from mta.cli.queue.source import Down, File, Files, Refused, Service, source_at
from tests.cli.queue.world import QueueWorld


class SourceTests(SynchronousTestCase):
    """`source_at` and `Service`, with a service that does as it is told."""

    def answer(self, answer: Any) -> list[dict[str, Any]]:
        asked: list[dict[str, Any]] = []

        def ask(path: Path, request: dict[str, Any], seconds: float) -> Any:
            asked.append(request)
            if isinstance(answer, Exception):
                raise answer
            return answer

        self.patch(source, "ask", ask)
        return asked

    def test_running(self) -> None:
        """Asked once."""
        asked = self.answer({"ok": True, "now": 1})
        self.assertIsInstance(source_at(Path("/d")), Service)
        self.assertEqual([{"command": "queue.now"}], asked)

    def test_nobody_there(self) -> None:
        """The files, and that is said."""
        said: list[str] = []
        self.patch(source.click, "echo", lambda text, err: said.append(text))
        self.answer(NobodyThere("no service"))
        self.assertIsInstance(source_at(Path("/d")), Files)
        self.assertEqual(["the service is down; read from /d/queue/0.db"], said)

    def test_does_not_answer(self) -> None:
        """One that hangs has the files: what they say is not what it knows, so it is not read behind its back."""
        self.answer(NoAnswer("the service does not answer"))
        with self.assertRaises(Down) as caught:
            source_at(Path("/d"))
        self.assertEqual((75, "the service does not answer"), (caught.exception.exit_code, caught.exception.message))

    def test_an_older_service(self) -> None:
        """It says what it does not know."""
        self.answer({"ok": False, "error": "unknown command 'queue.now'"})
        with self.assertRaises(Refused) as caught:
            source_at(Path("/d"))
        self.assertEqual((1, "unknown command 'queue.now'"), (caught.exception.exit_code, caught.exception.message))
        self.answer({"ok": False})
        with self.assertRaises(Refused):
            Service(Path("/d")).ask("x")

    def test_not_all_of_the_queue(self) -> None:
        """A worker that does not answer is named on standard error; what the others say stands."""
        said: list[str] = []
        self.patch(source.click, "echo", lambda text, err: said.append(text))
        self.answer({"ok": True, "count": 3, "warning": "worker 1 does not run"})
        self.assertEqual(3, Service(Path("/d")).ask("queue.flush")["count"])
        self.assertEqual(["not all of the queue: worker 1 does not run"], said)


class FileTests(QueueWorld):
    """`File`, where the commands do not lead."""

    async def test_selection_over_many_windows(self) -> None:
        """Pages end where they should, however few rows a look finds."""
        await self.up()
        await self.waiting(*[f"{letter}@other.test" for letter in "abcde"])
        file = File(self.data)
        found, after = [], 0
        while True:
            rows, after = file.page({"to": "[ace]@*"}, after, 2)
            found += [row["to"][0] for row in rows]
            if not after:
                break
        self.assertEqual(["a", "c", "e"], found)

    async def test_body_that_is_gone(self) -> None:
        """A row whose file is missing is Refused with the file's name."""
        await self.up()
        id = await self.waiting("a@other.test", body=b"Subject: x\r\n\r\n" + (b"y" * 70 + b"\r\n") * 4000)
        (path,) = self.server.spool()
        path.unlink()
        with self.assertRaises(Refused) as caught:
            list(File(self.data).whole(id))
        self.assertEqual(f"{path}: No such file or directory", caught.exception.message)
        with self.assertRaises(Refused):
            File(self.data).message(id)

    async def test_never_writes(self) -> None:
        """Both ways of opening refuse to."""
        import apsw

        await self.up()
        file = File(self.data)
        for _ in range(2):
            with file.open() as db:
                self.assertRaises(apsw.ReadOnlyError, db.execute, "DELETE FROM message")
            await self.down()


class FilesTests(QueueWorld):
    """`Files`: of all workers."""

    async def test_of_two(self) -> None:
        """Rows, body and destinations, whoever has them; what a cut adoption has left in both is one row."""
        await self.up()
        large = b"Subject: x\r\n\r\n" + (b"y" * 70 + b"\r\n") * 4000
        ids = [await self.waiting("a@other.test"), await self.waiting("b@other.test", body=large)]
        await self.down()
        (self.data / "queue/0.db").rename(self.data / "queue/1.db")
        (self.data / "spool").rename(self.data / "spool.1")
        files = Files(self.data)
        self.assertEqual(ids, [row["id"] for row in files.page({}, 0, 10)[0]])
        self.assertTrue(b"".join(files.whole(ids[1])).endswith(large))
        shutil.copy(self.data / "queue/1.db", self.data / "queue/0.db")
        files = Files(self.data)
        self.assertEqual(ids, [row["id"] for row in files.page({}, 0, 10)[0]])
        self.assertEqual([(self.dest, 4)], [(each["dest"], each["total"]) for each in files.summary(9)["destinations"]])
        checked = await self.type("check")
        self.assertEqual((1, True), (checked.exit_code, f"spool: {ids[1]}: {self.data}/spool/" in checked.stdout))

    async def test_gone(self) -> None:
        """A message that nobody has."""
        await self.up()
        await self.down()
        with self.assertRaises(Refused):
            Files(self.data).message("0000000000000")
