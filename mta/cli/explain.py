"""`mta explain ADDRESS`: what would become of mail to an address, and why (docs/operators.md).

Reads the configuration as the service would, asks DNS and the policy hosts of MTA-STS, and what the service remembers of
hosts (`hints.db`), where that may be read.  No mail server is connected to, nothing is written, no running service is
needed.  Exit status: 0 the mail would be tried or delivered here, 1 it would wait or bounce, or the configuration cannot be
used.  What strangers wrote (DNS, policies) is printed without its control characters.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import SystemRandom
from typing import Any

import apsw
import rich_click as click
from rich.console import Console
from rich.text import Text

from mta.cli.check import DEFAULT_CONFIG
from mta.config.loader import load
from mta.config.mistake import ConfigError
from mta.config.settings import Settings
from mta.status import MailError

__all__ = ["explain", "lines"]

Facts = dict[str, Any]
Line = tuple[str, str]  # label, text

_STYLES = {"deliver": "bold green", "defer": "bold yellow", "bounce": "bold red"}


@click.command()
@click.argument("address")
@click.option("-C", "-c", "--config", type=click.Path(path_type=Path), default=DEFAULT_CONFIG, show_default=True)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Lay one key over the file; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON, for programs.")
def explain(address: str, config: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Say what would become of mail to ADDRESS: route, hosts, TLS owed, hand-over, limits."""
    try:
        facts = _explained(address, load(config, overrides))
    except (ConfigError, MailError) as error:
        click.echo(str(error), err=True)
        raise SystemExit(1) from None
    if as_json:
        click.echo(json.dumps(facts, indent=2))
    else:
        _print(facts)
    raise SystemExit(0 if facts["outcome"] == "deliver" else 1)


def _explained(address: str, settings: Settings) -> Facts:
    """The facts, on a reactor that lives for this question.  MailError when a trust file cannot be used."""
    from twisted.internet.task import react  # here: it brings a reactor's worth of imports

    results: list[Facts] = []
    try:
        react(partial(_ask, address=address, settings=settings, results=results))
    except SystemExit as end:
        if end.code:  # the traceback of a bug is on standard error
            raise
    return results[0]


async def _ask(reactor: Any, *, address: str, settings: Settings, results: list[Facts]) -> None:
    from mta.dns.client import Resolver
    from mta.explain import Explanation, read_hints
    from mta.hints import MemoryHints
    from mta.tls.https import Https
    from mta.tls.mtasts_fetch import fetch_policy

    unpredictable = SystemRandom()
    resolver = Resolver(reactor, settings.dns, random=unpredictable)
    https = Https(reactor, resolver, settings.tls_client.trust)
    hints, unread = MemoryHints(reactor), ""
    try:
        hints = read_hints(settings.data_dir / "hints.db", reactor)
    except (OSError, apsw.Error) as error:
        unread = str(getattr(error, "strerror", None) or error)
    resolver.start()
    try:
        fetch = partial(fetch_policy, https)
        explanation = Explanation(settings, clock=reactor, resolver=resolver, fetch=fetch, hints=hints, random=unpredictable)
        results.append({**await explanation.of(address), "memory_unread": unread})
    finally:
        https.stop()
        await resolver.close()


def _print(facts: Facts) -> None:
    shown = list(lines(facts, time.time()))
    width = max(len(label) for label, _ in shown)
    console = Console(file=sys.stdout, highlight=False)
    for label, text in shown:
        style = _STYLES.get(label, "")
        line = Text.assemble((label.ljust(width + 2) if text else label, style or "cyan"), (_plain(text), style))
        console.print(line, soft_wrap=True)  # what grep reads is not folded


def _plain(text: str) -> str:
    """Without what could move a terminal's cursor."""
    return "".join([char if char.isprintable() else "?" for char in text])


