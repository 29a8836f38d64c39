"""`mta.workers.copies`: a backup of all workers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from mta.status import MailError, transient
from mta.workers.copies import POLL, Copies
from tests.threads import ThreadedClock
from tests.workers.fakes import Log

RUNNING = {"ok": True, "state": "running", "what": "pages", "done": 1, "total": 4}
DONE = {"ok": True, "state": "done", "messages": 2, "recipients": 3, "files": 1, "refused": [["X", "why"]], "refused_count": 1}


class Copying:
    """A worker whose copy takes a while: what it says, one after the other."""

    def __init__(self, number: int, *says: Any) -> None:
        self.number = number
        self.says = list(says)
        self.dest: Path | None = None

    def ask(self, request: Mapping[str, Any]) -> Deferred[Any]:
        if "dest" in request:
            self.dest = Path(request["dest"])
            self.dest.mkdir()
            (self.dest / f"{self.number}.db").touch()
        said = self.says.pop(0)
        return fail(said) if isinstance(said, Exception) else succeed(said)


class CopiesTests(SynchronousTestCase):
    """`Copies`."""

    def setUp(self) -> None:
        self.clock = ThreadedClock()
        self.log = Log()
        self.dest = Path(self.mktemp()).absolute()
        self.workers: list[Copying] = []
        self.copies = Copies(lambda: self.workers, self.clock, self.log)  # type: ignore[arg-type]

    def ask(self, **request: Any) -> Any:
        return self.successResultOf(ensureDeferred(self.copies.asked(request)))

    def test_both(self) -> None:
        """Each into a folder of its own; the whole has its name at the end, and the numbers are added."""
        self.workers = [Copying(0, RUNNING, RUNNING, DONE), Copying(1, RUNNING, DONE)]
        self.assertEqual({"state": "none"}, self.ask())
        self.assertEqual("running", self.ask(dest=str(self.dest))["state"])
        self.clock.advance(POLL)
        self.assertEqual((1, 4, False), (self.ask()["done"], self.ask()["total"], self.dest.exists()))
        self.clock.advance(POLL)
        done = self.ask()
        self.assertEqual(
            ("done", 4, 6, 2, 2), tuple(done[k] for k in ("state", "messages", "recipients", "files", "refused_count"))
        )
        self.assertEqual(["0/0.db", "1/1.db"], sorted(str(path.relative_to(self.dest)) for path in self.dest.rglob("*.db")))
        self.assertEqual([("operator", str(self.dest))], [(name, fields["to"]) for name, fields in self.log.events])

    def test_one_fails(self) -> None:
        """Whether it says so or is gone: the reason, and nothing is left."""
        gone = transient("4.3.2", "gone", reason="worker 1 has ended")
        for last, why in (({"ok": True, "state": "failed", "why": "disk full"}, "disk full"), (gone, "worker 1 has ended")):
            self.workers = [Copying(0, DONE), Copying(1, RUNNING, last)]
            self.ask(dest=str(self.dest))
            self.clock.advance(POLL)
            self.assertEqual({"state": "failed", "why": f"worker 1: {why}"}, self.ask())
            self.assertFalse(self.dest.exists() or self.dest.with_name(f"{self.dest.name}.part").exists())

    def test_nonsense(self) -> None:
        """A worker that says what nobody understands: it is logged, and the next backup is not held up by this one."""
        self.workers = [Copying(0, {"ok": True}, DONE)]
        self.ask(dest=str(self.dest))
        self.assertEqual("failed", self.ask()["state"])
        self.assertEqual(1, len(self.flushLoggedErrors(KeyError)))
        self.dest = self.dest.with_name("second")
        self.ask(dest=str(self.dest))
        self.assertEqual("done", self.ask()["state"])

    def test_restarted(self) -> None:
        """A worker that was started anew knows nothing of it: that is a failure, not a success."""
        self.workers = [Copying(0, DONE), Copying(1, RUNNING, {"ok": True, "state": "none"})]
        self.ask(dest=str(self.dest))
        self.clock.advance(POLL)
        self.assertEqual({"state": "failed", "why": "worker 1: was restarted"}, self.ask())

    def test_there_already(self) -> None:
        """What is there is not touched."""
        self.dest.mkdir()
        self.ask(dest=str(self.dest))
        self.assertEqual(("failed", True), (self.ask()["state"], self.dest.exists()))

    def test_no_sense(self) -> None:
        """A path that is none; two at once."""
        for dest in ("here", 7, "/a\0b"):
            self.failureResultOf(ensureDeferred(self.copies.asked({"dest": dest})), MailError)
        self.workers = [Copying(0, RUNNING, RUNNING)]
        self.ask(dest=str(self.dest))
        self.failureResultOf(ensureDeferred(self.copies.asked({"dest": f"{self.dest}2"})), MailError)
