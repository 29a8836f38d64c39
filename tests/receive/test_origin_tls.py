"""PROXY headers in front of TLS, and what of an origin is left behind it; over the loopback."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

import attrs
from OpenSSL import SSL

from mta.config.settings import Limits
from tests.receive.client import Client, turn
from tests.receive.door import BODY, SETTINGS, STRANGER
from tests.receive.headers import summed, version1, version2
from tests.receive.tls_case import TlsCase

LOOPBACK = (IPv4Network("127.0.0.0/8"),)
PROXIES = {"proxy_from": LOOPBACK}
GREETING = b"220 mx.example.org ESMTP\r\n"
STARTTLS, IMPLICIT = 0, 1


class Memory:
    """The client's side of TLS in memory: what to send is taken by hand, so that a test says what stands in one segment."""

    def __init__(self) -> None:
        self.tls = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
        self.tls.set_connect_state()

    def step(self, data: bytes = b"") -> bytes:
        """Hear that; what is to be said."""
        if data:
            self.tls.bio_write(data)
        try:
            self.tls.do_handshake()
        except SSL.WantReadError:
            pass
        return self.out()

    def out(self) -> bytes:
        """What is to be said."""
        try:
            return self.tls.bio_read(65536)
        except SSL.WantReadError:
            return b""

    async def read(self, client: Client, text: bytes) -> bytes:
        """Decrypt what the client hears until the text is in it; the handshake ends on the way."""
        heard = b""
        while text not in heard:
            raw, client.read = client.read, b""
            if answer := self.step(raw):
                client.transport.write(answer)
            try:
                heard += self.tls.recv(65536)
            except SSL.WantReadError:
                await turn()
        return heard


class ProxyTlsTests(TlsCase):
    """X24: a header belongs in front of TLS, and there it is read whatever segments it comes in."""

    async def talk(self, client: Client, memory: Memory) -> bytes:
        """The greeting in TLS, and the answer to EHLO."""
        heard = await memory.read(client, GREETING)
        memory.tls.send(b"EHLO client.example\r\n")
        client.transport.write(memory.out())
        return heard + await memory.read(client, b"250 DELIVERBY 60\r\n")

    async def test_x24_one_segment(self) -> None:
        """Header and client hello in one segment: the hello is TLS's, and the client is whom the header names."""
        await self.serve(listen=PROXIES)
        for header in (version1(STRANGER), version2(STRANGER), summed(STRANGER)):
            client, memory = await self.client(IMPLICIT), Memory()
            client.transport.write(header + memory.step())
            self.assertTrue((await self.talk(client, memory)).startswith(GREETING))
            self.assertEqual(self.log.named("connect")[-1]["client"], STRANGER)

    async def test_two_segments(self) -> None:
        """The hello cut in two by the header's segment; and the header cut in two."""
        await self.serve(listen=PROXIES)
        for cut in (10, len(version2(STRANGER)) + 20):
            client, memory = await self.client(IMPLICIT), Memory()
            data = version2(STRANGER) + memory.step()
            client.transport.write(data[:cut])
            while client.transport.dataBuffer or not self.receive._common.roster.here():
                await turn()
            for _ in range(5):
                await turn()
            client.transport.write(data[cut:])
            self.assertTrue((await self.talk(client, memory)).startswith(GREETING))

    async def test_slots(self) -> None:
        """The hello waits with its client for a slot."""
        await self.serve({"handshakes_at_once": 1}, listen=PROXIES)
        slots = self.receive._common.slots
        taken: list[None] = []

        def hold() -> None:
            taken.append(None)

        slots.take(hold)
        client, memory = await self.client(IMPLICIT), Memory()
        client.transport.write(version2(STRANGER) + memory.step())
        while not slots.waiting:
            await turn()
        self.assertEqual((taken, client.read), ([None], b""))
        slots.give_back(hold)
        self.assertTrue((await self.talk(client, memory)).startswith(GREETING))

    async def test_garbage_behind(self) -> None:
        """What is no hello behind a good header ends the handshake in silence."""
        await self.serve(listen=PROXIES)
        client = await self.client(IMPLICIT)
        client.transport.write(version2(STRANGER) + b"EHLO client.example\r\n")
        self.assertNotIn(b"220", await client.gone)
        self.assertIn("TLS handshake failed", await self.why())
        self.assertEqual(self.log.named("disconnect")[0]["client"], STRANGER)

    async def test_x24_tls_without_header(self) -> None:
        """A client hello where the header should be: closed without a word."""
        await self.serve(listen=PROXIES)
        for port in (STARTTLS, IMPLICIT):
            client = await self.client(port)
            client.transport.write(Memory().step())
            self.assertEqual(await client.gone, b"")
        self.assertEqual([event["why"] for event in self.log.named("rejected")], ["no PROXY header"] * 2)

    async def test_x24_header_in_tls(self) -> None:
        """A header within TLS is a command that nobody knows; in front of it, from a peer that is not listed, no TLS."""
        await self.serve()
        client = await self.client(IMPLICIT)
        await client.secure()
        await client.until(GREETING)
        self.assertEqual((await client.say(version1(STRANGER)))[:3], b"500")
        client = await self.client(IMPLICIT)
        client.transport.write(version1(STRANGER) + Memory().step())
        self.assertNotIn(b"220", await client.gone)
        client = await self.client(STARTTLS)
        await client.starttls()
        self.assertEqual((await client.say(version1(STRANGER)))[:3], b"500")
        self.assertEqual({event["client"] for event in self.log.named("connect")}, {"127.0.0.1"})

    async def test_x24_header_behind_starttls(self) -> None:
        """A second header behind TLS names nobody: the first one stands (docs/tls.md, C1.6)."""
        await self.serve(listen=PROXIES)
        client = await self.client()
        client.transport.write(version1(STRANGER))
        await client.starttls()
        [session] = self.receive._common.roster.here()
        self.assertEqual((await client.say(version1("192.0.2.7")))[:3], b"500")
        self.assertEqual((session.address, session.trusted), (STRANGER, False))

    async def test_turned_away(self) -> None:
        """Too many of one client on the implicit port: silence, and the hello is dropped."""
        await self.serve(listen=PROXIES, limits=Limits(connections_per_client=1))
        first, memory = await self.client(IMPLICIT), Memory()
        first.transport.write(version2(STRANGER) + memory.step())
        await self.talk(first, memory)
        second = await self.client(IMPLICIT)
        second.transport.write(version2(STRANGER) + Memory().step())
        self.assertEqual(await second.gone, b"")


