"""`mta.workers.shared_port`: a socket that several processes serve."""

from __future__ import annotations

import errno
import os
import socket
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from mta.workers.shared_port import PAUSE, SharedPort


class Comes(Protocol):
    """Tells its coming and its end."""

    def __init__(self, case: PortTests, came: Callable[[Comes], None] | None = None) -> None:
        self.tell = came or case.came
        self.gone: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.tell(self)

    def connectionLost(self, reason: Any = None) -> None:
        self.gone.callback(None)


class PortTests(TestCase):
    """`SharedPort`."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="mta-")
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "s"
        self.listening = socket.socket(socket.AF_UNIX)
        self.addCleanup(self.listening.close)
        self.listening.bind(str(self.path))
        self.listening.listen(200)
        self.listening.setblocking(False)
        self.protocols: list[Comes] = []
        self.come: Deferred[None] = Deferred()
        self.wanted = 1

    def build(self, _: Any) -> Protocol:
        return Comes(self)

    def came(self, protocol: Comes) -> None:
        """One is connected."""
        self.protocols.append(protocol)
        if len(self.protocols) == self.wanted:
            self.come.callback(None)

    def factory(self) -> Factory:
        factory = Factory()
        factory.noisy = False
        factory.buildProtocol = self.build  # type: ignore[method-assign]
        return factory

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        self.addCleanup(client.close)
        client.connect(str(self.path))
        return client

    async def test_many(self) -> None:
        """All who come are taken, one in a turn; they are connections of the reactor's; the address is the path."""
        self.wanted = 30
        port = SharedPort(reactor, self.listening.fileno(), socket.AF_UNIX, self.factory())
        clients = [self.connect() for _ in range(self.wanted)]
        port.startListening()
        await self.come
        self.assertEqual(os.fsencode(self.path), port.getHost().name)
        self.protocols[0].transport.write(b"hello")  # type: ignore[union-attr]
        clients[0].settimeout(5)
        await self.ended()
        self.assertEqual(b"hello", clients[0].recv(9))
        await port.stopListening()
        await port.stopListening()

    async def ended(self) -> None:
        """Of all connections: what was written has gone."""
        for protocol in self.protocols:
            protocol.transport.loseConnection()  # type: ignore[union-attr]
        for protocol in self.protocols:
            await protocol.gone

    async def test_fair(self) -> None:
        """Two that have it take turns: of those who come together each has half."""
        self.wanted = 30
        others: list[int] = []
        came = self.came

        def count(protocol: Comes) -> None:
            others.append(len(self.protocols))
            came(protocol)

        ports = [SharedPort(reactor, self.listening.fileno(), socket.AF_UNIX, self.factory()) for _ in range(2)]
        second = self.factory()
        second.buildProtocol = lambda _: Comes(self, count)  # type: ignore[method-assign]
        ports[1]._factory = second
        for _ in range(self.wanted):
            self.connect()
        for port in ports:
            port.startListening()
        await self.come
        self.assertTrue(12 <= len(others) <= 18, len(others))
        await self.ended()
        for port in ports:
            await port.stopListening()

    async def test_tcp(self) -> None:
        """The peer's address is that of the client, and the port's that of the socket."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.setblocking(False)
            port = SharedPort(reactor, listening.fileno(), socket.AF_INET, self.factory())
            port.startListening()
            self.assertEqual(listening.getsockname(), (port.getHost().host, port.getHost().port))  # type: ignore[union-attr]
            client = socket.create_connection(listening.getsockname())
            self.addCleanup(client.close)
            await self.come
            peer = self.protocols[0].transport.getPeer()  # type: ignore[union-attr]
            self.assertEqual(client.getsockname(), (peer.host, peer.port))
            await self.ended()
            await port.stopListening()

    async def test_trouble_with_one(self) -> None:
        """A connection that cannot be served is logged and closed; the next one is."""
        port = SharedPort(Broken(), self.listening.fileno(), socket.AF_UNIX, self.factory())
        client = self.connect()
        client.settimeout(5)
        port.doRead()
        self.assertEqual(b"", client.recv(1))
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        port._reactor = port.reactor = reactor
        port.startListening()
        self.connect()
        await self.come
        await self.ended()
        await port.stopListening()

    async def test_gone_before_it_was_taken(self) -> None:
        """A client that has broken off already is nothing to tell: anybody could fill the log."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.setblocking(False)
            port = SharedPort(reactor, listening.fileno(), socket.AF_INET, self.factory())
            self.addCleanup(port.stopListening)
            with socket.create_connection(listening.getsockname()) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # RST
            port.startListening()
            port.doRead()
            self.assertEqual(([], []), (self.protocols, self.flushLoggedErrors()))
            self.assertIsNone(port._paused)
            with socket.create_connection(listening.getsockname()):
                await self.come
            await self.ended()

    async def test_no_descriptor_for_its_copy(self) -> None:
        """The last free one was the connection's own: it is closed, the log says why, and the port waits as above."""
        clock = Reading(OSError(errno.EMFILE, "Too many open files"))
        port = SharedPort(clock, self.listening.fileno(), socket.AF_UNIX, self.factory())
        port.startListening()
        client = self.connect()
        client.settimeout(5)
        port.doRead()
        self.assertEqual((b"", []), (client.recv(1), clock.readers))
        self.assertEqual([], self.flushLoggedErrors())
        clock.advance(PAUSE)
        self.assertEqual([port], clock.readers)
        await port.stopListening()

    async def test_no_descriptor(self) -> None:
        """When none is free it waits a second, and does not spin; whoever waits is taken then.  A stop ends the wait too."""
        clock = Reading()
        port = SharedPort(clock, self.listening.fileno(), socket.AF_UNIX, self.factory())
        self.addCleanup(port.stopListening)
        port.startListening()
        port._socket.close()
        port._socket = Full(port)  # type: ignore[assignment]
        port.doRead()
        self.assertEqual([], clock.readers)
        clock.advance(PAUSE)
        self.assertEqual([port], clock.readers)
        port.doRead()
        await port.stopListening()
        self.assertEqual([], clock.getDelayedCalls())


class Broken:
    """A reactor that can make no connection of a socket."""

    def adoptStreamConnection(self, *_: object) -> None:
        raise ZeroDivisionError


class Reading(Clock):
    """Knows who reads.  trouble: that it has with a connection."""

    def __init__(self, trouble: OSError | None = None) -> None:
        super().__init__()
        self.readers: list[object] = []
        self.trouble = trouble

    def adoptStreamConnection(self, *_: object) -> None:
        if self.trouble is not None:
            raise self.trouble

    def addReader(self, reader: object) -> None:
        self.readers.append(reader)

    def removeReader(self, reader: object) -> None:
        if reader in self.readers:
            self.readers.remove(reader)


class Full:
    """A socket whose process has no descriptor free."""

    def __init__(self, port: SharedPort) -> None:
        self.closed = False

    def fileno(self) -> int:
        return -1 if self.closed else 99

    def accept(self) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    def close(self) -> None:
        self.closed = True
