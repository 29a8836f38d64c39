"""`mta queue` and its commands, one file for each kind."""

from __future__ import annotations

import rich_click as click

from mta.cli.queue.alter import flush, hold, release, remove, reroute, retry
from mta.cli.queue.backup import backup, restore
from mta.cli.queue.carry import export, import_, move
from mta.cli.queue.check import check
from mta.cli.queue.destinations import resume, run, suspend
from mta.cli.queue.look import list_, show, summary

__all__ = ["queue"]


@click.group()
def queue() -> None:
    """Look at the queue, and act on it."""


LOOKING = (list_, summary, show, check)
ALTERING = (flush, hold, release, retry, remove, reroute, suspend, resume, run)
CARRYING = (backup, restore, export, import_, move)

for command in (*LOOKING, *ALTERING, *CARRYING):
    queue.add_command(command)
