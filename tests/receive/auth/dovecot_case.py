"""A Dovecot that does what the test says, behind a socket that is not there."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.cred.credentials import UsernamePassword
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mta.interfaces import IBearerToken
from mta.receive.auth.dovecot import Dovecot
from mta.receive.auth.peer import Peer

HELLO = b"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tSCRAM-SHA-256\tmutual-auth\nSPID\t1\nCUID\t2\nCOOKIE\tab\nDONE\n"
GIVEN = UsernamePassword(b"tim", b"tan")


@implementer(IBearerToken)
@attrs.frozen
class Token:
    """As our portal gives it."""

    mechanism: str
    username: bytes
    token: bytes
    peer: Peer = Peer("192.0.2.1", True)


class Wire(StringTransport):
    """The socket; the protocol hears of its end."""

    protocol: Any = None

    def loseConnection(self) -> None:
        """What was written goes out, then it ends: `lose`."""
        self.disconnecting = True

    def lose(self) -> None:
        """It has gone."""
        self.abortConnection()

    def abortConnection(self) -> None:
        """We break it off."""
        protocol, self.protocol = self.protocol, None
        if protocol is not None:
            protocol.connectionLost(Failure(ConnectionDone()))


class DovecotCase(SynchronousTestCase):
    """One client of a socket that is not there."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.dovecot = Dovecot("/run/dovecot/auth-client", self.reactor, lambda size: b"\0\0\0\x0e"[-size:])
        self.wires: list[Wire] = []

    def tearDown(self) -> None:
        for wire in self.wires:
            wire.abortConnection()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def connect(self, hello: bytes = HELLO) -> Wire:
        """Dovecot takes the connection that is wanted, and says hello."""
        path, factory, *_ = self.reactor.unixClients[len(self.wires)]
        self.assertEqual(path, "/run/dovecot/auth-client")
        wire = Wire()
        wire.protocol = factory.buildProtocol(None)
        wire.protocol.makeConnection(wire)
        self.wires.append(wire)
        self.assertEqual(wire.value(), b"VERSION\t1\t1\nCPID\t7\n")
        wire.clear()
        wire.protocol.dataReceived(hello)
        return wire

    def ask(self, given: Any = GIVEN) -> Deferred[Any]:
        """A login."""
        return self.dovecot.requestAvatarId(given)

    def ready(self) -> tuple[Wire, Deferred[Any]]:
        """Connected, with one login on its way."""
        answer = self.ask()
        return self.connect(), answer
