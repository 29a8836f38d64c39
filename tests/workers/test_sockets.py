"""`mta.workers.sockets`: bound by one, served by others."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase

from mta.config.settings import Listen
from mta.status import MailError
from mta.workers.frame import Handed
from mta.workers.sockets import Inherited, Sockets

TCP = "tcp:0:interface=127.0.0.1"


class Greets(Protocol):
    """Says hello."""

    def connectionMade(self) -> None:
        self.transport.write(b"hello")  # type: ignore[union-attr]
        self.transport.loseConnection()  # type: ignore[union-attr]


class Hears(Protocol):
    """Waits for the end."""

    def __init__(self) -> None:
        self.heard = b""
        self.done: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Any = None) -> None:
        self.done.callback(self.heard)


class SocketsTests(TestCase):
    """`Sockets` and `Inherited`, in one process."""

    def setUp(self) -> None:
        self.sockets = Sockets(reactor)
        self.addCleanup(self.sockets.close)

    def inherit(self, *endpoints: str) -> tuple[Inherited, tuple[Handed, ...]]:
        """What a worker would have: copies of the descriptors under numbers of its own."""
        handed, descriptors = self.sockets.handed(Listen(endpoint) for endpoint in endpoints)
        copies = tuple(Handed(each.endpoint, os.dup(descriptors[each.descriptor]), each.family) for each in handed)
        return Inherited(reactor, copies), copies

    async def hear(self, endpoint: Any) -> bytes:
        client = Hears()
        await connectProtocol(endpoint, client)
        return await client.done

    async def test_two_serve_one_port(self) -> None:
        """The one who bound it takes nobody; who comes waits until somebody serves; each of two may end, the other goes on."""
        self.sockets.bind([TCP])
        ((_, port),) = self.sockets.addresses
        target = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
        waiting = Deferred.fromCoroutine(self.hear(target))
        servers = [await self.inherit(TCP)[0](TCP, Factory.forProtocol(Greets)) for _ in range(2)]
        self.assertEqual(b"hello", await waiting)
        self.assertEqual([b"hello"] * 10, [await self.hear(target) for _ in range(10)])
        await servers[0].stopListening()
        self.assertEqual(b"hello", await self.hear(target))
        await servers[1].stopListening()
        await self.sockets.close()
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 5)

    async def test_unix_socket(self) -> None:
        """A worker changes no mode, and leaves name and socket when it ends; the supervisor removes the name."""
        path = Path(self.mktemp()).absolute()
        if len(str(path)) > 100:
            path = Path(f"/tmp/mta-{os.getpid()}.sock")
        endpoint = f"unix:{path}:mode=600"
        self.sockets.bind([endpoint])
        first = await self.inherit(endpoint)[0](endpoint, Factory.forProtocol(Greets))
        await first.stopListening()
        self.assertEqual(0o600, path.stat().st_mode & 0o777)
        second = await self.inherit(endpoint)[0](endpoint, Factory.forProtocol(Greets))
        self.assertEqual(b"hello", await self.hear(UNIXClientEndpoint(reactor, str(path))))
        await second.stopListening()
        await self.sockets.close()
        self.assertFalse(path.exists())

    async def test_no_copy_is_kept(self) -> None:
        """The descriptor that was inherited is closed, and the socket does not block."""
        self.sockets.bind([TCP])
        inherited, (handed,) = self.inherit(TCP)
        self.assertFalse(os.get_blocking(handed.descriptor))
        port = await inherited(TCP, Factory.forProtocol(Greets))
        with self.assertRaises(OSError):
            os.fstat(handed.descriptor)
        await port.stopListening()
        self.assertEqual("cannot listen on tcp:9: no socket was handed down for it", (await self.refused(inherited, "tcp:9")))

    async def refused(self, inherited: Inherited, endpoint: str) -> str:
        with self.assertRaises(MailError) as raised:
            await inherited(endpoint, Factory())
        return raised.exception.reason or ""

    async def test_all_or_none(self) -> None:
        """One that cannot be had: what was opened before it is closed, what was there stays."""
        self.sockets.bind([TCP])
        with socket.create_server(("127.0.0.1", 0)) as taken:
            endpoint = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
            with self.assertRaises(MailError) as raised:
                self.sockets.bind([TCP, endpoint])
        self.assertEqual(f"cannot listen on {endpoint}: Address already in use", raised.exception.reason)
        self.assertEqual([TCP], self.sockets.endpoints)

    async def test_change(self) -> None:
        """What a configuration wants more, and what it wants no more; two of the same name are two."""
        listens = [Listen(TCP), Listen(TCP), Listen("tcp:0:interface=127.0.0.2")]
        self.sockets.bind([TCP])
        self.assertEqual([TCP, "tcp:0:interface=127.0.0.2"], self.sockets.missing(listens))
        self.sockets.bind(self.sockets.missing(listens))
        before = dict(zip(self.sockets.endpoints, self.sockets.addresses, strict=True))
        self.assertEqual([], self.sockets.missing(listens))
        await self.sockets.keep(listens[2:])
        self.assertEqual([before[listens[2].endpoint]], self.sockets.addresses)
        self.sockets.bind([TCP])
        await self.sockets.drop([TCP])
        self.assertEqual([listens[2].endpoint], self.sockets.endpoints)

    async def test_what_cannot_be_shared(self) -> None:
        """An endpoint that is no listening socket is refused, in words."""
        with self.assertRaises(MailError) as raised:
            self.sockets.bind(["fd:99"])
        self.assertIn("cannot listen on fd:99", raised.exception.reason or "")
