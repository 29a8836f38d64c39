"""A reactor of tests whose threads run when the test says so: a Clock, and a pool that keeps what it is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock
from twisted.python.failure import Failure


class ThreadedClock(Clock):
    """eager: work is done at once; else it waits in `waiting` for `work()`."""

    def __init__(self, eager: bool = True) -> None:
        super().__init__()
        self.eager = eager
        self.waiting: list[Callable[[], None]] = []

    def getThreadPool(self) -> ThreadedClock:
        return self

    def callFromThread(self, function: Callable[..., Any], *arguments: Any, **more: Any) -> None:
        function(*arguments, **more)

    def callInThreadWithCallback(
        self, done: Callable[[bool, Any], None], function: Callable[..., Any], *arguments: Any, **more: Any
    ) -> None:
        def run() -> None:
            try:
                result = function(*arguments, **more)
            except BaseException:
                done(False, Failure())
            else:
                done(True, result)

        if self.eager:
            run()
        else:
            self.waiting.append(run)

    def work(self) -> None:
        """One piece of what waits."""
        self.waiting.pop(0)()
