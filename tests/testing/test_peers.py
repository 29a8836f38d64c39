"""The scripted server, spoken to in memory and over loopback TLS: it is as honest, or as bad, as its script says."""

from __future__ import annotations

from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.interfaces import IHandshakeListener, IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Protocol
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from mta.smtp.credentials import encode
from mta.testing.peers import Act, Clear, Received, ScriptedServer
from mta.testing.pki import Authority


class Transport(StringTransport):
    """A transport in memory."""

    def setTcpNoDelay(self, on: bool) -> None:
        pass


class ScriptTests(SynchronousTestCase):
    """In memory, in clear."""

    def talk(self, server: ScriptedServer, *segments: bytes) -> bytes:
        """What the server says to these, behind its greeting."""
        peer = server.buildProtocol(None)
        self.transport = Transport()
        peer.makeConnection(self.transport)
        self.greeting = self.transport.value()
        self.transport.clear()
        for segment in segments:
            peer.dataReceived(segment)
        return self.transport.value()

    def test_honest(self) -> None:
        """A message is taken byte for byte, dots unstuffed; verbs and counts are kept."""
        server = ScriptedServer(extensions=("SIZE 10",))
        said = self.talk(
            server,
            b"EHLO me\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<e@f>\r\nDA",
            b"TA\r\n",
            b"..one\r\n..\r\ntwo",
            b"\r\n.\r\nQUIT\r\n",
        )
        self.assertEqual(self.greeting, b"220 scripted.example ESMTP\r\n")
        self.assertEqual(
            [line[:3] for line in said.splitlines()], [b"250", b"250", b"250", b"250", b"250", b"354", b"250", b"221"]
        )
        self.assertEqual(server.messages, [Received(1, "a@b", ("c@d", "e@f"), b".one\r\n.\r\ntwo\r\n", False)])
        self.assertEqual(server.verbs(1), ["EHLO", "MAIL", "RCPT", "RCPT", "DATA", "QUIT"])
        self.assertEqual((server.connections, server.quits, server.handshakes), (1, 1, 0))

    def test_order_is_kept(self) -> None:
        """RCPT without MAIL, DATA without recipients and unknown commands are refused; an empty body is a body."""
        said = self.talk(ScriptedServer(), b"RCPT TO:<a@b>\r\nDATA\r\nMAIL FROM:<>\r\nDATA\r\nBLA\r\n")
        self.assertEqual([line[:3] for line in said.splitlines()], [b"503", b"554", b"250", b"554", b"500"])
        server = ScriptedServer()
        self.talk(server, b"MAIL FROM:<>\r\nRCPT TO:<a@b>\r\nDATA\r\n", b".\r\n")
        self.assertEqual(server.messages, [Received(1, "", ("a@b",), b"", False)])

    def test_most_specific_point(self) -> None:
        """An address before a verb; a list counts the times, None and its end mean as usual."""
        server = ScriptedServer({"RCPT x@y": "550 no", "RCPT": ["450 later", None, "451 again"]})
        said = self.talk(server, b"MAIL FROM:<a@b>\r\n" + b"RCPT TO:<x@y>\r\n" + b"RCPT TO:<c@d>\r\n" * 4)
        self.assertEqual([line[:3] for line in said.splitlines()], [b"250", b"550", b"450", b"250", b"451", b"250"])

    def test_acts(self) -> None:
        """Hang up in order, reset, stall, raw bytes, several things at once."""
        self.talk(ScriptedServer({"EHLO": ("250 ok", Act.CLOSE)}), b"EHLO x\r\n")
        self.assertEqual((self.transport.value(), self.transport.disconnecting), (b"250 ok\r\n", True))
        self.talk(ScriptedServer({"EHLO": Act.ABORT}), b"EHLO x\r\n")
        self.assertTrue(self.transport.disconnected if hasattr(self.transport, "disconnected") else self.transport.disconnecting)
        self.assertEqual(self.talk(ScriptedServer({"EHLO": Act.STALL, "NOOP": b"\xff"}), b"EHLO x\r\n", b"NOOP\r\n"), b"\xff")
        self.assertEqual(
            self.talk(ScriptedServer({"body": Act.PAUSE}), b"MAIL FROM:<>\r\nRCPT TO:<a@b>\r\nDATA\r\n", b"x")[-6:],
            b"go on\r\n"[-6:],
        )
        self.assertEqual(self.transport.producerState, "paused")

    def test_auth(self) -> None:
        """MAIL wants a login; each mechanism lets in who knows the password and nobody else; EHLO forgets who it was."""
        server = ScriptedServer(users={"me": "secret"}, clear_mechanisms=("PLAIN", "LOGIN"))
        plain = [encode(b"\0me\0" + password) for password in (b"wrong", b"secret")]
        said = self.talk(
            server,
            b"MAIL FROM:<a@b>\r\nAUTH CRAM-MD5\r\nAUTH PLAIN "
            + plain[0]
            + b"\r\nAUTH PLAIN "
            + plain[1]
            + b"\r\nMAIL FROM:<a@b>\r\n",
            b"EHLO x\r\nMAIL FROM:<a@b>\r\nAUTH LOGIN\r\n"
            + encode(b"me")
            + b"\r\n"
            + encode(b"secret")
            + b"\r\nAUTH PLAIN\r\n=\r\n",
        )
        self.assertIn(b"250 AUTH PLAIN LOGIN\r\n", said)
        codes = [line[:3] for line in said.splitlines() if line[3:4] == b" "]
        self.assertEqual(b" ".join(codes), b"530 504 535 235 250 250 530 334 334 235 334 501")
        self.assertEqual(server.logins, ["1 PLAIN me", "1 LOGIN me"])

    def test_no_tls(self) -> None:
        """Without a certificate STARTTLS is not offered and refused, and TLS bytes get text."""
        said = self.talk(ScriptedServer(), b"EHLO x\r\n", b"STARTTLS\r\n", b"\x16\x03\x01")
        self.assertNotIn(b"250 STARTTLS", said)
        self.assertTrue(said.endswith(b"502 5.5.1 no TLS here\r\n500 5.5.2 what?\r\n"))


