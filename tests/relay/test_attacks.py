"""Who owns the network path, or the server, and does not play fair: what the client then does (X03 to X09, X23)."""

from __future__ import annotations

from mta.envelope import Kind
from mta.testing.peers import Act, Clear
from tests.relay.world import RelayCase

ODD = (
    "220 hi",
    "221 bye",
    "250 ok",
    "334 VXNlcm5hbWU6",
    "354 go",
    "421 no",
    "450 no",
    "500 no",
    "535 no",
    "600 what",
    "199 what",
)


class InjectionTests(RelayCase):
    """Bytes that the honest server did not send."""

    async def test_x03_replies_behind_220(self) -> None:
        """X03 C26 C27: never read, and the credentials never sent, whatever mechanisms the injected EHLO answer offers."""
        self.password("bank", "secret")
        injected = b"220 go\r\n250-x\r\n250 AUTH LOGIN PLAIN\r\n334 \r\n235 ok\r\n"
        for injected_now in (injected, injected[:-3], b"220 go\r\n2"):
            await self.afresh()
            server = self.serve({"STARTTLS": injected_now}, users={"bank": "secret"}, tls=False, extensions=("STARTTLS",))
            outcome = await self.deferred(route="encrypt")
            self.assertEqual((server.verbs(1), self.faults()), (["EHLO", "STARTTLS"], ["T10"]))
            self.assertEqual(outcome.reply.enhanced, "4.7.5")

    async def test_x08_two_capability_lists(self) -> None:
        """X08 A38: what is offered in clear and not inside TLS is not used inside, AUTH neither; and the other way round."""
        self.password("bank", "secret")
        server = self.serve(
            extensions=("PIPELINING", "SIZE 10", "SMTPUTF8"),
            tls_extensions=(),
            users={"bank": "secret"},
            clear_mechanisms=("PLAIN", "CRAM-MD5"),
            mechanisms=(),
        )
        self.assertEqual((await self.deferred(route="verify")).reply.enhanced, "4.7.8")
        self.assertEqual(server.logins, [])
        await self.afresh()
        server = self.serve(extensions=(), tls_extensions=("PIPELINING",), users={"bank": "secret"})
        await self.delivered(route="verify")
        self.assertEqual(server.logins, ["1 tls PLAIN bank"])

    async def test_x09_the_end_of_tls(self) -> None:
        """X09 C54: TLS ended by close_notify, by a bare FIN or by clear bytes is the end of the connection: the message is not
        taken for delivered, nothing goes on in clear."""
        for ends in (Act.CLOSE, Act.ABORT, Clear(b"250 2.0.0 taken\r\n"), (Clear(b"250 ok\r\n"), Act.CLOSE)):
            for point in ("tls MAIL", "tls .", "tls EHLO"):
                await self.afresh()
                server = self.serve({point: ends})
                await self.deferred(route="encrypt")
                self.assertEqual([verb for verb in server.verbs(1) if not verb.startswith("tls ")], ["EHLO", "STARTTLS"])
        self.assertEqual(self.flushLoggedErrors(), [])


class DowngradeTests(RelayCase):
    """TLS hidden or refused."""

    async def test_x04_x05_hidden(self) -> None:
        """X04 X05: STARTTLS taken out of the offer or refused, EHLO itself refused: mandatory levels send STARTTLS once and
        wait; no MAIL and no AUTH in clear."""
        self.password("bank", "secret")
        for script in (
            {"STARTTLS": "502 no"},
            {"STARTTLS": "454 no"},
            {"STARTTLS": "354 no"},
            {"EHLO": "500 what", "HELO": "250 hi", "STARTTLS": "500 what"},
        ):
            await self.afresh()
            server = self.serve(script, offer_tls=False, users={"bank": "secret"}, clear_mechanisms=("PLAIN", "CRAM-MD5"))
            await self.deferred(route="encrypt")
            await self.quiet()
            self.assertEqual([verb for verb in server.verbs(1) if verb not in ("EHLO", "HELO")], ["STARTTLS", "QUIT"])

    async def test_x07_odd_codes(self) -> None:
        """X07: whatever code comes where: no crash, no hang, a settlement; and never a delivery that was not confirmed."""
        self.timeouts = type(self.timeouts)(quit=0.2, end_of_data=2.0, mail=2.0, rcpt=2.0, data=2.0, hello=2.0, greeting=2.0)
        for point in ("greeting", "EHLO", "tls EHLO", "STARTTLS", "MAIL", "RCPT", "DATA", ".", "RSET", "QUIT"):
            await self.afresh()
            for number, odd in enumerate(ODD):
                self.hops.targets.clear()
                server = self.serve({point: odd}, tls=point != "STARTTLS", extensions=("STARTTLS",))
                outcome = await self.outcome(next_hop=f"n{number}.example")
                taken = bool(server.messages) or (point == "." and odd.startswith("2"))  # RFC 5321 4.2.1: any 2yz is a yes
                self.assertEqual(outcome.kind is Kind.DELIVERED, taken, (point, odd, outcome))
        self.assertEqual(self.flushLoggedErrors(), [])


class ReplyTests(RelayCase):
    """X23: replies that are none."""

    async def test_x23_replies_that_are_none(self) -> None:
        """X23: long lines, lines without end, mixed codes: the connection is closed, the mail deferred, in bounded memory."""
        for answer in (
            b"250-" + b"x" * 100_000 + b"\r\n250 ok\r\n",
            b"250-x\r\n" * 20_000,
            b"250-x\r\n550 y\r\n",
            b"250" + b"\0" * 100_000,
        ):
            for point in ("EHLO", "tls MAIL"):
                await self.afresh()
                self.serve({point: answer})
                await self.deferred(route="encrypt")

    async def test_x23_control_characters(self) -> None:
        """X23: what a reply says is told without what a terminal or a log obeys."""
        self.serve({"RCPT": b"550 5.1.1 \x1b[2Jgone\x07\x85 event=delivered\r\n"})
        outcome = await self.outcome()
        self.assertTrue(outcome.reply.text.isprintable(), outcome.reply)
