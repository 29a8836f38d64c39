"""A receiving service with a certificate on the loopback, and the check that nothing of its clients stays behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
from twisted.cred.portal import Portal
from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from mta.config.settings import Listen, Settings, Tls
from mta.receive.service import ReceiveService
from mta.testing.pki import Authority
from mta.tls.context import ServerTls
from tests.receive.client import Client, turn
from tests.receive.door import SETTINGS, FakeAccept, FakeLog, FakePolicy, FakeRouter

AUTHORITY = Authority.create()
ENVELOPE = b"MAIL FROM:<s@client.example>\r\nRCPT TO:<user@example.org>\r\nDATA\r\n"


class TlsCase(TestCase):
    """A service with a certificate: port 0 of `ports` speaks STARTTLS, port 1 TLS from the start."""

    timeout = 20
    policy: FakePolicy | None = None
    portal: Portal | None = None

    async def serve(self, tls: dict[str, Any] | None = None, listen: dict[str, Any] | None = None, **changes: Any) -> None:
        """Begin.  tls: keys of [tls], listen: of both [[listen]] entries."""
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        certificate, key = AUTHORITY.issue("mx.example.org").write(self.directory)
        ports = tuple(Listen("tcp:0:interface=127.0.0.1", kind, **(listen or {})) for kind in ("starttls", "implicit"))
        settings: Settings = attrs.evolve(
            SETTINGS, listen=ports, tls=Tls(certificate=certificate, key=key, **(tls or {})), **changes
        )
        self.tls = ServerTls.load(settings.tls)
        self.accept, self.log = FakeAccept(), FakeLog()
        self.receive = ReceiveService(
            settings,
            self.accept,
            FakeRouter(),
            reactor=reactor,
            log=self.log,
            tls=self.tls,
            policy=self.policy,
            portal=self.portal,
        )
        self.clients: list[Client] = []
        await self.receive.open()
        self.ports = [port.getHost().port for port in self.receive.ports]

    async def client(self, port: int = 0) -> Client:
        """A connection."""
        self.clients.append(await Client.connect(self.ports[port]))
        return self.clients[-1]

    async def secured(self) -> Client:
        """A connection that has done STARTTLS."""
        client = await self.client()
        await client.starttls()
        return client

    async def tearDown(self) -> None:
        """Every client goes, every session has gone, no slot is kept."""
        for client in self.clients:
            if not client.gone.called:
                client.transport.abortConnection()
                await client.gone
        slots = self.receive._common.slots
        await self.receive.stopService()
        self.assertEqual((slots.free, slots.waiting), (self.receive._common.settings.tls.handshakes_at_once, 0))
        self.assertEqual(self.receive._common.connections.total, 0)

    async def why(self) -> str:
        """How the first session that ended did."""
        while not self.log.named("disconnect"):
            await turn()
        return str(self.log.named("disconnect")[0]["why"])
