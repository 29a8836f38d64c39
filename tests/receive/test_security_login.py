"""Logins that rest on TLS, over the loopback: channel binding (RFC 9266), client certificates (EXTERNAL, C1.10), and what is gone in TLS."""

from __future__ import annotations

import threading
from base64 import b64decode, b64encode
from hashlib import sha256
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import argon2
import attrs
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from twisted.cred.portal import Portal

from mta.config.settings import Access, Auth
from mta.smtp.credentials import Login, Terms
from mta.smtp.scram import PLUS, SCRAM, give_scram, serialise, verifier_of
from mta.tls.binding import tls_exporter
from tests.receive.auth.case import Realm, Tokens
from tests.receive.auth.strange import strange
from tests.receive.client import Client
from tests.receive.door import SETTINGS
from tests.receive.test_security_certificate import CLIENTS, STRANGERS, VERSIONS, showing
from tests.receive.tls_case import TlsCase

STORED = "{SCRAM-SHA-256}" + serialise(verifier_of("secret", b"sixteen of salt!"))
OFFERED = (PLUS, SCRAM, "EXTERNAL", "PLAIN")
NO_EXTENDED_MASTER_SECRET = 1


class LoginCase(TlsCase):
    """A service that offers all of it in TLS."""

    async def offering(self, access: Access = SETTINGS.access, **auth: Any) -> None:
        """Begin."""
        users, authorities = Path(self.mktemp()), Path(self.mktemp())
        hashed = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("secret")
        users.write_text(f"user:{STORED}\nhashed:{hashed}\n")
        authorities.write_bytes(CLIENTS.certificate_pem)
        tls = {"client_cert": "ask", "client_ca": (authorities,)}
        await self.serve(tls, {"auth_tls": OFFERED, "auth_clear": ("PLAIN",)}, auth=Auth(passwords=users, **auth), access=access)

    async def secure(self, prepare: Any = lambda context: None) -> tuple[Client, bytes]:
        """A client in TLS, and the mechanisms that it is shown."""
        client = await self.client()
        await client.until(b"220 ")
        await client.hello()
        await client.say(b"STARTTLS\r\n", b"220 2.0.0 Ready to start TLS\r\n")
        await client.secure(prepare)
        said = await client.hello()
        return client, next(line[9:] for line in said.splitlines() if line[4:9] == b"AUTH ")

    async def scram(self, client: Client, mechanism: str, terms: Terms, password: str = "secret") -> bytes:
        """The last thing that the server says to our own client."""
        exchange = give_scram(mechanism, Login("user", password), terms)
        line = f"AUTH {mechanism} ".encode() + b64encode(next(exchange))
        while True:
            said = (await client.say(line + b"\r\n")).strip()
            if not said.startswith(b"334 "):
                return said
            line = b64encode(exchange.send(b64decode(said[4:])))


class BindingTests(LoginCase):
    """SCRAM-SHA-256-PLUS."""

    async def test_bound(self) -> None:
        """Offered in TLS 1.2 and 1.3, and good for this connection alone; without it the other one is there."""
        await self.offering()
        for version in VERSIONS:
            client, offered = await self.secure(showing(None, version))
            self.assertEqual(offered, b"SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN")
            binding = tls_exporter(client.transport.getHandle())
            for wrong in (b"x" * 32, b""):
                self.assertEqual((await self.scram(client, PLUS, Terms(b"client", wrong, True)))[:3], b"535")
            self.assertEqual((await self.scram(client, PLUS, Terms(b"client", binding, True)))[:3], b"235")
            client, _ = await self.secure(showing(None, version))
            self.assertEqual((await self.scram(client, SCRAM, Terms(b"client", b"y" * 32, False)))[:3], b"535", "downgraded")
            self.assertEqual((await self.scram(client, SCRAM, Terms(b"client")))[:3], b"235")

    async def test_nothing_to_bind_to(self) -> None:
        """RFC 9266 3: not offered in TLS 1.2 without extended master secret; asked for all the same it is not known."""
        await self.offering()

        def old(context: SSL.Context) -> None:
            context.set_max_proto_version(SSL.TLS1_2_VERSION)
            context.set_options(NO_EXTENDED_MASTER_SECRET)

        client, offered = await self.secure(old)
        self.assertEqual(offered, b"SCRAM-SHA-256 PLAIN")
        self.assertEqual((await client.say(b"AUTH SCRAM-SHA-256-PLUS\r\n"))[:3], b"504")
        self.assertEqual((await self.scram(client, SCRAM, Terms(b"client", b"y" * 32, False)))[:3], b"235", "it is true")


