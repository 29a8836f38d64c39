"""Threads for password hashes: bounded, begun late, gone at the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.trial.unittest import TestCase

from mta.receive.auth.workers import Busy, Workers


def ours() -> list[threading.Thread]:
    """Our threads that live."""
    return [thread for thread in threading.enumerate() if "mta-auth" in thread.name]


class WorkersTests(TestCase):
    """`Workers`, with real threads that wait for us."""

    timeout = 20

    def setUp(self) -> None:
        self.go = threading.Event()
        self.ran: list[int] = []
        self.workers = Workers(reactor, threads=2, waiting=3)
        self.workers.start()

    def tearDown(self) -> None:
        self.go.set()
        self.workers.stop()
        self.assertEqual(ours(), [])

    def piece(self, number: int) -> Callable[[], int]:
        """Work that is done when we say `go`."""

        def do() -> int:
            self.go.wait(10)
            self.ran.append(number)
            return number

        return do

    async def test_bounded(self) -> None:
        """No thread before the first work; two at most; the sixth is told to come back, and others after the storm are not."""
        self.assertEqual(ours(), [])
        waiting: list[Deferred[Any]] = [self.workers.run(self.piece(number)) for number in range(5)]
        self.failureResultOf(self.workers.run(self.piece(5)), Busy)
        self.assertEqual((len(ours()), self.workers.load), (2, 5))
        self.go.set()
        self.assertEqual(await gatherResults(waiting), [0, 1, 2, 3, 4])
        self.assertEqual(self.workers.load, 0)
        self.assertEqual(await self.workers.run(lambda: 7), 7)

    async def test_the_reactor_goes_on(self) -> None:
        """While work is done the reactor turns, and the answer comes on its thread."""
        turned: Deferred[None] = Deferred()
        answer = self.workers.run(self.piece(1)).addCallback(lambda _: threading.current_thread())
        reactor.callLater(0, turned.callback, None)  # type: ignore[attr-defined]
        await turned
        self.assertNoResult(answer)
        self.go.set()
        self.assertIs(await answer, threading.current_thread())

    async def test_failure(self) -> None:
        """What breaks in a thread is the asker's failure."""
        self.go.set()
        with self.assertRaises(ZeroDivisionError):
            await self.workers.run(lambda: 1 / 0)
        self.assertEqual(self.workers.load, 0)

    async def test_given_up(self) -> None:
        """Nobody waits any more: what has not begun is never done, and its place is free again soon."""
        running = [self.workers.run(self.piece(number)) for number in range(2)]
        while len(ours()) < 2:
            time.sleep(0.001)
        given_up = self.workers.run(self.piece(9))
        given_up.cancel()
        self.failureResultOf(given_up, CancelledError)
        self.go.set()
        await gatherResults(running)
        await self.workers.run(lambda: None)
        self.assertNotIn(9, self.ran)

    async def test_stop(self) -> None:
        """What runs is waited for, what waits is given up; nothing runs behind it, nor before the start."""
        running = [self.workers.run(self.piece(number)) for number in range(5)]
        self.go.set()
        self.workers.stop()
        for answer in running:
            answer.addErrback(lambda failure: failure.trap(CancelledError))
        await gatherResults(running)
        self.failureResultOf(self.workers.run(self.piece(6)), Busy)
        self.failureResultOf(Workers(reactor, 1).run(self.piece(7)), Busy)
        self.assertNotIn(6, self.ran)

    async def test_resize(self) -> None:
        """A reload may give it more threads, before the start too."""
        self.workers.resize(4)
        answers = [self.workers.run(self.piece(number)) for number in range(7)]
        self.assertEqual(len(ours()), 4)
        self.go.set()
        self.assertEqual(len(await gatherResults(answers)), 7)
        other = Workers(reactor, 1)
        other.resize(3)
        other.stop()
