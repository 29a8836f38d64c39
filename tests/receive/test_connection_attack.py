"""What must not get through the border between clear text and TLS: injection, truncation, other protocols, stalls."""

from __future__ import annotations

import socket
from pathlib import Path

from OpenSSL import SSL

from mta.config.settings import Tls
from mta.receive.ending import Stage
from mta.tls.context import ServerTls
from tests.receive.client import Client, turn
from tests.receive.door import DoorCase, Wire
from tests.receive.tls_case import AUTHORITY, ENVELOPE, TlsCase


class AttackTests(TlsCase):
    """What must not get through."""

    async def test_s18_injection_in_one_segment(self) -> None:
        """S18, X01: commands behind STARTTLS in its segment are 554 and the end; none is executed."""
        await self.serve()
        client = await self.client()
        await client.until(b"220 ")
        await client.hello()
        client.transport.write(b"STARTTLS\r\nMAIL FROM:<injected@evil.example>\r\n")
        self.assertEqual((await client.gone)[:9], b"554 5.5.0")
        self.assertEqual(self.log.named("disconnect")[0]["transactions"], 0)

    async def test_s19_s15_s48_clear_text_after_220(self) -> None:
        """S15, S19, S48, X17, A48, A49: SMTP or HTTP in place of the ClientHello is a failed handshake: no SMTP text, nothing executed."""
        await self.serve()
        for text in (b"QUIT\r\n", b"MAIL FROM:<injected@evil.example>\r\n", b"GET / HTTP/1.1\r\n\r\n"):
            client = await self.client()
            await client.until(b"220 ")
            await client.hello()
            await client.say(b"STARTTLS\r\n", b"220 2.0.0 Ready to start TLS\r\n")
            client.transport.write(text)
            self.assertNotRegex(await client.gone, rb"\d\d\d ")
            self.assertIn("TLS handshake failed", await self.why())
            self.assertEqual(self.log.named("disconnect")[0]["transactions"], 0)
            self.log.events.clear()

    async def test_s48_directly_after_tls(self) -> None:
        """S48: HTTP as the first thing in TLS is turned off as in clear."""
        await self.serve()
        client = await self.secured()
        client.transport.write(b"GET / HTTP/1.1\r\nHost: mx\r\n\r\n")
        self.assertEqual((await client.gone)[:4], b"554 ")

    async def test_s17_end_in_the_handshake(self) -> None:
        """S17, X20, A64: EOF and RST in place of the handshake leave nothing (tearDown counts slots and sessions)."""
        await self.serve()
        for reset in (False, True):
            client = await self.client()
            await client.until(b"220 ")
            await client.hello()
            await client.say(b"STARTTLS\r\n", b"220 2.0.0 Ready to start TLS\r\n")
            if reset:
                client.transport.setTcpNoDelay(True)
                client.transport.abortConnection()
            else:
                client.transport.loseConnection()
            await client.gone
            self.assertIn("TLS handshake failed", await self.why())
            self.log.events.clear()

    async def test_s16_old_version(self) -> None:
        """S16: a client of TLS 1.1 fails in the handshake and gets no SMTP text."""
        await self.serve()
        client = await self.client()
        await client.until(b"220 ")
        await client.hello()
        await client.say(b"STARTTLS\r\n", b"220 2.0.0 Ready to start TLS\r\n")

        def old(context: SSL.Context) -> None:
            context.set_cipher_list(b"ALL:@SECLEVEL=0")
            context.set_min_proto_version(SSL.TLS1_1_VERSION)
            context.set_max_proto_version(SSL.TLS1_1_VERSION)

        with self.assertRaises(SSL.Error):
            await client.secure(old)
        self.assertIn("TLS handshake failed: unsupported protocol", await self.why())

    async def test_s44_alpn(self) -> None:
        """S44: ALPN h2 gets the alert, without a traceback; smtp gets on."""
        await self.serve()
        for protocols, good in (([b"h2"], False), ([b"smtp", b"h2"], True)):
            client = await self.client()
            await client.until(b"220 ")
            await client.hello()
            await client.say(b"STARTTLS\r\n", b"220 2.0.0 Ready to start TLS\r\n")
            try:
                await client.secure(lambda context, protocols=protocols: context.set_alpn_protos(protocols))
            except SSL.Error:
                self.assertFalse(good)
            else:
                self.assertTrue(good)
        self.assertEqual(self.flushLoggedErrors(), [])

    async def test_s45_clear_text_in_tls(self) -> None:
        """S45: bytes in clear inside TLS end the connection: no reply, no traceback, nothing executed."""
        await self.serve()
        client = await self.secured()
        await client.hello()
        client.say_in_clear(b"MAIL FROM:<injected@evil.example>\r\n")
        self.assertEqual(await client.gone, b"")
        self.assertIn("TLS broken off", await self.why())
        self.assertEqual(self.log.named("disconnect")[0]["transactions"], 0)
        self.assertEqual(self.flushLoggedErrors(), [])

    async def test_s25_close_notify(self) -> None:
        """S25, X10: close_notify from an idle client is answered, TCP is closed, and the log says who ended it."""
        await self.serve()
        client = await self.secured()
        client.transport.loseConnection()
        await client.gone
        self.assertEqual(await self.why(), "TLS closed by client")

    async def test_s26_close_notify_in_data(self) -> None:
        """S26, X11: close_notify in a body and then the rest in clear: the message is dropped, the rest unread."""
        await self.serve()
        client = await self.secured()
        await client.hello()
        await client.say(ENVELOPE, b"354 End data with <CR><LF>.<CR><LF>\r\n")
        await self.broken_off(client, b"rest\r\n.\r\nMAIL FROM:<evil@evil.example>\r\n")

    async def test_s26_close_notify_in_bdat(self) -> None:
        """S26, X11, CVE-2026-45185: the same in a chunk, and one byte in clear is enough."""
        await self.serve()
        client = await self.secured()
        await client.hello()
        await client.say(ENVELOPE.replace(b"DATA", b"NOOP"), b"250 2.0.0 Ok\r\n")
        client.transport.write(b"BDAT 100 LAST\r\n")
        await self.broken_off(client, b"\n")

    async def broken_off(self, client: Client, rest: bytes) -> None:
        """Half a message in TLS, close_notify, and the rest in clear: nothing comes of it."""
        client.transport.write(b"Subject: x\r\n\r\nhalf\r\n")
        while not (self.accept.sinks and self.accept.sinks[0].size):
            await turn()
        client.transport.getHandle().shutdown()
        client.say_in_clear(client.transport.getHandle().bio_read(4096) + rest)
        self.assertEqual(await client.gone, b"")
        self.assertEqual(await self.why(), "TLS closed by client")
        self.assertTrue(self.accept.sinks[0].aborted)
        self.assertEqual((self.accept.accepted, self.log.named("disconnect")[0]["transactions"]), ([], 1))