class ExternalTests(LoginCase):
    """EXTERNAL."""

    async def test_s23_offered(self) -> None:
        """S23: to who has shown a verified certificate, in TLS 1.2 and 1.3; the address in it is the account."""
        await self.offering()
        for version in VERSIONS:
            client, offered = await self.secure(showing(CLIENTS.issue("tim@a.example"), version))
            self.assertEqual(offered, b"SCRAM-SHA-256-PLUS SCRAM-SHA-256 EXTERNAL PLAIN")
            self.assertEqual((await client.say(b"AUTH EXTERNAL " + b64encode(b"root@a.example") + b"\r\n"))[:3], b"535")
            self.assertEqual((await client.say(b"AUTH EXTERNAL =\r\n"))[:3], b"235")
        lines = [(line["mechanism"], line["result"], line.get("account")) for line in self.log.named("auth")]
        self.assertEqual(lines, [("EXTERNAL", "refused", None), ("EXTERNAL", "ok", "tim@a.example")] * 2)

    async def test_s23_not_offered(self) -> None:
        """Without certificate, or with one that nobody verifies, it is not there, and asked for it is not known."""
        await self.offering()
        for issued in (None, STRANGERS.issue("tim@a.example"), CLIENTS.issue("tim@a.example", expired=True)):
            client, offered = await self.secure(showing(issued, SSL.TLS1_3_VERSION))
            self.assertNotIn(b"EXTERNAL", offered)
            self.assertEqual((await client.say(b"AUTH EXTERNAL =\r\n"))[:3], b"504")

    async def test_strange_certificates(self) -> None:
        """What cannot be read is not verified, so that it is not asked about: EXTERNAL is not there, and all else is as usual."""
        await self.offering()
        for what, (shown, key) in strange(CLIENTS).items():
            if what in ("a later version", "a key of a kind that is not known"):  # our client cannot show it either
                continue

            def prepare(context: SSL.Context, shown: bytes = shown, key: Any = key) -> None:
                context.use_certificate(x509.load_der_x509_certificate(shown))
                context.use_privatekey(key)

            client, offered = await self.secure(prepare)
            self.assertEqual(offered, b"SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN", what)
            self.assertEqual((await client.say(b"AUTH EXTERNAL =\r\n"))[:3], b"504")
            self.assertEqual((await client.say(b"NOOP\r\n"))[:3], b"250")

    async def test_s10_not_for_the_client_of_a_proxy(self) -> None:
        """S10: the certificate is that of the one in front: whom XCLIENT names cannot log in by it, nor is known by its names."""
        access = attrs.evolve(SETTINGS.access, xclient_from=(IPv4Network("127.0.0.0/8"),))
        await self.offering(access=access)
        client, offered = await self.secure(showing(CLIENTS.issue("tim@a.example"), SSL.TLS1_3_VERSION))
        self.assertIn(b"EXTERNAL", offered)
        await client.say(b"XCLIENT ADDR=192.0.2.7\r\n", b"220 mx.example.org ESMTP\r\n")
        self.assertIn(b"AUTH SCRAM-SHA-256 PLAIN\r\n", await client.hello())
        self.assertEqual((await client.say(b"AUTH EXTERNAL =\r\n"))[:3], b"504")
        [session] = self.receive._common.roster.here()
        self.assertTrue(session.achieved.chain)
        self.assertEqual((session._peer().certificate, session._tls_names()), (b"", ()))

    async def test_map(self) -> None:
        """The map says who it is."""
        issued, logins = CLIENTS.issue("tim@a.example"), Path(self.mktemp())
        leaf = x509.load_pem_x509_certificates(issued.certificate_pem)[0].public_bytes(Encoding.DER)
        logins.write_text(f"{sha256(leaf).hexdigest()} somebody\n")
        await self.offering(certificates=logins)
        client, _ = await self.secure(showing(issued, SSL.TLS1_3_VERSION))
        self.assertEqual((await client.say(b"AUTH EXTERNAL\r\n"))[:4], b"334 ")
        self.assertEqual((await client.say(b"\r\n"))[:3], b"235")
        self.assertEqual(self.log.named("auth")[0]["account"], "somebody")


