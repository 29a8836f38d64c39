"""The queue, measured: each benchmark is one command, with small sizes or those that the manual promises.

    python -m bench.queue b1 [b3 ...] [--rows 1000000] [--quick] [--out DIR] [--directory /var/tmp]
    python -m bench.queue all --quick

Prints the settings, the commit, how long an fdatasync takes on that disk, and a table; --out also writes NAME.json and
NAME.png.  The directory must be on a real disk with 15 GB free for a million rows.  B2, B7, B8 and B9 need `make peers`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from twisted.internet.task import react

from bench.queue.accept import b1, b13
from bench.queue.bodies import b9
from bench.queue.circle import b3, b5, b12
from bench.queue.claim import b4
from bench.queue.plan import Plan
from bench.queue.server import b2, b7, b8
from bench.queue.upkeep import b6
from bench.report import Report

QUICK = 20_000
BENCHMARKS: dict[str, Callable[[Plan], Coroutine[Any, Any, Report]]] = {
    found.__name__: found for found in (b1, b2, b3, b4, b5, b6, b7, b8, b9, b12, b13)
}


async def run(reactor: Any, options: argparse.Namespace) -> None:
    """One after the other, each in a folder that is gone at its end."""
    names = list(BENCHMARKS) if "all" in options.names else options.names
    for name in names:
        with tempfile.TemporaryDirectory(prefix="mta-bench-", dir=options.directory, ignore_cleanup_errors=True) as folder:
            Path(folder).chmod(0o755)
            rows = options.rows or (QUICK if options.quick else 1_000_000)
            plan = Plan(reactor, Path(folder), rows, options.quick)
            try:
                report = await BENCHMARKS[name](plan)
            finally:
                await plan.close()
        report.show()
        if options.out is not None:
            report.save(options.out)


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser("bench.queue", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=[*BENCHMARKS, "all"], metavar="NAME", help=f"{' '.join(BENCHMARKS)}, or all")
    parser.add_argument("--rows", type=int, default=0, help="of the largest backlog (1000000; 20000 with --quick)")
    parser.add_argument("--quick", action="store_true", help="small sizes: to see that it works, the figures say little")
    parser.add_argument("--out", type=Path, help="folder for NAME.json and NAME.png")
    parser.add_argument("--directory", default="/var/tmp", help="of the data; a real disk (/var/tmp)")
    options = parser.parse_args(arguments)
    react(lambda reactor: run(reactor, options))  # ends the process: 0, or 1 with a traceback


if __name__ == "__main__":
    main(sys.argv[1:])
