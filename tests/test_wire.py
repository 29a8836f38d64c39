"""Prompt writing: the same bytes in the same order, only sooner."""

from __future__ import annotations

import socket

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import TestCase

from mta.wire import PromptWriter


class PromptWriterTests(TestCase):
    """Over a real socket, for the kernel's buffer is the point."""

    timeout = 20

    def setUp(self) -> None:
        self.made: Deferred[Protocol] = Deferred()
        self.lost: Deferred[object] = Deferred()
        case = self

        class Server(Protocol):
            def connectionMade(self) -> None:
                case.made.callback(self)

            def connectionLost(self, reason: object = None) -> None:
                case.lost.callback(None)

        port = reactor.listenTCP(0, Factory.forProtocol(Server), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.client = socket.create_connection(("127.0.0.1", port.getHost().port), 10)
        self.addCleanup(self.client.close)

    async def test_written_in_this_turn(self) -> None:
        """What fits into the socket's buffer is there for the peer before the reactor turns again."""
        server = await self.made
        PromptWriter(server.transport)(b"250 ok\r\n")
        self.client.setblocking(False)
        self.assertEqual(b"250 ok\r\n", self.client.recv(100))
        server.transport.loseConnection()
        await self.lost

    async def test_what_does_not_fit_keeps_its_place(self) -> None:
        """More than the buffer takes goes the usual way, and so does all that follows: nothing overtakes."""
        server = await self.made
        write = PromptWriter(server.transport)
        pieces = [bytes([number]) * 300_000 for number in range(60)]
        for piece in pieces:
            write(piece)
        server.transport.loseConnection()
        received = bytearray()
        self.client.setblocking(False)
        while len(received) < 300_000 * 60:
            try:
                received += self.client.recv(1 << 20)
            except BlockingIOError:
                turn: Deferred[None] = Deferred()
                reactor.callLater(0, turn.callback, None)
                await turn
        self.assertEqual(b"".join(pieces), bytes(received))
        await self.lost

    async def test_a_connection_that_is_gone(self) -> None:
        """Nothing is raised; the loss is told in the usual way."""
        server = await self.made
        write = PromptWriter(server.transport)
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.client.close()
        for _ in range(3):
            write(b"x" * 1000)
        await self.lost
        write(b"late")

    def test_other_transports(self) -> None:
        """One that is no file descriptor is written to as ever."""
        transport = StringTransport()
        PromptWriter(transport)(b"hello")
        self.assertEqual(b"hello", transport.value())
        self.made.addErrback(lambda _: None)
        return self._finish()  # type: ignore[return-value]

    async def _end(self) -> None:
        server = await self.made
        server.transport.loseConnection()
        await self.lost

    def _finish(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._end())
