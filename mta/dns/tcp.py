"""One question over TCP, for answers that do not fit a datagram.

RFC 1035 4.2.2, RFC 7766.  One connection for one question: in mail truncation is rare (large TXT and TLSA sets), and a
connection that is not kept cannot be half dead.  A server that hangs up is noticed at once.  At most one message of
64 KiB is buffered.  No error leaves this file as an exception; the timeout is the caller's (cancel).
"""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IConnector
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.python.failure import Failure

from mta.dns.answer import UNREACHABLE
from mta.dns.message import GARBLED, Question, Reply, belongs, failure
from mta.dns.parse import parse
from mta.dns.servers import Server

__all__ = ["ask_tcp"]


class _Asking(Protocol):
    """Sends the question, collects one length-prefixed message."""

    def __init__(self, asked: _Asked) -> None:
        self._asked = asked
        self._buffer = bytearray()

    def connectionMade(self) -> None:
        wire = self._asked.question.to_wire(self._asked.ident)
        assert self.transport is not None
        self.transport.write(len(wire).to_bytes(2, "big") + wire)

    def dataReceived(self, data: bytes) -> None:
        self._buffer += data
        end = 2 + int.from_bytes(self._buffer[:2], "big")
        if len(self._buffer) >= end:
            # The abort that follows ends the reading: no second message is looked at.
            self._asked.received(bytes(self._buffer[2:end]))


class _Asked(ClientFactory):
    """The question on its way: ends once, and takes its connection with it."""

    noisy = False

    def __init__(self, question: Question, ident: int) -> None:
        self.question = question
        self.ident = ident
        self.connector: Any = None
        self.reply: Deferred[Reply] = Deferred(lambda _: self._drop())
        self.gone: Deferred[None] = Deferred()
        self._over = False

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        return _Asking(self)

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        self._ended(failure(UNREACHABLE, reason.getErrorMessage()))
        self.gone.callback(None)

    def clientConnectionLost(self, connector: IConnector, reason: Failure) -> None:
        self._ended(failure(UNREACHABLE, "the server closed the TCP connection"))
        self.gone.callback(None)

    def received(self, wire: bytes) -> None:
        """On a connection that we opened, what does not belong is not a stranger's but a fault."""
        ours = belongs(wire, self.ident, self.question)
        self._ended(parse(wire, self.question) if ours else failure(GARBLED, "not the answer to the question"))

    def _ended(self, reply: Reply) -> None:
        if not self._over:
            self._drop()
            self.reply.callback(reply)

    def _drop(self) -> None:
        self._over = True
        if self.connector.state == "connected":
            # Abort: there is nothing left to say, and a peer that does not read must not hold the socket.
            self.connector.transport.abortConnection()
        elif self.connector.state == "connecting":
            self.connector.stopConnecting()


def ask_tcp(reactor: Any, server: Server, question: Question, random: Random) -> tuple[Deferred[Reply], Deferred[None]]:
    """The reply (UNREACHABLE or GARBLED where it failed), and the moment when the connection is gone.

    Cancelling the first drops the connection; its timeout is the caller's.
    """
    asked = _Asked(question, random.getrandbits(16))
    # No timeout of the connector's own: the caller's covers connecting and answering alike.
    asked.connector = reactor.connectTCP(server.host, server.port, asked, timeout=None)
    return asked.reply, asked.gone
