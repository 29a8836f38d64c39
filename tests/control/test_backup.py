"""The command that begins a backup and says how far it is."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mta.control import backup as module
from mta.control.backup import Backups
from mta.queue.ids import id_text
from mta.queue.memory import MemoryQueue
from mta.queue.state import CopyReport
from mta.status import MailError, transient


class Copied:
    """A queue that is copied when the test says so."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, Any, Deferred[CopyReport]]] = []

    def backup(self, dest: Any, progress: Any) -> Deferred[CopyReport]:
        self.begun.append((str(dest), progress, Deferred()))
        return self.begun[-1][2]


class BackupCommandTests(SynchronousTestCase):
    """As the control socket calls it."""

    def setUp(self) -> None:
        self.queue: Any = Copied()
        self.told: list[dict[str, object]] = []
        self.commands = Backups(self.queue, self).table()  # type: ignore[arg-type]

    def event(self, name: str, queue_id: str, fields: dict[str, object]) -> None:
        self.told.append(fields)

    def ask(self, **request: object) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(self.commands["queue.backup"](request)))  # type: ignore[arg-type]

    def refused(self, **request: object) -> str:
        waiting = Deferred.fromCoroutine(self.commands["queue.backup"](request))  # type: ignore[arg-type]
        return str(self.failureResultOf(waiting, MailError).value.reason)

    def test_from_begin_to_end(self) -> None:
        """none, running, how far, done with the report; the next one may be begun then."""
        self.assertEqual({"state": "none"}, self.ask())
        self.assertEqual("running", self.ask(dest="/backup/1")["state"])
        ((dest, progress, waiting),) = self.queue.begun
        self.assertEqual("/backup/1", dest)
        progress("files", 3, 9)
        self.assertEqual({"state": "running", "what": "files", "done": 3, "total": 9}, self.ask())
        self.assertEqual("a backup is under way", self.refused(dest="/backup/2"))
        waiting.callback(CopyReport(5, 6, 3, ((77, "its body is gone"),)))
        done = self.ask()
        self.assertEqual(
            ("done", 5, 6, 3, 1), tuple(done[key] for key in ("state", "messages", "recipients", "files", "refused_count"))
        )
        self.assertEqual([[id_text(77), "its body is gone"]], done["refused"])
        self.assertEqual([{"action": "backup", "to": "/backup/1", "messages": 5, "recipients": 6, "refused": 1}], self.told)
        self.ask(dest="/backup/2")
        self.assertEqual(2, len(self.queue.begun))

    def test_failed(self) -> None:
        """Why, for the operator; a bug too, and it is not lost in the log."""
        for error, why in (
            (transient("4.3.1", "full", reason="no room on /backup"), "no room on /backup"),
            (KeyError("x"), "'x'"),
        ):
            self.ask(dest="/backup")
            self.queue.begun[-1][2].errback(error)
            self.assertEqual({"state": "failed", "why": why}, self.ask())
            self.assertEqual(why, self.told[-1]["failed"])

    def test_no_sense(self) -> None:
        """A path that is relative to who knows what, or none."""
        for dest in ("backup", "", 7, None, "/a\0b"):
            self.assertEqual("dest is an absolute path", self.refused(dest=dest))
        self.assertEqual([], self.queue.begun)

    def test_much_left_out(self) -> None:
        """The answer is bounded, and says how many there were."""
        self.ask(dest="/backup")
        self.queue.begun[0][2].callback(CopyReport(0, 0, 0, tuple((id, "why") for id in range(module.SHOWN + 5))))
        answer = self.ask()
        self.assertEqual((module.SHOWN, module.SHOWN + 5), (len(answer["refused"]), answer["refused_count"]))

    def test_in_memory(self) -> None:
        """Nothing that could be copied: said."""
        self.commands = Backups(MemoryQueue(lambda: 0), self).table()  # type: ignore[arg-type]
        self.assertIn("in memory", self.ask(dest="/backup")["why"])