class XclientTlsTests(TlsCase):
    """What XCLIENT and XFORWARD have said in clear is not known in TLS; what they say in TLS is."""

    async def serve(self, *arguments: Any, **changes: Any) -> None:
        """With everybody on the loopback entitled."""
        access = attrs.evolve(SETTINGS.access, xclient_from=LOOPBACK, xforward_from=LOOPBACK)
        await super().serve(*arguments, access=access, **changes)

    async def test_s10_forgotten(self) -> None:
        """S10, C1.5: address, login and forwarded facts of before STARTTLS are gone, and the count is the real client's again."""
        await self.serve()
        client = await self.client()
        await client.until(b"220 ")
        await client.hello()
        await client.say(f"XCLIENT ADDR={STRANGER} LOGIN=user HELO=x\r\n".encode(), GREETING)
        await client.hello()
        await client.say(b"XFORWARD NAME=x\r\n")
        [session] = self.receive._common.roster.here()
        self.assertEqual((session.address, session.account), (STRANGER, "user"))
        self.assertEqual(session.machine.forwarded, {"orig_name": "x"})
        await client.say(b"STARTTLS\r\n", b"220 2.0.0 Ready to start TLS\r\n")
        await client.secure()
        self.assertEqual((await client.say(b"MAIL FROM:<>\r\n"))[:3], b"503")
        self.assertEqual((session.address, session.account, session.helo), ("127.0.0.1", "", ""))
        self.assertEqual((session.machine.forwarded, session.machine.authenticated), ({}, False))
        self.assertIn(b"XCLIENT", await client.hello())

    async def test_in_tls(self) -> None:
        """Within TLS it is greeted anew in TLS, with what is offered there; STARTTLS is none of it."""
        await self.serve()
        client = await self.secured()
        await client.hello()
        await client.say(f"XCLIENT ADDR={STRANGER}\r\n".encode(), GREETING)
        offered = await client.hello()
        self.assertIn(b"REQUIRETLS", offered)
        self.assertNotIn(b"STARTTLS", offered)
        self.assertEqual((await client.say(b"STARTTLS\r\n"))[:3], b"502")
        await client.envelope()
        await client.say(BODY + b".\r\n")
        self.assertIn(f"([{STRANGER}])\r\n\t(TLSv1.3".encode(), self.accept.accepted[0].prefix)
