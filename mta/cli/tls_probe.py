"""`mta tls-probe DOMAIN`: what each mail server of a domain, or one host, says about TLS (docs/operators.md).

It does what a delivery does up to the point where mail would be sent, and says at which level it would have gone.  No
running service is needed.  Exit status: 0 at least one server gives what is owed, 1 none does, 2 the command line or the
configuration is wrong, 75 nobody knows now (no answer from DNS, no connection, a temporary refusal).
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import SystemRandom
from typing import Any, Final

import attrs
import rich_click as click

from mta.cli.check import DEFAULT_CONFIG
from mta.config.loader import load, parse
from mta.config.mistake import ConfigError
from mta.config.name import next_hop_fault
from mta.config.settings import Settings
from mta.interfaces import IMailResolver
from mta.status import MailError
from mta.tls.policy import LEVELS
from mta.tls.policy_table import plain_name

__all__ = ["Request", "run", "tls_probe"]

_PROBED: Final = "tls_policy[0]."  # the entry of [[tls_policy]] that -l and -o make


@attrs.frozen(slots=True)
class Request:
    """What was asked for.  given: keys of [[tls_policy]].  again: seconds until a second connection, None for none."""

    next_hop: str
    settings: Settings
    given: Mapping[str, Any] = attrs.Factory(dict)
    chain: bool = False
    debug: bool = False
    again: float | None = None
    handover: bool = False


@click.command("tls-probe")
@click.argument("destination", metavar="DOMAIN|[HOST]:PORT")
@click.option("-l", "--level", type=click.Choice(LEVELS), help="The level to try; else what the configuration has for it.")
@click.option("-o", "--option", "options", multiple=True, metavar="KEY=VALUE", help="A key of [[tls_policy]]; may be repeated.")
@click.option("-c", "--chain", is_flag=True, help="Show every certificate of the chain.")
@click.option("-L", "--log", type=click.Choice(["info", "debug"]), default="info", help="debug: the conversation, on stderr.")
@click.option(
    "-r", "--reconnect", "again", type=click.FloatRange(0, 3600), metavar="SECONDS", help="Connect again after so long."
)
@click.option("--handover", is_flag=True, help="Find out whether TLS may be kept between two deliveries, or taken down.")
@click.option("-C", "--config", type=click.Path(path_type=Path), help=f"Default: {DEFAULT_CONFIG}, where there is one.")
def tls_probe(
    destination: str,
    level: str | None,
    options: tuple[str, ...],
    chain: bool,
    log: str,
    again: float | None,
    handover: bool,
    config: Path | None,
) -> None:
    """Say what the mail servers of DOMAIN, or one HOST, would be to our deliveries: TLS, certificates, levels."""
    if fault := next_hop_fault(destination):
        raise click.UsageError(fault)
    try:
        given = _given(level, options)
        request = Request(plain_name(destination), _settings(config), given, chain, log == "debug", again, handover)
    except ConfigError as error:
        for mistake in error.mistakes:
            click.echo(f"-o {mistake.key.removeprefix(_PROBED)}: {mistake.text}" if _PROBED in mistake.key else mistake, err=True)
        raise SystemExit(2) from None
    from twisted.internet.task import react  # here: it brings a reactor's worth of imports

    react(partial(_end_with_status, request))


def _given(level: str | None, options: Sequence[str]) -> dict[str, Any]:
    """The keys of [[tls_policy]] on the command line, judged as those of the file are.  Raises ConfigError, UsageError."""
    keys = [option.partition("=")[0].strip() for option in options]
    for key in keys:
        if key in ("match", "until", "level"):
            raise click.UsageError(f"-o {key} makes no sense here" + ("; -l gives the level" if key == "level" else ""))
    text = 'hostname = "probe.invalid"\ndata_dir = "."\n[[tls_policy]]\nmatch = "probe.invalid"\n'
    if level is not None:
        keys.append("level")
        text += f"level = {json.dumps(level)}\n"
    entry = parse(text, Path.cwd() / "tls-probe", [_PROBED + option for option in options]).tls_policy[0]
    return {key: getattr(entry, key) for key in keys}


def _settings(config: Path | None) -> Settings:
    """The configuration; without one, the defaults.  Raises ConfigError."""
    if config is None and not DEFAULT_CONFIG.exists():
        return Settings(hostname=socket.getfqdn(), data_dir=Path.cwd())
    # The server's own certificate is no matter here, and its key is not for everybody to read.
    return load(config or DEFAULT_CONFIG, ["tls.error=offer-nothing"])


async def _end_with_status(request: Request, reactor: Any) -> None:
    from mta.dns.client import Resolver
    from mta.tls.https import Https
    from mta.tls.mtasts_fetch import fetch_policy

    resolver = Resolver(reactor, request.settings.dns, random=SystemRandom())
    https = Https(reactor, resolver, request.settings.tls_client.trust)
    resolver.start()
    try:
        status = await run(reactor, request, resolver, partial(fetch_policy, https), click.echo)
    finally:
        https.stop()
        await resolver.close()
    raise SystemExit(status)


async def run(
    reactor: Any, request: Request, resolver: IMailResolver, fetch: Callable[[str], Any], write: Callable[[str], object]
) -> int:
    """Probe, and say what was found; the exit status.  fetch: the text of a domain's MTA-STS policy."""
    from mta.hints import MemoryHints
    from mta.relay.probe.prober import Prober
    from mta.relay.probe.survey import Surveyor
    from mta.relay.probe.text import finding_lines, survey_lines
    from mta.route.hosts import NextHops
    from mta.tls.client import ClientTls

    settings = request.settings
    hops = NextHops(resolver, random=SystemRandom(), port=settings.relay.port, prefer=settings.relay.prefer)
    today = datetime.fromtimestamp(reactor.seconds(), UTC).date()
    surveyor = Surveyor(settings, resolver, hops, fetch, MemoryHints(reactor), clock=reactor, today=today, given=request.given)
    try:
        survey = await surveyor.survey(request.next_hop)
        tls = ClientTls(settings.tls_client)
    except MailError as error:
        write(f"{request.next_hop}\n  result {error.reply}")
        return 1 if error.reply.is_permanent else 75
    prober = Prober(reactor, settings, tls, partial(click.echo, err=True) if request.debug else lambda line: None)
    for line in survey_lines(survey):
        write(line)
    findings = await prober.probe(survey, again=request.again, handover=request.handover)
    for finding in findings:
        for line in finding_lines(finding, survey, request.chain):
            write(line)
    return min(finding.result for finding in findings)
