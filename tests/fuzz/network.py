"""A network in memory: Twisted's own TCP connections and TLS, over sockets that end in a test.

Bytes come in the pieces in which they were sent, the far end may stop reading, close or reset at any byte, and nothing
happens but when the test says `settle`: the same examples give the same runs.  What never comes to rest is an error.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import count, cycle, islice
from typing import Any

from twisted.internet import error, tcp
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IProtocol, ITransport
from twisted.internet.protocol import ClientFactory
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.python.failure import Failure

TURNS = 100_000  # of the reactor without rest: it never will
HOST = "192.0.2.1"  # ours

_bugs = Logger()


class Socket:
    """Our end of a connection as `twisted.internet.tcp` sees it; the far end's side are the fields.

    heard: all bytes that were sent from here.  room: how many more the far end takes, None for any number; once it was a number
    the far end `is_slow`: it may answer what it has not read.
    """

    _numbers = count(1000)

    def __init__(self, peer: tuple[str, int]) -> None:
        self.heard = bytearray()
        self.room: int | None = None
        self.is_slow = False
        self.is_closed = False  # by us
        self.is_reset = False  # by the far end
        self._peer = peer
        self._pieces: deque[bytes] = deque()  # b"" is the end
        self._number = next(self._numbers)

    # ---- the far end's side

    def feed(self, data: bytes, sizes: Iterable[int] = ()) -> None:
        """Send, in pieces of these sizes over and over; whole where there are none."""
        self._pieces.extend(pieces(data, sizes))

    def read_only(self, room: int | None) -> None:
        """Take so many bytes more, None for any number."""
        self.room = room
        self.is_slow |= room is not None

    def end(self) -> None:
        """Close in order."""
        self._pieces.append(b"")

    def reset(self) -> None:
        """Reset: what was not read yet is lost."""
        self.is_reset = True

    @property
    def readable(self) -> bool:
        return bool(self._pieces) or self.is_reset

    @property
    def writable(self) -> bool:
        return self.room != 0 or self.is_reset

    # ---- ours

    def setblocking(self, flag: bool) -> None:
        assert not flag

    def setsockopt(self, *option: Any) -> None:
        """Nothing that would change anything here."""

    def fileno(self) -> int:
        return self._number

    def getsockname(self) -> tuple[str, int]:
        return HOST, 25

    def getpeername(self) -> tuple[str, int]:
        return self._peer

    def recv(self, size: int) -> bytes:
        if self.is_reset:
            raise ConnectionResetError(104, "Connection reset by peer")
        if not self._pieces:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        if not self._pieces[0]:
            return b""
        piece = self._pieces.popleft()
        if piece[size:]:
            self._pieces.appendleft(piece[size:])
        return piece[:size]

    def send(self, data: memoryview) -> int:
        if self.is_reset:
            raise BrokenPipeError(32, "Broken pipe")
        if self.room == 0:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        taken = bytes(data[: self.room])
        self.heard += taken
        if self.room is not None:
            self.room -= len(taken)
        return len(taken)

    def shutdown(self, how: int) -> None:
        """`close` comes next."""

    def close(self) -> None:
        self.is_closed = True


class _Outgoing(tcp.Server):
    """A connection that we have opened: the client's side of TLS is ours."""

    _tlsClientDefault = True


class Reactor(Clock):
    """A clock that reads and writes.  connectors: connections that were asked for, the oldest first."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: dict[Any, None] = {}
        self.writers: dict[Any, None] = {}
        self.connectors: list[Connector] = []

    def addReader(self, reader: Any) -> None:
        self.readers[reader] = None

    def addWriter(self, writer: Any) -> None:
        self.writers[writer] = None

    def removeReader(self, reader: Any) -> None:
        self.readers.pop(reader, None)

    def removeWriter(self, writer: Any) -> None:
        self.writers.pop(writer, None)

    def connectTCP(
        self, host: str, port: int, factory: ClientFactory, timeout: float = 30, bindAddress: tuple[str, int] | None = None
    ) -> Connector:
        self.connectors.append(Connector(self, (host, port), factory, timeout))
        return self.connectors[-1]

    def settle(self) -> None:
        """Go on until nothing is left to be done now."""
        for _ in range(TURNS):
            self.advance(0)
            if not (self._work(self.writers, "writable", "doWrite") | self._work(self.readers, "readable", "doRead")):
                if not any(call.getTime() <= self.seconds() for call in self.getDelayedCalls()):
                    return
        raise AssertionError("it never comes to rest")

    def _work(self, ready: dict[Any, None], able: str, do: str) -> bool:
        worked = False
        for one in list(ready):
            if one in ready and getattr(one.socket, able):
                worked = True
                self._do(one, do)
        return worked

    def _do(self, one: Any, do: str) -> None:
        """As the reactors of `twisted.internet.posixbase` do it."""
        try:
            why = getattr(one, do)()
        except Exception as broken:
            _bugs.failure("an exception reached the reactor")
            why = broken
        if why:
            self.removeReader(one)
            if do == "doRead" and isinstance(why, error.ConnectionDone):
                one.readConnectionLost(Failure(why))  # the far end has closed its side: half the connection, or all of it
            else:
                self.removeWriter(one)
                one.connectionLost(Failure(why))

    def accept(self, protocol: IProtocol, address: str) -> Socket:
        """Somebody connects to us."""
        socket = Socket((address, 40000))
        transport = tcp.Server(socket, protocol, (address, 40000), None, 0, self)
        protocol.makeConnection(transport)
        return socket


class Connector:
    """A connection that we want; the far end takes it, refuses it, or lets it wait."""

    def __init__(self, reactor: Reactor, peer: tuple[str, int], factory: ClientFactory, timeout: float) -> None:
        self._reactor = reactor
        self._peer = peer
        self._factory = factory
        self._timer = reactor.callLater(timeout, self.refuse, error.TimeoutError())
        self._transport: ITransport | None = None
        self.is_waiting = True

    def take(self) -> Socket:
        """The connection stands."""
        self._decide()
        socket = Socket(self._peer)
        protocol = self._factory.buildProtocol(IPv4Address("TCP", *self._peer))
        self._transport = _Outgoing(socket, protocol, self._peer, None, 0, self._reactor)
        protocol.makeConnection(self._transport)
        return socket

    def refuse(self, why: Exception) -> None:
        """There will be none."""
        self._decide()
        self._factory.clientConnectionFailed(self, Failure(why))

    def disconnect(self) -> None:
        """See IConnector."""
        if self.is_waiting:
            self.refuse(error.UserError())
        elif self._transport is not None:
            self._transport.loseConnection()

    def _decide(self) -> None:
        assert self.is_waiting
        self.is_waiting = False
        if self._timer.active():
            self._timer.cancel()


def pieces(data: bytes, sizes: Iterable[int]) -> list[bytes]:
    """The data, cut into pieces of these sizes, over and over; whole where there are none."""
    cut, at = [], 0
    for size in islice(cycle(sizes), len(data)):
        if at < len(data):
            cut.append(data[at : at + size])
            at += size
    return cut or [data] * bool(data)
