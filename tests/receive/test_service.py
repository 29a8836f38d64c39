"""The service: ports, their errors, and a stop that lets running transactions end.  On the loopback and on fakes."""

from __future__ import annotations

import socket
import tempfile
from typing import Any

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mta.config.settings import Listen, Settings, Tls
from mta.receive.ending import LAST_WORDS
from mta.receive.service import GRACE, ReceiveService
from mta.status import MailError
from tests.receive.client import Client, turn
from tests.receive.door import SETTINGS, FakeAccept, FakeLog, FakeRouter, Wire

LOOPBACK = "tcp:0:interface=127.0.0.1"


def service(*listen: Listen, clock: Any = reactor, log: FakeLog | None = None, tls: Tls = Tls(), **more: Any) -> ReceiveService:
    """A receiving service with fakes behind it."""
    settings: Settings = attrs.evolve(SETTINGS, listen=listen, tls=tls)
    accept = more.pop("accept", None) or FakeAccept()
    return ReceiveService(settings, accept, FakeRouter(), reactor=clock, log=log or FakeLog(), **more)


class PortTests(TestCase):
    """Real ports on the loopback."""

    async def test_listening(self) -> None:
        """The port that was got is logged (without a certificate: tls=none) and told to the router; a client is served; the stop closes all."""
        log = FakeLog()
        own: set[tuple[str, int]] = set()
        receive = service(Listen(LOOPBACK), log=log, own_addresses=own)
        self.addCleanup(receive.stopService)
        await receive.open()
        await receive.open()
        port = receive.ports[0].getHost().port
        [listening] = log.named("listening")
        self.assertEqual((listening["address"], listening["port"], listening["tls"]), ("127.0.0.1", port, "none"))
        self.assertEqual(own, {("127.0.0.1", port)})
        client = await Client.connect(port)
        await client.until(b"220 mx.example.org ESMTP\r\n")
        self.assertEqual(receive.sessions, 1)
        await receive.stopService()
        self.assertEqual((await client.gone)[:9], b"421 4.3.2")
        self.assertEqual((receive.sessions, receive.ports), (0, []))

    async def test_port_of_others(self) -> None:
        """One that is given is served like any other; whoever gives it says where it is."""
        log, asked = FakeLog(), list[str]()

        def listen(endpoint: str, factory: Factory) -> Any:
            asked.append(endpoint)
            return succeed(reactor.listenTCP(0, factory, interface="127.0.0.1"))  # type: ignore[attr-defined]

        receive = service(Listen("tcp:25"), log=log, listen=listen)
        self.addCleanup(receive.stopService)
        await receive.open()
        client = await Client.connect(receive.ports[0].getHost().port)
        await client.until(b"220 ")
        self.assertEqual((["tcp:25"], []), (asked, log.named("listening")))

    async def test_port_in_use(self) -> None:
        """A port that another has ends the start: the error names endpoint and reason, and nothing else stays bound."""
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            taken = f"tcp:{other.getsockname()[1]}:interface=127.0.0.1"
            for start in ("open", "startService", "privilegedStartService"):
                receive = service(Listen(LOOPBACK), Listen(taken))
                with self.assertRaises(MailError) as caught:
                    await getattr(receive, start)()
                self.assertIn(taken, caught.exception.reason)
                self.assertIn("in use", caught.exception.reason)
                self.assertEqual(receive.ports, [])
                await receive.stopService()

    async def test_again_after_a_failure(self) -> None:
        """When the port is free again, so is the way."""
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            port = other.getsockname()[1]
            other.listen()
            receive = service(Listen(f"tcp:{port}:interface=127.0.0.1"))
            self.addCleanup(receive.stopService)
            with self.assertRaises(MailError):
                await receive.open()
        await receive.open()
        self.assertEqual(receive.ports[0].getHost().port, port)

    async def test_unix(self) -> None:
        """A UNIX socket works; its clients are not trusted, whoever they are."""
        directory = tempfile.TemporaryDirectory()  # its name is short enough for a socket's
        self.addCleanup(directory.cleanup)
        path = f"{directory.name}/smtp"
        receive = service(Listen(f"unix:{path}"))
        self.addCleanup(receive.stopService)
        await receive.open()
        client = await connectProtocol(UNIXClientEndpoint(reactor, path), Client())
        await client.until(b"220 ")
        client.transport.write(b"EHLO a\r\n")
        await client.until(b"SMTPUTF8\r\n")
        client.transport.write(b"MAIL FROM:<>\r\nRCPT TO:<x@example.net>\r\n")
        await client.until(b"550 5.7.1")
        client.transport.write(b"QUIT\r\n")
        await client.gone

    async def test_bound_before_open(self) -> None:
        """Between privilegedStartService and open a client waits for its greeting, and then gets it."""
        receive = service(Listen(LOOPBACK))
        self.addCleanup(receive.stopService)
        receive.privilegedStartService()
        port = receive.ports[0].getHost().port
        client = await Client.connect(port)
        greeted = client.until(b"220 ")
        while not receive.sessions:
            await turn()
        self.assertFalse(greeted.called)
        receive.startService()
        await greeted