@implementer(IOpenSSLClientConnectionCreator)
class AnyTls:
    """A client's TLS without questions."""

    def clientConnectionForTLS(self, protocol: object) -> SSL.Connection:
        return SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)


@implementer(IHandshakeListener)
class Client(Protocol):
    """Collects what it hears; says when the handshake is done and when it is over."""

    def __init__(self) -> None:
        self.heard = b""
        self.secured: Deferred[None] = Deferred()
        self.over: Deferred[object] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        if self.heard.endswith(b"220 2.0.0 go\r\n"):
            self.transport.startTLS(AnyTls())

    def handshakeCompleted(self) -> None:
        self.secured.callback(None)

    def connectionLost(self, reason: object = None) -> None:
        self.over.callback((reason,))


class TlsTests(TestCase):
    """Over loopback."""

    timeout = 10

    async def connect(self, script: dict) -> Client:
        self.server = ScriptedServer(script, certificate=Authority.create().issue("localhost"))
        self.port = reactor.listenTCP(0, self.server, interface="127.0.0.1")
        self.addCleanup(self.port.stopListening)
        client = Client()
        await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", self.port.getHost().port), client)
        client.transport.write(b"EHLO x\r\nSTARTTLS\r\n")
        await client.secured
        return client

    async def test_inside_tls(self) -> None:
        """After the handshake points may be told apart; the extensions inside TLS do not offer it again."""
        client = await self.connect({"tls NOOP": "250 inside", "NOOP": "250 outside"})
        client.heard = b""
        client.transport.write(b"EHLO x\r\nNOOP\r\nQUIT\r\n")
        await client.over
        self.assertTrue(client.heard.endswith(b"250 inside\r\n221 2.0.0 bye\r\n"))
        self.assertNotIn(b"STARTTLS", client.heard)
        self.assertEqual((self.server.handshakes, self.server.verbs(1)[-1]), (1, "tls QUIT"))

    async def test_clear_bytes_inside_tls(self) -> None:
        """`Clear` goes past the TLS layer: the client's TLS breaks."""
        client = await self.connect({"tls NOOP": Clear(b"554 no\r\n")})
        client.heard = b""
        client.transport.write(b"NOOP\r\n")
        (reason,) = await client.over
        self.assertEqual(client.heard, b"")
        self.assertTrue(reason.check(SSL.Error), reason)
        self.server.close_all()
        while self.server.open:
            await Deferred.fromCoroutine(self.soon())

    async def soon(self) -> None:
        """One turn of the reactor."""
        turn: Deferred[None] = Deferred()
        reactor.callLater(0.01, turn.callback, None)
        await turn
