"""The host lists of [handover] and [[hostlist]], judged by the parser that is used when they are asked (`mta/hostlist.py`).

docs/tls.md, "Host lists".  A bad item is a mistake of the configuration, never a host that is quietly not in the list;
`/file` items are read here as they are read at start.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

from mta.config.mistake import Finding, KeyPath, shown
from mta.config.settings import Settings
from mta.hostlist import HostList, HostLists

__all__ = ["check_hosts", "host_lists"]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")  # no ":", which separates items
_LISTS = ("hosts_pass_tls", "hosts_nopass_tls", "hosts_clear_tls")


def host_lists(settings: Settings, addresses: Collection[str] = ()) -> HostLists:
    """What items of a host list may speak of: the named lists, our own addresses (`@[]`), files."""
    return HostLists({entry.name: entry.hosts for entry in settings.hostlist}, addresses, _text_of)


def check_hosts(settings: Settings) -> Iterator[Finding]:
    """All that is wrong with lists of hosts, item by item."""
    lists = host_lists(settings)
    uses = Counter(entry.name for entry in settings.hostlist)
    for index, entry in enumerate(settings.hostlist):
        path: KeyPath = ("hostlist", index)
        if not _NAME.fullmatch(entry.name):
            yield Finding((*path, "name"), f"letters, digits, '.', '_' and '-' are wanted, not {shown(entry.name)}")
        elif uses[entry.name] > 1:
            yield Finding((*path, "name"), f"another [[hostlist]] is called {entry.name!r} too")
        yield from _items((*path, "hosts"), entry.hosts, lists)
    for name in _LISTS:
        yield from _items(("handover", name), getattr(settings.handover, name), lists)


def _items(path: KeyPath, strings: tuple[str, ...], lists: HostLists) -> Iterator[Finding]:
    for index, text in enumerate(strings):
        try:
            HostList.parse((text,), lists)
        except ValueError as error:
            yield Finding((*path, index), str(error))


def _text_of(path: str) -> str:
    return Path(path).read_text("utf-8")
