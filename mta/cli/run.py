"""`mta run`: the service in the foreground, for those who have the command mta and not twistd (pipx).

The same as `twistd -n --pidfile= mta --config FILE`: twistd's own entry point is called, so signals, reactor and log are
what an operator of Twisted knows.
"""

from __future__ import annotations

import sys
from pathlib import Path

import rich_click as click

from mta.cli.check import DEFAULT_CONFIG

__all__ = ["run"]


@click.command()
@click.option("-c", "--config", type=click.Path(path_type=Path), default=DEFAULT_CONFIG, show_default=True)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Lay one key over the file; may be repeated.")
def run(config: Path, overrides: tuple[str, ...]) -> None:
    """Run the service in the foreground (as `twistd -n mta` does)."""
    from twisted.scripts import twistd  # here: it brings a reactor's worth of imports

    settings = [argument for override in overrides for argument in ("--set", override)]
    sys.argv = ["twistd", "--nodaemon", "--pidfile=", "mta", "--config", str(config), *settings]
    twistd.run()  # type: ignore[no-untyped-call]
