"""The metrics of a whole server: that they are complete, and true."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import attrs
from prometheus_client.parser import text_string_to_metric_families as families
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.error import ConnectionRefusedError

from mta.config.loader import parse
from mta.control.metrics import METRICS
from mta.control.reloads import Reloads
from mta.control.vitals import Vitals
from mta.status import MailError
from tests.ports import free_port
from tests.whole.world import Caller, Running, World, relay

OF_THE_SUPERVISOR = {"mta_workers", "mta_worker_up", "mta_worker_restarts_total"}
OF_OUR_LOG = {"mta_log_lost_lines_total", "mta_log_errors_total"}  # World brings its own
NOW_AND_THEN = {"mta_logins_total", "mta_tls_certificate_expiry_time_seconds"}  # nobody has tried; there is no certificate


@attrs.frozen
class _Part:
    """Tells that, or raises it."""

    told: Any

    def measures(self) -> Any:
        if isinstance(self.told, Exception):
            raise self.told
        return self.told


class MetricsTests(World):
    """`Mta.measures`, and the port."""

    async def told(self, server: Running) -> dict[tuple[str, ...], Any]:
        return {(name, *labels): number for name, labels, number in await server.mta.measures()}

    async def test_complete(self) -> None:
        """Every metric of the table is told by a server and the process round it, with the labels of the table; no other is."""
        server = await self.serve()
        server.mta.measured += [Reloads(lambda: None), Vitals()]  # type: ignore[arg-type, return-value]
        found = await server.mta.measures()
        wanted = set(METRICS) - OF_THE_SUPERVISOR - OF_OUR_LOG - NOW_AND_THEN
        self.assertEqual(wanted, {name for name, _, _ in found})
        for name, labels, number in found:
            self.assertEqual(len(METRICS[name].labels), len(labels), name)
            size = len(number) if isinstance(number, tuple) else 0
            self.assertEqual(len(METRICS[name].bounds) + 2 if METRICS[name].bounds else 0, size, name)
        self.assertEqual(len(found), len({(name, labels) for name, labels, _ in found}))

    async def test_a_part_that_cannot_tell(self) -> None:
        """Whether it raises, is late to fail, or says what is no metric: it is logged, and the others are told."""
        server = await self.serve()
        before = {name for name, _, _ in await server.mta.measures()}
        for told in (ValueError(), fail(ValueError()), 7, [7], [("of_mine", (), 1)], [("mta_dns_cached", ("x",), 1)]):
            server.mta.measured.insert(0, _Part(told))
        self.assertEqual(before, {name for name, _, _ in await server.mta.measures()})
        self.assertEqual(6, len(self.flushLoggedErrors(ValueError)))
        server.mta.measured.insert(0, _Part(Deferred()))
        asked = Deferred.fromCoroutine(server.mta.measures())
        asked.cancel()  # whoever has asked is gone: that is nobody's fault
        self.failureResultOf(asked, CancelledError)

    async def test_true(self) -> None:
        """Mail in and out, refusals, a login, TLS, a connection that is used again: each is counted where it belongs."""
        hop, port = await self.hop()
        certificate = self.certificate("b.test")
        server = await self.serve(more=relay(port, "c.test"), keys=certificate)
        caller = await self.caller(server)
        await caller.deliver("you@b.test")
        await caller.deliver("one@c.test")
        await self.happened(server, "delivered", 2)
        await caller.deliver("two@c.test")
        await self.happened(server, "delivered", 3)
        await caller.envelope("x@b.test", sender="x@")
        await caller.ask(b"XYZZY")
        tls = await self.connect(server.port)
        await tls.starttls()
        await tls.ehlo()
        told = await self.told(server)
        endpoint = "tcp:0:interface=127.0.0.1"
        wanted = {
            ("mta_connections_total", endpoint): 2,
            ("mta_connections_open", endpoint): 2,
            ("mta_accepted_messages_total",): 3,
            ("mta_accepted_recipients_total",): 3,
            ("mta_deliveries_total", "maildir", "delivered"): 1,
            ("mta_deliveries_total", "smtp", "delivered"): 2,
            ("mta_rejected_total", "mail", "5yz"): 1,
            ("mta_rejected_total", "other", "5yz"): 1,
            ("mta_relay_connections_opened_total",): 1,
            ("mta_relay_connections_reused_total",): 1,
            ("mta_relay_connections_open", "idle"): 1,
            ("mta_relay_connections_open", "busy"): 0,
            ("mta_relay_handover_total", "keep"): 2,
            ("mta_tls_handshakes_total", "in", "full"): 1,
            ("mta_tls_handshakes_total", "in", "failed"): 0,
            ("mta_queue_active",): 0,
            ("mta_queue_running",): 0,
            ("mta_generation",): 1,
        }
        self.assertEqual(wanted, {key: told[key] for key in wanted})
        self.assertEqual(3, sum(told["mta_delivery_delay_seconds",][:-1]))
        self.assertEqual(2, len(hop.messages))
        self.assertGreater(told["mta_tls_certificate_expiry_time_seconds",], told["mta_start_time_seconds",])

    async def test_handshakes(self) -> None:
        """Full, resumed, failed and not finished yet, on both sides; a fault of a next hop is told by its class."""
        keys = self.certificate("b.test", "localhost")
        issued = self.authority.issue("localhost")
        hop, port = await self.hop({"MAIL": ["451 4.3.0 later"]}, certificate=issued)
        server = await self.serve(more=relay(port, "c.test"), keys=f'{keys}\n[handover]\npreset = "never"\n')
        for _ in range(2):
            caller = await self.caller(server)
            await caller.deliver("you@c.test")
        await self.until(lambda: hop.quits == 2, "two connections")
        broken = await self.caller(server)
        await broken.ask(b"STARTTLS")
        self.assertEqual(0, (await self.told(server))["mta_tls_handshakes_total", "in", "failed"])
        broken.transport.write(b"EHLO this is no TLS\r\n")
        await broken.end()
        told = await self.told(server)
        self.assertEqual(1, told["mta_tls_handshakes_total", "in", "failed"])
        out = {result: told["mta_tls_handshakes_total", "out", result] for result in ("full", "resumed", "failed")}
        self.assertEqual((2, 0), (out["full"] + out["resumed"], out["failed"]))
        self.assertEqual(2, told["mta_relay_connections_opened_total",])
        self.assertEqual(1, told["mta_deliveries_total", "smtp", "deferred"])

    async def test_logins(self) -> None:
        """By mechanism and result; a stranger's word is no label."""
        (self.folder / "b.test").mkdir()
        passwords = self.folder / "b.test/passwords"
        passwords.write_text("ann:secret\n")
        passwords.chmod(0o600)
        keys = '[auth]\npasswords = "passwords"\n'
        listen = '[[listen]]\nendpoint = "tcp:0:interface=127.0.0.1"\nname = "clear"\nauth_clear = ["PLAIN"]\n'
        server = await self.serve(keys=keys + listen)
        caller = await self.caller(server)
        for user, secret in (("ann", "wrong"), ("nobody", "secret"), ("ann", "secret")):
            await caller.ask(b"AUTH PLAIN " + b64encode(f"\0{user}\0{secret}".encode()))
        told = await self.told(server)
        logins = {key[1:]: number for key, number in told.items() if key[0] == "mta_logins_total"}
        self.assertEqual({("PLAIN", "refused"): 2, ("PLAIN", "ok"): 1}, logins)
        self.assertEqual(1, told["mta_connections_open", "clear"])

    async def test_two_in_one_process(self) -> None:
        """They share nothing: what one counts the other does not know."""
        one, other = await self.serve("b.test"), await self.serve("c.test")
        await (await self.caller(one)).deliver("you@b.test")
        await self.happened(one, "delivered")
        counts = [(await self.told(server))["mta_accepted_messages_total",] for server in (one, other)]
        self.assertEqual([1, 0], counts)

    async def scrape(self, port: int) -> dict[str, float]:
        client = await Caller.connect(port)
        client.transport.write(b"GET /metrics HTTP/1.0\r\n\r\n")
        text = (await client.gone).decode().partition("\r\n\r\n")[2]
        return {sample.name: sample.value for family in families(text) for sample in family.samples}

    async def test_port(self) -> None:
        """It answers with the page, is moved by a reload and gone after the stop; counts go on over the reload."""
        port, other = free_port(), free_port()
        server = await self.serve(more=metrics(port))
        await (await self.caller(server)).deliver("you@b.test")
        await self.happened(server, "delivered")
        self.assertEqual(1.0, (await self.scrape(port))["mta_accepted_messages_total"])
        self.assertEqual([port], [each["port"] for each in server.events.of("listening") if each["service"] == "metrics"])
        await self.reload(server, metrics(other))
        page = await self.scrape(other)
        self.assertEqual((1.0, 2.0), (page["mta_accepted_messages_total"], page["mta_generation"]))
        await self.stop(server.mta)  # type: ignore[misc]
        for closed in (port, other):
            with self.assertRaises(ConnectionRefusedError):
                await self.scrape(closed)

    async def reload(self, server: Running, more: str, endpoint: str = "tcp:0:interface=127.0.0.1") -> None:
        text = f'hostname = "b.test"\ndata_dir = "data"\nlocal_domains = ["b.test"]\n[[listen]]\nendpoint = "{endpoint}"\n'
        route = f'[[route]]\nmatch = "local"\ndeliver = "maildir:{server.folder}/mail"\n'
        await server.mta.reload(parse(text + route + more, server.folder / "mta.toml"))

    async def test_reload_that_fails(self) -> None:
        """The metrics' port is taken, or a port of clients is: all stays as it was, and no port is left over."""
        port, other = free_port(), free_port()
        server = await self.serve(more=metrics(port))
        with self.assertRaises(MailError):
            await self.reload(server, metrics(server.port))
        with self.assertRaises(MailError):
            await self.reload(server, metrics(other), f"tcp:{port}:interface=127.0.0.1")
        self.assertEqual(1.0, (await self.scrape(port))["mta_generation"])
        with self.assertRaises(ConnectionRefusedError):
            await self.scrape(other)

    async def test_start_that_fails(self) -> None:
        """A port that is taken ends the start, and what was begun is undone."""
        taken = await self.serve("b.test")
        with self.assertRaises(MailError) as caught:
            await self.serve("c.test", more=metrics(taken.port))
        self.assertIn("Address already in use", caught.exception.reason)


def metrics(port: int) -> str:
    return f'\n[metrics]\nlisten = "tcp:{port}:interface=127.0.0.1"\n'
