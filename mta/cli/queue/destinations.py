"""`mta queue suspend`, `resume`, `run`: what an operator says about destinations, and when mail goes.

Exit status: 0, 1 the service refused it, 2 the command line is wrong, 75 the service does not run.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import rich_click as click
from rich.console import Console

from mta.cli.queue.options import full_dest, where
from mta.cli.queue.source import Service

__all__ = ["resume", "run", "suspend"]


A_DAY = 86_400.0  # seconds


@click.command()
@click.argument("dest")
@where
@click.option("--why", default="", help="The reason: for the summary, the log, and the bounces of what expires meanwhile.")
def suspend(dest: str, data_dir: Path, why: str) -> None:
    """Try nothing at the destination DEST until it is resumed; its mail waits, and expires in its time."""
    answer = Service(data_dir).ask("queue.suspend", dest=full_dest(dest), why=why)
    click.echo(f"{answer['dest']} is suspended")


@click.command()
@click.argument("dest")
@where
def resume(dest: str, data_dir: Path) -> None:
    """Go on with the destination DEST: it is tried at once, also when it was blocked."""
    answer = Service(data_dir).ask("queue.resume", dest=full_dest(dest))
    click.echo(f"{answer['dest']} is not suspended")


@click.command()
@where
@click.option("--two-stage", is_flag=True, help="First find the hosts of all mail, then deliver it grouped by host.")
def run(data_dir: Path, two_stage: bool) -> None:
    """Deliver once all mail that is due, whatever [queue] mode says; ends when all of it has set out."""
    console = Console(stderr=True)
    with console.status("mail sets out (interrupted, the run goes on)") if console.is_terminal else nullcontext():
        answer = Service(data_dir).ask("queue.run", A_DAY, two_stage=two_stage)
    click.echo(f"mail for {answer['destinations']} destination(s) has set out")
