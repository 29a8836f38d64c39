"""What the tests of receiving have in common: a queue that only remembers, a router, a log, and a session on strings."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs
from twisted.cred.portal import Portal
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mta.config.settings import Access, Listen, Settings
from mta.envelope import BodyRef, NewMessage, Refusal, Route
from mta.interfaces import IAccept, IBodySink, IEventLog, IPolicy, IRouter
from mta.receive.common import Common
from mta.receive.court import Outside
from mta.receive.listener import Listener
from mta.receive.session import Session
from mta.status import MailError, Reply, transient
from mta.tls.context import ServerTls

TRUSTED = "192.0.2.7"
STRANGER = "203.0.113.9"
BODY = b"Subject: x\r\n\r\nbody\r\n"
FULL = transient("4.3.1", "Insufficient system storage", code=452, reason="disk full")
SETTINGS = Settings(
    hostname="mx.example.org",
    data_dir=Path("/nowhere"),
    local_domains=("example.org",),
    access=Access(relay_from=(IPv4Network("192.0.2.0/24"),), relay_domains=("friend.example",)),
)


@implementer(IBodySink)
class FakeSink:
    """Keeps what is written; may be told to make the writer wait, or to fail."""

    def __init__(self, number: int) -> None:
        self.id = number
        self.name = f"Q{number}"
        self.size = 0
        self.pieces: list[bytes] = []
        self.wait: Deferred[None] | None = None  # what the next write answers
        self.full: MailError | None = None
        self.finishing: Deferred[BodyRef] | None = None
        self.finished = self.aborted = False

    def write(self, data: bytes) -> Deferred[None] | None:
        """See IBodySink."""
        if self.full is not None:
            raise self.full
        self.size += len(data)
        self.pieces.append(data)
        wait, self.wait = self.wait, None
        return wait

    def finish(self) -> Deferred[BodyRef]:
        """See IBodySink."""
        self.finished = True
        return self.finishing or succeed(self.body())

    def body(self) -> BodyRef:
        """All of it."""
        return BodyRef(self.size, b"".join(self.pieces))

    def abort(self) -> None:
        """See IBodySink."""
        self.aborted = True


@implementer(IAccept)
class FakeAccept:
    """A queue that commits at once, or when told: `commits` holds the Deferreds of those that wait."""

    def __init__(self) -> None:
        self.pressure = 0.0
        self.sinks: list[FakeSink] = []
        self.accepted: list[NewMessage] = []
        self.commits: list[Deferred[int]] = []
        self.slow = False
        self.refusal: MailError | None = None
        self.recipients: list[int] = []

    def create_body(self, recipients: int) -> FakeSink:
        """See IAccept."""
        if self.refusal is not None:
            raise self.refusal
        self.recipients.append(recipients)
        self.sinks.append(FakeSink(1000 * (len(self.sinks) + 1)))
        return self.sinks[-1]

    def accept(self, message: NewMessage) -> Deferred[int]:
        """See IAccept."""
        self.accepted.append(message)
        if not self.slow:
            return succeed(message.id)
        self.commits.append(Deferred())
        return self.commits[-1]


@implementer(IRouter)
class FakeRouter:
    """Knows a way for everybody but nobody@..."""

    digest = ""

    def route(self, address: str) -> Route | Refusal:
        """See IRouter."""
        if address.startswith("nobody@"):
            return Refusal(Reply(550, "5.1.1", "No such user"))
        return Route("default", "smtp", "next.example")


@implementer(IEventLog)
class FakeLog:
    """The events in order: (name, queue id, fields)."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, Mapping[str, object]]] = []

    def event(self, name: str, queue_id: str, fields: Mapping[str, object]) -> None:
        """See IEventLog."""
        self.events.append((name, queue_id, dict(fields)))

    def named(self, name: str) -> list[Mapping[str, object]]:
        """The fields of every event of that name."""
        return [fields for event, _, fields in self.events if event == name]


