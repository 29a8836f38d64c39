"""What the writer's thread tells, and in which order."""

from __future__ import annotations

from pathlib import Path
from queue import SimpleQueue
from threading import current_thread
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mta.queue.sqlite.operation import Ask
from mta.queue.sqlite.writer import FAILED, Writer


class Listener:
    """Keeps each word, and on which thread it came."""

    def __init__(self) -> None:
        self.words: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        self.threads: set[str] = set()

    def say(self, word: str, more: Any = None) -> None:
        self.threads.add(current_thread().name)
        self.words.put((word, more))

    def untaken(self) -> None:
        self.say("untaken")

    def opened(self, highest: int, error: Any) -> None:
        self.say("opened", error and error.reply.code)

    def deliver(self, results: list[Any], removable: list[int]) -> None:
        for _, result, error in results:
            self.say("answer", error or result)

    def failed(self, error: BaseException) -> None:
        self.say("failed", type(error))

    def closed(self) -> None:
        self.say("closed")

    def hear(self, count: int) -> list[tuple[str, Any]]:
        return [self.words.get(timeout=10) for _ in range(count)]


class OwnerTests(SynchronousTestCase):
    """A writer by itself."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.listener = Listener()
        self.writer = Writer(self.path, lambda: 0, self.listener)

    def test_a_life(self) -> None:
        """Recovered, opened, each operation answered once, closed; all on its thread."""
        self.writer.start()
        self.writer.submit([Ask(lambda db: 7)])
        self.writer.stop()
        self.assertEqual([("untaken", None), ("opened", None), ("answer", 7), ("closed", None)], self.listener.hear(4))
        self.assertEqual({f"queue {self.path.name}"}, self.listener.threads)

    def test_not_opened(self) -> None:
        """A file that is none of ours: why, and nothing follows."""
        self.path.write_bytes(b"x" * 4096)
        self.writer.start()
        self.assertEqual([("opened", 451)], self.listener.hear(1))
        self.writer._thread.join(10)
        self.assertTrue(self.listener.words.empty())

    def test_failed(self) -> None:
        """After a doubtful one all is answered with the error, until the stop."""
        self.writer.start()
        for _ in range(2):
            self.writer.submit([Ask(lambda db: exec("raise MemoryError"))])
        self.listener.hear(2)
        words = self.listener.hear(3)
        self.assertEqual(
            [("answer", FAILED), ("answer", FAILED), ("failed", MemoryError)], sorted(words, key=lambda word: word[0])
        )
        self.writer.stop()
        self.assertEqual([("closed", None)], self.listener.hear(1))
