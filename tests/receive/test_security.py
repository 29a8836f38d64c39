"""What TLS changes for a client, and what it does not: logins, offers, limits, certificates.  Over the loopback."""

from __future__ import annotations

from base64 import b64encode
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from twisted.internet.defer import succeed

from mta.config.settings import Access, Auth, Limits, Seconds
from mta.envelope import Action, Flag, Ruling
from mta.receive.connection import Connection
from mta.status import permanent, transient
from tests.receive.client import Client
from tests.receive.door import FakePolicy
from tests.receive.tls_case import TlsCase

NOBODY = Access(relay_from=())  # the loopback is a stranger too
PLAIN = b"AUTH PLAIN " + b64encode(b"\0user\0secret") + b"\r\n"
WRONG = b"AUTH PLAIN " + b64encode(b"\0user\0wrong") + b"\r\n"
ABROAD = b"friend@elsewhere.example"
STARTTLS = b"STARTTLS\r\n"
READY = b"220 2.0.0 Ready to start TLS\r\n"


class SecurityCase(TlsCase):
    """A port for strangers, with a password file."""

    async def serve(self, tls: dict[str, Any] | None = None, listen: dict[str, Any] | None = None, **changes: Any) -> None:
        """Begin."""
        passwords = Path(self.mktemp())
        passwords.write_text("user:secret\n")
        await super().serve(tls, listen, **{"access": NOBODY, "auth": Auth(passwords=passwords), **changes})

    async def greeted(self, port: int = 0) -> Client:
        """A client that has said EHLO, in TLS on port 1."""
        client = await self.client(port)
        if port:
            await client.secure()
        await client.until(b"220 mx.example.org ESMTP\r\n")
        await client.hello()
        return client

    async def into_tls(self, client: Client) -> Client:
        """STARTTLS, and EHLO behind it."""
        await client.say(STARTTLS, READY)
        await client.secure()
        await client.hello()
        return client

    async def code(self, client: Client, line: bytes) -> str:
        """The code and enhanced code of the one reply to a line."""
        return (await client.say(line))[:9].decode()


