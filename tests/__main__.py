"""Run the tests under trial: `python -m tests [-v] [tests.room.test_file ...]`; all of them by default.

The last line says `N passed, N failed` (and `, N skipped` when any), for people and for programs.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from twisted.trial.reporter import TextReporter, VerboseTextReporter
from twisted.trial.runner import TestLoader, TrialRunner


def main(arguments: list[str]) -> int:
    """Exit status: 0 when nothing failed and something ran."""
    names = [argument for argument in arguments if not argument.startswith("-")] or ["tests"]
    reporter = VerboseTextReporter if "-v" in arguments else TextReporter
    with tempfile.TemporaryDirectory(prefix="mta-tests-") as directory:
        runner = TrialRunner(reporter, workingDirectory=str(Path(directory, "trial")))
        result = runner.run(TestLoader().loadByNames(names, recurse=True))
    failed = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
    passed = result.successes + len(result.expectedFailures)
    for test, reason in result.skips:
        print(f"skipped {test.id()}: {reason}")
    print(f"{passed} passed, {failed} failed" + (f", {len(result.skips)} skipped" if result.skips else ""))
    return int(failed > 0 or passed == 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