class BlockingTests(TlsCase):
    """Clients without Twisted's manners."""

    async def test_half_a_record(self) -> None:
        """S17: half a ClientHello and then the end leaves nothing."""
        await self.serve()
        raw = socket.create_connection(("127.0.0.1", self.ports[1]))
        raw.sendall(b"\x16\x03\x01\x02\x00\x01")
        while not self.receive.sessions:
            await turn()
        raw.close()
        self.assertIn("TLS handshake failed", await self.why())

    async def test_replies_that_nobody_reads(self) -> None:
        """A client that sends HELP for ever and reads nothing is not read either: what we keep for it is bounded."""
        await self.serve()
        with socket.socket() as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.connect(("127.0.0.1", self.ports[0]))
            raw.setblocking(False)
            while not self.receive.sessions:
                await turn()
            [session] = self.receive._common.roster.here()
            session.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            sent = stuck = 0
            while stuck < 20:
                try:
                    sent += raw.send(b"HELP\r\n" * 5000)
                    stuck = 0
                except BlockingIOError:
                    stuck += 1
                self.assertLess(sent, 64 << 20)
                await turn()
            self.assertTrue(session._paused)
            written = len(session.transport.dataBuffer) + session.transport._tempDataLen
            self.assertLess(written + session.machine.buffered, 1 << 20)
        while self.receive.sessions:
            await turn()


