"""What no run may leave behind: an error in the log, a word on stderr, an exception that nobody saw.

Also how runs are made, and answers that wait until a run wants them.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from io import StringIO
from traceback import format_tb
from typing import Any, Final

from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import LogLevel, globalLogPublisher
from twisted.protocols import tls

__all__ = ["Waiting", "Watch", "run"]

EXAMPLES: Final = int(os.environ.get("MTA_FUZZ", "0"))  # of each test, 0: so many as a normal run has time for


def run(machine: type[RuleBasedStateMachine], examples: int, steps: int) -> None:
    """Run a state machine; AssertionError with the shortest way to what went wrong."""
    how = settings(deadline=None, max_examples=EXAMPLES or examples, stateful_step_count=steps, report_multiple_bugs=False)
    try:
        run_state_machine_as_test(machine, settings=how)
    except Exception as wrong:  # trial does not print the notes of an exception
        raise AssertionError(
            "\n".join([*format_tb(wrong.__traceback__)[-3:], str(wrong), *getattr(wrong, "__notes__", ())])
        ) from wrong
    finally:
        gc.collect()  # a Deferred that failed with nobody listening says so now


class Watch:
    """Looks on from its making to `stop`; meanwhile Twisted's TLS writes by the clock of this reactor."""

    def __init__(self, reactor: IReactorTime) -> None:
        self._default_clock, tls._get_default_clock = tls._get_default_clock, lambda: reactor  # made to be replaced by tests
        self.seen: list[str] = []
        self._stderr, self._hook = sys.stderr, sys.unraisablehook
        self._printed = sys.stderr = StringIO()
        sys.unraisablehook = lambda unraisable: self.seen.append(f"unraisable: {unraisable.exc_value!r}")
        globalLogPublisher.addObserver(self._look)

    def _look(self, event: dict[str, Any]) -> None:
        if event.get("isError") or event.get("log_failure") or event.get("log_level") in (LogLevel.error, LogLevel.critical):
            failure = event.get("log_failure") or event.get("failure")
            self.seen.append(failure.getTraceback() if failure is not None else str(event))

    def check(self) -> None:
        """AssertionError when there was something."""
        printed = self._printed.getvalue()
        assert not self.seen and not printed, "\n".join([*self.seen, printed])

    def stop(self) -> None:
        """Look on no more."""
        tls._get_default_clock = self._default_clock
        globalLogPublisher.removeObserver(self._look)
        sys.stderr, sys.unraisablehook = self._stderr, self._hook


class Waiting:
    """Answers that somebody owes us."""

    def __init__(self, slow: bool) -> None:
        self.slow = slow
        self._due: list[tuple[Deferred[Any], Callable[[], Any]]] = []

    def later(self, answer: Callable[[], Any]) -> Any:
        """The answer now, or a Deferred of it."""
        if not self.slow:
            return answer()
        waiting: Deferred[Any] = Deferred()
        self._due.append((waiting, answer))
        return waiting

    def decide(self) -> None:
        """The oldest answer is given; those who were cancelled have waited long enough."""
        while self._due:
            waiting, answer = self._due.pop(0)
            if not waiting.called:
                waiting.callback(answer())
                return

    def __bool__(self) -> bool:
        return bool(self._due)
