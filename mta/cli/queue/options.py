"""What the commands of `mta queue` have in common on the command line: where the service is, and which recipients are meant.

`where` gives a command the place of the service's data, `selectors` a selector in its JSON form (`control/queue_facts.py`).
All conditions of a selector hold together.  A command that alters something never means everything because nothing was
said: that has to be said, by --all.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rich_click as click

from mta.cli.ask import NoAnswer, socket_of
from mta.cli.check import DEFAULT_CONFIG
from mta.config.mistake import Wanted
from mta.config.value import read_duration
from mta.control.queue_facts import STATES, Facts, selector_of
from mta.queue.ids import parse_id

__all__ = ["QueueId", "full_dest", "selectors", "where"]

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Age(click.ParamType[float]):
    """A duration: 90s, 5m, 2h, 5d; gives seconds."""

    name = "duration"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """See click."""
        try:
            return float(read_duration(value))
        except Wanted as error:
            self.fail(str(error), param, ctx)


class QueueId(click.ParamType[str]):
    """A queue id, as replies and log lines have it."""

    name = "id"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """See click."""
        try:
            parse_id(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return str(value)


def full_dest(name: str) -> str:
    """The destination meant by a name: a domain alone is where its MX hosts take its mail."""
    return name if ":" in name else f"smtp:_mx/{name.lower()}"


def where(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options -C and --data-dir; the command gets `data_dir`."""

    @click.option("-C", "-c", "--config", type=click.Path(path_type=Path), default=DEFAULT_CONFIG, show_default=True)
    @click.option("--data-dir", type=click.Path(path_type=Path), help="The data directory, in place of what the file says.")
    @functools.wraps(command)
    def placed(config: Path, data_dir: Path | None, **given: Any) -> Any:
        return command(data_dir=data_dir or _data_dir(config), **given)

    return placed


def _data_dir(config: Path) -> Path:
    try:
        return socket_of(config).parent
    except NoAnswer as error:
        raise click.UsageError(f"{error} (or give --data-dir)") from None


def selectors(*, wanted: bool, state: bool = True) -> Decorator:
    """The conditions; the command gets `selector`.  wanted: none at all is a mistake, but for --all.

    state: whether --state makes sense.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def selecting(**given: Any) -> Any:
            conditions = {key: given.pop(f"by_{key}") for key in KEYS if f"by_{key}" in given}
            everything = given.pop("everything", False)
            return command(selector=_selector(conditions, wanted, everything), **given)

        options = [option for option in OPTIONS if state or option is not STATE]
        decorated = selecting
        for option in reversed([*options, *([ALL] if wanted else [])]):
            decorated = option(decorated)
        return decorated

    return decorate


KEYS = ("id", "to", "from", "dest", "older", "state", "account")
STATE = click.option("--state", "by_state", type=click.Choice(list(STATES)), help="In this state.")
ALL = click.option("--all", "everything", is_flag=True, help="Every recipient in the queue.")
OPTIONS = (
    click.option("--id", "by_id", type=QueueId(), help="Of this message."),
    click.option("--to", "by_to", metavar="GLOB", help="To addresses like this: '*@example.org'."),
    click.option("--from", "by_from", metavar="GLOB", help="From addresses like this; '' is the null sender."),
    click.option("--dest", "by_dest", metavar="NAME", help="Of this destination; a domain alone means smtp:_mx/DOMAIN."),
    click.option("--older", "by_older", type=Age(), help="Of messages begun longer ago than this: 90s, 5m, 2h, 5d."),
    STATE,
    click.option("--account", "by_account", metavar="NAME", help="Of mail that this login has brought."),
)


def _selector(conditions: Facts, wanted: bool, everything: bool) -> Facts:
    selector = {key: value for key, value in conditions.items() if value is not None}
    if (older := selector.pop("older", None)) is not None:
        selector["before"] = int((time.time() - older) * 1000)
    if "dest" in selector:
        selector["dest"] = full_dest(selector["dest"])
    if wanted and not selector and not everything:
        raise click.UsageError("Nothing is selected. Give a condition (--to, --from, --dest, --id ...), or --all for everything.")
    if selector and everything:
        raise click.UsageError("--all is everything: it goes with no condition.")
    selector_of(selector)  # what the service would say of it, we say too
    return selector
