"""The receiving service: listens on the [[listen]] endpoints and ends its sessions in good order.

Ports are bound in `privilegedStartService` (root may be needed for port 25) and served from `open` on, when the queue
behind is ready: a client that comes in between waits for its greeting.  A port that cannot be had ends the start with
a MailError that names the endpoint and the reason, and what was bound is closed again; Twisted's own endpoint service
would only log it.  At the stop idle clients hear 421 at once, running transactions have 30 seconds to get their answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IDelayedCall, IListeningPort, IStreamServerEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from mta.config.settings import Listen, Settings
from mta.interfaces import IAccept, IEventLog, IPolicy, IRouter
from mta.receive.common import Common
from mta.receive.session import Session
from mta.status import MailError, Scope, transient
from mta.tls.context import ServerTls

__all__ = ["ReceiveService"]

GRACE: Final = 30.0  # seconds that a running transaction has at the stop

_TCP = re.compile(r"tcp[46]?:")
_bugs = Logger()
_parse: Callable[[Any, str], IStreamServerEndpoint] = serverFromString


class _Door(Factory):
    """Makes a session for each connection to one port."""

    noisy = False

    def __init__(self, common: Common, tls: str) -> None:
        self._common = common
        self._tls = tls

    def buildProtocol(self, addr: IAddress | None) -> Session:
        """A client has come."""
        return Session(self._common, self._tls)


class ReceiveService(Service):
    """See the module.  Provides `open` for those who start their services one after the other.

    own_addresses: gets (address, port) of every TCP port that is opened, for routing's sake: no mail is sent to oneself.
    """

    name = "receive"

    def __init__(
        self,
        settings: Settings,
        accept: IAccept,
        router: IRouter,
        *,
        reactor: Any,
        log: IEventLog,
        policy: IPolicy | None = None,
        tls: ServerTls | None = None,
        own_addresses: set[tuple[str, int]] | None = None,
    ) -> None:
        self._settings = settings
        self._reactor = reactor
        self._log = log
        self._own_addresses: set[tuple[str, int]] = set() if own_addresses is None else own_addresses
        self._common = Common.of(settings, accept, router, log, reactor, policy, tls)
        self._binding: list[Deferred[None]] | None = None
        self._ports: list[tuple[Listen, IListeningPort]] = []
        self._faults: list[MailError] = []

    @property
    def ports(self) -> list[IListeningPort]:
        """The bound ports, in the order of [[listen]] where the endpoints are immediate."""
        return [port for _, port in self._ports]

    @property
    def sessions(self) -> int:
        """How many connections are open."""
        return len(self._common.roster)

    def privilegedStartService(self) -> None:
        """Bind the ports.  Raises MailError where that fails at once, as it does for TCP and UNIX sockets."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        self._bind_now()

    def startService(self) -> None:
        """Open.  Raises MailError as above; an endpoint that fails later is logged and nothing is served."""
        super().startService()  # type: ignore[no-untyped-call]
        self._bind_now()
        self.open().addErrback(lambda failure: _bugs.failure("nothing is received", failure))

    def open(self) -> Deferred[None]:
        """Serve.  Fires when every endpoint listens; errbacks with a MailError, and then none does.  May be called twice."""
        if self._common.roster.open:
            return succeed(None)
        opened: Deferred[Any] = DeferredList(self._bind())
        return opened.addCallback(self._open)

    def stopService(self) -> Deferred[None]:
        """Listen no more, let running transactions end; fires when every session is gone."""
        super().stopService()  # type: ignore[no-untyped-call]
        roster = self._common.roster
        roster.open = False
        unbound = self._unbind()
        for session in roster.here():
            session.stop()
        cut = self._reactor.callLater(GRACE, self._cut)
        gone = roster.when_empty().addCallback(self._gone, cut)
        everything: Deferred[Any] = DeferredList([unbound, gone], fireOnOneErrback=True)
        return everything.addCallback(lambda _: None)

    # ---- ports

    def _bind(self) -> list[Deferred[None]]:
        if self._binding is None:
            self._faults = []
            self._binding = [self._listen(listen) for listen in self._settings.listen]
        return self._binding

    def _listen(self, listen: Listen) -> Deferred[None]:
        def bound(port: IListeningPort) -> None:
            self._ports.append((listen, port))

        def refused(failure: Failure) -> None:
            self._faults.append(_fault(listen, _in_words(failure)))

        port: Deferred[IListeningPort] = maybeDeferred(self._begin_to_listen, listen)
        return port.addCallbacks(bound, refused)

    def _begin_to_listen(self, listen: Listen) -> Deferred[IListeningPort]:
        if listen.tls == "implicit" and self._settings.tls.certificate is None:
            raise ValueError('tls = "implicit" needs a certificate ([tls])')
        endpoint = _parse(self._reactor, _with_backlog(listen.endpoint))
        return endpoint.listen(_Door(self._common, listen.tls))

    def _bind_now(self) -> None:
        self._bind()
        if self._faults:
            self._unbind()
            raise self._faults[0]

    def _open(self, _: object) -> Deferred[None] | None:
        if self._faults:
            return self._unbind().addCallback(self._give_up)
        for listen, port in self._ports:
            self._announce(listen, port)
        tls = self._common.tls
        if tls.offered and tls.not_after <= self._reactor.seconds():
            # Still offered: a peer that does not verify is better off with it (docs/tls.md).
            self._log.event("certificate_expired", "", {"certificate": str(self._settings.tls.certificate)})
        self._common.roster.open = True
        for session in self._common.roster.here():
            session.begin()
        return None

    def _give_up(self, _: None) -> None:
        raise self._faults[0]

    def _announce(self, listen: Listen, port: IListeningPort) -> None:
        """Say what the port is in truth: `tcp:0` has got a number."""
        host: Any = port.getHost()
        address, number = (host.host, host.port) if hasattr(host, "port") else (str(host), 0)
        tls = "none" if listen.tls == "starttls" and not self._common.tls.offered else listen.tls
        what = {"service": "receive", "endpoint": listen.endpoint, "address": address, "port": number, "tls": tls}
        self._log.event("listening", "", what)
        if number:
            self._own_addresses.add((address, number))

    def _unbind(self) -> Deferred[None]:
        """Close what is bound; endpoints that are still at it are told to give up."""
        for binding in self._binding or ():
            binding.cancel()
        self._binding = None
        ports, self._ports = self._ports, []
        closed: Deferred[Any] = DeferredList([maybeDeferred(port.stopListening) for _, port in ports])
        return closed.addCallback(lambda _: None)

    # ---- the end

    def _cut(self) -> None:
        """The time is over: 421 for everybody, and soon the end of the connection."""
        for session in self._common.roster.here():
            session.cut()

    def _gone(self, _: None, cut: IDelayedCall) -> None:
        if cut.active():
            cut.cancel()


def _fault(listen: Listen, reason: str) -> MailError:
    reason = f"cannot listen on {listen.endpoint}: {reason}"
    return transient("4.3.5", "Local configuration error", scope=Scope.SITE, reason=reason)


def _in_words(failure: Failure) -> str:
    error = failure.value
    if isinstance(error, CannotListenError) and isinstance(error.socketError, OSError):
        return str(error.socketError.strerror)
    return failure.getErrorMessage()


def _with_backlog(endpoint: str) -> str:
    """Twisted's backlog of 50 turns a burst of clients into waits of a second each (lost SYNs)."""
    return f"{endpoint}:backlog=1024" if _TCP.match(endpoint) and "backlog=" not in endpoint else endpoint
