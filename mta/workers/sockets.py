"""The listening sockets of all workers: bound once, by the supervisor, and handed to each worker that is started.

The supervisor listens and never accepts, so nobody is refused while workers come and go: whoever connects waits in the
kernel for one that is there.  The sockets do not block (who is late to a client would wait for the next one).
A worker adopts what it has inherited and keeps no copy of it.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredList, fail, maybeDeferred, succeed
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory

from mta.config.settings import Listen
from mta.ports import address_of, listen_on
from mta.status import MailError, misconfigured
from mta.workers.frame import FROM_WORKER, Handed
from mta.workers.shared_port import SharedPort

__all__ = ["Inherited", "Sockets"]

_FIRST = FROM_WORKER + 1  # of a worker's descriptors that is free


@attrs.frozen(slots=True, eq=False)
class _Bound:
    endpoint: str
    port: Any  # what an endpoint gives, by Twisted a tcp.Port or a unix.Port

    @property
    def family(self) -> int:
        """Of its socket."""
        return int(self.port.socket.family)


class Sockets:
    """The supervisor's."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._bound: list[_Bound] = []

    @property
    def endpoints(self) -> list[str]:
        """Of all, in order."""
        return [bound.endpoint for bound in self._bound]

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where they are reached, in the same order."""
        return [address_of(bound.port) for bound in self._bound]

    def bind(self, endpoints: Iterable[str]) -> None:
        """Listen there too.  MailError, and then nothing has changed; also for an endpoint that does not listen at once."""
        opened: list[_Bound] = []
        for endpoint in endpoints:
            try:
                opened.append(self._open(endpoint))
            except MailError:
                self._close(opened)
                raise
        self._bound += opened

    def _open(self, endpoint: str) -> _Bound:
        results: list[Any] = []
        listening = listen_on(self._reactor, endpoint, Factory())
        listening.addBoth(results.append)
        if not results:
            listening.cancel()
            raise misconfigured(f"cannot listen on {endpoint}: it has no socket that several workers can share")
        (port,) = results
        if not IListeningPort.providedBy(port):
            port.raiseException()
        if not hasattr(port, "socket") or not hasattr(port, "stopReading"):
            port.stopListening()
            raise misconfigured(f"cannot listen on {endpoint}: it has no socket that several workers can share")
        port.stopReading()  # nobody is accepted here
        port.socket.setblocking(False)
        return _Bound(endpoint, port)

    def missing(self, listens: Iterable[Listen]) -> list[str]:
        """Those endpoints of a configuration that are not open."""
        left = self.endpoints
        missing = []
        for listen in listens:
            if listen.endpoint in left:
                left.remove(listen.endpoint)
            else:
                missing.append(listen.endpoint)
        return missing

    def keep(self, listens: Iterable[Listen]) -> Deferred[None]:
        """Close all others, in the order of the configuration from now on."""
        left, kept = list(self._bound), []
        for listen in listens:
            found = next((bound for bound in left if bound.endpoint == listen.endpoint), None)
            if found is not None:
                left.remove(found)
                kept.append(found)
        self._bound = kept
        return self._close(left)

    def drop(self, endpoints: Iterable[str]) -> Deferred[None]:
        """Close those that were bound last, as often as they are named."""
        dropped = []
        for endpoint in endpoints:
            found = next(bound for bound in reversed(self._bound) if bound.endpoint == endpoint)
            self._bound.remove(found)
            dropped.append(found)
        return self._close(dropped)

    def close(self) -> Deferred[None]:
        """Listen no more."""
        return self.keep(())

    def _close(self, bound: list[_Bound]) -> Deferred[None]:
        closed: Deferred[Any] = DeferredList([maybeDeferred(each.port.stopListening) for each in bound])
        return closed.addCallback(lambda _: None)

    def handed(self, listens: Iterable[Listen]) -> tuple[tuple[Handed, ...], dict[int, int]]:
        """For a new worker: what it will have, and which of its descriptors is which of ours."""
        left, handed, descriptors = list(self._bound), list[Handed](), dict[int, int]()
        for number, listen in enumerate(listens, _FIRST):
            bound = next(each for each in left if each.endpoint == listen.endpoint)
            left.remove(bound)
            handed.append(Handed(bound.endpoint, number, bound.family))
            descriptors[number] = bound.port.fileno()
        return tuple(handed), descriptors


class Inherited:
    """A worker's: see `ports.Listen`."""

    def __init__(self, reactor: Any, handed: Iterable[Handed]) -> None:
        self._reactor = reactor
        self._left: defaultdict[str, list[Handed]] = defaultdict(list)
        for each in handed:
            self._left[each.endpoint].append(each)

    def __call__(self, endpoint: str, factory: Factory) -> Deferred[IListeningPort]:
        """Serve on the socket that was handed down for it."""
        if not self._left[endpoint]:
            return fail(misconfigured(f"cannot listen on {endpoint}: no socket was handed down for it"))
        handed = self._left[endpoint].pop(0)
        port = SharedPort(self._reactor, handed.descriptor, handed.family, factory)
        port.startListening()
        os.close(handed.descriptor)  # the port has one of its own, and the socket is to be closed with it
        return succeed(port)
