"""The end that goes one way only: a client that has said all, and still waits for the answers.  How much is read at once."""

from __future__ import annotations

from typing import Any

from mta.receive.flow import BITE, LARGE_BITE
from tests.receive.client import Client, turn
from tests.receive.door import DoorCase
from tests.receive.tls_case import TlsCase

LAST = b"MAIL FROM:<s@client.example>\r\nRCPT TO:<user@example.org>\r\n"
END = b".\r\nQUIT\r\n"


class HalfClosed:
    """The same in clear text and in TLS: `greeted` gives the client, `end` ends its side, WHY is what the log says."""

    WHY: str
    greeted: Any
    end: Any
    serve: Any
    assertEqual: Any
    assertIn: Any

    async def in_body(self) -> Client:
        """A client behind 354."""
        await self.serve()
        client = await self.greeted()
        await client.hello()
        await client.say(LAST, b"Recipient ok\r\n")
        await client.say(b"DATA\r\n", b"354 End data with <CR><LF>.<CR><LF>\r\n")
        client.transport.write(b"Subject: x\r\n\r\nbody\r\n")
        while not self.accept.sinks[0].size:
            await turn()
        return client

    async def stored(self) -> None:
        while not self.accept.commits:
            await turn()

    async def test_answered(self) -> None:
        """The last message and QUIT are answered when the commit has returned, though the client ended its side before."""
        client = await self.in_body()
        self.accept.slow = True
        self.end(client, END)
        await self.stored()
        for _ in range(10):
            await turn()  # the end is seen long before the commit
        self.assertEqual([], self.log.named("disconnect"))
        self.accept.commits[0].callback(1)
        self.assertEqual(b"250 2.0.0 Ok: queued as Q1000\r\n221 2.0.0 Bye\r\n", await client.gone)
        self.assertEqual("quit", await self.why())
        self.assertEqual([None], [fields.get("client_gone") for fields in self.log.named("accepted")])

    async def test_without_quit(self) -> None:
        """The same without QUIT: when all is answered we close."""
        client = await self.in_body()
        self.accept.slow = True
        self.end(client, b".\r\n")
        await self.stored()
        await turn()
        self.accept.commits[0].callback(1)
        self.assertEqual(b"250 2.0.0 Ok: queued as Q1000\r\n", await client.gone)
        self.assertEqual(self.WHY, await self.why())

    async def test_pipelined(self) -> None:
        """Commands in front of the end are answered, each of them."""
        await self.serve()
        client = await self.greeted()
        await client.hello()
        self.end(client, LAST + b"QUIT\r\n")
        self.assertEqual(b"250 2.1.0 Sender ok\r\n250 2.1.5 Recipient ok\r\n221 2.0.0 Bye\r\n", await client.gone)

    async def test_half_a_body(self) -> None:
        """S26: what is not complete never will be: dropped, closed at once."""
        client = await self.in_body()
        self.end(client, b"half\r\n")
        self.assertEqual(b"", await client.gone)
        self.assertEqual(self.WHY, await self.why())
        self.assertEqual(([], True), (self.accept.accepted, self.accept.sinks[0].aborted))

    async def test_half_a_command(self) -> None:
        """The same with a command."""
        await self.serve()
        client = await self.greeted()
        await client.hello()
        self.end(client, b"MAIL FROM:<s@cli")
        self.assertEqual(b"", await client.gone)
        self.assertEqual(self.WHY, await self.why())

    async def test_gone_for_good(self) -> None:
        """A client that does not listen either is noticed when it is answered; its message is kept."""
        client = await self.in_body()
        self.accept.slow = True
        self.end(client, END)
        await self.stored()
        client.transport.abortConnection()
        await client.gone
        self.accept.commits[0].callback(1)
        await self.why()
        self.assertEqual(1, len(self.log.named("accepted")))


class ClearTests(HalfClosed, TlsCase):
    """FIN in clear text."""

    WHY = "closed by client"

    async def greeted(self) -> Client:
        client = await self.client()
        await client.until(b"ESMTP\r\n")
        return client

    def end(self, client: Client, data: bytes) -> None:
        client.transport.write(data)
        client.transport.loseWriteConnection()

    async def test_starttls(self) -> None:
        """Who ends its side behind STARTTLS gets no handshake."""
        await self.serve(tls={"handshakes_at_once": 1})
        client = await self.greeted()
        await client.hello()
        slot = object
        self.receive._common.slots.take(slot)
        self.end(client, b"STARTTLS\r\n")
        for _ in range(10):
            await turn()
        self.receive._common.slots.give_back(slot)
        await client.gone
        self.assertEqual(self.WHY, await self.why())


class TlsTests(HalfClosed, TlsCase):
    """close_notify in TLS, TCP still open."""

    WHY = "TLS closed by client"

    async def greeted(self) -> Client:
        return await self.secured()

    def end(self, client: Client, data: bytes) -> None:
        """All in one segment, and what lies behind it in clear is never read."""
        tls = client.transport.getHandle()
        tls.send(data)
        tls.shutdown()
        client.say_in_clear(tls.bio_read(65536) + b"RSET\r\n")


class BiteTests(DoorCase):
    """What Twisted reads at once."""

    LINES = b"x" * 62 + b"\r\n"
    FULL = LINES * (BITE // len(LINES))

    def test_body(self) -> None:
        """As much as comes, while it comes; as ever from its end on, also where the last piece was large."""
        session, wire = self.hello()
        wire.bufferSize = BITE
        self.envelope(session)
        for piece, bite in (
            (self.FULL[: -len(self.LINES)], BITE),
            (self.FULL, LARGE_BITE),
            (self.FULL * 2, LARGE_BITE),
            (self.LINES, BITE),
            (self.FULL, LARGE_BITE),
            (self.FULL + b".\r\n", BITE),
        ):
            session.dataReceived(piece)
            self.assertEqual(bite, wire.bufferSize, len(piece))
        self.assertEqual(1, len(self.accept.accepted))

    def test_chunks(self) -> None:
        """The same between two chunks of a body, for a command comes next."""
        session, wire = self.hello()
        wire.bufferSize = BITE
        session.dataReceived(b"MAIL FROM:<s@client.example>\r\nRCPT TO:<user@example.org>\r\nBDAT 200000\r\n" + self.LINES)
        session.dataReceived(self.FULL)
        self.assertEqual(LARGE_BITE, wire.bufferSize)
        session.dataReceived((self.FULL * 3)[: 200_000 - len(self.LINES + self.FULL)])
        self.assertEqual(BITE, wire.bufferSize)

    def test_commands(self) -> None:
        """However many come at once."""
        session, wire = self.hello()
        session.dataReceived(b"NOOP\r\n" * BITE)
        self.assertFalse(hasattr(wire, "bufferSize"))
