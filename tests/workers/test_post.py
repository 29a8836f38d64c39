"""`mta.workers.post`: a worker is kept running."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mta.status import MailError
from mta.workers.child import Child
from mta.workers.frame import Errand
from mta.workers.post import Post
from tests.workers.fakes import SETTINGS, FakeProcess, Log


class PostTests(SynchronousTestCase):
    """`Post`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.log = Log()
        self.processes: list[FakeProcess] = []
        self.trouble: OSError | ValueError | None = None
        self.served = 0
        self.post = Post(1, self.clock, self.launch, self.log, self.serves)  # type: ignore[arg-type]

    def serves(self) -> None:
        self.served += 1

    def launch(self, number: int) -> Child:
        if self.trouble is not None:
            raise self.trouble
        child = Child(self.clock, Errand(SETTINGS, number, 2, (), ""), lambda _: None)
        self.processes.append(FakeProcess(child))
        return child

    def test_started(self) -> None:
        """It is told, and logged, when it serves."""
        started = self.post.start()
        self.assertFalse(self.post.is_ready)
        self.processes[0].ready()
        self.successResultOf(started)
        self.assertEqual((True, 1, [(1, "ready")]), (self.post.is_ready, self.served, self.log.told("worker", "status")))

    def test_started_again(self) -> None:
        """After 1, 2, 4 seconds, each with a line that says why; after a minute of life after one second again."""
        self.failureResultOf(self.started_and_ended(0), MailError)
        for delay in (1, 2, 4):
            count = len(self.processes)
            self.clock.advance(delay - 0.01)
            self.assertEqual(count, len(self.processes))
            self.clock.advance(0.01)
            self.assertEqual(count + 1, len(self.processes))
            self.processes[-1].end(status=1)
        self.clock.advance(8)
        self.processes[-1].ready()
        self.clock.advance(60)
        self.processes[-1].end(signal=11)
        ended = [line for line in self.log.told("status", "reason", "again_in") if line[0] == "ended"]
        self.assertEqual([1.0, 2.0, 4.0, 8.0, 1.0], [line[2] for line in ended])
        self.assertEqual("ended by signal 11", ended[-1][1])
        self.assertEqual(len(ended), self.post.restarts)

    def started_and_ended(self, lived: float) -> object:
        started = self.post.start()
        self.clock.advance(lived)
        self.processes[-1].end(status=1)
        return started

    def test_no_process(self) -> None:
        """The machine has none to give, or nobody can tell it what to be: tried again like any other."""
        self.trouble = OSError(11, "Resource temporarily unavailable")
        self.failureResultOf(self.post.start(), MailError)
        self.trouble = ValueError("a frame of 99999999 bytes")
        self.clock.advance(1)
        self.trouble = None
        self.clock.advance(2)
        self.processes[0].ready()
        self.assertTrue(self.post.is_ready)

    def test_stopped(self) -> None:
        """It ends, and stays so; nothing is left on the clock."""
        self.post.start()
        self.processes[0].ready()
        stopped = self.post.stop(5)
        self.assertNoResult(stopped)
        self.processes[0].end()
        self.successResultOf(stopped)
        self.clock.advance(100)
        self.assertEqual((1, []), (len(self.processes), self.clock.getDelayedCalls()))
        self.assertEqual((1, "stopped"), self.log.told("worker", "status")[-1])

    def test_stopped_while_it_waits(self) -> None:
        """Between two starts there is nothing to wait for."""
        self.failureResultOf(self.started_and_ended(0), MailError)  # type: ignore[arg-type]
        self.successResultOf(self.post.stop(5))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_another_takes_its_place(self) -> None:
        """Stopped and started: the one before does not matter any more."""
        self.post.start()
        self.processes[0].ready()
        stopped = self.post.stop(5)
        self.processes[0].end()
        self.successResultOf(stopped)
        self.post.start()
        self.processes[1].ready()
        self.assertEqual((True, 2), (self.post.is_ready, self.served))

    def test_asked(self) -> None:
        """The one that runs; when none does that is said."""
        self.assertEqual("worker 1 does not run", self.failureResultOf(self.post.ask({}), MailError).value.reason)
        self.post.start()
        self.failureResultOf(self.post.ask({}), MailError)
        self.processes[0].ready()
        asked = self.post.ask({"command": "queue.now"})
        self.processes[0].answer_last({"ok": True, "now": 1})
        self.assertEqual({"ok": True, "now": 1}, self.successResultOf(asked))

    def test_reopened(self) -> None:
        """One that starts has opened the log, perhaps; where nobody is there is nothing to do, and who ends needs none."""
        self.post.reopen()
        self.post.try_again()
        self.post.reopen()
        self.assertEqual([{"command": "reopen"}], [request for _, request in self.processes[0].requests])
        self.processes[0].end(status=1)
