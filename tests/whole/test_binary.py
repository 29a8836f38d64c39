"""BODY=BINARYMIME (RFC 3030) through the whole server: to a mailbox, to another of us, to one that takes less, and back."""

from __future__ import annotations

from email.message import Message

from mta.testing.peers import EXTENSIONS
from tests.whole.world import SOON, Caller, Running, World, recipients_of, relay

OCTETS = bytes(range(256)) * 4 + b"\r\n.\r\n\n.\n\r"
LARGE = OCTETS * 300  # a file in the spool
IMAGE = b"Content-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n"
HEADER = b"Subject: test\r\nMIME-Version: 1.0\r\n"
BINARY = " BODY=BINARYMIME"
SIGNED = (
    b'Content-Type: multipart/signed; protocol="p/q"; boundary=s\r\n\r\n--s\r\n'
    + IMAGE
    + b"\0\r\n--s\r\nContent-Type: p/q\r\n\r\nx\r\n--s--\r\n"
)


def mixed(*octets: bytes) -> bytes:
    """A message with these in its parts."""
    parts = b"".join([b"--x\r\n" + IMAGE + each + b"\r\n" for each in octets])
    return HEADER + b"Content-Type: multipart/mixed; boundary=x\r\n\r\n" + parts + b"--x--\r\n"


def contents(mail: Message) -> list[bytes]:
    """Of all parts, decoded."""
    return [bytes(part.get_payload(decode=True)) for part in mail.walk() if not part.is_multipart()]  # type: ignore[arg-type]


class BinaryTests(World):
    """Messages that no DATA could carry."""

    async def send(self, caller: Caller, message: bytes, recipient: str = "you@b.test", sender: str = "me@a.test") -> bytes:
        """In three chunks; the last reply."""
        await caller.envelope(recipient, sender=sender, parameters=BINARY)
        third = len(message) // 3 + 1
        *first, last = [message[at : at + third] for at in range(0, len(message), third)]
        for chunk in first:
            self.assertEqual(b"250 2.0.0 Chunk received\r\n", await caller.say(b"BDAT %d\r\n" % len(chunk) + chunk))
        return (await caller.say(b"BDAT %d LAST\r\n" % len(last) + last))[:-2]

    async def taken(self, server: Running, message: bytes, **more: str) -> None:
        caller = await self.caller(server)
        self.assertEqual(b"250 2.0.0 Ok: queued as ", (await self.send(caller, message, **more))[:24])

    async def test_offered(self) -> None:
        """RFC 3030 3: with CHUNKING, and never without."""
        server = await self.serve()
        caller = await self.connect(server.port)
        await caller.line()
        lines = await caller.ehlo()
        self.assertEqual({b"250-CHUNKING", b"250-BINARYMIME"}, {b"250-CHUNKING", b"250-BINARYMIME"}.intersection(lines))

    async def test_to_a_mailbox(self) -> None:
        """The octets are those that were sent, in a file of lines; the log says what was done."""
        server = await self.serve()
        await self.taken(server, mixed(OCTETS, LARGE, b"a\r\nb\r\n"))
        await self.taken(server, HEADER + IMAGE + LARGE)
        events = await self.happened(server, "delivered", 2)
        self.assertEqual(["binary", "binary"], [fields["converted"] for fields in events])
        found = sorted([contents(mail) for mail in server.mails()], key=len)
        self.assertEqual([[LARGE], [OCTETS, LARGE, b"a\r\nb\r\n"]], found)
        for path in (server.folder / "mail/new").iterdir():
            self.assertNotIn(b"\r", path.read_bytes())

    async def test_to_another_of_us(self) -> None:
        """Octet for octet by BDAT to a server that offers the same; there it is encoded, into the mailbox."""
        last = await self.serve("c.test")
        server = await self.serve("b.test", SOON + relay(last.port))
        message = mixed(LARGE, OCTETS)
        await self.taken(server, message, recipient="you@c.test")
        (sent,) = await self.happened(server, "delivered")
        self.assertEqual(("yes", None), (sent["bdat"], sent.get("converted")))
        (accepted,) = last.events.of("accepted")
        self.assertEqual(int(str(server.events.of("accepted")[0]["size"])), len(message))
        self.assertGreater(int(str(accepted["size"])), len(message))  # our Received line
        await self.happened(last, "delivered")
        self.assertEqual([[LARGE, OCTETS]], [contents(mail) for mail in last.mails()])

    async def test_to_one_that_takes_less(self) -> None:
        """Encoded on the way out, in seven bits where that is wanted."""
        hop, port = await self.hop(extensions=tuple(word for word in EXTENSIONS if word != "8BITMIME"))
        server = await self.serve("b.test", SOON + relay(port))
        await self.taken(server, mixed(LARGE), recipient="you@c.test")
        (sent,) = await self.happened(server, "delivered")
        self.assertEqual("binary", sent["converted"])
        self.assertTrue(hop.messages[0].body.isascii())

    async def test_after_a_restart(self) -> None:
        """The queue keeps what MAIL has said: what waited is encoded when it is delivered at last."""
        port = self.free_port()
        server = await self.serve("b.test", SOON + relay(port))
        await self.taken(server, mixed(OCTETS), recipient="you@c.test")
        await self.happened(server, "deferred")
        await server.mta.stopService()
        hop, _ = await self.hop(port=port)
        again = await self.serve("b.test", SOON + relay(port))
        (sent,) = await self.happened(again, "delivered")
        self.assertEqual("binary", sent["converted"])
        self.assertNotIn(b"\0", hop.messages[0].body)

    async def test_signed(self) -> None:
        """What may not be changed goes back to its sender, who reads why, and gets the header."""
        server = await self.serve("b.test", SOON)
        await self.taken(server, HEADER + SIGNED, sender="me@b.test")
        await self.happened(server, "delivered")  # the report
        (report,) = server.mails()
        (fields,) = recipients_of(report)
        self.assertEqual("5.6.1", fields["Status"])
        self.assertIn("a signature would break", str(fields["Diagnostic-Code"]).replace("\n", ""))
        self.assertEqual("text/rfc822-headers", report.get_payload(2).get_content_type())  # type: ignore[union-attr]

    async def test_header_of_two_readings(self) -> None:
        """A bare LF, CR or NUL in the header: 550, nothing is kept, the connection goes on; behind the header it is welcome."""
        server = await self.serve()
        caller = await self.caller(server)
        for bad in (b"\n", b"\r", b"\0"):
            for message in (b"Subject: x%bFrom: evil@x.test\r\n\r\nbody", b"no end%b"):
                await caller.envelope("you@b.test", parameters=BINARY)
                data = message % bad
                reply = await caller.say(b"BDAT %d LAST\r\n" % len(data) + data)
                self.assertEqual(b"550 5.6.0 Message header has a bare CR, a bare LF or a NUL\r\n", reply)
        self.assertEqual([], server.spool())
        caller.transport.loseConnection()
        await self.serves(server)