class StartTests(SynchronousTestCase):
    """What can be seen without ports."""

    def test_bad_endpoint(self) -> None:
        """An endpoint string that means nothing is a clear error."""
        receive = service(Listen("nonsense:25"), clock=MemoryReactorClock())
        error = self.failureResultOf(receive.open(), MailError).value
        self.assertIn("cannot listen on nonsense:25", error.reason)

    def test_implicit_without_certificate(self) -> None:
        """Implicit TLS without a certificate ends the start."""
        error = self.assertRaises(MailError, service, Listen("tcp:465", tls="implicit"), clock=MemoryReactorClock())
        self.assertIn("needs a certificate", error.reason)

    def test_backlog(self) -> None:
        """A burst of clients fits into the backlog, unless the endpoint says otherwise."""
        clock = MemoryReactorClock()
        service(Listen("tcp:25"), Listen("tcp:26:backlog=7"), clock=clock).open()
        self.assertEqual([(port, backlog) for port, _, backlog, _ in clock.tcpServers], [(25, 1024), (26, 7)])


class StopTests(SynchronousTestCase):
    """The stop, on a clock."""

    def setUp(self) -> None:
        self.clock = MemoryReactorClock()
        self.accept = FakeAccept()
        self.receive = service(Listen("tcp:25"), clock=self.clock, accept=self.accept)
        self.successResultOf(self.receive.open())
        self.door = self.clock.tcpServers[0][1]

    def connect(self) -> Wire:
        """A client that has said EHLO."""
        wire = Wire()
        session = self.door.buildProtocol(None)
        wire.protocol = session
        session.makeConnection(wire)
        session.dataReceived(b"EHLO client.example\r\n")
        wire.clear()
        return wire

    def stop(self) -> Deferred[None]:
        """Begin to stop; the port of the memory reactor closes at once."""
        return self.receive.stopService()

    def test_nobody(self) -> None:
        """Without clients the stop is over at once, and nothing is left on the clock."""
        self.successResultOf(self.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_idle_and_running(self) -> None:
        """The idle client hears 421 at once, the running transaction gets its answer; then the stop is over."""
        idle, running = self.connect(), self.connect()
        running.protocol.dataReceived(b"MAIL FROM:<>\r\nRCPT TO:<user@example.org>\r\nDATA\r\n")
        stopped = self.stop()
        self.assertEqual(idle.value()[:9], b"421 4.3.2")
        idle.lose()
        self.assertNoResult(stopped)
        running.clear()
        running.protocol.dataReceived(b"body\r\n.\r\n")
        self.assertEqual([line[:9] for line in running.value().splitlines()], [b"250 2.0.0", b"421 4.3.2"])
        running.lose()
        self.successResultOf(stopped)
        self.assertEqual(len(self.accept.accepted), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_bounded(self) -> None:
        """A transaction that does not end is cut off after half a minute, though its client stays."""
        wire = self.connect()
        wire.protocol.dataReceived(b"MAIL FROM:<>\r\nRCPT TO:<user@example.org>\r\nDATA\r\n")
        stopped = self.stop()
        self.clock.pump([1.0] * int(GRACE - 1))
        self.assertNotIn(b"421", wire.value())
        self.clock.pump([1.0] * 2)
        self.assertIn(b"421 4.3.2", wire.value())
        self.assertNoResult(stopped)
        self.clock.pump([1.0] * int(LAST_WORDS + 2))
        self.successResultOf(stopped)
        self.assertTrue(wire.lost)
        self.assertTrue(self.accept.sinks[0].aborted)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_waiting_for_the_commit(self) -> None:
        """A commit under way is waited for: its client gets the 250."""
        self.accept.slow = True
        wire = self.connect()
        wire.protocol.dataReceived(b"MAIL FROM:<>\r\nRCPT TO:<user@example.org>\r\nDATA\r\n")
        wire.protocol.dataReceived(b"body\r\n.\r\n")
        wire.clear()
        stopped = self.stop()
        self.clock.advance(5)
        self.assertEqual(wire.value(), b"")
        self.accept.commits[0].callback(1000)
        self.assertEqual([line[:9] for line in wire.value().splitlines()], [b"250 2.0.0", b"421 4.3.2"])
        wire.lose()
        self.successResultOf(stopped)
