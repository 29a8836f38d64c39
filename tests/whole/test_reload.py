"""A whole server that gets another configuration while it serves (H38, S35): the new holds for new connections, or nothing does."""

from __future__ import annotations

from typing import Any

from OpenSSL import crypto
from twisted.internet.error import ConnectionRefusedError

from mta.config.loader import parse
from mta.status import MailError
from tests.whole.world import Caller, Running, World, relay


class ReloadTests(World):
    """`Mta.reload`."""

    async def reload(self, server: Running, more: str = "", *, keys: str = "", port: int = 0, listen: str = "") -> Any:
        """The configuration of `World.serve` with other additions."""
        text = (
            f'hostname = "b.test"\ndata_dir = "data"\nlocal_domains = ["b.test"]\n{keys}\n'
            f'[[listen]]\nendpoint = "tcp:{port}:interface=127.0.0.1"\n{listen}'
            f'[[route]]\nmatch = "local"\ndeliver = "maildir:{server.folder}/mail"\n{more}'
        )
        return await server.mta.reload(parse(text, server.folder / "mta.toml"))

    async def shown(self, server: Running) -> tuple[Caller, int]:
        """A client in TLS, and the serial number of the certificate it was shown."""
        caller = await self.connect(server.port)
        await caller.starttls()
        certificate = caller.transport.getPeerCertificate()
        assert isinstance(certificate, crypto.X509)
        return caller, certificate.get_serial_number()

    async def test_h38_routes_and_limits(self) -> None:
        """H38: a route and limits of the new configuration hold for the next connection; who is there keeps the old ones."""
        server = await self.serve()
        hop, port = await self.hop()
        old = await self.caller(server)
        done = await self.reload(server, relay(port, "c.test"), keys="[limits]\nmessage_size = 5000\n")
        self.assertEqual((2, ()), (done.generation, done.restart))
        new = await self.caller(server)
        self.assertIn(b"250-SIZE 5000", await new.ehlo())
        self.assertIn(b"250-SIZE 52428800", await old.ehlo())
        await new.deliver("you@c.test")
        await self.happened(server, "delivered")
        self.assertEqual(1, len(hop.messages))
        self.assertEqual([{"status": "done", "generation": 2, "restart": None}], server.events.of("reload"))

    async def test_h38_kept_connections(self) -> None:
        """H38: a connection that idles hears QUIT at the reload, and the next mail goes by a new one."""
        hop, port = await self.hop()
        server = await self.serve(more=relay(port, "c.test"))
        caller = await self.caller(server)
        await caller.deliver("one@c.test")
        await self.happened(server, "delivered")
        await self.reload(server, relay(port, "c.test"))
        await self.until(lambda: hop.quits == 1, "QUIT")
        await caller.deliver("two@c.test")
        (_, second) = await self.happened(server, "delivered", 2)
        self.assertEqual((2, "none", 1), (hop.connections, second["tls"], second["conn_use"]))

    async def test_h38_ports(self) -> None:
        """H38: a port that stays is never closed, a new one is opened, one that has gone is closed; sessions live on."""
        server = await self.serve()
        caller = await self.caller(server)
        second = self.free_port()
        await self.reload(server, listen=f'[[listen]]\nendpoint = "tcp:{second}:interface=127.0.0.1"\n')
        numbers = [port.getHost().port for port in server.mta.receive.ports]
        self.assertEqual([server.port, second], numbers)
        other = await self.connect(second)
        self.assertEqual(b"220 b.test ESMTP", await other.line())
        await self.reload(server)
        with self.assertRaises(ConnectionRefusedError):
            await self.connect(second)
        self.assertEqual(b"250 2.0.0 Ok", await other.ask(b"NOOP"))
        self.assertEqual(b"250 2.0.0 Ok", await caller.ask(b"NOOP"))

    async def test_h38_a_port_in_use(self) -> None:
        """H38: a port that cannot be had keeps everything as it was: ports, routes, certificates, connections."""
        hop, port = await self.hop()
        server = await self.serve(more=relay(port, "c.test"))
        caller = await self.caller(server)
        await caller.deliver("one@c.test")
        await self.happened(server, "delivered")
        taken = f'[[listen]]\nendpoint = "tcp:{port}:interface=127.0.0.1"\n'
        with self.assertRaises(MailError) as caught:
            await self.reload(server, keys=self.certificate(), listen=taken)
        self.assertIn("Address already in use", caught.exception.reason)
        await caller.deliver("two@c.test")
        (_, second) = await self.happened(server, "delivered", 2)
        self.assertEqual((1, 0, 2), (hop.connections, hop.quits, second["conn_use"]))
        self.assertNotIn(b"250-STARTTLS", await (await self.caller(server)).ehlo())
        self.assertEqual(2, (await self.reload(server)).generation)

    async def test_s35_certificate(self) -> None:
        """S35: a session goes on under the old certificate, a new connection is shown the new one."""
        server = await self.serve(keys=self.certificate())
        old, first = await self.shown(server)
        await self.reload(server, keys=self.certificate())
        self.assertEqual(b"250-b.test", (await old.ehlo())[0])
        _, second = await self.shown(server)
        self.assertNotEqual(first, second)

    async def test_s33_s36_no_mistake_withdraws_the_offer(self) -> None:
        """S33 S36: though a start would forgive a broken certificate, a reload with one is refused while a good one serves."""
        keys = self.certificate() + 'error = "offer-nothing"\n'
        server = await self.serve(keys=keys)
        _, first = await self.shown(server)
        (self.folder / "cert.pem").write_text("half")
        with self.assertRaises(MailError):
            await self.reload(server, keys=keys)
        _, second = await self.shown(server)
        self.assertEqual(first, second)

    async def test_keys_of_the_start(self) -> None:
        """What needs a restart keeps its value everywhere, and is told."""
        server = await self.serve()
        text = 'hostname = "other.test"\ndata_dir = "elsewhere"\n[[listen]]\nendpoint = "tcp:0:interface=127.0.0.1"\n'
        done = await server.mta.reload(parse(text, server.folder / "mta.toml"))
        self.assertEqual(("hostname", "data_dir"), done.restart)
        self.assertEqual([{"status": "done", "generation": 2, "restart": "hostname,data_dir"}], server.events.of("reload"))
        await self.caller(server)  # greets by the old name
        self.assertFalse((server.folder / "elsewhere").exists())

    async def test_stopped_server(self) -> None:
        """A server that is not open, or stops meanwhile, refuses."""
        server = await self.serve()
        stopping = server.mta.stopService()
        with self.assertRaises(MailError):
            await self.reload(server)
        await stopping
        with self.assertRaises(MailError):
            await self.reload(server)

    async def test_many_at_once(self) -> None:
        """One after the other: each has its own number, and the last one holds."""
        server = await self.serve()
        reloads = [self.reload(server, keys=f"[limits]\nmessage_size = {number}000\n") for number in (5, 6, 7)]
        self.assertEqual([2, 3, 4], [(await each).generation for each in reloads])
        self.assertIn(b"250-SIZE 7000", await (await self.caller(server)).ehlo())
