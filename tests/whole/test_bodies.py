"""Bad bodies through a real socket: each has its one answer, nothing of them is kept, and none ends early.

SMTP smuggling (CVE-2023-51764, 51765, 51766 and their kin): only CRLF.CRLF ends DATA.
"""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.task import deferLater

from tests.whole.world import HEADER, SOON, Caller, Running, World, relay

BAD_LINES = b"550 5.6.0 Message has a bare CR, a bare LF or a NUL"
LONG_LINE = b"550 5.6.0 Message has a line over 1000 octets"
TOO_BIG = b"552 5.3.4 Message too big"
NO_ENDS = (
    *(b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\n", b"\n.\r", b"\r.\r\n", b"\r\n.\r", b"\r\n\0.\r\n", b"\r\n.\0\r\n"),
    *(b"\r\r\n.\r\r\n", b"\r\n.\n\r\n", b"\n\n.\r\n", b"\n\r\n.\n\r", b"\r\n\r.\r\n", b"\r\n.\r\r\n", b"\r\n. \n"),
)
SMUGGLED = b"MAIL FROM:<evil@a.test>\r\nRCPT TO:<victim@b.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nsmuggled\r\n.\r\n"


class BodyTests(World):
    """One server, one client."""

    async def refused(self, server: Running, caller: Caller, reply: bytes, body: bytes) -> None:
        """That body has that reply, and its connection goes on."""
        await caller.envelope("you@b.test")
        self.assertEqual(reply, await caller.data(HEADER + body), body[:100])
        self.assertEqual(b"250 2.0.0 Ok", await caller.ask(b"NOOP"))
        self.assertEqual([], server.spool())

    async def test_line_too_long(self) -> None:
        """1,000 octets with CRLF pass, 1,001 do not: 550 after the end of data, the connection lives."""
        server = await self.serve()
        caller = await self.caller(server)
        for size in (1001, 100_000, 1_000_000):
            await self.refused(server, caller, LONG_LINE, b"x" * (size - 2) + b"\r\n.\r\n")
        reply = await caller.deliver("you@b.test", b"x" * 998 + b"\r\n")
        self.assertEqual(b"250 2.0.0", reply[:9])
        caller.transport.loseConnection()
        await self.serves(server, taken=1)

    async def test_nul_bare_cr_bare_lf(self) -> None:
        """550 5.6.0 at the end of data, for one in a short body and for one behind a megabyte."""
        server = await self.serve()
        caller = await self.caller(server)
        for bad in (b"\0", b"\r", b"\n", b"\r\r\n", b"\n\r"):
            for before in (b"", b"x" * 70, (b"x" * 70 + b"\r\n") * 15_000):
                await self.refused(server, caller, BAD_LINES, before + bad + b"x\r\n.\r\n")
        caller.transport.loseConnection()
        await self.serves(server)

    async def test_no_form_of_smuggling_ends_a_message(self) -> None:
        """Whatever a relay in front of us took for text, we do: one reply, 550, and not one message."""
        server = await self.serve()
        for form in NO_ENDS:
            for cut in (0, len(form) // 2):  # and in two segments
                caller = await self.caller(server)
                await caller.envelope("you@b.test")
                self.assertEqual(b"354 ", (await caller.ask(b"DATA"))[:4])
                caller.transport.write(HEADER + b"first" + form[:cut])
                await deferLater(reactor, 0.002)
                caller.transport.write(form[cut:] + SMUGGLED + b"QUIT\r\n")
                self.assertEqual(BAD_LINES + b"\r\n221 2.0.0 Bye\r\n", await caller.end(), form)
        rejected = server.events.of("rejected")
        self.assertEqual([BAD_LINES.decode()] * 2 * len(NO_ENDS), [fields["reply"] for fields in rejected])
        await self.serves(server)

    async def test_too_big(self) -> None:
        """552 at MAIL where the size is declared, at the end of data where it is not; nothing is kept."""
        server = await self.serve("b.test", '[limits]\nmessage_size = "1MiB"\n')
        caller = await self.caller(server)
        declared = await caller.envelope(parameters=" SIZE=1048577")
        self.assertEqual([b"552 5.3.4 Message size exceeds the limit"], declared)
        await self.refused(server, caller, TOO_BIG, (b"x" * 70 + b"\r\n") * 20_000 + b".\r\n")
        caller.transport.loseConnection()
        await self.serves(server)

    async def test_dots_arrive_as_they_were_sent(self) -> None:
        """Lines that begin with dots, a lone dot stuffed, an empty body: the next hop has them byte for byte."""
        hop, port = await self.hop()
        server = await self.serve("b.test", SOON + relay(port))
        bodies = [
            b"",
            b"..\r\n",
            b".\r\n..\r\n...\r\n",
            b"a\r\n\r\n.b\r\n",
            b"\r\n" * 3,
            b".\tx\r\n",
            bytes(range(128, 256)) + b"\r\n",
        ]
        caller = await self.caller(server)
        for body in bodies:
            await caller.envelope("you@c.test", parameters=" BODY=8BITMIME")
            stuffed = (b"\r\n" + body).replace(b"\r\n.", b"\r\n..")[2:]
            self.assertEqual(b"250 2.0.0", (await caller.data(HEADER + stuffed + b".\r\n"))[:9], body)
        await self.happened(server, "delivered", len(bodies))
        arrived = [message.body.partition(HEADER)[2] for message in hop.messages]
        self.assertEqual(sorted(bodies), sorted(arrived))
