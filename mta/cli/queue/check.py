"""`mta queue check`: is the queue whole?  Reads the files, beside the service or without it, and writes nothing.

What is looked at, and what is grave, is in `mta/queue/sqlite/check.py`.  Every finding is a line of standard output; what
the next start or the sweep puts right says so, and does not count.  Exit status: 0 nothing grave was found, 1 something
was, or there is no queue, 2 the command line is wrong.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import rich_click as click
from rich.console import Console

from mta.cli.queue.options import where
from mta.cli.queue.source import File, Files, Refused
from mta.cli.queue.table import plain
from mta.queue.sqlite.check import Finding
from mta.queue.sqlite.check import check as findings_of
from mta.queue.sqlite.schema import has_log
from mta.status import MailError

__all__ = ["check"]


@click.command()
@where
def check(data_dir: Path) -> None:
    """Check that the queue is whole; print every finding."""
    grave = False
    for file in Files(data_dir).each:
        found = _findings(file)
        for finding in found:
            click.echo(plain(str(finding)))
        grave = grave or any(finding.grave for finding in found)
    if grave:
        raise SystemExit(1)
    click.echo("ok")


def _findings(file: File) -> list[Finding]:
    if not file.path.exists():
        raise Refused(f"{file.path}: there is no queue")
    console, still = Console(stderr=True), not has_log(file.path)
    try:
        with console.status(f"reading {file.path}") if console.is_terminal else nullcontext():
            found = findings_of(file.path, file.spool.directory)
            if found and still and has_log(file.path):  # a service has started, and what was read as still has moved
                found = findings_of(file.path, file.spool.directory)
    except MailError as error:
        raise Refused(str(error)) from error
    return found
