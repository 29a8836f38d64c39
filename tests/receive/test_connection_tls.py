"""STARTTLS and implicit TLS as docs/tls.md wants them, over the loopback: the rows of S01 to S48 that are built."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from mta.config.settings import Limits, Tls
from mta.receive.connection import MAX_UNPARSED, Connection
from mta.receive.ending import Stage
from tests.receive.client import turn
from tests.receive.door import FakePolicy
from tests.receive.tls_case import AUTHORITY, ENVELOPE, TlsCase


class StartTlsTests(TlsCase):
    """The command."""

    async def test_s01_s03_s11(self) -> None:
        """S01 listed once, bare; S03 inside TLS it is not, and is 503; S11, A26, A33, A44, A45, A46: MAIL is 503 before EHLO, NOOP is not."""
        await self.serve()
        client = await self.client()
        await client.until(b"220 ")
        self.assertEqual((await client.hello()).count(b"STARTTLS\r\n"), 1)
        await client.say(b"STARTTLS\r\n", b"220 2.0.0 Ready to start TLS\r\n")
        await client.secure()
        self.assertEqual((await client.say(b"MAIL FROM:<>\r\n"))[:9], b"503 5.5.1")
        self.assertEqual((await client.say(b"NOOP\r\n"))[:4], b"250 ")
        self.assertEqual((await client.say(b"RSET\r\n"))[:4], b"250 ")
        self.assertNotIn(b"STARTTLS", await client.hello())
        self.assertEqual((await client.say(b"STARTTLS\r\n"))[:9], b"503 5.5.1")
        self.assertEqual((await client.say(b"NOOP\r\n"))[:4], b"250 ")
        self.assertEqual((await client.say(b"QUIT\r\n"))[:4], b"221 ")
        await client.gone
        self.assertEqual(await self.why(), "quit")

    async def test_s02_s07_needs_ehlo(self) -> None:
        """S02, S07: before EHLO, and after HELO, 503; with the knob off 220."""
        await self.serve()
        client = await self.client()
        await client.until(b"220 mx.example.org ESMTP\r\n")
        self.assertEqual((await client.say(b"STARTTLS\r\n"))[:9], b"503 5.5.1")
        self.assertEqual((await client.say(b"HELO a\r\n"))[:4], b"250 ")
        self.assertEqual((await client.say(b"STARTTLS\r\n"))[:9], b"503 5.5.1")

    async def test_s07_knob(self) -> None:
        """S07: with starttls_needs_ehlo = false it is 220 at once."""
        await self.serve({"starttls_needs_ehlo": False})
        client = await self.client()
        await client.until(b"220 mx.example.org ESMTP\r\n")
        self.assertEqual((await client.say(b"STARTTLS\r\n"))[:4], b"220 ")
        await client.secure()

    async def test_s04_s43_forms(self) -> None:
        """S04, S43, A35: an argument is 501; lower case and trailing blanks are 220."""
        await self.serve()
        for command in (b"starttls\r\n", b"STARTTLS  \r\n"):
            client = await self.client()
            await client.until(b"220 ")
            await client.hello()
            self.assertEqual((await client.say(b"STARTTLS example.com\r\n"))[:4], b"501 ")
            self.assertEqual((await client.say(command))[:4], b"220 ")
            await client.secure()

    async def test_s08_too_many(self) -> None:
        """S08, X20: the fourth STARTTLS of a connection is 421 and the end."""
        await self.serve()
        client = await self.client()
        await client.until(b"220 ")
        await client.hello()
        self.tls.reload(Tls())  # it is lost after it was offered: every try is refused, and counted
        for _ in range(3):
            self.assertEqual((await client.say(b"STARTTLS\r\n"))[:9], b"454 4.7.0")
        self.assertEqual((await client.say(b"STARTTLS\r\n"))[:9], b"421 4.7.0")
        await client.gone

    async def test_s32_lost_context(self) -> None:
        """S32, A61, A62, A65, A68, A69: offered, and then no connection can be made: 454 4.7.0, and the session goes on in clear."""
        await self.serve()
        client = await self.client()
        await client.until(b"220 ")
        await client.hello()
        self.tls.reload(Tls())
        self.assertEqual((await client.say(b"STARTTLS\r\n"))[:9], b"454 4.7.0")
        self.assertEqual((await client.say(b"MAIL FROM:<>\r\n"))[:4], b"250 ")
        self.assertEqual(self.log.named("rejected")[0]["stage"], "starttls")

    async def test_s12_transaction_dropped(self) -> None:
        """S12, X02, A36: MAIL and RCPT given in clear are forgotten in TLS."""
        await self.serve()
        client = await self.client()
        await client.until(b"220 ")
        await client.hello()
        await client.say(b"MAIL FROM:<>\r\nRCPT TO:<user@example.org>\r\n", b"250 2.1.5 Recipient ok\r\n")
        await client.say(b"STARTTLS\r\n", b"220 2.0.0 Ready to start TLS\r\n")
        await client.secure()
        await client.hello()
        self.assertEqual((await client.say(b"DATA\r\n"))[:9], b"503 5.5.1")
        self.assertEqual((await client.say(b"RCPT TO:<user@example.org>\r\n"))[:9], b"503 5.5.1")

    async def test_s12_refused(self) -> None:
        """S12: with starttls_in_transaction = refuse it is 503, and the transaction goes on."""
        await self.serve({"starttls_in_transaction": "refuse"})
        client = await self.client()
        await client.until(b"220 ")
        await client.hello()
        await client.say(b"MAIL FROM:<>\r\n")
        self.assertEqual((await client.say(b"STARTTLS\r\n"))[:9], b"503 5.5.1")
        self.assertEqual((await client.say(b"RCPT TO:<user@example.org>\r\n"))[:4], b"250 ")

    async def test_s10_fresh_machine(self) -> None:
        """S10, X02, A25, A27: behind TLS stands another machine that knows nothing; only the counters are the same."""
        await self.serve()
        client = await self.client()
        await client.until(b"220 ")
        await client.hello()
        [session] = self.receive._common.roster.here()
        before, counters = session.machine, session.counters
        commands = counters.commands
        await client.say(b"STARTTLS\r\n", b"220 2.0.0 Ready to start TLS\r\n")
        await client.secure()
        await client.say(b"NOOP\r\n")  # for the client the handshake is over before it is for us
        self.assertIsNot(session.machine, before)
        self.assertEqual((session.helo, session.extended, session.transaction), ("", False, None))
        self.assertEqual((session.counters is counters, counters.commands), (True, commands + 2))

    async def test_s14_errors_survive(self) -> None:
        """S14: the errors of before TLS count behind it."""
        await self.serve(limits=Limits(errors=3))
        client = await self.client()
        await client.until(b"220 ")
        await client.say(b"XYZZY\r\n" * 3, b"500 5.5.1 Command unrecognized\r\n" * 3)
        await client.hello()
        await client.say(b"STARTTLS\r\n", b"220 2.0.0 Ready to start TLS\r\n")
        await client.secure()
        self.assertEqual((await client.say(b"XYZZY\r\n"))[:4], b"421 ")
        await client.gone

    async def test_message(self) -> None:
        """A message in TLS: Received says ESMTPS and the cipher, the log says version and cipher."""
        await self.serve()
        client = await self.secured()
        await client.hello()
        await client.say(ENVELOPE, b"354 End data with <CR><LF>.<CR><LF>\r\n")
        await client.say(b"Subject: x\r\n\r\nx\r\n.\r\n", b"queued as Q1000\r\n")
        prefix = self.accept.accepted[0].prefix
        self.assertIn(b" with ESMTPS id Q1000", prefix)
        self.assertIn(b"(TLSv1.3 with cipher TLS_AES_", prefix)
        [accepted] = self.log.named("accepted")
        self.assertEqual(accepted["tls_version"], "TLSv1.3")
        self.assertIn(str(accepted["cipher"]).encode(), prefix)

    async def test_s35_reload(self) -> None:
        """S35: a running session outlives the reload of the certificate, the next one gets the new."""
        await self.serve()
        first = await self.secured()
        AUTHORITY.issue("mx.example.org").write(self.directory)
        self.tls.reload()
        second = await self.secured()
        serials = [c.transport.getPeerCertificate().get_serial_number() for c in (first, second)]
        self.assertNotEqual(*serials)
        self.assertEqual((await first.say(b"NOOP\r\n"))[:4], b"250 ")

    async def test_s34_expired(self) -> None:
        """S34, A66: an expired certificate of ours is offered, and works.  (The alarm is the watch's, tests/tls/test_watch.py.)"""
        await self.serve()
        AUTHORITY.issue("mx.example.org", expired=True).write(self.directory)
        self.tls.reload()
        client = await self.secured()
        self.assertTrue(client.transport.getPeerCertificate().has_expired())
        self.assertEqual((await client.say(b"NOOP\r\n"))[:4], b"250 ")


class ImplicitTests(TlsCase):
    """RFC 8314."""

    async def test_greeting_in_tls(self) -> None:
        """The greeting comes in TLS; STARTTLS is neither offered nor taken (502)."""
        await self.serve()
        client = await self.client(1)
        await client.secure()
        await client.until(b"220 mx.example.org ESMTP\r\n")
        self.assertNotIn(b"STARTTLS", await client.hello())
        self.assertEqual((await client.say(b"STARTTLS\r\n"))[:9], b"502 5.5.1")
        await client.say(ENVELOPE, b"354 End data with <CR><LF>.<CR><LF>\r\n")
        await client.say(b"x\r\n.\r\n", b"queued as Q1000\r\n")
        self.assertIn(b" with ESMTPS id ", self.accept.accepted[0].prefix)

    async def test_clear_text(self) -> None:
        """A client that speaks SMTP in clear hears none back."""
        await self.serve()
        client = await self.client(1)
        client.transport.write(b"EHLO client.example\r\n")
        self.assertNotRegex(await client.gone, rb"\d\d\d ")
        self.assertIn("TLS handshake failed", await self.why())

    async def test_before_the_greeting(self) -> None:
        """While the policy thinks about the greeting no more than 64 KiB are taken in; who spoke so early gets 554."""
        thinking: Deferred[None] = Deferred()
        self.policy = FakePolicy(connect=thinking)
        await self.serve()
        client = await self.client(1)
        await client.secure()
        [session] = self.receive._common.roster.here()
        assert isinstance(session, Connection)
        while session.stage is not Stage.TALKING:
            await turn()
        while not session._paused:
            session.dataReceived(b"NOOP\r\n" * 1000)
            self.assertLess(session.machine.buffered, 2 * MAX_UNPARSED)
        thinking.callback(None)
        await client.until(b"554 ")

    async def test_lost_context(self) -> None:
        """Without a context there is nothing that could be said: the connection is closed."""
        await self.serve()
        self.tls.reload(Tls())
        client = await self.client(1)
        self.assertEqual(await client.gone, b"")
        self.assertIn("no TLS: ", await self.why())

    async def test_too_many(self) -> None:
        """Over the limit of connections the connection is closed without a word in clear."""
        await self.serve(limits=Limits(connections=1))
        await self.client(0)
        client = await self.client(1)
        self.assertEqual(await client.gone, b"")


class ManyTests(TlsCase):
    """More handshakes than slots."""

    async def test_s47_forty_with_two_slots(self) -> None:
        """S47, X20: forty clients that want TLS at once are all served, two at a time; half come by the implicit port."""
        await self.serve({"handshakes_at_once": 2})
        clients = [await self.client(number % 2) for number in range(40)]
        most = 0
        for number, client in enumerate(clients):
            if number % 2 == 0:
                await client.until(b"220 ")
                await client.hello()
        waiting = []
        for number, client in enumerate(clients):
            if number % 2 == 0:
                waiting.append(client.say(b"STARTTLS\r\n", b"220 2.0.0 Ready to start TLS\r\n"))
            else:
                waiting.append(client.secure())
        slots = self.receive._common.slots
        for number, client in enumerate(clients):
            most = max(most, slots.waiting)
            await waiting[number]
            if number % 2 == 0:
                await client.secure()
            else:
                await client.until(b"220 mx.example.org ESMTP\r\n")
            self.assertEqual((await client.say(b"NOOP\r\n"))[:4], b"250 ")
        self.assertGreater(most, 2)

    async def test_one_megabyte(self) -> None:
        """A body of a megabyte in TLS, in pieces of all sizes, arrives as it was sent."""
        await self.serve()
        client = await self.secured()
        await client.hello()
        await client.say(ENVELOPE, b"354 End data with <CR><LF>.<CR><LF>\r\n")
        body = b"Subject: large\r\n\r\n" + b"".join(b"%06d %s\r\n" % (n, b"x" * (n % 70)) for n in range(25_000))
        client.transport.write(body + b".\r\n")
        await client.until(b"queued as Q1000\r\n")
        self.assertEqual(self.accept.accepted[0].body.data, body)
