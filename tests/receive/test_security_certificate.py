"""Client certificates: taken whatever they are, judged in SMTP (C1.10, RFC 3207 4.1).  Over the loopback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL

from mta.config.receiving import AccessRule
from mta.testing.pki import Authority, Issued
from tests.receive.client import Client
from tests.receive.door import SETTINGS
from tests.receive.tls_case import TlsCase

CLIENTS = Authority.create("CA of clients")
STRANGERS = Authority.create("CA of strangers")
VERSIONS = (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION)

Prepare = Callable[[SSL.Context], object]


def showing(issued: Issued | None, version: int) -> Prepare:
    """A client of this version with this certificate, or none."""

    def prepare(context: SSL.Context) -> None:
        context.set_min_proto_version(version)
        context.set_max_proto_version(version)
        if issued is not None:
            context.use_certificate(x509.load_pem_x509_certificates(issued.certificate_pem)[0])
            context.use_privatekey(load_pem_private_key(issued.key_pem, None))  # type: ignore[arg-type]

    return prepare


class CertificateTests(TlsCase):
    """[tls] client_cert."""

    async def asking(self, client_cert: str, **changes: Any) -> None:
        """A server that asks, and trusts CLIENTS."""
        authorities = Path(self.mktemp())
        authorities.write_bytes(CLIENTS.certificate_pem)
        await self.serve({"client_cert": client_cert, "client_ca": (authorities,)}, **changes)

    async def shown(self, prepare: Prepare, port: int = 0) -> Client:
        """A client in TLS that has shown its certificate; on port 1 it was greeted."""
        client = await self.client(port)
        if not port:
            await client.until(b"220 ")
            await client.hello()
            await client.say(b"STARTTLS\r\n", b"220 2.0.0 Ready to start TLS\r\n")
        await client.secure(prepare)
        if port:
            await client.until(b"220 mx.example.org ESMTP\r\n")
        return client

    async def test_s23_refused(self) -> None:
        """S23: required, and none or an untrusted one is shown, in TLS 1.2 and 1.3: 554 5.7.1 to EHLO and MAIL, NOOP and STARTTLS, 221 to QUIT."""
        await self.asking("require")
        untrusted = STRANGERS.issue("client.example")
        cases: list[tuple[Any, int, int]] = [(what, v, port) for what in (None, untrusted) for v in VERSIONS for port in (0, 1)]
        for issued, version, port in cases:
            client = await self.shown(showing(issued, version), port)
            for line in (b"EHLO client.example\r\n", b"MAIL FROM:<>\r\n", b"NOOP\r\n", b"STARTTLS\r\n", b"AUTH PLAIN AA==\r\n"):
                answer = await client.say(line)
                self.assertEqual(answer[:9], b"554 5.7.1", line)
            self.assertIn(b"none" if issued is None else b"issuer", answer)
            self.assertEqual((await client.say(b"QUIT\r\n"))[:4], b"221 ")
            await client.gone
            reason = self.log.named("rejected")[0]
            self.assertEqual(reason["stage"], "certificate")
            self.assertIn("none" if issued is None else "issuer", str(reason["why"]))
            self.log.events.clear()
        self.assertEqual(self.accept.sinks, [])

    async def test_s23_taken(self) -> None:
        """S23: a trusted one, in TLS 1.2 and 1.3, and mail goes on as usual.  (That EXTERNAL is offered then is a later issue's.)"""
        await self.asking("require")
        for version in VERSIONS:
            for port in (0, 1):
                client = await self.shown(showing(CLIENTS.issue("client.example"), version), port)
                await client.hello()
                self.assertEqual((await client.envelope()).count(b"250 "), 2)
        self.assertEqual(self.log.named("rejected"), [])

    async def test_asked_only(self) -> None:
        """With "ask" nobody is refused, whatever is shown."""
        await self.asking("ask")
        for issued in (None, STRANGERS.issue("client.example"), CLIENTS.issue("client.example")):
            client = await self.shown(showing(issued, SSL.TLS1_3_VERSION))
            await client.hello()
            self.assertEqual((await client.envelope()).count(b"250 "), 2)
        self.assertEqual(self.log.named("rejected"), [])

    async def test_rule_by_name(self) -> None:
        """A rule may ask for a name in a verified certificate; one by strangers, or none at all, does not have it."""
        rules = (
            AccessRule("partner", "accept", tls_name=("*.partner.example",)),
            AccessRule("others", "reject", tls=("any",), reply="550 5.7.9 Partners only"),
        )
        await self.asking("ask", access=attrs.evolve(SETTINGS.access, rule=rules))
        for issued, code in (
            (CLIENTS.issue("mx.partner.example"), b"250"),
            (CLIENTS.issue("mx.other.example"), b"550"),
            (STRANGERS.issue("mx.partner.example"), b"550"),
            (None, b"550"),
        ):
            client = await self.shown(showing(issued, SSL.TLS1_3_VERSION))
            await client.hello()
            self.assertEqual(code, (await client.say(b"MAIL FROM:<s@client.example>\r\n"))[:3])
        self.assertEqual(["partner", *["others"] * 3], [line["rule"] for line in self.log.named("rule")])

    async def test_clear(self) -> None:
        """Before STARTTLS nothing is asked: a client without certificate may send in clear where that is allowed."""
        await self.asking("require")
        client = await self.client()
        await client.until(b"220 ")
        await client.hello()
        self.assertEqual((await client.envelope()).count(b"250 "), 2)