class AuthTests(SecurityCase):
    """AUTH with and without TLS."""

    async def test_s20_lists(self) -> None:
        """S20, X08, A38, A39: each list as configured and where it belongs; PLAIN in clear is 538 and its password is not looked at."""
        await self.serve(listen={"auth_clear": ("CRAM-MD5",), "auth_tls": ("PLAIN", "LOGIN")})
        client = await self.client()
        await client.until(b"220 ")
        self.assertIn(b"250-AUTH CRAM-MD5\r\n", (in_clear := await client.hello()))
        self.assertNotIn(b"REQUIRETLS", in_clear)
        self.assertEqual((await self.code(client, PLAIN))[:3], "538")
        await client.say(STARTTLS, READY)
        await client.secure()
        in_tls = await client.hello()
        self.assertRegex(in_tls, rb"AUTH PLAIN LOGIN\r\n")
        self.assertIn(b"REQUIRETLS\r\n", in_tls)
        self.assertEqual(await self.code(client, b"AUTH CRAM-MD5\r\n"), "504 5.5.4")
        self.assertEqual(await self.code(client, PLAIN), "235 2.7.0")

    async def test_implicit(self) -> None:
        """Implicit TLS is TLS: its list, no 538, 530 for want of AUTH only, and the Received line says ESMTPSA."""
        await self.serve(listen={"auth_clear": (), "auth_tls": ("PLAIN",), "mail_requires": "tls+auth"})
        client = await self.greeted(1)
        self.assertEqual(await self.code(client, b"MAIL FROM:<>\r\n"), "530 5.7.0")
        self.assertEqual(await self.code(client, PLAIN), "235 2.7.0")
        await client.envelope(ABROAD)
        await client.say(b"Subject: x\r\n\r\nx\r\n.\r\n", b"queued as Q1000\r\n")
        [message] = self.accept.accepted
        self.assertIn(b" with ESMTPSA id ", message.prefix)
        self.assertEqual(message.account, "user")
        self.assertEqual(self.log.named("auth")[0]["tls_version"], "TLSv1.3")

    async def test_s13_login_is_forgotten(self) -> None:
        """S13, X02, A25: a login in clear is nothing in TLS, nor is the greeting: relaying is refused, and AUTH is to be done again."""
        await self.serve(listen={"auth_clear": ("PLAIN",), "auth_tls": ("PLAIN",)})
        client = await self.greeted()
        self.assertEqual(await self.code(client, PLAIN), "235 2.7.0")
        [session] = self.receive._common.roster.here()
        assert isinstance(session, Connection)
        self.assertEqual(session.account, "user")
        await self.into_tls(client)
        self.assertEqual(session.account, "")
        await client.say(b"MAIL FROM:<user@example.org>\r\n")
        self.assertEqual(await self.code(client, b"RCPT TO:<%b>\r\n" % ABROAD), "550 5.7.1")
        await client.say(b"RSET\r\n")
        self.assertEqual(await self.code(client, PLAIN), "235 2.7.0")
        self.assertEqual((await client.envelope(ABROAD)).count(b"250 "), 2)

    async def test_s21_mail_requires(self) -> None:
        """S21, A40: what each value wants in clear and in TLS; EHLO, NOOP and QUIT are taken with all of them."""
        for words, in_clear, in_tls in (
            ("none", "250 2.1.0", "250 2.1.0"),
            ("tls", "530 5.7.0", "250 2.1.0"),
            ("auth", "530 5.7.0", "530 5.7.0"),
            ("tls-or-auth", "530 5.7.0", "250 2.1.0"),
            ("tls+auth", "530 5.7.0", "530 5.7.0"),
        ):
            await self.serve(listen={"auth_tls": ("PLAIN",), "mail_requires": words})
            client = await self.greeted()
            self.assertEqual(await self.code(client, b"MAIL FROM:<>\r\n"), in_clear, words)
            self.assertEqual(await self.code(client, b"NOOP\r\n"), "250 2.0.0", words)
            await self.into_tls(client)
            self.assertEqual(await self.code(client, b"MAIL FROM:<>\r\n"), in_tls, words)
            await client.say(b"RSET\r\n")
            self.assertEqual(await self.code(client, PLAIN), "235 2.7.0")
            self.assertEqual(await self.code(client, b"MAIL FROM:<>\r\n"), "250 2.1.0")
            self.assertEqual(await self.code(client, b"QUIT\r\n"), "221 2.0.0")
            await client.gone
            await self.receive.stopService()

    async def test_requiretls(self) -> None:
        """RFC 8689: REQUIRETLS is taken in TLS and passed on, and beside it "TLS-Required: No" is not obeyed; in clear it is 555."""
        await self.serve()
        client = await self.greeted()
        self.assertEqual(await self.code(client, b"MAIL FROM:<> REQUIRETLS\r\n"), "555 5.5.4")
        await self.into_tls(client)
        for parameter, flags in ((b" REQUIRETLS", Flag.REQUIRETLS), (b"", Flag.TLS_REQUIRED_NO)):
            self.assertEqual(await self.code(client, b"MAIL FROM:<>%b\r\n" % parameter), "250 2.1.0")
            await client.say(b"RCPT TO:<user@example.org>\r\n")
            await client.say(b"DATA\r\n")
            await client.say(b"TLS-Required: No\r\n\r\nx\r\n.\r\n", b"queued as")
            await client.until(b"\r\n")
            self.assertEqual(self.accept.accepted[-1].flags, flags)


