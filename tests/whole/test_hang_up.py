"""Clients that go away, in every phase and in both ways, and clients that ask for TLS and do not speak it.

After each the server is as before: no session, no slot, no file of a body is left, and nothing was accepted that was not
wholly sent.
"""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.task import deferLater

from tests.whole.world import HEADER, Caller, Running, World

LARGE = (b"x" * 70 + b"\r\n") * 10_000  # goes to a file
PHASES = ("connect", "ehlo", "mail", "rcpt", "data", "header", "large", "cr", "crlf.cr")


class HangUpTests(World):
    """One server."""

    async def arrive(self, server: Running, phase: str) -> Caller:
        """A client that has come as far as that."""
        if phase == "connect":
            return await self.connect(server.port)
        caller = await self.caller(server)
        if phase != "ehlo":
            await caller.envelope(*(() if phase == "mail" else ("you@b.test",)))
        if PHASES.index(phase) >= PHASES.index("data"):
            await caller.ask(b"DATA")
            text = {"header": HEADER, "large": HEADER + LARGE, "cr": HEADER + b"x\r", "crlf.cr": HEADER + b"x\r\n.\r"}
            caller.transport.write(text.get(phase, b""))
        return caller

    async def test_in_every_phase(self) -> None:
        """FIN and RST from the connection to the last byte but one of the end of data: nothing is accepted, nothing is left."""
        server = await self.serve()
        for phase in PHASES:
            for abort in (False, True):
                caller = await self.arrive(server, phase)
                if abort:
                    await deferLater(reactor, 0.01)  # what was written leaves first
                    caller.transport.abortConnection()
                else:
                    caller.transport.loseConnection()
                await self.until(lambda: server.sessions == 0, f"the session of {phase} is gone")
                self.assertEqual([], server.spool(), phase)
        self.assertEqual(len(PHASES) * 2, server.events.count("disconnect"))
        await self.serves(server)

    async def test_after_the_dot(self) -> None:
        """A client that does not wait for the answer: the message is taken whole or not at all, and what is logged is true."""
        server = await self.serve()
        for number in range(20):
            caller = await self.caller(server)
            await caller.envelope("you@b.test")
            await caller.ask(b"DATA")
            body = LARGE if number % 2 else b""
            caller.transport.write(HEADER + body + b"%d\r\n.\r\n" % number)
            if number % 4 < 2:
                caller.transport.loseConnection()
            else:
                await deferLater(reactor, 0.005 * (number % 3))
                caller.transport.abortConnection()
            await self.until(lambda: server.sessions == 0, "the session is gone")
        accepted = server.events.count("accepted")
        await self.happened(server, "delivered", accepted)
        self.assertEqual(accepted, len(server.mails()))
        await self.until(lambda: server.spool() == [], "no body is left")
        await self.serves(server, taken=accepted)


class NoTlsTests(World):
    """STARTTLS, and then something else; there is one handshake slot, so one that is lost would be missed."""

    async def begin(self, timeout: str = "60s") -> tuple[Running, Caller]:
        """A server, and a client that was told to start TLS."""
        tls = f'{self.certificate()}handshakes_at_once = 1\nhandshake_timeout = "{timeout}"\n'
        server = await self.serve("b.test", tls)
        return server, await self.starting(server)

    async def starting(self, server: Running) -> Caller:
        caller = await self.caller(server)
        self.assertEqual(b"220 2.0.0 Ready to start TLS", await caller.ask(b"STARTTLS"))
        return caller

    async def speaks_tls(self, server: Running, open_before: int = 0) -> None:
        """TLS is to be had, and mail goes through it."""
        caller = await self.starting(server)
        await caller.secure()
        await caller.ehlo()
        self.assertEqual(b"250 2.0.0", (await caller.deliver("you@b.test", b"in tls\r\n"))[:9])
        caller.transport.loseConnection()
        await self.until(lambda: server.sessions == open_before, "gone")

    async def test_garbage(self) -> None:
        """Commands, noise or half a record where TLS is due: a TLS alert at most, never a word of SMTP, nothing obeyed."""
        server, first = await self.begin()
        mail = b"EHLO x\r\nMAIL FROM:<me@a.test>\r\nRCPT TO:<you@b.test>\r\nDATA\r\nx\r\n.\r\n"
        for garbage in (mail, b"\0" * 1000, b"\x16\x03\x01\x02\x00" + b"\xff" * 600, b"\x15\x03\x03\x00\x02\x02\x28"):
            caller, first = first or await self.starting(server), None
            caller.transport.write(garbage)
            said = await caller.end()
            self.assertEqual(b"", said[:1].strip(b"\x15"), said)
            self.assertNotIn(b"\r\n", said)
        await self.speaks_tls(server)
        await self.serves(server, taken=1)

    async def test_nothing(self) -> None:
        """Silence where TLS is due ends without a word after the handshake timeout; the waiting client then has its turn."""
        server, caller = await self.begin(timeout="1s")
        waiting = await self.caller(server)
        turn = waiting.ask(b"STARTTLS")
        self.assertEqual(b"", await caller.end())
        self.assertEqual(b"220 2.0.0 Ready to start TLS", await turn)
        waiting.transport.abortConnection()
        await self.speaks_tls(server)
        await self.serves(server, taken=1)

    async def test_gone(self) -> None:
        """A client that hangs up instead of the handshake, or while it waits for its turn, gives its slot back."""
        server, caller = await self.begin()
        waiting = await self.caller(server)
        waiting.transport.write(b"STARTTLS\r\n")
        await deferLater(reactor, 0.05)
        waiting.transport.abortConnection()
        await self.until(lambda: server.sessions == 1, "the one that waits is gone")
        caller.transport.loseConnection()
        await self.until(lambda: server.sessions == 0, "both are gone")
        await self.speaks_tls(server)
        await self.serves(server, taken=1)

    async def test_a_slot_is_for_the_handshake_only(self) -> None:
        """A client that stays in TLS does not keep the next one out."""
        server, first = await self.begin()
        await first.secure()
        await first.ehlo()
        await self.speaks_tls(server, open_before=1)
        self.assertEqual(b"221 2.0.0 Bye", await first.ask(b"QUIT"))
        await self.serves(server, taken=1)
