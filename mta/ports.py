"""Listening: how the endpoint of a [[listen]] entry becomes a port, and what is said where it does not.

`listen_on` is what a server does that has its ports to itself.  A worker has another `Listen`: it takes up a socket that it has
inherited (`workers/sockets.py`).  Either way failure is a MailError that names the endpoint and the reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from mta.status import misconfigured

__all__ = ["Listen", "address_of", "listen_on"]

_TCP = re.compile(r"tcp[46]?:")
_parse: Callable[[Any, str], IStreamServerEndpoint] = serverFromString


class Listen(Protocol):
    """Given an endpoint as [[listen]] has it: the port on which the factory serves.  Errbacks with a MailError."""

    def __call__(self, endpoint: str, factory: Factory) -> Deferred[IListeningPort]: ...


def listen_on(reactor: Any, endpoint: str, factory: Factory) -> Deferred[IListeningPort]:
    """Open it.  TCP and UNIX sockets are bound when this returns."""
    opened: Deferred[IListeningPort] = maybeDeferred(lambda: _parse(reactor, _with_backlog(endpoint)).listen(factory))
    return opened.addErrback(_refused, endpoint)


def address_of(port: Any) -> tuple[str, int]:
    """Where it is reached; 0 where there are no port numbers."""
    host = port.getHost()
    return (host.host, host.port) if hasattr(host, "port") else (str(host), 0)


def _refused(failure: Failure, endpoint: str) -> IListeningPort:
    raise misconfigured(f"cannot listen on {endpoint}: {_in_words(failure)}")


def _in_words(failure: Failure) -> str:
    error = failure.value
    if isinstance(error, CannotListenError) and isinstance(error.socketError, OSError):
        return str(error.socketError.strerror)
    return failure.getErrorMessage()


def _with_backlog(endpoint: str) -> str:
    """Twisted's backlog of 50 turns a burst of clients into waits of a second each (lost SYNs)."""
    return f"{endpoint}:backlog=1024" if _TCP.match(endpoint) and "backlog=" not in endpoint else endpoint
