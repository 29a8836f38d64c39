"""Next hops that are down, stall, hang up or say 421: mail waits and arrives, the rest of the mail is not held up.

Nothing is bounced before its time, and what is given up is reported with what the next hop said last.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater

from mta.testing.peers import Act
from tests.whole.world import SOON, Running, World, recipients_of, relay

LATER = "421 4.3.2 closing"
LARGE = (b"x" * 70 + b"\r\n") * 20_000  # more than one read, so that the end of the connection meets it on its way


class NextHopTests(World):
    """One server, one next hop or two."""

    async def sent(self, server: Running, count: int, domain: str = "c.test", padding: bytes = b"") -> None:
        """So many messages, numbered, are accepted."""
        caller = await self.caller(server)
        for number in range(count):
            reply = await caller.deliver(f"you@{domain}", padding + b"%d\r\n" % number)
            self.assertEqual(b"250 2.0.0", reply[:9])
        caller.transport.loseConnection()

    def assert_arrived(self, hop: Any, server: Running, count: int) -> None:
        """Each arrived, once, and none was bounced."""
        bodies = sorted(int(message.body.rpartition(b"\r\n\r\n")[2]) for message in hop.messages)
        self.assertEqual(list(range(count)), bodies)
        self.assertEqual((count, 0), (server.events.count("delivered"), server.events.count("bounced")))

    async def test_down_and_back(self) -> None:
        """Nobody listens, for a round of retries; when somebody does, all mail arrives."""
        port = self.free_port()
        server = await self.serve("b.test", SOON + relay(port))
        await self.sent(server, 50)
        await deferLater(reactor, 1.5)
        hop, _ = await self.hop(port=port)
        await self.happened(server, "delivered", 50)
        self.assert_arrived(hop, server, 50)
        self.assertTrue(server.events.count("deferred"))

    async def test_one_that_never_greets_holds_nobody_up(self) -> None:
        """It takes every connection that we may open and is silent: mail for others goes at once."""
        _, silent_port = await self.hop({"greeting": Act.STALL})
        good, port = await self.hop()
        tables = relay(silent_port, "silent.test") + relay(port, "good.test")
        server = await self.serve("b.test", f'{SOON}{tables}[timeouts]\ngreeting = "2s"\n')
        await self.sent(server, 60, "silent.test")
        began = reactor.seconds()
        await self.sent(server, 60, "good.test")
        await self.happened(server, "delivered", 60)
        self.assertLess(reactor.seconds() - began, 2.0)
        self.assert_arrived(good, server, 60)
        (deferred, *_) = await self.happened(server, "deferred")
        self.assertIn("451 4.4.2", str(deferred["reply"]))
        self.assertIn("Connection timed out before the greeting", str(deferred["reply"]))

    async def test_hangs_up(self) -> None:
        """At every step, in order or with a reset: deferred, told at which step, and delivered by the next attempt."""
        for how in (Act.CLOSE, Act.ABORT):
            await self.once_ill(f"{how.value}.test", how, ("greeting", "EHLO", "MAIL", "RCPT", "DATA", "body", "."), "4")

    async def test_421_at_each_step(self) -> None:
        """The same for 421: the reply is in the log."""
        await self.once_ill("b.test", LATER, ("greeting", "EHLO", "MAIL", "RCPT", "DATA", "."), "closing")

    async def once_ill(self, name: str, how: Any, steps: tuple[str, ...], told: str) -> None:
        """For each step a next hop that does that there, the first time; all at the same time."""
        hops, tables = [], SOON
        for number, step in enumerate(steps):
            hop, port = await self.hop({step: [how]})
            hops.append(hop)
            tables += relay(port, f"c{number}.test")
        server = await self.serve(name, tables)
        for number, step in enumerate(steps):
            await self.sent(server, 1, f"c{number}.test", LARGE if step == "body" else b"")
        await self.happened(server, "delivered", len(steps))
        for number, step in enumerate(steps):
            self.assertEqual(1, len(hops[number].messages), step)
            (deferred,) = [each for each in server.events.of("deferred") if each["to"] == f"you@c{number}.test"]
            self.assertIn(told, str(deferred["reply"]), step)
            self.assertEqual("4", str(deferred["dsn"])[0], step)
        self.assertEqual(0, server.events.count("bounced"))

    async def test_given_up_with_the_last_reply(self) -> None:
        """After queue_lifetime the sender gets what each next hop said last, or what connecting to it came to."""
        _, port = await self.hop({"RCPT one@c.test": "450 4.2.1 one is busy", "RCPT two@c.test": "451 4.2.0 two is away"})
        tables = f'{SOON}queue_lifetime = "3s"\n{relay(port, "c.test")}{relay(self.free_port())}'
        server = await self.serve("b.test", tables)
        caller = await self.caller(server)
        began = reactor.seconds()
        await caller.envelope("one@c.test", "two@c.test", "you@down.test", sender="me@b.test")
        await caller.data(b"Subject: old\r\n\r\nx\r\n.\r\n")
        await self.until(lambda: sum(len(recipients_of(report)) for report in server.mails()) == 3, "the reports")
        self.assertGreater(reactor.seconds() - began, 2.9)
        said = {}
        for report in server.mails():
            self.assertIn("Subject: old", report.as_string())
            for fields in recipients_of(report):
                said[str(fields["Final-Recipient"])[8:]] = (fields["Status"], fields["Action"], str(fields["Diagnostic-Code"]))
        wanted = {
            "one@c.test": ("4.2.1", "450 4.2.1", "one is busy"),
            "two@c.test": ("4.2.0", "451 4.2.0", "two is away"),
            "you@down.test": ("4.4.1", "451 4.4.1", "Cannot connect"),
        }
        self.assertEqual(set(wanted), set(said))
        for recipient, (status, code, words) in wanted.items():
            self.assertEqual((status, "failed"), said[recipient][:2])
            self.assertIn(code, said[recipient][2])
            self.assertIn(words, said[recipient][2])
        self.assertGreaterEqual(server.events.count("deferred"), 6)
