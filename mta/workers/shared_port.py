"""A port on a socket that others have too: it takes a connection at a time, and leaves socket and name as they are.

Twisted's own port takes up to a hundred at once: of twenty clients that come together one worker would have nineteen, for as
long as they stay (measured).  Its port on a UNIX socket would also give the name another mode, shut the socket down for
everybody and remove the name at its end: right for who made them, wrong for a worker.  The connections are Twisted's own
(`adoptStreamConnection`).
"""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from typing import Any, Final

from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IListeningPort
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from zope.interface import implementer

__all__ = ["SharedPort"]

PAUSE: Final = 1.0  # seconds: no descriptor was free

_bugs = Logger()


@implementer(IListeningPort)
class SharedPort(FileDescriptor):
    """descriptor: of the listening socket, which does not block; a copy is kept.  reactor: IReactorSocket and IReactorTime."""

    def __init__(self, reactor: Any, descriptor: int, family: int, factory: Factory) -> None:
        super().__init__(reactor)
        self._reactor = reactor
        self._socket = socket.fromfd(descriptor, family, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        self._factory = factory
        self._paused: IDelayedCall | None = None

    def fileno(self) -> int:
        """See IFileDescriptor; -1 when it is closed."""
        return self._socket.fileno()

    def startListening(self) -> None:
        """Take connections."""
        self._factory.doStart()  # type: ignore[no-untyped-call]
        self.startReading()  # type: ignore[no-untyped-call]

    def stopListening(self) -> Deferred[None]:
        """Take no more."""
        if self._paused is not None:
            self._paused.cancel()
            self._paused = None
        if self.fileno() >= 0:
            self.stopReading()  # type: ignore[no-untyped-call]
            self._socket.close()
            self._factory.doStop()  # type: ignore[no-untyped-call]
        return succeed(None)

    def getHost(self) -> IPv4Address | IPv6Address | UNIXAddress:
        """Where it is."""
        name = self._socket.getsockname()
        if self._socket.family == socket.AF_UNIX:
            return UNIXAddress(name)
        return IPv4Address("TCP", *name) if self._socket.family == socket.AF_INET else IPv6Address("TCP", *name)

    def doRead(self) -> None:
        """Somebody has come, and may have been taken by another process meanwhile."""
        try:
            taken, _ = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            self._pause(error)
            return
        with taken:
            taken.setblocking(False)
            try:
                taken.getpeername()  # who has broken off already is not met below, where a copy would be left open
                self._reactor.adoptStreamConnection(taken.fileno(), taken.family, self._factory)
            except OSError as error:
                if error.errno != errno.ENOTCONN:
                    self._pause(error)
            except Exception:  # out of here it would end the port
                _bugs.failure("a connection was not taken")
                with suppress(OSError):
                    taken.shutdown(socket.SHUT_RDWR)  # a copy of it may be held by the failure

    def _pause(self, error: OSError) -> None:
        _bugs.warn("no connection is taken for {pause:g} s: {error}", pause=PAUSE, error=error)
        self.stopReading()  # type: ignore[no-untyped-call]
        self._paused = self._reactor.callLater(PAUSE, self._go_on)

    def _go_on(self) -> None:
        self._paused = None
        self.startReading()  # type: ignore[no-untyped-call]