@implementer(IPolicy)
class FakePolicy:
    """Answers by stage; `asked` are the stages in the order of the questions."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.facts: dict[str, Mapping[str, Any]] = {}

    def judge(self, stage: str, facts: Mapping[str, Any]) -> Any:
        """See IPolicy.  An exception among the answers is raised, a callable is called."""
        self.asked.append(stage)
        self.facts[stage] = facts
        answer = self.answers.get(stage)
        if isinstance(answer, Exception) and not isinstance(answer, MailError):
            raise answer
        return answer() if callable(answer) else answer


class Wire(StringTransport):
    """A transport of strings that ends as a real one does: the protocol hears of it, once."""

    def __init__(self, address: str = STRANGER) -> None:
        super().__init__(peerAddress=IPv4Address("TCP", address, 40000))
        self.protocol: Session | None = None
        self.lost = False
        self.secured: list[object] = []  # what startTLS was called with

    def lose(self, reason: BaseException | None = None) -> None:
        """The connection ends, now."""
        self.lost = True
        protocol, self.protocol = self.protocol, None
        if protocol is not None:
            protocol.connectionLost(Failure(reason or ConnectionDone()))

    def loseConnection(self) -> None:
        """We end it; a client that goes on reading is not simulated: `lose` says when it has gone."""
        assert self.producer is None, "Twisted would wait for the producer"
        super().loseConnection()

    def startTLS(self, creator: object) -> None:
        """TLS begins, and nothing comes of it."""
        self.secured.append(creator)

    def abortConnection(self) -> None:
        """We break it off."""
        self.lose(ConnectionAborted())


class DoorCase(SynchronousTestCase):
    """A receiving service without ports: `connect` gives a session that was greeted."""

    settings = SETTINGS

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_795_000_000)
        self.accept = FakeAccept()
        self.log = FakeLog()
        self.wires: list[Wire] = []
        self.policy: FakePolicy | None = None
        self.begin()

    def begin(
        self,
        policy: FakePolicy | None = None,
        server_tls: ServerTls | None = None,
        portal: Portal | None = None,
        listen: Mapping[str, Any] = MappingProxyType({}),
        outside: Outside | None = None,
        **changes: Any,
    ) -> None:
        """Build what sessions have in common anew.  listen: keys of the [[listen]] entry."""
        settings = attrs.evolve(self.settings, **changes)
        self.common = Common.of(
            settings, self.accept, FakeRouter(), self.log, self.clock, policy, server_tls, portal, outside=outside
        )
        self.common.roster.open = True
        self.listen = Listen("tcp:25", **listen)

    def tearDown(self) -> None:
        for wire in self.wires:
            wire.lose()
        self.assertEqual(self.clock.getDelayedCalls(), [], "a timer was left")
        self.assertEqual((self.common.connections.total, len(self.common.roster)), (0, 0), "a count was left")

    def connect(self, address: str = STRANGER, tls: str = "none") -> tuple[Session, Wire]:
        """A client comes; the greeting is left to be read."""
        wire = Wire(address)
        session = Session(Listener.of(self.common, attrs.evolve(self.listen, tls=tls)))
        wire.protocol = session
        self.wires.append(wire)
        session.makeConnection(wire)
        return session, wire

    def hello(self, address: str = STRANGER) -> tuple[Session, Wire]:
        """A client that has said EHLO and read the answer."""
        session, wire = self.connect(address)
        self.say(session, b"EHLO client.example\r\n")
        wire.clear()
        return session, wire

    def say(self, session: Session, data: bytes) -> list[str]:
        """Send; what is said in return, line by line."""
        wire = session.transport
        wire.clear()
        session.dataReceived(data)
        return wire.value().decode().splitlines()

    def codes(self, session: Session, data: bytes) -> list[str]:
        """Send; the codes of what is said in return, one a reply."""
        return [line[:3] for line in self.say(session, data) if line[3:4] == " "]

    def envelope(self, session: Session, recipient: str = "user@example.org") -> None:
        """MAIL, RCPT, DATA."""
        commands = f"MAIL FROM:<sender@client.example>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n"
        self.assertEqual(self.codes(session, commands.encode()), ["250", "250", "354"])
