"""Settings that change while the service runs: all of them or none; who is connected goes on, and every count goes on."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IListeningPort
from twisted.trial.unittest import TestCase

from mta import ports
from mta.config.settings import Auth, Limits, Listen, Settings, Tls
from mta.receive.service import ReceiveService
from mta.status import MailError
from mta.tls.context import ServerTls
from tests.receive.client import Client
from tests.receive.door import SETTINGS, FakeAccept, FakeLog, FakeRouter

FIRST = Listen("tcp:0:interface=127.0.0.1")
SECOND = Listen("tcp:0:interface=127.0.0.1:backlog=50")  # another endpoint


class ReconfigureTests(TestCase):
    """`ReceiveService.reconfigure`, on the loopback."""

    timeout = 20

    async def serve(self, *listen: Listen, **changes: Any) -> None:
        """Begin with these ports."""
        self.log, self.own = FakeLog(), set[tuple[str, int]]()
        settings = self.settings(*listen, **changes)
        self.receive = ReceiveService(settings, FakeAccept(), FakeRouter(), reactor=reactor, log=self.log, own_addresses=self.own)
        self.addCleanup(self.receive.stopService)
        await self.receive.open()

    def settings(self, *listen: Listen, **changes: Any) -> Settings:
        """The usual, with these ports."""
        made: Settings = attrs.evolve(SETTINGS, listen=listen, **changes)
        return made

    async def change(self, *listen: Listen, **changes: Any) -> None:
        """Other ports and settings from now on."""
        await self.receive.reconfigure(self.settings(*listen, **changes), FakeRouter(), ServerTls())

    @property
    def numbers(self) -> list[int]:
        """Of the ports."""
        return [port.getHost().port for port in self.receive.ports]

    async def greeting(self, port: int) -> bytes:
        """What a new client hears."""
        client = await Client.connect(port)
        self.addCleanup(client.transport.abortConnection)
        return await client.until(b"\r\n")

    async def test_ports(self) -> None:
        """What stays is not touched, what is new is opened and logged, what has gone is closed; the order is that of the file."""
        await self.serve(FIRST)
        [first] = self.numbers
        await self.change(SECOND, FIRST)
        second, again = self.numbers
        self.assertEqual(again, first)
        self.assertEqual([line["port"] for line in self.log.named("listening")], [first, second])
        self.assertEqual(self.own, {("127.0.0.1", first), ("127.0.0.1", second)})
        for port in (first, second):
            self.assertEqual((await self.greeting(port))[:4], b"220 ")
        await self.change(SECOND)
        self.assertEqual((self.numbers, self.own), ([second], {("127.0.0.1", second)}))
        with self.assertRaises(ConnectionRefusedError):
            await Client.connect(first)

    async def test_the_same_endpoint_twice(self) -> None:
        """Two entries of one text are two ports, before and after."""
        await self.serve(FIRST, FIRST)
        before = self.numbers
        await self.change(FIRST, FIRST)
        self.assertEqual((self.numbers, len(set(before))), (before, 2))
        await self.change(FIRST)
        self.assertEqual(self.numbers, before[:1])

    async def test_new_settings_for_new_connections(self) -> None:
        """Who is connected goes on by the old settings; who comes then, at the same port, meets the new."""
        await self.serve(FIRST)
        [port] = self.numbers
        client = await Client.connect(port)
        self.addCleanup(client.transport.abortConnection)
        await client.until(b"220 ")
        await self.change(attrs.evolve(FIRST, mail_requires="tls-or-auth"), hostname="new.example.org")
        self.assertIn(b"mx.example.org", await client.hello())
        self.assertEqual((await client.envelope())[:4], b"250 ")
        self.assertEqual(await self.greeting(port), b"220 new.example.org ESMTP\r\n")
        self.assertEqual(self.receive.sessions, 2)

    async def test_counts_go_on(self) -> None:
        """Connections of before count under the new limits, are counted out, and are told to go at the stop."""
        await self.serve(FIRST)
        [port] = self.numbers
        client = await Client.connect(port)
        await client.until(b"220 ")
        await self.change(FIRST, limits=Limits(connections=1), tls=Tls(handshakes_at_once=3))
        self.assertEqual((await self.greeting(port))[:9], b"421 4.3.2")
        self.assertEqual(self.receive._common.slots.free, 3)
        await client.say(b"QUIT\r\n")
        await client.gone
        last = await Client.connect(port)
        self.assertEqual((await last.until(b"\r\n"))[:4], b"220 ")
        await self.receive.stopService()
        self.assertEqual((await last.gone)[:9], b"421 4.3.2")

    async def test_port_in_use(self) -> None:
        """A new port that another has: a MailError with endpoint and reason, and nothing has changed; what was opened is closed."""
        await self.serve(FIRST)
        [port] = self.numbers
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            taken = f"tcp:{other.getsockname()[1]}:interface=127.0.0.1"
            error = await self.assertFailure(self.changed(SECOND, Listen(taken), hostname="new.example.org"), MailError)
        self.assertIn(f"cannot listen on {taken}: Address already in use", error.reason)
        self.assertEqual((self.numbers, self.own), ([port], {("127.0.0.1", port)}))
        self.assertEqual(await self.greeting(port), b"220 mx.example.org ESMTP\r\n")
        self.assertEqual(len(self.log.named("listening")), 1)

    async def test_bad_settings(self) -> None:
        """Passwords that cannot be read, AUTH that nobody can check: a MailError, and nothing has changed."""
        await self.serve(FIRST)
        before = self.receive._common
        for listen, more in (
            (FIRST, {"auth": Auth(passwords=Path("/nowhere/passwords"))}),
            (attrs.evolve(FIRST, auth_tls=("PLAIN",)), {}),
            (attrs.evolve(FIRST, tls="implicit"), {}),
        ):
            await self.assertFailure(self.changed(listen, limits=Limits(connections=0), **more), MailError)
        self.assertIs(self.receive._common, before)
        self.assertEqual((await self.greeting(self.numbers[0]))[:4], b"220 ")

    async def test_not_open(self) -> None:
        """Before the start and behind the stop nothing is changed or opened."""
        await self.serve(FIRST)
        await self.receive.stopService()
        error = await self.assertFailure(self.changed(FIRST), MailError)
        self.assertIn("the settings stay", error.reason)
        self.assertEqual(self.numbers, [])

    async def test_stop_meanwhile(self) -> None:
        """A stop while a new endpoint is still at it: the change fails, the stop waits for its end, and no port is left."""
        await self.serve(FIRST)

        class Slow:
            def listen(self, door: object) -> Deferred[IListeningPort]:
                return Deferred()

        parse = ports._parse
        self.patch(ports, "_parse", lambda clock, text: Slow() if text.startswith("slow") else parse(clock, text))
        changing = self.changed(SECOND, Listen("slow:1"))
        self.assertNoResult(changing)
        stopped = self.receive.stopService()
        await self.assertFailure(changing, MailError)
        await stopped
        self.assertEqual(self.numbers, [])

    async def test_one_after_the_other(self) -> None:
        """Two changes at once are made in their order."""
        await self.serve(FIRST)
        first, second = self.changed(FIRST, SECOND, hostname="a.example.org"), self.changed(SECOND, hostname="b.example.org")
        await first
        await second
        self.assertEqual(await self.greeting(self.numbers[0]), b"220 b.example.org ESMTP\r\n")
        self.assertEqual(len(self.numbers), 1)

    def changed(self, *listen: Listen, **changes: Any) -> Deferred[None]:
        """The same, to be awaited later."""
        return Deferred.fromCoroutine(self.change(*listen, **changes))
