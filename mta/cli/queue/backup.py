"""`mta queue backup DEST` and `mta queue restore DIR`: copy the queue, and put a copy back.

A backup is made by the running service while it works; when none runs, from the files.  A restore needs the service
down.  Everything comes back held, for a copy is older than the queue it was made of: what has been delivered since would
be delivered again (docs/queue.md).  Exit status: 0, 1 no or something was left out, which is said, 2 the command line is
wrong, 75 the service does not answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import rich_click as click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bar

from mta.cli.ask import NobodyThere
from mta.cli.queue.options import where
from mta.cli.queue.source import Down, Refused, Service
from mta.cli.queue.table import plain
from mta.control.backup import report_facts
from mta.control.queue_facts import Facts
from mta.queue.sqlite.backup import Progress, save
from mta.queue.sqlite.restore import restore as restored
from mta.status import MailError

__all__ = ["backup", "progress_bar", "restore", "said", "tell"]

POLL = 0.2  # seconds between two looks at how far it is


@click.command()
@where
@click.argument("dest", type=click.Path(path_type=Path))
def backup(data_dir: Path, dest: Path) -> None:
    """Copy the whole queue into the new directory DEST."""
    dest = dest.absolute()
    try:
        service = Service(data_dir)
        with progress_bar() as progress:
            report = _followed(service, service.ask("queue.backup", dest=str(dest)), progress)
    except Down as error:
        if not isinstance(error.__cause__, NobodyThere):
            raise
        click.echo("the service is down; copied from its files", err=True)
        with progress_bar() as progress, said():
            report = report_facts(save(data_dir, dest, progress))
    tell(report, f"saved in {dest}")


@click.command()
@where
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path, exists=True, file_okay=False))
def restore(data_dir: Path, directory: Path) -> None:
    """Put the backup in DIR back into the queue, all of it held; the service must be down."""
    with progress_bar() as progress, said():
        report = report_facts(restored(directory, data_dir, progress))
    if report["messages"]:
        click.echo(
            "All of it is held: look with `mta queue list --state held`, then `mta queue release` or `remove` it.", err=True
        )
    tell(report, f"restored from {directory}")


def _followed(service: Service, answer: Facts, progress: Progress) -> Facts:
    """Wait for the end of it: the report."""
    while answer["state"] == "running":
        progress(answer["what"], answer["done"], answer["total"])
        time.sleep(POLL)
        answer = service.ask("queue.backup")
    if answer["state"] != "done":
        raise Refused(str(answer.get("why", "the service knows nothing of it any more")))
    return answer


def tell(report: Facts, done: str) -> None:
    """What was done, and what was left out: then the exit status is 1."""
    for id, why in report["refused"]:
        click.echo(plain(f"{id}: left out: {why}"))
    more = report["refused_count"] - len(report["refused"])
    if more:
        click.echo(f"and {more} more were left out")
    what = f"{report['messages']} message(s) to {report['recipients']} recipient(s), {report['files']} large bodies"
    click.echo(plain(f"{what}: {done}"))
    if report["refused_count"]:
        raise SystemExit(1)


@contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Shows on a terminal how far it is."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TaskProgressColumn())
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("pages", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total or None)


@contextmanager
def said() -> Iterator[None]:
    """What the queue says no to is click's."""
    try:
        yield
    except MailError as error:
        raise Refused(error.reason or str(error)) from error
