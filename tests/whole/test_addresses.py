"""Unusual addresses through the whole server: SMTPUTF8, quoted local parts, address literals, postmaster, source routes."""

from __future__ import annotations

from pathlib import Path

from mta.testing.peers import EXTENSIONS
from tests.whole.world import HEADER, SOON, Caller, Running, World, relay

TAKEN = b"250 2.0.0 Ok: queued as "


class MailboxTests(World):
    """One server with a folder of mailboxes."""

    async def begin(self, domain: str, *users: str) -> tuple[Running, Caller, Path]:
        """Mailboxes of these users in `domain`, which is a folder, by the route of that domain."""
        root = self.folder / "boxes"
        for user in users:
            (root / domain / user).mkdir(parents=True)
        route = f'[[route]]\nmatch = "{domain}"\ndeliver = "maildir:{root}/{{domain}}/{{user}}"\n'
        server = await self.serve("b.test", route)
        return server, await self.caller(server), root / domain

    async def test_smtputf8(self) -> None:
        """Local parts in Cyrillic and with an umlaut, the domain in U-labels and in A-labels: mailbox and bytes are right."""
        server, caller, boxes = await self.begin("xn--bcher-kva.test", "почта", "jörg")
        recipients = ("почта@bücher.test", "jörg@xn--bcher-kva.test")
        replies = await caller.envelope(*recipients, sender="я@пример.test", parameters=" SMTPUTF8")
        self.assertEqual([b"250 2.1.0", b"250 2.1.5", b"250 2.1.5"], [reply[:9] for reply in replies])
        message = "Subject: тема\r\nTo: почта@bücher.test\r\n\r\nтекст\r\n".encode()
        self.assertEqual(TAKEN, (await caller.data(message + b".\r\n"))[:24])
        await self.happened(server, "delivered", 2)
        for user, recipient in zip(("почта", "jörg"), recipients, strict=True):
            (path,) = (boxes / user / "new").iterdir()
            text = path.read_bytes()
            self.assertTrue(text.startswith(f"Return-Path: <я@пример.test>\nDelivered-To: {recipient}\nReceived: ".encode()))
            self.assertIn(b" with UTF8SMTP id ", text)
            self.assertTrue(text.endswith(message.replace(b"\r\n", b"\n")))

    async def test_without_the_parameter(self) -> None:
        """An address that needs SMTPUTF8 is refused without it, the transaction goes on."""
        _, caller, _ = await self.begin("c.test", "почта", "you")
        self.assertEqual([b"553 5.6.7 Address needs SMTPUTF8"], await caller.envelope(sender="я@пример.test"))
        replies = await caller.envelope("почта@c.test", "you@c.test")
        self.assertEqual([b"250 2.1.0", b"553 5.6.7", b"250 2.1.5"], [reply[:9] for reply in replies])
        self.assertEqual(TAKEN, (await caller.data(HEADER + b".\r\n"))[:24])

    async def test_quoted_local_parts(self) -> None:
        """Blanks, an at sign, needless quotes and backslashes: the mailbox is what they mean; ways up and out are refused."""
        server, caller, boxes = await self.begin("c.test", "john doe", "a@b", "plain", 'say "hi"')
        good = (b'"john doe"', b'"a@b"', b'"plain"', b'"p\\lain"', b"plain", b'"say \\"hi\\""')
        bad = (b'"../b.test/x"', b'"a/b"', b'".."', b'".hidden"', b'""')
        await caller.envelope()
        for local in good:
            self.assertEqual(b"250 2.1.5 Recipient ok", await caller.ask(b"RCPT TO:<" + local + b"@c.test>"), local)
        for local in bad:
            self.assertEqual(b"550 5.1.3", (await caller.ask(b"RCPT TO:<" + local + b"@c.test>"))[:9], local)
        self.assertEqual(b"501 5.1.3", (await caller.ask(b'RCPT TO:<"a\x01b"@c.test>'))[:9])
        self.assertEqual(TAKEN, (await caller.data(HEADER + b".\r\n"))[:24])
        (accepted,) = server.events.of("accepted")
        await self.happened(server, "delivered", int(str(accepted["nrcpt"])))
        found = {box.name: len(list((box / "new").iterdir())) for box in boxes.iterdir()}
        self.assertEqual({"john doe": 1, "a@b": 1, "plain": 1, 'say "hi"': 1}, found)
        self.assertEqual(sorted(["b.test", "boxes"]), sorted(path.name for path in self.folder.iterdir()))

    async def test_postmaster_and_source_route(self) -> None:
        """<postmaster> without a domain is ours; a source route is read and ignored."""
        server, caller, _ = await self.begin("c.test", "you")
        await caller.envelope()
        for path in (b"<Postmaster>", b"<@relay.test,@other.test:you@c.test>"):
            self.assertEqual(b"250 2.1.5 Recipient ok", await caller.ask(b"RCPT TO:" + path))
        self.assertEqual(TAKEN, (await caller.data(HEADER + b".\r\n"))[:24])
        delivered = await self.happened(server, "delivered", 2)
        self.assertEqual({"Postmaster", "you@c.test"}, {fields["to"] for fields in delivered})


class NextHopTests(World):
    """Addresses that go on to another server."""

    async def test_to_one_that_speaks_smtputf8(self) -> None:
        """The addresses go on as they came."""
        hop, port = await self.hop()
        server = await self.serve("b.test", relay(port))
        caller = await self.caller(server)
        await caller.deliver("почта@c.test", sender="я@a.test", parameters=" SMTPUTF8")
        await self.happened(server, "delivered")
        (message,) = hop.messages
        self.assertEqual(("я@a.test", ("почта@c.test",)), (message.sender, message.recipients))
        self.assertTrue(any("SMTPUTF8" in line for line in hop.commands if " MAIL " in line))

    async def test_to_one_that_does_not(self) -> None:
        """5.6.7 in a report to the sender, in the right form for such an address (RFC 6533)."""
        _, port = await self.hop(extensions=tuple(word for word in EXTENSIONS if word != "SMTPUTF8"))
        server = await self.serve("b.test", SOON + relay(port))
        caller = await self.caller(server)
        await caller.deliver("почта@c.test", sender="me@b.test", parameters=" SMTPUTF8")
        await self.until(server.mails, "the report")
        (report,) = server.mails()
        types = [part.get_content_type() for part in report.walk()]
        self.assertIn("message/global-delivery-status", types)

    async def test_address_literal(self) -> None:
        """user@[127.0.0.1] goes there, and no name is asked for."""
        hop, port = await self.hop()
        server = await self.serve("b.test", f'{SOON}[relay]\nport = {port}\n[dns]\nservers = ["127.0.0.1:9"]\n')
        caller = await self.caller(server)
        await caller.deliver("you@[127.0.0.1]")
        (fields,) = await self.happened(server, "delivered")
        self.assertEqual(f"127.0.0.1[127.0.0.1]:{port}", fields["relay"])
        self.assertEqual(("you@[127.0.0.1]",), hop.messages[0].recipients)