class OfferTests(SecurityCase):
    """Who may begin TLS, and how often."""

    async def test_s06_avoided(self) -> None:
        """S06: a client in avoid_tls_for is not offered STARTTLS, and gets 502 for it; the mail goes in clear."""
        await self.serve(listen={"avoid_tls_for": (IPv4Network("127.0.0.0/8"),)})
        client = await self.client()
        await client.until(b"220 ")
        self.assertNotIn(b"STARTTLS", await client.hello())
        self.assertEqual(await self.code(client, STARTTLS), "502 5.5.1")
        self.assertEqual((await client.envelope()).count(b"\r\n"), 3)

    async def test_s09_rate(self) -> None:
        """S09, X20: over the rate 454 4.7.0, on new connections too, and the session goes on in clear; implicit TLS is closed without a word."""
        await self.serve(limits=Limits(tls_sessions_per_minute=2))
        for port in (0, 1):
            client = await self.greeted(port)
            if not port:
                await self.into_tls(client)
        client = await self.greeted()
        for _ in range(2):
            self.assertEqual(await self.code(client, STARTTLS), "454 4.7.0")
        self.assertEqual((await client.envelope())[:4], b"250 ")
        self.assertEqual(self.log.named("rejected")[0]["stage"], "starttls")
        self.assertEqual(await (await self.client(1)).gone, b"")
        self.assertIn("no TLS: 454 4.7.0 Too many new TLS sessions", await self.why())

    async def test_s09_exempt(self) -> None:
        """S09: clients in relay_from may begin as many as they like."""
        await self.serve(limits=Limits(tls_sessions_per_minute=1), access=Access())
        for _ in range(4):
            await self.into_tls(await self.greeted())

    async def test_policy(self) -> None:
        """A policy may refuse TLS, with 454 or 554 (RFC 3207 4); where it fails it is 454, and the session goes on in clear."""
        for answer, code in (
            (permanent("5.7.0", "Not for you"), "554 5.7.0"),
            (transient("4.7.0", "Not now"), "454 4.7.0"),
            (ValueError("broken"), "454 4.3.0"),
            (None, "220 2.0.0"),
        ):
            self.policy = FakePolicy(starttls=answer)
            await self.serve()
            client = await self.greeted()
            self.assertEqual(await self.code(client, STARTTLS), code)
            if answer is None:
                await client.secure()
            self.assertEqual((await client.say(b"NOOP\r\n"))[:4], b"250 ")
            client.transport.abortConnection()
            await self.receive.stopService()
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    async def test_policy_that_would_hold_the_mail(self) -> None:
        """HOLD and DISCARD at STARTTLS in a transaction: there is no mail any more, so it is the policy's mistake and no TLS.

        The transaction is over (RFC 3207 4.2); the next mail is neither held nor thrown away.
        """
        for verdict in (Action.HOLD, Action.DISCARD, Ruling(Action.HOLD, "x")):
            for answer in (verdict, lambda verdict=verdict: succeed(verdict)):
                self.policy = FakePolicy(starttls=answer)
                await self.serve()
                client = await self.greeted()
                await client.say(b"MAIL FROM:<>\r\nRCPT TO:<user@example.org>\r\n", b"250 2.1.5 Recipient ok\r\n")
                self.assertEqual(await self.code(client, STARTTLS), "454 4.3.0")
                self.assertIn("the policy answered", self.log.named("rejected")[0]["why"])
                self.assertEqual((await client.say(b"DATA\r\n"))[:9], b"503 5.5.1")
                self.assertEqual([], self.accept.accepted)
                await client.envelope()
                await client.say(b"Subject: x\r\n\r\nbody\r\n.\r\n")
                [message] = self.accept.accepted
                self.assertEqual("", message.hold)
                client.transport.abortConnection()
                await self.receive.stopService()

    async def test_x24_starttls_in_implicit_tls(self) -> None:
        """X24: STARTTLS inside implicit TLS is not offered and 502.  (A PROXY header behind the handshake is a later issue's.)"""
        await self.serve()
        client = await self.client(1)
        await client.secure()
        await client.until(b"220 ")
        self.assertNotIn(b"STARTTLS", await client.hello())
        self.assertEqual(await self.code(client, STARTTLS), "502 5.5.1")
        self.assertEqual(await self.code(client, b"NOOP\r\n"), "250 2.0.0")

    async def test_s45_bad_record(self) -> None:
        """S45: a record that does not authenticate ends the connection: no reply in clear, no traceback."""
        await self.serve()
        client = await self.into_tls(await self.greeted())
        client.say_in_clear(b"\x17\x03\x03\x00\x40" + b"\x55" * 64)
        self.assertNotRegex(await client.gone, rb"\d\d\d ")
        self.assertIn("TLS broken off", await self.why())
        self.assertEqual(self.flushLoggedErrors(), [])


