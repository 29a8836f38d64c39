"""`mta check`: read the configuration as the service would, and say everything that is wrong with it at once.

Mistakes go to standard error, one a line, as `FILE:LINE: key: what is wrong`; exit status 1.  Nothing is opened for
writing, no port is bound: it can be run beside the service.
"""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from mta.config.loader import load
from mta.config.mistake import ConfigError
from mta.config.render import render

__all__ = ["DEFAULT_CONFIG", "check"]

DEFAULT_CONFIG = Path("/etc/mta/mta.toml")


@click.command()
@click.argument("file", type=click.Path(path_type=Path), default=DEFAULT_CONFIG)
@click.option("--show", is_flag=True, help="Print the configuration with all its defaults.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Lay one key over the file; may be repeated.")
def check(file: Path, show: bool, overrides: tuple[str, ...]) -> None:
    """Check the configuration FILE (/etc/mta/mta.toml)."""
    try:
        settings = load(file, overrides)
    except ConfigError as error:
        click.echo(str(error), err=True)
        raise SystemExit(1) from None
    click.echo(render(settings) if show else "ok", nl=not show)
