"""The command `mta`: what operators type.

Each command lives in a file of its own and is a thin shell round the rooms.  Exit status: 0 done, 1 not done (the reason
is on standard error), 2 the command line is wrong (with "did you mean").
"""

from __future__ import annotations

import rich_click as click

from mta.cli.check import check
from mta.cli.dev_cert import dev_cert
from mta.cli.explain import explain
from mta.cli.metrics import metrics
from mta.cli.passwd import passwd
from mta.cli.queue.group import queue
from mta.cli.reload import reload
from mta.cli.run import run
from mta.cli.tls_probe import tls_probe
from mta.compiled import version

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version(), prog_name="mta")
def main() -> None:
    """A mail transfer agent: SMTP in, durable queue, SMTP over TLS out."""


main.add_command(check)
main.add_command(dev_cert)
main.add_command(explain)
main.add_command(metrics)
main.add_command(passwd)
main.add_command(queue)
main.add_command(reload)
main.add_command(run)
main.add_command(tls_probe)
