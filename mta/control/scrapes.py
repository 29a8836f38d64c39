"""The port of `[metrics] listen`: opened, changed by a reload and closed with the server.

Off unless it is configured, and then nothing of HTTP is imported.  `bind` does all that can go wrong and changes nothing
that is in use, `use` then takes what it has got: so a reload is whole or it is not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort

from mta.control.metrics import Page
from mta.interfaces import IEventLog

if TYPE_CHECKING:
    from mta.control.metrics_site import MetricsSite

__all__ = ["Bound", "Scrapes"]


@attrs.define(eq=False)
class Bound:
    """A port, or none: for the endpoint "", and when it was closed."""

    endpoint: str = ""
    port: IListeningPort | None = None
    site: MetricsSite | None = None
    address: tuple[str, int] = ("", 0)


class Scrapes:
    """gather: the page of now.  Nothing is opened before `bind`."""

    def __init__(self, gather: Callable[[], Awaitable[Page]], reactor: Any, log: IEventLog) -> None:
        self._gather = gather
        self._reactor = reactor
        self._log = log
        self._bound = Bound()
        self._closed = False

    async def bind(self, endpoint: str) -> Bound:
        """The port of that endpoint: the one in use, or another.  MailError where it cannot be had."""
        if endpoint == self._bound.endpoint:
            return self._bound
        if not endpoint:
            return Bound()
        from mta import ports
        from mta.control.metrics_site import MetricsSite

        site: Any = MetricsSite(self._gather, self._reactor)
        port = await ports.listen_on(self._reactor, endpoint, site)
        return Bound(endpoint, port, site, ports.address_of(port))

    async def use(self, bound: Bound) -> None:
        """That one from now on."""
        if self._closed:  # meanwhile
            await _close(bound)
        elif bound is not self._bound:
            old, self._bound = self._bound, bound
            if bound.port is not None:
                address, number = bound.address
                what = {"service": "metrics", "endpoint": bound.endpoint, "address": address, "port": number}
                self._log.event("listening", "", what)
            await _close(old)

    async def drop(self, bound: Bound) -> None:
        """It is not to be used after all."""
        if bound is not self._bound:
            await _close(bound)

    async def open(self, endpoint: str) -> None:
        """At the start.  MailError."""
        self._closed = False
        await self.use(await self.bind(endpoint))

    async def close(self) -> None:
        """Nobody is answered any more, and everybody is gone.  May be called when it is not open."""
        self._closed = True
        bound, self._bound = self._bound, Bound()
        await _close(bound)


async def _close(bound: Bound) -> None:
    port, bound.port = bound.port, None  # once: a stop and a reload may both want that
    if port is None or bound.site is None:
        return
    stopped: Deferred[Any] = maybeDeferred(port.stopListening)
    await stopped
    await bound.site.hang_up()
