"""Processes that are none: what a supervisor starts in tests with a Clock."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.python.failure import Failure

from mta.config.settings import Settings
from mta.workers.child import Child
from mta.workers.frame import FROM_WORKER, READY, TO_WORKER, Errand, Frames, answered, value_of

SETTINGS = Settings(hostname="mx.test", data_dir=Path("/d"))


class Log:
    """An IEventLog that remembers."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def event(self, name: str, queue_id: str, fields: Mapping[str, object]) -> None:
        self.events.append((name, dict(fields)))

    def told(self, *keys: str) -> list[tuple[object, ...]]:
        """These fields of each line."""
        return [tuple(fields.get(key) for key in keys) for _, fields in self.events]


class FakeProcess:
    """A process transport: hears what is written and which signals come, and ends when the test says so.

    obeys: SIGTERM ends it at once.
    """

    def __init__(self, child: Child, obeys: bool = False) -> None:
        self.child = child
        self.obeys = obeys
        self.signals: list[str] = []
        self.is_over = False
        self.is_deaf = False  # it has closed its end of the pipe
        self._frames = Frames(value_of)
        self.heard: list[Any] = []
        child.transport = self
        child.connectionMade()

    def writeToChild(self, descriptor: int, data: bytes) -> None:
        assert descriptor == TO_WORKER
        if self.is_deaf:
            raise KeyError(descriptor)  # as Twisted's does
        self.heard += self._frames.feed(data)

    def signalProcess(self, name: str) -> None:
        if self.is_over:
            raise ProcessExitedAlready
        self.signals.append(name)
        if name == "KILL":
            self.end(signal=9)
        elif self.obeys:
            self.end()

    @property
    def errand(self) -> Errand:
        """What it is to be."""
        errand: Errand = self.heard[0]
        return errand

    @property
    def requests(self) -> list[Any]:
        """What it was asked."""
        return self.heard[1:]

    def ready(self) -> None:
        self.answer(READY, {})

    def answer(self, number: int, answer: Mapping[str, object]) -> None:
        self.child.childDataReceived(FROM_WORKER, answered(number, answer))

    def answer_last(self, answer: Mapping[str, object]) -> None:
        self.answer(self.requests[-1][0], answer)

    def says(self, text: str) -> None:
        self.child.childDataReceived(2, text.encode())

    def end(self, status: int = 0, signal: int | None = None) -> None:
        self.is_over = True
        reason = ProcessDone(0) if signal is None and not status else ProcessTerminated(status or None, signal, status)
        self.child.processEnded(Failure(reason))
