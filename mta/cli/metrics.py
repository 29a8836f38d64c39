"""`mta metrics`: what the running service has counted, as Prometheus would get it, or as JSON.

Several workers are one server here: their numbers are made one, and with `--each` they stand side by side as they do for
Prometheus.  A worker that has not answered has `mta_worker_up` 0.
"""

from __future__ import annotations

import json
from pathlib import Path

import rich_click as click

from mta.cli.ask import NoAnswer, ask, socket_of
from mta.cli.check import DEFAULT_CONFIG

__all__ = ["metrics"]


@click.command()
@click.option("-c", "--config", type=click.Path(path_type=Path), default=DEFAULT_CONFIG, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
@click.option("--each", is_flag=True, help="Print the numbers of each worker.")
def metrics(config: Path, as_json: bool, each: bool) -> None:
    """Print the metrics of the running service."""
    from mta.control.exposition import written  # late: no other command should wait for the library
    from mta.control.metrics import decoded, merged, series

    try:
        answer = ask(socket_of(config), {"command": "metrics"})
        if not answer.get("ok"):
            raise NoAnswer(str(answer.get("error", "refused, and no reason given")))
        page = {worker: decoded(said) for worker, said in answer["page"].items()}
    except (NoAnswer, ValueError, LookupError) as error:
        raise click.ClickException(str(error)) from error
    if not each:
        page = merged(page)
    if as_json:
        for name, labels, number in series(page):
            click.echo(json.dumps({"name": name, "labels": labels, "value": number}))
    else:
        click.echo(written(page)[0].decode(), nl=False)