class LimitTests(SecurityCase):
    """S14, A29, A30, A31: all but one is used up in clear; in TLS the one is left, and then it is refused as it would be in clear."""

    async def used(self, line: bytes, *expected: str) -> Client:
        """The line said as often as there are codes, all but the last two in clear, those in TLS."""
        client = await self.greeted()
        for code in expected[:-2]:
            self.assertEqual(await self.code(client, line), code)
        await self.into_tls(client)
        for code in expected[-2:]:
            self.assertEqual(await self.code(client, line), code)
        return client

    async def test_s14_transactions(self) -> None:
        """S14: the fourth MAIL of three."""
        await self.serve(limits=Limits(transactions_per_connection=3))
        client = await self.greeted()
        for number in range(4):
            if number == 2:
                await self.into_tls(client)
            self.assertEqual((await self.code(client, b"MAIL FROM:<>\r\n"))[:3], "250" if number < 3 else "421")
            if number < 3:
                await client.say(b"RSET\r\n")
        await client.gone

    async def test_s14_recipients(self) -> None:
        """S14: the eleventh recipient of ten."""
        await self.serve(limits=Limits(recipients_per_connection=10))
        client = await self.greeted()
        await client.say(b"MAIL FROM:<>\r\n")
        for _ in range(9):
            self.assertEqual(await self.code(client, b"RCPT TO:<user@example.org>\r\n"), "250 2.1.5")
        await self.into_tls(client)
        await client.say(b"MAIL FROM:<>\r\n")
        self.assertEqual(await self.code(client, b"RCPT TO:<user@example.org>\r\n"), "250 2.1.5")
        self.assertEqual(await self.code(client, b"RCPT TO:<user@example.org>\r\n"), "452 4.5.3")

    async def test_s14_errors(self) -> None:
        """S14: the twenty-first error of twenty."""
        await self.serve(limits=Limits(errors=20, tarpit=Seconds(0.0)))
        client = await self.used(b"XYZZY\r\n", *["500 5.5.1"] * 20, "421 4.7.0")
        await client.gone

    async def test_s14_logins(self) -> None:
        """S14: the sixth AUTH behind five failures."""
        await self.serve(limits=Limits(auth_failures=5), listen={"auth_clear": ("PLAIN",), "auth_tls": ("PLAIN",)})
        client = await self.used(WRONG, *["535 5.7.8"] * 5, "421 4.7.0")
        await client.gone

    async def test_s14_commands(self) -> None:
        """S14: the eleventh command of ten; EHLO, STARTTLS and EHLO are three of them."""
        await self.serve(limits=Limits(commands_per_connection=10))
        client = await self.used(b"NOOP\r\n", *["250 2.0.0"] * 7, "421 4.7.0")
        await client.gone

    async def test_s14_relay_from(self) -> None:
        """Clients in relay_from have no limit of transactions, recipients and commands."""
        limits = Limits(transactions_per_connection=1, recipients_per_connection=1, commands_per_connection=1)
        await self.serve(limits=limits, access=Access())
        client = await self.greeted()
        for _ in range(2):
            await client.say(b"MAIL FROM:<>\r\n")
            self.assertEqual(await self.code(client, b"RCPT TO:<user@example.org>\r\n"), "250 2.1.5")
            await client.say(b"RSET\r\n")
