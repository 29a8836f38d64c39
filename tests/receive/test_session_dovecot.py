"""Sessions whose logins Dovecot judges: what it hears when they end too soon, and which connection to it outlives a change."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Factory, connectionDone
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from mta.config.settings import Auth, Listen
from mta.receive.auth import dovecot as dovecot_module
from mta.receive.service import ReceiveService
from mta.receive.session import Session
from mta.smtp.scram import SCRAM
from mta.tls.context import ServerTls
from tests.receive.auth.dovecot_case import HELLO
from tests.receive.auth.dovecot_case import Wire as DovecotWire
from tests.receive.client import Client
from tests.receive.door import SETTINGS, DoorCase, FakeAccept, FakeLog, FakeRouter, Wire

FIRST = b"AUTH SCRAM-SHA-256 " + b64encode(b"n,,n=user,r=abc") + b"\r\n"


class EndTests(DoorCase):
    """An exchange ends on our side: Dovecot hears CANCEL at once."""

    def setUp(self) -> None:
        super().setUp()
        self.to_dovecot = DovecotWire()
        self.patch(dovecot_module, "_connect", self.reach)
        self.begin(listen={"auth_clear": (SCRAM,)}, auth=Auth(dovecot="/run/dovecot/auth-client"))

    def tearDown(self) -> None:
        self.to_dovecot.lose()
        super().tearDown()

    def reach(self, endpoint: object, protocol: Any) -> Deferred[Any]:
        """Dovecot takes the connection."""
        self.to_dovecot.protocol = protocol
        protocol.makeConnection(self.to_dovecot)
        protocol.dataReceived(HELLO.replace(b"SPID", b"MECH\tCRAM-MD5\tdictionary\nSPID"))
        return succeed(protocol)

    def challenged(self) -> tuple[Session, Wire]:
        """A client that has a challenge to answer."""
        session, wire = self.hello()
        self.say(session, FIRST)
        self.to_dovecot.protocol.dataReceived(b"CONT\t1\tAAAA\n")
        self.assertEqual(wire.value(), b"334 AAAA\r\n")
        self.to_dovecot.clear()
        return session, wire

    def test_cancelled(self) -> None:
        """The client says "*", or what is no base64, or far too much."""
        for number, (line, code) in enumerate(((b"*", b"501"), (b"?", b"501"), (b"A" * 13_000, b"500")), 1):
            session, wire = self.hello()
            self.say(session, FIRST)
            self.to_dovecot.protocol.dataReceived(b"CONT\t%d\tAAAA\n" % number)
            self.to_dovecot.clear()
            self.assertEqual(self.say(session, line + b"\r\n")[0][:3].encode(), code)
            self.assertEqual(self.to_dovecot.value(), b"CANCEL\t%d\n" % number)
            wire.lose()

    def test_gone(self) -> None:
        """The client hangs up with a challenge in its hands."""
        _, wire = self.challenged()
        wire.lose()
        self.assertEqual(self.to_dovecot.value(), b"CANCEL\t1\n")

    def test_gone_amid_a_step(self) -> None:
        """The client hangs up while Dovecot is at it; what Dovecot says then is nobody's."""
        session, wire = self.challenged()
        self.say(session, b"AAAA\r\n")
        wire.lose()
        self.assertEqual(self.to_dovecot.value(), b"CONT\t1\tAAAA\nCANCEL\t1\n")
        self.to_dovecot.protocol.dataReceived(b"OK\t1\tuser=user\n")
        self.assertEqual(session.account, "")

    def test_too_slow(self) -> None:
        """The client does not answer in time: 421."""
        _, wire = self.challenged()
        wire.clear()
        self.clock.advance(SETTINGS.timeouts.command + 10)
        self.assertEqual((wire.value()[:4], self.to_dovecot.value()), (b"421 ", b"CANCEL\t1\n"))

    def test_server_first(self) -> None:
        """CRAM-MD5: Dovecot's own challenge, asked for without a word of the client's."""
        self.begin(listen={"auth_clear": ("CRAM-MD5",)}, auth=Auth(dovecot="/run/dovecot/auth-client"))
        session, wire = self.hello()
        self.assertEqual(self.say(session, b"AUTH CRAM-MD5\r\n"), [])
        self.assertIn(b"AUTH\t1\tCRAM-MD5\tservice=smtp\trip=", self.to_dovecot.value())
        self.assertNotIn(b"resp=", self.to_dovecot.value())
        self.to_dovecot.protocol.dataReceived(b"CONT\t1\tPDFAZG92ZWNvdD4=\n")
        self.assertEqual(wire.value(), b"334 PDFAZG92ZWNvdD4=\r\n")
        self.to_dovecot.clear()
        self.say(session, b"dGltIDEy\r\n")
        self.assertEqual(self.to_dovecot.value(), b"CONT\t1\tdGltIDEy\n")
        self.to_dovecot.protocol.dataReceived(b"OK\t1\tuser=tim\n")
        self.assertEqual((session.account, wire.value()[:4]), ("tim", b"235 "))

    def test_ended(self) -> None:
        """An exchange with an end has no CANCEL."""
        session, wire = self.challenged()
        self.say(session, b"AAAA\r\n")
        self.to_dovecot.clear()
        self.to_dovecot.protocol.dataReceived(b"OK\t1\tuser=user\n")
        self.assertEqual((session.account, wire.value()[:4]), ("user", b"235 "))
        wire.lose()
        self.assertEqual(self.to_dovecot.value(), b"")