class StallTests(DoorCase):
    """Handshakes that do not come: on a clock, with a TLS layer that only notes that it was begun."""

    def setUp(self) -> None:
        super().setUp()
        directory = Path(self.mktemp())
        directory.mkdir()
        certificate, key = AUTHORITY.issue("mx.example.org").write(directory)
        self.tls = Tls(certificate=certificate, key=key, handshakes_at_once=2)
        self.begin(server_tls=ServerTls.load(self.tls), tls=self.tls)

    def starttls(self) -> Wire:
        """A client that has said STARTTLS, and nothing since."""
        session, wire = self.connect(tls="starttls")
        self.say(session, b"EHLO client.example\r\n")
        wire.clear()
        session.dataReceived(b"STARTTLS\r\n")
        return wire

    def test_s17_stall(self) -> None:
        """S17: a handshake that is not done after handshake_timeout is cut off without a word, and its slot is free."""
        for begin in (self.starttls, lambda: self.connect(tls="implicit")[1]):
            wire = begin()
            self.assertEqual(len(wire.secured), 1)
            wire.clear()
            self.clock.pump([1.0] * 59)
            self.assertFalse(wire.lost)
            self.clock.pump([1.0] * 2)
            self.assertEqual((wire.lost, wire.value()), (True, b""))
        self.assertEqual(self.common.slots.free, 2)
        self.assertEqual({fields["why"] for fields in self.log.named("disconnect")}, {"TLS handshake timed out"})

    def test_220_waits_for_a_slot(self) -> None:
        """The third of three hears no 220 before one of two handshakes has ended; one that goes in the queue is passed over."""
        first, second, third, fourth = (self.starttls() for _ in range(4))
        self.assertEqual([wire.value()[:4] for wire in (first, second, third, fourth)], [b"220 ", b"220 ", b"", b""])
        third.lose()
        first.lose()
        self.assertEqual((fourth.value()[:4], len(fourth.secured)), (b"220 ", 1))
        second.lose()
        fourth.lose()
        self.assertEqual((self.common.slots.free, self.common.slots.waiting), (2, 0))

    def test_silent_handshakes_do_not_keep_their_slots(self) -> None:
        """Clients that say STARTTLS and no more cost no CPU: others hear their 220 soon, not after handshake_timeout."""
        silent = [self.starttls() for _ in range(2)]
        honest = self.starttls()
        self.assertEqual(honest.value(), b"")
        self.clock.pump([1.0] * 3)
        self.assertEqual((honest.value()[:4], len(honest.secured)), (b"220 ", 1))
        self.assertEqual([wire.lost for wire in silent], [False, False])
        self.clock.pump([1.0] * 60)
        self.assertEqual([wire.lost for wire in (*silent, honest)], [True, True, True])
        self.assertEqual((self.common.slots.free, self.common.slots.waiting), (2, 0))

    def test_s18_injection_while_waiting(self) -> None:
        """S18: bytes that come while the client waits for its 220 are 554 and the end, and the slot is given back."""
        first, second, third = (self.starttls() for _ in range(3))
        assert third.protocol is not None
        third.protocol.dataReceived(b"MAIL FROM:<injected@evil.example>\r\n")
        first.lose()
        self.assertEqual((third.value()[:9], third.secured, third.disconnecting), (b"554 5.5.0", [], True))
        second.lose()
        self.assertEqual(self.common.slots.free, 2)

    def test_implicit_is_not_read_before_its_slot(self) -> None:
        """Implicit TLS: no byte is read before the slot is there, for it would be a ClientHello."""
        first, second = self.starttls(), self.starttls()
        _, wire = self.connect(tls="implicit")
        self.assertEqual((wire.producerState, wire.secured), ("paused", []))
        first.lose()
        self.assertEqual((wire.producerState, len(wire.secured)), ("producing", 1))
        second.lose()

    def test_stop_in_the_handshake(self) -> None:
        """At the stop a handshake is broken off: nothing can be said in it."""
        wire = self.starttls()
        wire.clear()
        session = wire.protocol
        assert session is not None
        session.stop()
        self.assertEqual((wire.value(), wire.lost, session.stage), (b"", True, Stage.GONE))
