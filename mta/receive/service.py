"""The receiving service: listens on the [[listen]] endpoints and ends its sessions in good order.

Ports are bound in `privilegedStartService` (root may be needed for port 25) and served from `open` on, when the queue
behind is ready: a client that comes in between waits for its greeting.  A port that cannot be had ends the start with
a MailError that names the endpoint and the reason, and what was bound is closed again; Twisted's own endpoint service
would only log it.  `reconfigure` changes settings and ports while sessions run, all of it or nothing.  At the stop idle
clients hear 421 at once, running transactions have 30 seconds to get their answer.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import attrs
from twisted.application.service import Service
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred, DeferredList, DeferredLock, maybeDeferred, succeed
from twisted.internet.interfaces import IAddress, IDelayedCall, IListeningPort
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mta import ports
from mta.config.settings import Listen, Settings
from mta.envelope import Measure
from mta.interfaces import IAccept, IEventLog, IMeasured, IPolicy, IRouter
from mta.receive.auth.accounts import Accounts
from mta.receive.common import Common
from mta.receive.court import Outside
from mta.receive.ending import Stage
from mta.receive.listener import Listener
from mta.receive.session import Session
from mta.status import MailError, misconfigured
from mta.tls.context import ServerTls

__all__ = ["ReceiveService"]

GRACE: Final = 30.0  # seconds that a running transaction has at the stop

_CLOSED: Final = "nothing is received now: the settings stay"
_bugs = Logger()


class _Door(Factory):
    """Makes a session for each connection to one port."""

    noisy = False

    def __init__(self, listener: Listener) -> None:
        self.listener = listener

    def buildProtocol(self, addr: IAddress | None) -> Session:
        """A client has come."""
        self.listener.common.tally.connected(_label(self.listener.listen))
        return Session(self.listener)


@attrs.frozen(slots=True, eq=False)
class _Open:
    """A port that is bound.  Its door may get another listener, for the connections to come."""

    door: _Door
    port: IListeningPort

    @property
    def listen(self) -> Listen:
        """Its entry in the configuration."""
        return self.door.listener.listen


@implementer(IMeasured)
class ReceiveService(Service):
    """See the module.  Provides `open` for those who start their services one after the other.

    own_addresses: has (address, port) of every TCP port that is open, for routing's sake: no mail is sent to oneself.
    portal: who may log in (its avatars are IAccount), None for `[auth] passwords`.  random: that many unforeseeable bytes.
    outside: where the rules of [access] look things up.  listen: gives the ports in place of `ports.listen_on`, and says where.
    MailError when the passwords cannot be read, or AUTH is offered and there is nothing to check it with.
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
        portal: Portal | None = None,
        random: Callable[[int], bytes] = os.urandom,
        outside: Outside | None = None,
        listen: ports.Listen | None = None,
    ) -> None:
        self._reactor = reactor
        self._listen_on = listen or partial(ports.listen_on, reactor)
        self._announces = listen is None
        self._log = log
        self._own_addresses: set[tuple[str, int]] = set() if own_addresses is None else own_addresses
        self._common = Common.of(settings, accept, router, log, reactor, policy, tls, portal, random, outside)
        self._listeners = [Listener.of(self._common, listen) for listen in settings.listen]
        self._binding: list[Deferred[Any]] | None = None
        self._ports: list[_Open] = []
        self._faults: list[MailError] = []
        self._former: list[Accounts] = []  # of settings of before; who was connected then goes on by them
        self._changing = DeferredLock()

    @property
    def ports(self) -> list[IListeningPort]:
        """The bound ports, in the order of [[listen]] where the endpoints are immediate."""
        return [port.port for port in self._ports]

    @property
    def sessions(self) -> int:
        """How many connections are open."""
        return len(self._common.roster)

    def measures(self) -> Iterator[Measure]:
        """See IMeasured."""
        common = self._common
        here: list[Any] = common.roster.here()
        listeners = Counter(dict.fromkeys([_label(listener.listen) for listener in self._listeners], 0))
        listeners.update([_label(session.listener.listen) for session in here])
        yield from common.tally.measures(listeners, sum(session.stage is Stage.HANDSHAKE for session in here))
        yield "mta_tls_handshakes_waiting", (), common.slots.waiting
        if common.tls.not_after:
            yield "mta_tls_certificate_expiry_time_seconds", (), common.tls.not_after

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
        changed = self._changing.run(lambda: None)
        everything: Deferred[Any] = DeferredList([unbound, gone, changed], fireOnOneErrback=True)
        return everything.addCallback(self._nobody_asks)

    def _nobody_asks(self, _: object) -> Deferred[Any]:
        self._common.workers.stop()
        accounts, self._former = self._former, []
        if self._common.accounts is not None:
            accounts.append(self._common.accounts)
        return DeferredList([each.stop() for each in accounts])

    def reconfigure(self, settings: Settings, router: IRouter, tls: ServerTls) -> Deferred[None]:
        """Serve by other settings from now on: those who are connected go on by the old ones, every count goes on.

        Ports whose endpoint stays are not touched, new ones are opened, and then those that have vanished are closed.
        Errbacks with a MailError, and nothing has changed: a password file, a port that cannot be had, not open.
        """
        return self._changing.run(lambda: Deferred.fromCoroutine(self._change(settings, router, tls)))

    async def _change(self, settings: Settings, router: IRouter, tls: ServerTls) -> None:
        if not self._common.roster.open:
            raise misconfigured(_CLOSED)
        common = self._common.renewed(settings, router, tls)
        listeners = [Listener.of(common, listen) for listen in settings.listen]
        places, vanished = self._matched(listeners)
        missing = [listener for listener, place in zip(listeners, places, strict=True) if place is None]
        opened = await self._bind_also(missing)
        fresh = iter(opened)
        common.limit()
        former = self._common.accounts
        if former is not None and former.retire(common.accounts):
            self._former.append(former)
        self._common, self._listeners = common, listeners
        self._ports = [place or next(fresh) for place in places]
        for listener, place in zip(listeners, self._ports, strict=True):
            place.door.listener = listener
        for place in opened:
            self._announce(place)
        self._own_addresses -= _addresses(vanished) - _addresses(self._ports)
        self._own_addresses |= _addresses(opened)
        await _close(vanished)

    def _matched(self, listeners: list[Listener]) -> tuple[list[_Open | None], list[_Open]]:
        """Which open port each of the listeners has already, and those that none of them has."""
        left, places = list(self._ports), []
        for listener in listeners:
            place = next((place for place in left if place.listen.endpoint == listener.listen.endpoint), None)
            if place is not None:
                left.remove(place)
            places.append(place)
        return places, left

    async def _bind_also(self, listeners: list[Listener]) -> list[_Open]:
        """All of them or none: then the first MailError is raised."""
        self._binding = bindings = [self._listen(listener) for listener in listeners]
        results: list[tuple[bool, Any]] = await DeferredList(bindings, consumeErrors=True)
        opened = [result for succeeded, result in results if succeeded]
        faults = [result.value for succeeded, result in results if not succeeded]
        if not (faults or self._common.roster.open):
            faults.append(misconfigured(_CLOSED))
        if faults:
            await _close(opened)
            raise faults[0]
        return opened

    # ---- ports

    def _bind(self) -> list[Deferred[Any]]:
        if self._binding is None:
            self._faults = []
            self._binding = [self._listen(listener) for listener in self._listeners]
            for binding in self._binding:
                binding.addCallbacks(self._bound, self._not_bound)
        return self._binding

    def _bound(self, place: _Open) -> None:
        self._ports.append(place)

    def _not_bound(self, failure: Failure) -> None:
        assert isinstance(failure.value, MailError)
        self._faults.append(failure.value)

    def _listen(self, listener: Listener) -> Deferred[_Open]:
        door = _Door(listener)
        return self._listen_on(listener.listen.endpoint, door).addCallback(lambda port: _Open(door, port))

    def _bind_now(self) -> None:
        self._bind()
        if self._faults:
            self._unbind()
            raise self._faults[0]

    def _open(self, _: object) -> Deferred[None] | None:
        if self._faults:
            return self._unbind().addCallback(self._give_up)
        self._own_addresses |= _addresses(self._ports)
        for place in self._ports:
            self._announce(place)
        self._common.workers.start()
        self._common.roster.open = True
        for session in self._common.roster.here():
            session.begin()
        return None

    def _give_up(self, _: None) -> None:
        raise self._faults[0]

    def _announce(self, place: _Open) -> None:
        """Say what the port is in truth: `tcp:0` has got a number."""
        if not self._announces:
            return
        address, number = ports.address_of(place.port)
        listen = place.listen
        tls = "none" if listen.tls == "starttls" and not self._common.tls.offered else listen.tls
        what: dict[str, object] = {"service": "receive", "name": listen.name or None, "endpoint": listen.endpoint}
        what |= {"address": address, "port": number, "tls": tls}
        self._log.event("listening", "", what)

    def _unbind(self) -> Deferred[None]:
        """Close what is bound; endpoints that are still at it are told to give up."""
        for binding in self._binding or ():
            binding.cancel()
        self._binding = None
        ports, self._ports = self._ports, []
        return _close(ports)

    # ---- the end

    def _cut(self) -> None:
        """The time is over: 421 for everybody, and soon the end of the connection."""
        for session in self._common.roster.here():
            session.cut()

    def _gone(self, _: None, cut: IDelayedCall) -> None:
        if cut.active():
            cut.cancel()


def _label(listen: Listen) -> str:
    return listen.name or listen.endpoint


def _close(places: list[_Open]) -> Deferred[None]:
    closed: Deferred[Any] = DeferredList([maybeDeferred(place.port.stopListening) for place in places])
    return closed.addCallback(lambda _: None)


def _addresses(places: list[_Open]) -> set[tuple[str, int]]:
    """Those with a port number."""
    return {address for place in places if (address := ports.address_of(place.port))[1]}
