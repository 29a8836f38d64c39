"""`mta.control.scrapes`: the port over starts, reloads and stops."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from mta.control.metrics import Page
from mta.control.scrapes import Scrapes
from mta.status import MailError
from tests.ports import free_port
from tests.workers.fakes import Log

REQUEST = b"GET /metrics HTTP/1.0\r\n\r\n"


class Client(Protocol):
    """Asks, and hears until the end."""

    def __init__(self) -> None:
        self.heard = b""
        self.gone: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        self.transport.write(REQUEST)  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.gone.callback(self.heard)


def endpoint(port: int) -> str:
    return f"tcp:{port}:interface=127.0.0.1"


class ScrapesTests(TestCase):
    """`Scrapes`."""

    timeout = 30

    def setUp(self) -> None:
        self.log = Log()
        self.answer: Any = {"": [("mta_workers", (), 7)]}
        self.scrapes = Scrapes(self.gather, reactor, self.log)  # type: ignore[arg-type]
        self.addCleanup(lambda: Deferred.fromCoroutine(self.scrapes.close()))

    async def gather(self) -> Page:
        page: Page = await self.answer if isinstance(self.answer, Deferred) else self.answer
        return page

    async def ask(self, port: int) -> bytes:
        client = Client()
        await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), client)
        return await client.gone

    async def is_closed(self, port: int) -> bool:
        try:
            await self.ask(port)
        except ConnectionRefusedError:
            return True
        return False

    async def test_not_configured(self) -> None:
        """Nothing is opened, and nothing is said; closing it is no trouble."""
        await self.scrapes.open("")
        await self.scrapes.close()
        self.assertEqual([], self.log.events)

    async def test_open_and_close(self) -> None:
        """It answers, says where, and is gone with all who are there."""
        port = free_port()
        await self.scrapes.open(endpoint(port))
        self.assertIn(b"\nmta_workers 7.0\n", await self.ask(port))
        self.assertEqual(
            [("metrics", endpoint(port), "127.0.0.1", port)], self.log.told("service", "endpoint", "address", "port")
        )
        self.answer = Deferred(lambda _: None)
        waiting = Deferred.fromCoroutine(self.ask(port))
        asked: Deferred[None] = Deferred()
        reactor.callLater(0.1, asked.callback, None)  # type: ignore[attr-defined]
        await asked
        await self.scrapes.close()
        self.assertEqual(b"", await waiting)
        self.assertTrue(await self.is_closed(port))

    async def test_moved(self) -> None:
        """Another endpoint: the new one is there before the old one goes.  The same: nothing happens.  None: it goes."""
        first, second = free_port(), free_port()
        await self.scrapes.open(endpoint(first))
        bound = await self.scrapes.bind(endpoint(second))
        self.assertIn(b" 7.0\n", await self.ask(first))
        await self.scrapes.use(bound)
        self.assertTrue(await self.is_closed(first))
        await self.scrapes.use(await self.scrapes.bind(endpoint(second)))
        self.assertIn(b" 7.0\n", await self.ask(second))
        self.assertEqual(2, len(self.log.events))
        await self.scrapes.use(await self.scrapes.bind(""))
        self.assertTrue(await self.is_closed(second))

    async def test_closed_while_a_reload_keeps_it(self) -> None:
        """The reload finds the port of before closed, or about to be, and does not close it again."""
        for moment in ("under way", "over"):
            port = free_port()
            await self.scrapes.open(endpoint(port))
            kept = await self.scrapes.bind(endpoint(port))
            closing = Deferred.fromCoroutine(self.scrapes.close())
            if moment == "over":
                await closing
            await self.scrapes.use(kept)
            await closing
            self.assertTrue(await self.is_closed(port))

    async def test_taken(self) -> None:
        """The port of somebody else: MailError, and the one in use answers on."""
        first = free_port()
        await self.scrapes.open(endpoint(first))
        other: Any = reactor.listenTCP(0, Factory(), interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(other.stopListening)
        with self.assertRaises(MailError) as caught:
            await self.scrapes.bind(endpoint(other.getHost().port))
        self.assertIn("Address already in use", caught.exception.reason)
        self.assertIn(b" 7.0\n", await self.ask(first))

    async def test_dropped(self) -> None:
        """A reload that came to nothing: the new port goes, the old one stays, also where both are one."""
        first, second = free_port(), free_port()
        await self.scrapes.open(endpoint(first))
        await self.scrapes.drop(await self.scrapes.bind(endpoint(second)))
        await self.scrapes.drop(await self.scrapes.bind(endpoint(first)))
        self.assertTrue(await self.is_closed(second))
        self.assertIn(b" 7.0\n", await self.ask(first))

    async def test_stopped_meanwhile(self) -> None:
        """A port that is bound behind a stop is not left open."""
        port = free_port()
        bound = await self.scrapes.bind(endpoint(port))
        await self.scrapes.close()
        await self.scrapes.use(bound)
        self.assertTrue(await self.is_closed(port))
        self.assertEqual([], self.log.events)
