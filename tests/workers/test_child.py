"""`mta.workers.child`: one process of a worker, as the supervisor sees it."""

from __future__ import annotations

import os
import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mta.status import MailError
from mta.workers import frame
from mta.workers.child import PULSE, Child, spawn
from mta.workers.frame import FROM_WORKER, Errand
from tests.workers.fakes import SETTINGS, FakeProcess

ERRAND = Errand(SETTINGS, 1, 2, (), "reactor")


class ChildTests(SynchronousTestCase):
    """`Child`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.said: list[str] = []
        self.child = Child(self.clock, ERRAND, self.said.append)
        self.process = FakeProcess(self.child)

    def test_errand_first(self) -> None:
        """It learns what it is to be before anything else."""
        self.assertEqual([ERRAND], self.process.heard)

    def test_ready(self) -> None:
        """When it says so."""
        self.assertNoResult(self.child.ready)
        self.process.ready()
        self.successResultOf(self.child.ready)
        self.assertTrue(self.child.is_ready)

    def test_asked(self) -> None:
        """Answers find their question, in any order; one that nobody asked is nobody's."""
        one, two = self.child.ask({"command": "one"}), self.child.ask({"command": "two"})
        (first, _), (second, _) = self.process.requests
        self.process.answer(99, {})
        self.process.answer(second, {"ok": 2})
        self.process.answer(first, {"ok": 1})
        self.assertEqual(({"ok": 1}, {"ok": 2}), (self.successResultOf(one), self.successResultOf(two)))

    def test_gone(self) -> None:
        """Who waits hears that it is gone, who asks later too."""
        waiting = self.child.ask({"command": "one"})
        self.process.end(signal=9)
        for asked in (waiting, self.child.ask({"command": "two"})):
            self.assertEqual("worker 1 has ended", self.failureResultOf(asked, MailError).value.reason)
        self.assertEqual("ended by signal 9", self.successResultOf(self.child.ended))
        self.failureResultOf(self.child.ready, MailError)

    def test_it_hangs(self) -> None:
        """No sign of life: nobody waits for it, it is asked nothing more; when it speaks after all it is asked again."""
        self.process.ready()
        first = self.child.ask({"command": "one"})
        self.clock.advance(PULSE)
        self.assertEqual(["one", "queue.now"], [request["command"] for _, request in self.process.requests])
        self.assertNoResult(first)
        self.clock.advance(PULSE)
        for asked in (first, self.child.ask({"command": "two"})):
            self.assertEqual("worker 1 does not answer", self.failureResultOf(asked, MailError).value.reason)
        self.assertEqual((True, 2), (self.child.is_silent, len(self.process.requests)))
        self.process.answer(self.process.requests[0][0], {"ok": 1})
        self.assertFalse(self.child.is_silent)
        third = self.child.ask({"command": "three"})
        self.process.answer_last({"ok": 3})
        self.assertEqual({"ok": 3}, self.successResultOf(third))
        self.process.end(signal=9)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_an_answer_takes_its_time(self) -> None:
        """Whoever gives signs of life is waited for; when nothing is owed any more it is left alone."""
        self.process.ready()
        slow = self.child.ask({"command": "slow"})
        for _ in range(100):
            self.clock.advance(PULSE)
            self.assertEqual("queue.now", self.process.requests[-1][1]["command"])
            self.process.answer_last({"ok": True})
        self.process.answer(self.process.requests[0][0], {"ok": 1})
        self.assertEqual({"ok": 1}, self.successResultOf(slow))
        self.clock.advance(PULSE)
        self.assertEqual(([], 101), (self.clock.getDelayedCalls(), len(self.process.requests)))

    def test_asked_while_it_ends(self) -> None:
        """Its end of the pipe is closed, and its own end not yet told."""
        self.process.ready()
        self.process.is_deaf = True
        self.assertEqual("worker 1 has ended", self.failureResultOf(self.child.ask({"command": "one"}), MailError).value.reason)

    def test_ready_again(self) -> None:
        """Said twice it is nonsense, and ends it as other nonsense does."""
        self.process.ready()
        self.process.ready()
        self.assertEqual(["KILL"], self.process.signals)

    def test_too_long(self) -> None:
        """Settings that no frame can hold are told to who would start it."""
        self.patch(frame, "LIMIT", 10)
        self.assertRaises(ValueError, Child, self.clock, ERRAND, self.said.append)

    def test_reason_of_its_own(self) -> None:
        """What it gave as its reason, whatever it said before and after; each line is told."""
        self.process.says("one\nmta: /d/queue/1.db: is dam")
        self.process.says("aged\n[critical] something\n\nlast")
        self.process.end(status=1)
        self.assertEqual("/d/queue/1.db: is damaged (status 1)", self.successResultOf(self.child.ended))
        reason = self.failureResultOf(self.child.ready, MailError).value.reason
        self.assertEqual("/d/queue/1.db: is damaged (status 1)", reason)
        self.assertEqual(["one", "mta: /d/queue/1.db: is damaged", "[critical] something", "last"], self.said)

    def test_reasons(self) -> None:
        """Of one that says nothing, and of one that ends in order."""
        self.process.end(status=7)
        self.assertEqual("status 7", self.successResultOf(self.child.ended))
        self.failureResultOf(self.child.ready)
        child = Child(self.clock, ERRAND, self.said.append)
        process = FakeProcess(child)
        process.ready()
        process.end()
        self.assertEqual("ended", self.successResultOf(child.ended))

    def test_endless_line(self) -> None:
        """Of a line without end some is kept."""
        for _ in range(100):
            self.process.says("x" * 1000)
        self.process.says("\n")
        self.assertEqual([8192], [len(line) for line in self.said])

    def test_stopped(self) -> None:
        """SIGTERM; all who wait hear of the end, and nothing is left on the clock."""
        self.process.ready()
        one, two = self.child.stop(5), self.child.stop(5)
        self.assertEqual(["TERM", "TERM"], self.process.signals)
        self.process.end()
        self.assertEqual(("ended", "ended"), (self.successResultOf(one), self.successResultOf(two)))
        self.assertEqual([], self.clock.getDelayedCalls())
        self.successResultOf(self.child.stop(5))

    def test_killed_when_it_does_not_end(self) -> None:
        """After the patience, and not before."""
        self.process.ready()
        stopped = self.child.stop(5)
        self.clock.advance(4.9)
        self.assertEqual(["TERM"], self.process.signals)
        self.clock.advance(0.1)
        self.assertEqual("ended by signal 9", self.successResultOf(stopped))

    def test_cannot_be_understood(self) -> None:
        """It is killed: nobody knows what it does."""
        self.child.childDataReceived(FROM_WORKER, b"\xff" * 9)
        self.assertEqual(["KILL"], self.process.signals)
        self.failureResultOf(self.child.ready)


class SpawnTests(SynchronousTestCase):
    """`spawn`."""

    def test_command_and_descriptors(self) -> None:
        """The same Python, which finds what we have found; pipes both ways, standard output shared, the sockets."""
        calls: list[Any] = []
        reactor: Any = type("Reactor", (), {"spawnProcess": lambda self, *given, **more: calls.append((given, more))})()
        child = Child(Clock(), ERRAND, lambda _: None)
        self.ready: Deferred[None] = child.ready
        spawn(reactor, child, {4: 17})
        ((protocol, program, command), more) = calls[0]
        self.assertEqual((child, sys.executable), (protocol, program))
        self.assertEqual([sys.executable, "-P", "-m", "mta.worker", "1"], command)
        self.assertEqual({0: "w", 1: 1, 2: "r", 3: "r", 4: 17}, more["childFDs"])
        self.assertEqual([path for path in sys.path if path], more["env"]["PYTHONPATH"].split(os.pathsep))