class Door(LineOnlyReceiver):
    """A connection to a Dovecot that lets everybody in: PLAIN at once, SCRAM after a challenge."""

    delimiter = b"\n"
    factory: House

    def connectionMade(self) -> None:
        """Say what is offered."""
        self.factory.made += 1
        self.factory.here.add(self)
        self.transport.write(HELLO)

    def lineReceived(self, line: bytes) -> None:
        """A question."""
        word, id, *rest = line.split(b"\t")
        if (word == b"AUTH" and rest[0] == b"PLAIN") or word == b"CONT":
            self.transport.write(b"OK\t%b\tuser=%b\n" % (id, self.factory.name))
        elif word == b"AUTH":
            self.transport.write(b"CONT\t%b\tAAAA\n" % id)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It has ended."""
        self.factory.here.discard(self)
        waiting, self.factory.waiting = self.factory.waiting, []
        for deferred in waiting:
            deferred.callback(None)


class House(Factory):
    """A Dovecot, its user, and who is connected."""

    protocol = Door
    noisy = False

    def __init__(self, name: bytes) -> None:
        self.name, self.made = name, 0
        self.here: set[Door] = set()
        self.waiting: list[Deferred[None]] = []

    def left(self) -> Deferred[None]:
        """Fires when the next connection has ended."""
        self.waiting.append(Deferred())
        return self.waiting[-1]


class ChangeTests(TestCase):
    """`[auth] dovecot` names another socket from now on."""

    timeout = 20
    listen = Listen("tcp:0:interface=127.0.0.1", auth_clear=("PLAIN", SCRAM))

    async def setUp(self) -> None:
        self.houses, self.where = [House(b"old"), House(b"new")], []
        for house in self.houses:
            port = reactor.listenTCP(0, house, interface="127.0.0.1")
            self.addCleanup(port.stopListening)
            self.where.append(f"tcp:127.0.0.1:{port.getHost().port}")
        settings = attrs.evolve(SETTINGS, listen=(self.listen,), auth=Auth(dovecot=self.where[0]))
        self.log = FakeLog()
        self.receive = ReceiveService(settings, FakeAccept(), FakeRouter(), reactor=reactor, log=self.log)
        await self.receive.open()
        self.port = self.receive.ports[0].getHost().port

    async def change(self, auth: Auth, **listen: Any) -> None:
        """Other settings from now on."""
        settings = attrs.evolve(SETTINGS, listen=(attrs.evolve(self.listen, **listen),), auth=auth)
        await self.receive.reconfigure(settings, FakeRouter(), ServerTls())

    async def client(self) -> Client:
        """One that was greeted."""
        client = await Client.connect(self.port)
        await client.until(b"220 ")
        await client.hello()
        return client

    async def log_in(self, client: Client) -> str:
        """By PLAIN; as whom."""
        said = await client.say(b"AUTH PLAIN " + b64encode(b"\0user\0secret") + b"\r\n")
        self.assertEqual(said[:4], b"235 ")
        return str(self.log.named("auth")[-1]["account"])

    async def test_another_socket(self) -> None:
        """The old connection ends with its last exchange; who was there before is still judged by the old one; nothing is left."""
        old, new = self.houses
        amid, later, waiting = [await self.client() for _ in range(3)]
        self.assertEqual((await amid.say(FIRST))[:4], b"334 ")
        await self.change(Auth(dovecot=self.where[1]))
        self.assertEqual((len(old.here), new.made), (1, 0), "there is an exchange on it")
        left = old.left()
        self.assertEqual((await amid.say(b"AAAA\r\n"))[:4], b"235 ")
        await left
        self.assertEqual(old.here, set())
        left = old.left()
        self.assertEqual(await self.log_in(later), "old")
        await left
        self.assertEqual((len(old.here), old.made), (0, 2))
        self.assertEqual(await self.log_in(await self.client()), "new")
        self.assertEqual((len(new.here), new.made), (1, 1))
        await waiting.say(FIRST)
        stopped = [old.left(), new.left()]
        await self.receive.stopService()
        for deferred in stopped:
            await deferred
        self.assertEqual([house.here for house in self.houses], [set(), set()])

    async def test_none_any_more(self) -> None:
        """Without AUTH the connection goes; settings that keep the socket keep it."""
        old, _ = self.houses
        await self.log_in(await self.client())
        await self.change(Auth(dovecot=self.where[0]))
        await self.log_in(await self.client())
        self.assertEqual((len(old.here), old.made), (1, 1))
        left = old.left()
        await self.change(Auth(), auth_clear=())
        await left
        await self.receive.stopService()
        self.assertEqual((old.here, old.made), (set(), 1))
