"""S14 and C1.6: what is counted beyond the receiver-SMTP goes on behind STARTTLS, the tarpit with it."""

from __future__ import annotations

from pathlib import Path

from twisted.internet import reactor

from mta.config.settings import Access, Limits, Seconds, Size, Tls
from mta.tls.context import ServerTls
from tests.receive.client import Client
from tests.receive.door import BODY, STRANGER, DoorCase, Wire
from tests.receive.tls_case import AUTHORITY, ENVELOPE, TlsCase

NOBODY = b"RCPT TO:<nobody@example.org>\r\n"
WHERE = Access(relay_from=())


class AcrossTlsTests(TlsCase):
    """One connection, a part of it in clear and a part in TLS."""

    async def greeted(self) -> Client:
        """In clear, behind EHLO."""
        client = await self.client()
        await client.until(b"220 ")
        await client.hello()
        return client

    async def into_tls(self, client: Client) -> None:
        """STARTTLS, TLS, EHLO."""
        await client.say(b"STARTTLS\r\n", b"220 2.0.0 Ready to start TLS\r\n")
        await client.secure()
        await client.hello()

    async def test_s14_refused_recipients(self) -> None:
        """S14: three of four in clear; in TLS the fourth, then 421 to a good one."""
        await self.serve(limits=Limits(rejected_per_connection=4), access=WHERE)
        client = await self.greeted()
        await client.say(b"MAIL FROM:<>\r\n")
        for _ in range(3):
            self.assertIn(b"550", await client.say(NOBODY))
        await self.into_tls(client)
        await client.say(b"MAIL FROM:<>\r\n")
        self.assertIn(b"550", await client.say(NOBODY))
        self.assertIn(b"421 4.7.0", await client.say(b"RCPT TO:<user@example.org>\r\n"))
        await client.gone

    async def test_s14_bytes_and_messages(self) -> None:
        """S14: the bytes of a connection, the messages of a client."""
        for limits, code in (
            (Limits(bytes_per_connection=Size(len(BODY))), b"421 4.7.0"),
            (Limits(message_rate=("1/hour",)), b"450 4.7.1"),
        ):
            await self.serve(limits=limits, access=WHERE)
            client = await self.greeted()
            for line in ENVELOPE.splitlines(keepends=True):
                await client.say(line)
            self.assertIn(b"250 2.0.0", await client.say(BODY + b".\r\n"))
            await self.into_tls(client)
            self.assertIn(code, await client.say(b"MAIL FROM:<>\r\n"))
            await self.tearDown()
            self.clients = []
        await self.serve()

    async def test_s14_tarpit(self) -> None:
        """S14: errors made in clear make the replies in TLS as late as those in clear, from its first command on."""
        await self.serve(limits=Limits(tarpit=Seconds(0.15), tarpit_errors=1), access=WHERE)
        client = await self.greeted()
        await client.say(b"MAIL FROM:<>\r\n")
        for _ in range(2):
            await client.say(NOBODY)
        await client.say(b"STARTTLS\r\n", b"220 2.0.0 Ready to start TLS\r\n")
        await client.secure()
        began = reactor.seconds()
        await client.hello()
        self.assertGreaterEqual(reactor.seconds() - began, 0.14)
        began = reactor.seconds()
        await client.say(b"NOOP\r\n")
        self.assertGreaterEqual(reactor.seconds() - began, 0.14)

    async def test_handshakes_of_a_client(self) -> None:
        """S09: STARTTLS is 454 and the client may go on in clear; implicit TLS is closed; both are logged once, by name."""
        await self.serve(limits=Limits(tls_sessions_per_minute=1), access=WHERE)
        await self.secured()
        for _ in range(2):
            client = await self.greeted()
            self.assertIn(b"454 4.7.0", await client.say(b"STARTTLS\r\n"))
            self.assertIn(b"250", await client.say(b"NOOP\r\n"))
        self.assertEqual(await (await self.client(1)).gone, b"")
        [line] = self.log.named("rejected")
        self.assertEqual((line["limit"], line["stage"]), ("tls_sessions_per_minute", "starttls"))


class TurnTests(DoorCase):
    """Who waits for a handshake: on a clock, with a TLS layer that only notes that it was begun."""

    def test_fair_turn(self) -> None:
        """200 connections of one client wait for a slot: another client that comes then has the next one."""
        directory = Path(self.mktemp())
        directory.mkdir()
        certificate, key = AUTHORITY.issue("mx.example.org").write(directory)
        tls = Tls(certificate=certificate, key=key, handshakes_at_once=1)
        limits = Limits(connections_per_client=300, tls_sessions_per_minute=0)
        self.begin(server_tls=ServerTls.load(tls), tls=tls, limits=limits)

        def starttls(address: str) -> Wire:
            session, wire = self.connect(address, tls="starttls")
            self.say(session, b"EHLO client.example\r\n")
            session.dataReceived(b"STARTTLS\r\n")
            return wire

        greedy = [starttls(STRANGER) for _ in range(201)]
        modest = [starttls("198.51.100.1") for _ in range(2)]
        self.assertEqual((len(greedy[0].secured), self.common.slots.waiting), (1, 202))
        greedy[0].lose()
        self.assertEqual([len(wire.secured) for wire in (*modest, greedy[1])], [0, 0, 1])
        greedy[1].lose()
        self.assertEqual([len(wire.secured) for wire in (*modest, greedy[2])], [1, 0, 0])
        self.clock.pump([1.0] * 3)  # a silent one keeps its slot for a second
        self.assertEqual([len(wire.secured) for wire in modest], [1, 1])
