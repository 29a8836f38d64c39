"""The connection between OpenSSL and Twisted, both roles: an end in the handshake is a failure that Twisted can read."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from OpenSSL import SSL
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from mta.config.settings import TlsClient
from mta.tls.client import ClientTls
from mta.tls.connection import TlsConnection
from tests.tls.client_case import owed
from tests.tls.contexts import ContextCase

CLOSE_NOTIFY = b"\x15\x03\x03\x00\x02\x01\x00"


@implementer(IHalfCloseableProtocol)
class Told(Protocol):
    """Remembers why it ended, and how often it was told that the peer has ended its side."""

    reason: Failure | None = None
    heard = 0

    def readConnectionLost(self) -> None:
        self.heard += 1

    def writeConnectionLost(self) -> None:
        """Never called."""

    def connectionLost(self, reason: Failure) -> None:
        self.reason = reason


def ends(creator: object, is_client: bool, data: bytes) -> tuple[Failure, bool]:
    """Twisted's TLS over that, and the peer says nothing but this: why it ended, did we close."""
    protocol = Told()
    layer = TLSMemoryBIOFactory(creator, is_client, Factory.forProtocol(Told)).buildProtocol(None)
    layer.wrappedProtocol = protocol
    wire = StringTransport()
    layer.makeConnection(wire)
    layer.dataReceived(data)
    layer.connectionLost(Failure(Exception("the transport's own reason")))
    return protocol.reason, wire.disconnecting


def hello() -> bytes:
    """What a client begins with."""
    client = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
    client.set_connect_state()
    try:
        client.do_handshake()
    except SSL.WantReadError:
        return client.bio_read(65536)
    raise AssertionError("no server has answered")


class ConnectionTests(ContextCase):
    """`TlsConnection`."""

    def test_s17_server(self) -> None:
        """S17, X15: close_notify behind the client's hello ends the handshake with words, and with no exception in the reactor."""
        reason, closing = ends(self.serving().prepare(), False, hello() + CLOSE_NOTIFY)
        self.assertIn("close notify in the handshake", str(reason.value))
        self.assertTrue(closing)

    def test_client(self) -> None:
        """The same in place of the server's hello."""
        reason, closing = ends(ClientTls(TlsClient()).creator(owed()), True, CLOSE_NOTIFY)
        self.assertIn("close notify in the handshake", str(reason.value))
        self.assertTrue(closing)

    def test_other_ends_stay_what_they_are(self) -> None:
        """More bytes are wanted; what is no TLS has OpenSSL's own words."""
        connection = TlsConnection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
        connection.set_connect_state()
        self.assertRaises(SSL.WantReadError, connection.do_handshake)
        connection.bio_write(b"220 no TLS here\r\n")
        error = self.assertRaises(SSL.Error, connection.do_handshake)
        self.assertEqual(error.args[0][-1][-1], "wrong version number")


class EndTests(ContextCase):
    """close_notify behind the handshake."""

    def ending(self, ours_first: bool) -> tuple[Told, StringTransport]:
        """A server over Twisted's TLS after both ends have said close_notify, or the client alone."""
        protocol, wire = Told(), StringTransport()
        factory = TLSMemoryBIOFactory(self.serving().prepare(), False, Factory.forProtocol(Told))
        layer = factory.protocol(factory, protocol, False)
        layer.makeConnection(wire)
        client = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
        client.set_connect_state()

        def turn(step: Callable[[], object]) -> None:
            with contextlib.suppress(SSL.WantReadError):
                step()
            with contextlib.suppress(SSL.WantReadError):
                layer.dataReceived(client.bio_read(65536))
            if said := wire.value():
                client.bio_write(said)
                wire.clear()

        turn(client.do_handshake)
        turn(client.do_handshake)
        if ours_first:
            turn(layer.loseConnection)
        turn(client.shutdown)
        return protocol, wire

    def test_s25_client_alone(self) -> None:
        """S25: the client ends its side: the protocol is told, once, and it is the protocol that closes."""
        protocol, wire = self.ending(ours_first=False)
        self.assertEqual((protocol.heard, wire.disconnecting), (1, False))

    def test_s25_answer(self) -> None:
        """S25: the client answers our close_notify: that is the end, nobody waits for TCP to be closed from the other side."""
        protocol, wire = self.ending(ours_first=True)
        self.assertEqual((protocol.heard, wire.disconnecting), (0, True))
