"""Whom the writer works for: what its thread tells the engine (engine.py), which takes it to the reactor's.

A start ends with `opened`, good or bad; after a bad one nothing follows.  `untaken` comes once, before that or, where the
disk was full, later.  Every operation is answered once by `deliver`, also after `failed` and until the stop.  `closed` is
the last word.
"""

from __future__ import annotations

from typing import Any, Protocol

from mta.queue.sqlite.operation import Operation
from mta.status import MailError

__all__ = ["Owner", "Result"]

Result = tuple[Operation, Any, MailError | None]


class Owner(Protocol):
    """All are called on the writer's thread."""

    def untaken(self) -> None:
        """What the last owner had taken waits again."""

    def opened(self, highest: int, error: MailError | None) -> None:
        """The file is open: the highest id in it; or why it is not, and the thread has ended."""

    def deliver(self, results: list[Result], removable: list[int]) -> None:
        """Answers, and the messages whose files may be removed."""

    def failed(self, error: BaseException) -> None:
        """The process must end.  What is asked from now on is answered with 451."""

    def closed(self) -> None:
        """After `stop`: everything is answered, the file is closed."""
