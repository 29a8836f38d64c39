"""A client over the loopback for the tests of receiving: reads, writes, speaks TLS, and misbehaves on request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.interfaces import IHandshakeListener, IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Protocol
from zope.interface import implementer


@implementer(IOpenSSLClientConnectionCreator)
class AnyServer:
    """Takes every certificate.  prepare: what else the context wants."""

    def __init__(self, prepare: Callable[[SSL.Context], object] = lambda context: None) -> None:
        self._context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        prepare(self._context)

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """See IOpenSSLClientConnectionCreator."""
        return SSL.Connection(self._context, None)


@implementer(IHandshakeListener)
class Client(Protocol):
    """`until` fires when a text was read, `gone` with all that was not asked for at the end, `secured` after a handshake."""

    def __init__(self) -> None:
        self.read = b""
        self.gone: Deferred[bytes] = Deferred()
        self._until: tuple[bytes, Deferred[bytes]] | None = None
        self._secured: Deferred[None] | None = None

    @classmethod
    async def connect(cls, port: int) -> Client:
        """A connection to a port of the loopback."""
        return await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), cls())

    def until(self, text: bytes) -> Deferred[bytes]:
        """Fires with what was read up to the text, and forgets it."""
        waiting: Deferred[bytes] = Deferred()
        self._until = (text, waiting)
        self.dataReceived(b"")
        return waiting

    def say(self, data: bytes, until: bytes = b"\r\n") -> Deferred[bytes]:
        """Write, then read until."""
        self.transport.write(data)
        return self.until(until)

    async def hello(self) -> bytes:
        """EHLO; the list."""
        return await self.say(b"EHLO client.example\r\n", b"\r\n250 ") + await self.until(b"\r\n")

    async def envelope(self, recipient: bytes = b"user@example.org") -> bytes:
        """MAIL, RCPT, DATA; the three answers."""
        commands = b"MAIL FROM:<s@client.example>\r\n", b"RCPT TO:<%b>\r\n" % recipient, b"DATA\r\n"
        return b"".join([await self.say(command) for command in commands])

    @property
    def is_secure(self) -> bool:
        """TLS is up."""
        return self._secured is not None

    def secure(self, prepare: Callable[[SSL.Context], object] = lambda context: None) -> Deferred[None]:
        """Speak TLS; fires after the handshake, errbacks when it fails."""
        self._secured = Deferred()
        self.transport.startTLS(AnyServer(prepare))
        return self._secured

    async def starttls(self) -> None:
        """EHLO, STARTTLS, TLS."""
        await self.until(b"220 ")
        await self.hello()
        await self.say(b"STARTTLS\r\n", b"220 2.0.0 Ready to start TLS\r\n")
        await self.secure()

    def say_in_clear(self, data: bytes) -> None:
        """Bytes past the TLS layer."""
        FileDescriptor.write(self.transport, data)

    def handshakeCompleted(self) -> None:
        """TLS is up."""
        assert self._secured is not None
        self._secured.callback(None)

    def dataReceived(self, data: bytes) -> None:
        """Look for the text."""
        self.read += data
        if self._until is not None and self._until[0] in self.read:
            (text, waiting), self._until = self._until, None
            before, _, self.read = self.read.partition(text)
            waiting.callback(before + text)

    def connectionLost(self, reason: Any = None) -> None:
        """The end; who still waits for something waits for nothing."""
        if self._secured is not None and not self._secured.called:
            self._secured.errback(reason)
        if self._until is not None:
            self._until[1].errback(reason)
        self.gone.callback(self.read)


def turn() -> Deferred[None]:
    """A turn of the reactor."""
    fired: Deferred[None] = Deferred()
    reactor.callLater(0, fired.callback, None)
    return fired
