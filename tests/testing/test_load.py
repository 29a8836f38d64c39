"""The generator against our sink and a scripted server, on the loopback: every message has one answer, and is counted once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.interfaces import IReactorTCP
from twisted.internet.protocol import ServerFactory
from twisted.trial.unittest import TestCase

from mta.testing.load import Load, LoadFailed, Mail
from mta.testing.peers import Act, ScriptedServer
from mta.testing.pki import Authority
from mta.testing.sink import Faults, Sink, Tls
from tests.ports import free_port


class MailTests(TestCase):
    """What is sent."""

    def test_numbers_of_recipients_and_destinations(self) -> None:
        """No recipient twice; destinations go round."""
        mail = Mail(4, recipient="user{n}@d{d}.test", recipients=2, destinations=3)
        said = b"".join(mail.envelope(1) + mail.envelope(3))
        for address in (b"<user2@d1.test>", b"<user3@d1.test>", b"<user6@d0.test>", b"<user7@d0.test>"):
            self.assertEqual(said.count(address), 1)

    def test_moments_are_the_same_in_every_run_and_keep_the_rate(self) -> None:
        """In order from 0 on; two thousand at a hundred in a second take about twenty."""
        moments = Mail(2000, rate=100.0).due()
        self.assertEqual(moments, Mail(2000, rate=100.0).due())
        self.assertEqual(moments, sorted(moments))
        self.assertEqual(moments[0], 0.0)
        self.assertApproximates(moments[-1], 20.0, 2)


class LoadTests(TestCase):
    """Real connections to 127.0.0.1."""

    timeout = 60

    def serve(self, factory: ServerFactory) -> int:
        """A port of it, closed at the end."""
        port: Any = IReactorTCP(reactor).listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return int(port.getHost().port)

    async def load(self, port: int, mail: Mail) -> dict[str, Any]:
        """Its result."""
        return await Load(reactor, mail, port).run()

    async def test_all_is_accepted(self) -> None:
        """Over as many connections as there are sessions, sizes as they were wanted, each message timed at both ends."""
        sink = Sink()
        found = await self.load(self.serve(sink), Mail(50, sessions=5, size=4096, recipients=3))
        self.assertEqual([found[name] for name in ("accepted", "refused", "broken")], [50, 0, 0])
        self.assertEqual((sink.connections, sink.messages, sink.recipients), (5, 50, 150))
        self.assertApproximates(sink.octets / 50, 4096, 200)
        self.assertEqual(len(sink.delays), 50)
        self.assertGreater(found["delays"]["p50"], 0)
        self.assertGreaterEqual(found["delays"]["max"], found["delays"]["p50"])

    async def test_what_is_refused_is_told(self) -> None:
        """A message without recipients is refused, and the session goes on."""
        sink = Sink(faults=Faults(soft=5, hard=5))
        found = await self.load(self.serve(sink), Mail(100, sessions=4))
        self.assertEqual([found[name] for name in ("accepted", "refused", "broken")], [90, 10, 0])
        self.assertEqual(sink.messages, 90)

    async def test_a_connection_for_each(self) -> None:
        """In TLS: as many handshakes."""
        directory = Path(self.mktemp())
        directory.mkdir()
        sink = Sink(Tls(*Authority.create().issue("localhost").write(directory)))
        found = await self.load(self.serve(sink), Mail(12, sessions=3, keeps=False, tls=True))
        self.assertEqual((found["accepted"], sink.messages, sink.connections, sink.handshakes), (12, 12, 12, 12))

    async def test_without_pipelining(self) -> None:
        """One command at a time, all of them."""
        server = ScriptedServer(extensions=())
        found = await self.load(self.serve(server), Mail(6, sessions=2, size=1000))
        self.assertEqual((found["accepted"], len(server.messages)), (6, 6))
        self.assertEqual(server.verbs(1)[:4], ["EHLO", "MAIL", "RCPT", "DATA"])

    async def test_a_given_rate(self) -> None:
        """It takes as long as the rate says, not as long as the server needs; no more connections than are allowed."""
        sink = Sink()
        mail = Mail(60, sessions=4, rate=200.0)
        found = await self.load(self.serve(sink), mail)
        self.assertEqual((found["accepted"], sink.messages), (60, 60))
        self.assertGreaterEqual(found["seconds"], mail.due()[-1])
        self.assertLessEqual(sink.connections, 4)

    async def test_who_waited_is_charged(self) -> None:
        """One session, everything due at once: the delay of the last holds what all before it took."""
        found = await self.load(self.serve(Sink()), Mail(40, sessions=1, rate=1e6))
        self.assertGreater(found["delays"]["max"], found["seconds"] * 0.9)

    async def test_a_server_that_hangs_up(self) -> None:
        """A hundred times in the middle of a message is the end; it does not go on for ever."""
        server = ScriptedServer({"body": (Act.ABORT,)})
        with self.assertRaises(LoadFailed):
            await self.load(self.serve(server), Mail(500, sessions=5))

    async def test_nobody_there(self) -> None:
        """LoadFailed, with the reason."""
        with self.assertRaisesRegex(LoadFailed, "refused"):
            await self.load(free_port(), Mail(5))