class TokenTests(TlsCase):
    """OAUTHBEARER and XOAUTH2, judged by an embedder's portal."""

    async def test_token(self) -> None:
        """In TLS only; a token as long as they are; whose is refused hears why before that, counts once, and may try again."""
        self.portal = Portal(Realm(), [Tokens()])
        await self.serve(None, {"auth_tls": ("OAUTHBEARER", "XOAUTH2"), "mail_requires": "tls+auth"})
        client = await self.client()
        await client.until(b"220 ")
        self.assertNotIn(b"AUTH", await client.hello())
        self.assertEqual((await client.say(b"AUTH XOAUTH2\r\n"))[:3], b"530")
        client = await self.secured()
        self.assertIn(b"AUTH OAUTHBEARER XOAUTH2\r\n", await client.hello())
        bad = b64encode(b"n,a=jim,\1auth=Bearer %b\1\1" % (b"x" * 4000))
        why = b"334 eyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIiwic2NoZW1lcyI6ImJlYXJlciJ9\r\n"
        await client.say(b"AUTH OAUTHBEARER " + bad + b"\r\n", why)
        await client.say(b"AQ==\r\n", b"535 5.7.8 Authentication credentials invalid\r\n")
        good = b64encode(b"user=jim\1auth=Bearer good\1\1")
        self.assertEqual((await client.say(b"AUTH XOAUTH2 " + good + b"\r\n"))[:3], b"235")
        lines = [(line["mechanism"], line["user"], line["result"], line.get("account")) for line in self.log.named("auth")]
        self.assertEqual(lines, [("OAUTHBEARER", "jim", "refused", None), ("XOAUTH2", "jim", "ok", "account-of-user")])
        self.assertEqual(self.log.named("rejected")[1:], [], "the line of 530 alone")
        [session] = [one for one in self.receive._common.roster.here() if one.account]
        self.assertEqual((session.counters.auth_failures, session.counters.errors), (1, 0))
        self.assertNotIn("xxxx", repr(self.log.events))


class HashTests(LoginCase):
    """A hash that takes long."""

    async def tearDown(self) -> None:
        """No thread of ours outlives the service."""
        await super().tearDown()
        self.assertEqual([thread.name for thread in threading.enumerate() if "mta-auth" in thread.name], [])

    async def test_in_a_thread(self) -> None:
        """Judged in a thread of ours, which is gone with the service (tearDown); a second time it is remembered."""
        await self.offering()
        line = b"AUTH PLAIN " + b64encode(b"\0hashed\0secret") + b"\r\n"
        for _ in range(2):
            client, _ = await self.secure()
            self.assertEqual((await client.say(b"AUTH PLAIN " + b64encode(b"\0hashed\0wrong") + b"\r\n"))[:3], b"535")
            self.assertEqual((await client.say(line))[:3], b"235")
        self.assertEqual(self.receive._common.workers.load, 0)

    async def test_s10_forgotten(self) -> None:
        """S10: who has logged in in clear is nobody in TLS, and an exchange that was begun there is gone."""
        await self.offering()
        client = await self.client()
        await client.until(b"220 ")
        await client.hello()
        self.assertEqual((await client.say(b"AUTH PLAIN " + b64encode(b"\0hashed\0secret") + b"\r\n"))[:3], b"235")
        await client.say(b"STARTTLS\r\n", b"220 2.0.0 Ready to start TLS\r\n")
        await client.secure()
        await client.hello()
        self.assertEqual((await client.say(b"AUTH PLAIN\r\n"))[:4], b"334 ", "not authenticated yet")
        self.assertEqual((await client.say(b"*\r\n"))[:3], b"501")
