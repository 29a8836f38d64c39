"""Submission as mail programs see it: port 587 with STARTTLS, port 465 with TLS from the first byte (RFC 8314), over the loopback."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

from mta.config.settings import Auth
from tests.receive.client import Client
from tests.receive.tls_case import TlsCase

PLAIN = b"AUTH PLAIN " + b64encode(b"\0user\0secret") + b"\r\n"


class SubmissionTests(TlsCase):
    """Port 0 is 587, port 1 is 465; nothing is set but `submission = true`."""

    async def begin(self) -> None:
        """Two submission ports, and one account."""
        passwords = Path(self.mktemp())
        passwords.write_text("user:secret\n")
        passwords.chmod(0o600)
        await self.serve(listen={"submission": True}, auth=Auth(passwords=passwords))

    async def hand_in(self, client: Client) -> bytes:
        """EHLO, AUTH, a message without any header field but Bcc; the list of EHLO."""
        told = await client.hello()
        self.assertEqual(await client.say(PLAIN), b"235 2.7.0 Authentication successful\r\n")
        answers = await client.envelope(b"friend@elsewhere.example")
        self.assertEqual([line[:3] for line in answers.splitlines()], [b"250", b"250", b"354"])
        self.assertEqual((await client.say(b"Bcc: x@y.example\r\n\r\nbody\r\n.\r\n"))[:9], b"250 2.0.0")
        return told

    def check_message(self) -> None:
        """What was stored."""
        [message] = self.accept.accepted
        self.assertEqual((message.source, message.account, message.body.data), ("submission", "user", b"\r\nbody\r\n"))
        received, _, added = message.prefix.partition(b"\r\nDate: ")
        self.assertIn(b" with ESMTPSA id ", received)
        self.assertTrue(added.endswith(b"\r\nFrom: <s@client.example>\r\nMessage-ID: <Q1000@mx.example.org>\r\n"), added)

    async def test_starttls(self) -> None:
        """In clear there is no AUTH to be seen and no mail to be sent; in TLS there is both."""
        await self.begin()
        client = await self.client()
        await client.until(b"220 ")
        told = await client.hello()
        self.assertIn(b"STARTTLS", told)
        self.assertNotIn(b"AUTH", told)
        self.assertEqual((await client.say(PLAIN))[:3], b"530")
        self.assertEqual((await client.say(b"MAIL FROM:<s@client.example>\r\n"))[:3], b"530")
        await client.say(b"STARTTLS\r\n", b"220 2.0.0 Ready to start TLS\r\n")
        await client.secure()
        self.assertIn(b"AUTH PLAIN LOGIN", await self.hand_in(client))
        self.check_message()

    async def test_implicit(self) -> None:
        """The same without STARTTLS."""
        await self.begin()
        client = await self.client(1)
        await client.secure()
        await client.until(b"220 ")
        told = await self.hand_in(client)
        self.assertIn(b"AUTH PLAIN LOGIN", told)
        self.assertNotIn(b"STARTTLS", told)
        self.check_message()

    async def test_tls_is_not_enough(self) -> None:
        """Who has not logged in sends to nobody, though the port is safe."""
        await self.begin()
        client = await self.secured()
        await client.hello()
        self.assertEqual((await client.say(b"MAIL FROM:<s@client.example>\r\n"))[:9], b"530 5.7.0")
        self.assertEqual(self.accept.sinks, [])
