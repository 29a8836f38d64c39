"""`mta reload`: the running service reads its whole configuration anew.

What the file says holds for new connections; mail on its way goes on.  With a mistake in it nothing changes: every
mistake is printed and the exit status is 1.  The same as SIGHUP, but that one tells only the log.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import rich_click as click

from mta.cli.ask import NoAnswer, ask, socket_of
from mta.cli.check import DEFAULT_CONFIG

__all__ = ["reload"]

PATIENCE: Final = 600.0  # seconds: several workers end in order, one after the other


@click.command()
@click.option("-c", "--config", type=click.Path(path_type=Path), default=DEFAULT_CONFIG, show_default=True)
@click.option("--socket", type=click.Path(path_type=Path), help="The control socket, when data_dir in the file has changed.")
def reload(config: Path, socket: Path | None) -> None:
    """Have the running service read its configuration anew."""
    try:
        answer = ask(socket or socket_of(config), {"command": "reload"}, PATIENCE)
    except NoAnswer as error:
        raise click.ClickException(str(error)) from error
    if not answer.get("ok"):
        for line in answer.get("mistakes") or [answer.get("error", "refused, and no reason given")]:
            click.echo(str(line), err=True)
        raise SystemExit(1)
    click.echo(f"generation {answer['generation']} of the configuration is in force")
    if restart := answer.get("restart"):
        click.echo(f"changed, but in force only after a restart: {', '.join(restart)}")
