"""`mta queue export FILE`, `import FILE` and `move --to DIR`: mail from one queue into another.

An export reads the files, beside the service or without it; the others want the service down.  What is imported is held,
unless --release is given: since the file was made it may have been delivered (docs/queue.md, "Backup, move, repair").  Exit
status: 0, 1 no, or something was left out, which is said, 2 the command line is wrong.
"""

from __future__ import annotations

import time
from pathlib import Path

import rich_click as click

from mta.cli.queue.backup import progress_bar, said, tell
from mta.cli.queue.options import selectors, where
from mta.control.backup import report_facts
from mta.control.queue_facts import Facts, selector_of
from mta.queue.sqlite import export as files
from mta.queue.sqlite.move import move as moved

__all__ = ["export", "import_", "move"]


@click.command()
@where
@click.argument("file", type=click.Path(path_type=Path))
@selectors(wanted=False)
def export(data_dir: Path, file: Path, selector: Facts) -> None:
    """Write the queue, or those recipients that are selected, into the new FILE, a tar archive; nothing is removed."""
    with progress_bar() as progress, said():
        report = files.export(data_dir, selector_of(selector), file.absolute(), int(time.time() * 1000), progress)
    tell(report_facts(report), f"exported to {file}")


@click.command("import")
@where
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--release", is_flag=True, help="States as they were. Without it all is held: it may have been delivered since.")
def import_(data_dir: Path, file: Path, release: bool) -> None:
    """Put what an export wrote into the queue, all of it held; the service must be down."""
    with progress_bar() as progress, said():
        report = files.import_(file, data_dir, not release, progress)
    if report.skipped:
        click.echo(f"{report.skipped} message(s) were in the queue already", err=True)
    if report.messages and not release:
        click.echo(
            "All of it is held: look with `mta queue list --state held`, then `mta queue release` or `remove` it.", err=True
        )
    tell(report_facts(report), f"imported from {file}")


@click.command()
@where
@click.option("--to", "to", metavar="DIR", required=True, type=click.Path(path_type=Path), help="The other data directory.")
def move(data_dir: Path, to: Path) -> None:
    """Move the whole queue into that of another data directory; no service may run at either."""
    with progress_bar() as progress, said():
        report = moved(data_dir, to, progress)
    if report.skipped:
        click.echo(f"{report.skipped} message(s) were there already, by a move that was cut short", err=True)
    tell(report_facts(report), f"moved to {to}")
