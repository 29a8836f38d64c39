"""`mta.control.metrics_site`: over real sockets on the loopback, and a Clock for its patience."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mta.control.metrics import Page
from mta.control.metrics_site import MOST, PATIENCE, MetricsSite

PAGE: Page = {"": [("mta_connections_total", ("mx",), 3)]}
LINE = b'mta_connections_total{listener="mx"} 3.0\n'


class Client(Protocol):
    """Says something, and hears until the end."""

    def __init__(self) -> None:
        self.heard = b""
        self.gone: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.gone.callback(self.heard)


class SiteTests(TestCase):
    """`MetricsSite`."""

    timeout = 30

    def setUp(self) -> None:
        self.clock = Clock()
        self.answer: Any = PAGE
        self.site = MetricsSite(self.gather, self.clock)
        port: Any = reactor.listenTCP(0, self.site, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.port = port.getHost().port
        self.addCleanup(self.site.hang_up)
        self.addCleanup(port.stopListening)

    async def gather(self) -> Page:
        if isinstance(self.answer, Exception):
            raise self.answer
        page: Page = await self.answer if isinstance(self.answer, Deferred) else self.answer
        return page

    async def client(self, text: bytes = b"") -> Client:
        client = Client()
        await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", self.port), client)
        client.transport.write(text)  # type: ignore[union-attr]
        return client

    async def ask(self, text: bytes) -> tuple[bytes, bytes]:
        """Header and body of the answer."""
        client = await self.client(text)
        header, _, body = (await client.gone).partition(b"\r\n\r\n")
        return header, body

    async def until(self, true: Any) -> None:
        while not true():
            await deferLater(reactor, 0.01)

    async def test_get(self) -> None:
        """The page; the connection is closed behind it, and what was sent behind the request is not looked at."""
        header, body = await self.ask(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
        self.assertEqual(b"HTTP/1.1 200 OK", header.split(b"\r\n")[0])
        self.assertIn(b"Content-Type: text/plain; version=0.0.4", header)
        self.assertIn(f"Content-Length: {len(body)}".encode(), header)
        self.assertIn(b"Connection: close", header)
        self.assertIn(LINE, body)
        self.assertEqual([], self.clock.getDelayedCalls())

    async def test_head(self) -> None:
        """The header of GET, and no body; a query is nobody's business."""
        header, body = await self.ask(b"HEAD /metrics?name=x HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertEqual((b"HTTP/1.1 200 OK", b""), (header.split(b"\r\n")[0], body))
        self.assertIn(b"Content-Length: ", header)

    async def test_openmetrics(self) -> None:
        """What Accept asks for."""
        request = b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: application/openmetrics-text;version=1.0.0\r\n\r\n"
        header, body = await self.ask(request)
        self.assertIn(b"Content-Type: application/openmetrics-text", header)
        self.assertTrue(body.endswith(b"# EOF\n"))

    async def test_accept_that_nobody_can_read(self) -> None:
        """It is answered as if there was none, and fills no log."""
        for accept in (b"\xff\xfe", b"application/openmetrics-text;version=\xc3\xa9", b"application/openmetrics-text;version=x"):
            header, body = await self.ask(b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: " + accept + b"\r\n\r\n")
            self.assertIn(b"Content-Type: text/plain; version=0.0.4", header, accept)
            self.assertIn(LINE, body)

    async def test_nothing_else(self) -> None:
        """404 for other paths, 405 for other methods."""
        for path in (b"/", b"/metrics/", b"/metrics/x", b"/x", b"/../metrics", b"*"):
            header, _ = await self.ask(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertEqual(b"HTTP/1.1 40", header[:11], path)
            self.assertNotIn(LINE, header)
        for method in (b"POST", b"PUT", b"DELETE", b"OPTIONS", b"XYZZY"):
            header, body = await self.ask(method + b" /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertEqual(b"HTTP/1.1 405", header[:12], method)
            self.assertIn(b"Allow: GET, HEAD", header)
            self.assertNotIn(LINE, body)

    async def test_a_body(self) -> None:
        """Whoever sends one is cut off, before it is taken."""
        for request in (b"Content-Length: 1000000000", b"Transfer-Encoding: chunked"):
            _, body = await self.ask(b"POST /metrics HTTP/1.1\r\nHost: x\r\n" + request + b"\r\n\r\n" + b"x" * 1000)
            self.assertNotIn(LINE, body)

    async def test_no_request(self) -> None:
        """What is no HTTP, and a header without an end, are refused."""
        header, _ = await self.ask(b"EHLO x\r\n\r\n")
        self.assertEqual(b"HTTP/1.1 400", header[:12])
        header, _ = await self.ask(b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 8000 + b"\r\nY: " + b"y" * 12_000 + b"\r\n")
        self.assertEqual(b"HTTP/1.1 400", header[:12])

    async def test_who_stalls(self) -> None:
        """Nobody has more than PATIENCE in all, whether he says nothing or a little now and then."""
        clients = [await self.client(text) for text in (b"", b"GET /metr")]
        await self.until(lambda: len(self.site.here) == 2)
        self.clock.advance(PATIENCE - 1)
        clients[1].transport.write(b"ics HTTP/1.1\r\nX: ")  # type: ignore[union-attr]
        await deferLater(reactor, 0.05)
        self.assertEqual(2, len(self.site.here))
        self.clock.advance(1)
        self.assertEqual([b"", b""], [await client.gone for client in clients])
        self.assertEqual([], self.clock.getDelayedCalls())

    async def test_the_answer_takes_its_time(self) -> None:
        """Whoever waits gets it; for whoever goes nobody works on, and nothing is logged."""
        self.answer = Deferred()
        client = await self.client(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        await self.until(lambda: any(channel.requests for channel in self.site.here))
        self.answer.callback(PAGE)
        self.assertIn(LINE, await client.gone)
        cancelled: list[object] = []
        self.answer = Deferred(cancelled.append)
        client = await self.client(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        await self.until(lambda: any(channel.requests for channel in self.site.here))
        client.transport.abortConnection()  # type: ignore[union-attr]
        await self.until(lambda: not self.site.here)
        self.assertEqual([self.answer], cancelled)

    async def test_a_bug(self) -> None:
        """It is logged, and 500 is said."""
        self.answer = ZeroDivisionError("bug")
        header, body = await self.ask(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertEqual((b"HTTP/1.1 500", b""), (header[:12], body))
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    async def test_the_end(self) -> None:
        """Those who are there are cut off when the port closes."""
        client = await self.client()
        await self.until(lambda: self.site.here)
        await self.site.hang_up()
        self.assertEqual(b"", await client.gone)
        self.assertEqual([], self.clock.getDelayedCalls())


class CrowdTests(SynchronousTestCase):
    """Without sockets."""

    def test_too_many(self) -> None:
        """The last are turned away; when somebody has gone there is a place again.  No timer runs while nobody is there."""
        clock = Clock()

        async def gather() -> Page:
            return PAGE

        site = MetricsSite(gather, clock)
        site.doStart()
        self.addCleanup(site.doStop)
        self.assertEqual([], clock.getDelayedCalls())
        channels = []
        for _ in range(MOST):
            channel = site.buildProtocol(None)
            channel.makeConnection(StringTransport())
            channels.append(channel)
        self.assertIsNone(site.buildProtocol(None))
        channels[0].connectionLost(Failure(connectionDone.value))
        self.assertIsNotNone(site.buildProtocol(None))
        for channel in channels[1:]:
            channel.connectionLost(Failure(connectionDone.value))
        self.assertEqual(([], set()), (clock.getDelayedCalls(), site.here))