def lines(facts: Facts, now: float) -> Iterator[Line]:
    """The explanation line by line.  now: seconds since the epoch."""
    yield "address", facts["address"]
    if route := facts["route"]:
        demanded = f", tls = {route['tls']}" if route["tls"] else ""
        way = f"{route['agent']} to {route['next_hop']}" if route["next_hop"] else route["agent"]
        yield "route", f"{route['name']}: {way}{demanded}"
    if "mailbox" in facts:
        yield "mailbox", facts["mailbox"] or "none any more"
    if facts.get("mx"):
        yield "MX", _mx(facts["mx"])
    if facts.get("mta_sts"):
        yield "MTA-STS", _policy(facts["mta_sts"])
    if facts.get("dane"):
        yield "DANE", _dane(facts["dane"])
    for number, host in enumerate(facts.get("hosts", ()), 1):
        yield from _host(number, host, now)
    if "limits" in facts:
        yield "limits", _limits(facts["limits"])
        yield "retry", _retry(facts["retry"])
    if facts.get("memory_unread"):
        yield "memory", f"what the service remembers cannot be read: {facts['memory_unread']}"
    yield facts["outcome"], facts["why"]


def _secure(secure: bool) -> str:
    return "DNSSEC: secure" if secure else "DNSSEC: not secure"


def _mx(mx: Facts) -> str:
    hosts = ", ".join([f"{each['preference']} {each['host']}" for each in mx["hosts"]])
    reason = f" ({mx['reason']})" if mx["reason"] else ""
    return f"{hosts or mx['answer'] + reason + ', no MX record'}; {_secure(mx['secure'])}"


def _policy(sts: Facts) -> str:
    used = "" if sts["used"] else "; not used: [tls_client] mta_sts is false"
    failure = f"; last fetch: {sts['failure']}" if sts["failure"] else ""
    policy = sts["policy"]
    if policy is None:
        return f"no policy{failure}{used}"
    return (
        f"{policy['mode']}, id {policy['id']}, mx {' '.join(policy['mx']) or '-'}, max_age {policy['max_age']} s{failure}{used}"
    )


def _dane(dane: Facts) -> str:
    if dane["validates"]:
        return "the resolver validates"
    return f"off: {dane['off']}" if dane["off"] else "not wanted, or the resolver does not validate"


def _host(number: int, host: Facts, now: float) -> Iterator[Line]:
    secure = f"MX {_secure(host['mx_secure'])}, address {_secure(host['address_secure'])}"
    yield f"host {number}", f"{host['preference']} {host['host']}[{host['address']}]:{host['port']}; {secure}"
    if host["tlsa"] is not None:
        yield "  TLSA", _tlsa(host["tlsa"])
    names = f", for {' or '.join(host['names'])}" if host["names"] else ""
    clear = "clear text after failed handshakes" if host["may_go_clear"] else "never in clear"
    clear = "always in clear" if host["level"] == "none" else clear
    yield "  TLS owed", f"{host['level']} (demanded by: {host['origin']}){names}; {clear}"
    if host["evidence"]:
        yield "  evidence", host["evidence"]
    if host["refusal"]:
        yield "  refused", host["refusal"]
    if host["handover"]:
        yield "  hand-over", f"{host['handover']['verdict']} ({host['handover']['why']})"
    yield from _memory(host["memory"], now)


def _tlsa(tlsa: Facts) -> str:
    if tlsa["error"]:
        return f"nobody knows: {tlsa['error']}"
    return f"{', '.join(tlsa['records'])} at {tlsa['base_domain']}" if tlsa["records"] else "none that is secure"


def _memory(memory: Facts, now: float) -> Iterator[Line]:
    if memory["strike"] is not None:
        next_time = "TLS is tried first" if memory["tries_tls"] else "the next delivery goes in clear"
        yield "  memory", f"TLS failed {max(0, now - memory['strike']):.0f} s ago; {next_time}"
    if memory["keep_suspended"]:
        yield "  memory", "kept connections died three times in a row: none is kept for some minutes"


def _limits(limits: Facts) -> str:
    at_once = f"{limits['transactions_at_first']} to {limits['transactions']} transactions at once"
    count = limits["reuse_count"] or "any number of"
    return (
        f"{at_once}, {limits['transactions_in_all']} in all; {limits['recipients']} recipients in one; "
        f"{limits['addresses']} addresses in one attempt; "
        f"a connection serves {limits['reuse_time']:g} s and {count} messages, and idles {limits['idle']:g} s"
    )


def _retry(retry: Facts) -> str:
    return (
        f"after {retry['first']:g} s, doubling to {retry['last']:g} s, for {retry['lifetime']:g} s; "
        f"after a failed handshake in {retry['after_handshake']:g} s"
    )
