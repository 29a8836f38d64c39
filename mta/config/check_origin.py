"""Who is believed when it says for whom it has come: [[listen]] proxy_from, [access] xclient_from and xforward_from.

A network that holds everybody is a mistake there: any client could say that it is one of ours, and relay.  Whether a listed
address really is a proxy of the operator's, nobody here can know.
"""

from __future__ import annotations

from collections.abc import Iterator

from mta.config.mistake import Finding, KeyPath
from mta.config.settings import Network, Settings

__all__ = ["check_origin"]


def check_origin(settings: Settings) -> Iterator[Finding]:
    """Every network that believes everybody."""
    for index, listen in enumerate(settings.listen):
        yield from _everybody(("listen", index, "proxy_from"), listen.proxy_from)
    yield from _everybody(("access", "xclient_from"), settings.access.xclient_from)
    yield from _everybody(("access", "xforward_from"), settings.access.xforward_from)


def _everybody(path: KeyPath, networks: tuple[Network, ...]) -> Iterator[Finding]:
    for index, network in enumerate(networks):
        if network.prefixlen == 0:
            yield Finding((*path, index), f"{network} is everybody; whoever stands here is believed")
