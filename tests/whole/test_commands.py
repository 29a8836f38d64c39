"""Bad commands through a real socket: each has its one answer, no mail comes of it, and the server serves on."""

from __future__ import annotations

import random

from OpenSSL import SSL

from tests.whole.world import Running, World

TOO_LONG = b"500 5.5.2 Line too long"
NOT_FRAMED = b"500 5.5.2 Bare CR, bare LF or NUL in a command"
UNKNOWN = b"500 5.5.1 Command unrecognized"
GREETING = b"220 b.test ESMTP\r\n"


def client_hello() -> bytes:
    """The first flight of a TLS client."""
    connection = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
    connection.set_connect_state()
    try:
        connection.do_handshake()
    except SSL.WantReadError:
        return connection.bio_read(65536)
    raise AssertionError("a handshake without a server")


class CommandTests(World):
    """One server, one bad client, then a good one."""

    async def all_said(self, server: Running, data: bytes) -> bytes:
        """What the server says to these bytes until it closes."""
        caller = await self.connect(server.port)
        caller.transport.write(data)
        return await caller.end()

    async def test_line_too_long(self) -> None:
        """A command of 2,049, of 100,000 bytes: one 500 each, the next command is obeyed."""
        server = await self.serve()
        caller = await self.caller(server)
        for size in (2049, 100_000):
            self.assertEqual(TOO_LONG, await caller.ask(b"NOOP " + b"x" * (size - 7)))
            self.assertEqual(b"250 2.0.0 Ok", await caller.ask(b"NOOP " + b"x" * (2048 - 7)))
        self.assertEqual(b"501 5.5.4 A domain or an address literal is wanted", await caller.ask(b"EHLO " + b"x" * 256))
        self.assertEqual(b"221 2.0.0 Bye", await caller.ask(b"QUIT"))
        await self.serves(server)

    async def test_endless_line(self) -> None:
        """4 MB without a line end are passed over, not kept; then the line has its 500."""
        server = await self.serve()
        caller = await self.caller(server)
        for _ in range(64):
            caller.transport.write(b"x" * 65536)
        self.assertEqual(TOO_LONG, await caller.ask(b""))
        self.assertEqual(b"250 2.0.0 Ok", await caller.ask(b"NOOP"))
        caller.transport.loseConnection()
        await self.serves(server)

    async def test_unframed_commands(self) -> None:
        """NUL, bare CR and bare LF, anywhere in a command: 500, the end; what stands behind is never obeyed."""
        server = await self.serve()
        for bad in (b"\0", b"\r", b"\n", b"\r\r", b"\n\r", b"\r\0\n"):
            for command in (b"NO%sOP\r\n", b"MAIL FROM:<me@a.test>%s\r\n", b"%sNOOP\r\n", b"EHLO a%sMAIL FROM:<x@a.test>\r\n"):
                caller = await self.caller(server)
                caller.transport.write(command % bad + b"MAIL FROM:<me@a.test>\r\nRCPT TO:<you@b.test>\r\nDATA\r\n")
                self.assertEqual(NOT_FRAMED + b"\r\n", await caller.end(), command % bad)
        await self.serves(server)

    async def test_data_without_recipients(self) -> None:
        """503 before RCPT, 554 when all were refused; a body sent all the same is never taken for commands."""
        server = await self.serve()
        caller = await self.caller(server)
        await caller.envelope()
        self.assertEqual(b"503 5.5.1 Send RCPT first", await caller.ask(b"DATA"))
        self.assertEqual(b"550 5.1.3 No mailbox here can have this name", await caller.ask(b'RCPT TO:<"a/b"@b.test>'))
        self.assertEqual(b"554 5.5.1 No valid recipients", await caller.ask(b"DATA"))
        caller.transport.write(b"DATA\r\nSubject: x\r\n\r\nRCPT TO:<you@b.test>\r\n.\r\nDATA\r\n")
        self.assertEqual(b"554 5.5.0 SMTP protocol synchronization\r\n", await caller.end())
        await self.serves(server)

    async def test_ten_thousand_garbage_commands(self) -> None:
        """20 errors, then 421 and the end; and again by the same client, fifty times."""
        server = await self.serve()
        expected = GREETING + (UNKNOWN + b"\r\n") * 20 + b"421 4.7.0 Too many errors\r\n"
        for _ in range(50):
            self.assertEqual(expected, await self.all_said(server, b"XYZZY plugh\r\n" * 10_000))
        self.assertEqual(21, server.events.of("disconnect")[-1]["errors"])
        await self.serves(server)

    async def test_binary_garbage(self) -> None:
        """Noise is one error, whatever it looks like; nothing of it comes back."""
        server = await self.serve()
        for seed in range(20):
            said = await self.all_said(server, random.Random(seed).randbytes(200_000))
            self.assertEqual(GREETING + NOT_FRAMED + b"\r\n", said)
        await self.serves(server)

    async def test_client_hello_in_clear(self) -> None:
        """A client that begins with TLS on the plain port hears one error and is left."""
        server = await self.serve("b.test", self.certificate())
        self.assertEqual(GREETING + NOT_FRAMED + b"\r\n", await self.all_said(server, client_hello()))
        await self.serves(server)

    async def test_http(self) -> None:
        """A browser that is made to talk to us gets one line, nothing of its own in it, and no mail out of its body."""
        server = await self.serve()
        mail = b"EHLO a\r\nMAIL FROM:<me@a.test>\r\nRCPT TO:<you@b.test>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n"
        for head in (b"GET / HTTP/1.1\r\n", b"POST /evil HTTP/1.1\r\nContent-Length: 99\r\n", b"Host: evil\r\n"):
            said = await self.all_said(server, head + b"\r\n" + mail)
            self.assertEqual(GREETING + b"554 5.5.1 This is a mail server\r\n", said)
        await self.serves(server)

    async def test_a_client_that_does_not_read(self) -> None:
        """A million commands from a client that takes no reply: it is read no further, others are served."""
        server = await self.serve()
        deaf = await self.caller(server)
        deaf.transport.pauseProducing()
        for _ in range(100):
            deaf.transport.write(b"HELP\r\n" * 10_000)
        for _ in range(20):
            caller = await self.caller(server)
            self.assertEqual(b"221 2.0.0 Bye", await caller.ask(b"QUIT"))
        deaf.transport.abortConnection()
        await self.serves(server)
        (commands,) = [fields["commands"] for fields in server.events.of("disconnect") if fields["why"] != "quit"]
        self.assertLess(commands, 500_000)
