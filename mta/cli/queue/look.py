"""`mta queue list`, `summary` and `show`: what is in the queue.

Asked of the running service; of one that is down the files are read, never written.  Tables for people, JSON for
programs.  Exit status: 0, 1 nothing matched, 2 the command line is wrong, 75 the service does not answer.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import rich_click as click
from rich.console import Console
from rich.table import Table

from mta.cli.queue.follow import Seen, changes
from mta.cli.queue.options import QueueId, selectors, where
from mta.cli.queue.sheet import header_lines, sheet
from mta.cli.queue.source import Files, Service, Source, source_at
from mta.cli.queue.table import rows_table, summary_table, text_of
from mta.control.queue_facts import Facts

__all__ = ["list_", "rows_of", "show", "summary"]

PAGE = 1000  # rows asked for at once; the service gives as many as it likes
SHOWN = 100  # recipients in a table
WATCHED = 1000  # recipients that are followed
MOST_WATCHED = 10_000
PAUSE = 2.0  # seconds between two looks


@click.command("list")
@where
@selectors(wanted=False)
@click.option("--limit", type=click.IntRange(0), help="At most so many; 0 is all. Without it 100, or all with --json.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for programs.")
@click.option("--follow", is_flag=True, help="Go on with what comes, changes and goes, until interrupted.")
def list_(data_dir: Path, selector: Facts, limit: int | None, as_json: bool, follow: bool) -> None:
    """List recipients, the oldest message first."""
    if follow:
        _follow(Service(data_dir), selector, min(limit or WATCHED, MOST_WATCHED), as_json)
        return
    source = source_at(data_dir)
    limit = (0 if as_json else SHOWN) if limit is None else limit
    if as_json:
        found = 0
        for found, row in enumerate(rows_of(source, selector, limit), 1):  # noqa: B007
            click.echo(json.dumps(row))
    else:
        found = _tabulate(source, selector, limit)
    raise SystemExit(0 if found or not selector else 1)


def rows_of(source: Source, selector: Facts, limit: int) -> Iterator[Facts]:
    """Recipients, page by page.  limit: 0 is all."""
    after, left = 0, limit or sys.maxsize
    while left > 0:
        rows, after = source.page(selector, after, min(PAGE, left))
        yield from rows
        left -= len(rows)
        if not after:
            return


def _tabulate(source: Source, selector: Facts, limit: int) -> int:
    rows = list(rows_of(source, selector, limit + 1 if limit else 0))
    more = limit and len(rows) > limit
    if rows:
        _print(rows_table(rows[:limit] if more else rows, _now()))
    if more:
        click.echo(f"the first {limit}; there are more (--limit)", err=True)
    if not rows:
        click.echo("nothing matched" if selector else "the queue is empty", err=True)
    return len(rows)


def _follow(service: Service, selector: Facts, limit: int, as_json: bool) -> None:
    seen: Seen = {}
    try:
        while True:
            rows = list(rows_of(service, selector, limit))
            now = {row["recipient"]: row for row in rows}
            _tell(list(changes(seen, now)), as_json)
            if len(rows) == limit > len(seen):
                click.echo(f"only the first {limit} are followed", err=True)
            seen = now
            time.sleep(PAUSE)
    except KeyboardInterrupt:
        return


def _tell(found: list[tuple[str, Facts]], as_json: bool) -> None:
    if as_json:
        for what, row in found:
            click.echo(json.dumps({"change": what, **row}))
    elif found:
        _print(rows_table([row for _, row in found], _now(), [what for what, _ in found]))


def _print(table: Table) -> None:
    here = Console()  # knows the terminal, and NO_COLOR
    color = here.color_system is not None and not here.no_color
    click.echo(text_of(table, here.width if here.is_terminal else None, color), nl=False)


def _now() -> int:
    return int(time.time() * 1000)


@click.command()
@where
@click.option("--limit", type=click.IntRange(1, 100), default=20, show_default=True, help="The largest destinations.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
def summary(data_dir: Path, limit: int, as_json: bool) -> None:
    """Count recipients by destination and age."""
    facts = source_at(data_dir).summary(limit)
    if as_json:
        click.echo(json.dumps({"destinations": facts["destinations"], "suspended": facts["suspended"]}, indent=2))
    elif not facts["destinations"] and not facts["suspended"]:
        click.echo("the queue is empty", err=True)
    else:
        _print(summary_table(facts, _now()))
        if len(facts["destinations"]) == limit:
            click.echo(f"the {limit} largest destinations; TOTAL is theirs (--limit)", err=True)


@click.command()
@click.argument("id", type=QueueId())
@where
@click.option("--headers", is_flag=True, help="The header of the message too.")
@click.option("--body", is_flag=True, help="The message itself, as it is stored, and nothing else.")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON, for programs.")
def show(id: str, data_dir: Path, headers: bool, body: bool, as_json: bool) -> None:
    """Show the message ID: envelope, flags, and each recipient with its attempts."""
    if body:
        _copy(Files(data_dir), id)
        return
    source = source_at(data_dir)
    message = source.message(id)
    rows = list(rows_of(source, {"id": id}, 0))
    if as_json:
        click.echo(json.dumps({**message, "recipients": rows}, indent=2))
        return
    console = Console(file=sys.stdout, highlight=False, markup=False)
    for label, text in sheet(message, rows, _now()):
        console.print(f"{label:<14}{text}", soft_wrap=True)  # what grep reads is not folded
    if headers:
        for line in ("", *header_lines(message)):
            console.print(line, soft_wrap=True)


def _copy(files: Files, id: str) -> None:
    """Prefix and body to standard output, byte by byte."""
    out = sys.stdout.buffer
    for piece in files.whole(id):
        out.write(piece)
    out.flush()
