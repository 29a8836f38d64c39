"""What no run may leave behind: an error in the log, a word on stderr, an exception that nobody saw."""

from __future__ import annotations

import gc
import os
import sys
from io import StringIO
from traceback import format_tb
from typing import Any, Final

from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test
from twisted.internet.interfaces import IReactorTime
from twisted.logger import LogLevel, globalLogPublisher
from twisted.protocols import tls

__all__ = ["Watch", "run"]

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
