"""`mta queue hold`, `release`, `retry`, `remove`, `reroute`, `flush`: what an operator does to recipients.

Done by the running service in bites, so that mail goes on being accepted; interrupted, a whole number of bites is done, and
the same command again does the rest.  Exit status: 0, 1 there was nothing to do, 2 the command line is wrong, 75 the
service does not run (nothing else may write in its queue).
"""

from __future__ import annotations

from pathlib import Path

import rich_click as click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from mta.cli.queue.options import full_dest, selectors, where
from mta.cli.queue.source import Service
from mta.control.queue_facts import Facts

__all__ = ["flush", "hold", "release", "remove", "reroute", "retry"]

PAGE = 100  # recipients looked at before somebody is asked whether they are to be removed


def _command(name: str, done: str, help: str) -> click.Command:
    """A command that does one thing to the recipients of a selector."""

    @click.command(name, help=help)
    @where
    @selectors(wanted=True)
    def command(data_dir: Path, selector: Facts) -> None:
        _conclude(in_bites(Service(data_dir), selector, name), done)

    return command


hold = _command("hold", "held", "Hold recipients: they are not tried, and do not expire, until they are released.")
release = _command("release", "released", "Release held recipients: they are tried now.")
retry = _command("retry", "due now", "Try waiting recipients now, where their destination is not blocked (see flush).")
reroute = _command("reroute", "moved to other destinations", "File recipients anew, by the routes as they are now.")


@click.command()
@where
@selectors(wanted=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(data_dir: Path, selector: Facts, yes: bool) -> None:
    """Remove recipients from the queue: their mail is lost, and no sender is told."""
    service = Service(data_dir)
    if not yes:
        rows, more = service.page(selector, 0, PAGE)
        if not rows:
            _conclude(0, "removed")
        many = f"at least {len(rows)}" if more else str(len(rows))
        click.confirm(f"Remove {many} recipient(s) for good?", abort=True, err=True)
    _conclude(in_bites(service, selector, "remove"), "removed")


@click.command()
@where
@click.option("--dest", metavar="NAME", help="This destination; a domain alone means smtp:_mx/DOMAIN.")
@click.option("--all", "everything", is_flag=True, help="Every destination.")
def flush(data_dir: Path, dest: str | None, everything: bool) -> None:
    """Try everything that waits now: what is not due yet becomes due, blocks end."""
    if (dest is None) is not everything:
        raise click.UsageError("One of --dest NAME and --all is wanted.")
    service = Service(data_dir)
    name = None if dest is None else full_dest(dest)
    selector = {"state": "waiting"} if name is None else {"state": "waiting", "dest": name}
    count = in_bites(service, selector, "retry")  # most of the work, with its progress; then the blocks
    count += service.ask("queue.flush", dest=name)["count"]
    blocks = "no destination is blocked" if name is None else f"{name} is not blocked"
    click.echo(f"{count} recipient(s) were not due yet and are now; {blocks}")


def in_bites(service: Service, selector: Facts, action: str) -> int:
    """Do it; how many recipients were altered."""
    count, after = 0, 0
    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(action, total=None)
        while True:
            answer = service.ask("queue.alter", selector=selector, action=action, after=after)
            count, after = count + int(answer["count"]), int(answer["after"])
            progress.update(task, completed=count)
            if not after:
                return count


def _conclude(count: int, done: str) -> None:
    if not count:
        click.echo("nothing matched, or there was nothing to do", err=True)
        raise SystemExit(1)
    click.echo(f"{count} recipient(s) {done}")
