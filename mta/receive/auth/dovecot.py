"""Dovecot says who may log in: its auth socket (`[auth] dovecot`), as a checker for a `twisted.cred` portal.

One connection is kept and shared; requests go out at once and are told apart by their number.  It is made when somebody wants
to log in, and again when it was lost.  Passwords and tokens are asked about in one step; SCRAM and CRAM-MD5 are passed on step
by step, and what ends before Dovecot has ended it is taken back (CANCEL).  "OK" with `nologin` or `proxy` is a no: the
password is right, and the user must not come in here.  Whatever keeps Dovecot from an answer (not there, too slow, "temp",
too many requests) is a failure of ours: 454.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any, Final
from weakref import WeakKeyDictionary

import attrs
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import LoginFailed, UnauthorizedLogin
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.endpoints import UNIXClientEndpoint, clientFromString, connectProtocol
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from mta.interfaces import IBearerToken, IProvenLogin
from mta.receive.auth.dovecot_words import Answer, answer_in, begin, cancel, go_on, hello
from mta.receive.auth.peer import Peer
from mta.receive.auth.workers import Busy
from mta.smtp.bearer import message_of
from mta.smtp.credentials import JudgedCredentials, PassedOn
from mta.smtp.scram import SCRAM

__all__ = ["PASSED_ON", "Dovecot", "Unreachable"]

HELLO_TIME: Final = 5.0  # seconds for Dovecot to take the connection and to say what it offers
# Step by step.  Not SCRAM-SHA-256-PLUS: Dovecot 2.3 has it not, and that of 2.4 wants version 1.3 of the protocol.
PASSED_ON: Final = (SCRAM, "CRAM-MD5")
ANSWER_TIME: Final = 30.0  # and to answer; it lets wrong passwords wait for some seconds
MAX_ASKED: Final = 1000
MAX_MESSAGE: Final = 12_000  # octets: at a line over 16,384 Dovecot ends the connection, with all that is asked on it
_parse: Callable[[Any, str], Any] = clientFromString
_connect: Callable[[Any, Any], Deferred[Any]] = connectProtocol

_bugs = Logger()


class Unreachable(LoginFailed):
    """Dovecot gives no answer, or says that it has none now."""


class _Wire(LineOnlyReceiver):
    """One connection.  lost: it was, or never came to be.  leaving: nothing more may be asked."""

    transport: Any
    delimiter = b"\n"
    MAX_LENGTH = 65536

    def __init__(self, clock: Any, number: int) -> None:
        self.lost = self.leaving = False
        self._is_ready = False  # Dovecot has said DONE
        self._waiting: list[Deferred[None]] = []  # for that
        self.mechanisms: set[str] = set()
        self._clock = clock
        self._number = number
        self._last = 0
        self._asked: dict[int, tuple[float, Deferred[Answer]]] = {}  # the one asked first comes first
        self._open: set[int] = set()  # requests that Dovecot has not ended
        self._is_last = False  # when they are over, this connection is
        self._has_cancel = False
        self._timer: IDelayedCall | None = None
        self.connecting: Deferred[Any] | None = None
        self.gone: Deferred[None] = Deferred()

    # ---- what Twisted calls

    def connectionMade(self) -> None:
        """Say hello."""
        self.transport.write(hello(self._number))
        self._timer = self._clock.callLater(HELLO_TIME, self._look)

    def lineReceived(self, line: bytes) -> None:
        """An answer, or a word of the handshake."""
        try:
            answer = answer_in(line)
        except ValueError as error:
            _bugs.error("dovecot says what is no answer: {error}", error=str(error))
            self.transport.abortConnection()
            return
        if answer is not None:
            self._answered(answer)
        elif line.startswith(b"MECH\t"):
            self.mechanisms.add(line.split(b"\t")[1].decode("ascii", "replace").upper())
        elif line.startswith(b"VERSION\t"):
            self._versioned(line.split(b"\t")[1:])
        elif line == b"DONE":
            self._is_ready = True
            self._tell(None)
            self._leave()

    def _versioned(self, version: list[bytes]) -> None:
        """Major and minor.  Before 1.1 (Dovecot 2.0) CANCEL would be an error that ends the connection."""
        self._has_cancel = version[1:] not in ([], [b"0"])
        if version[0] != b"1":
            _bugs.error("dovecot speaks another version of its protocol")
            self.transport.abortConnection()

    def _answered(self, answer: Answer) -> None:
        if answer.verdict != "CONT":
            self._open.discard(answer.id)
        asked = self._asked.pop(answer.id, None)
        if asked is not None:
            asked[1].callback(answer)
        self._leave()

    def lineLengthExceeded(self, line: bytes) -> None:
        """No answer is that long."""
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Nobody gets an answer any more."""
        self.lost = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        asked, self._asked = self._asked, {}
        self._open.clear()
        self.fail()
        for _, answer in asked.values():
            answer.errback(Unreachable())
        self.gone.callback(None)

    # ---- what Dovecot (ours) asks

    def ready(self) -> Deferred[None]:
        """Fires when requests may be made; errbacks with Unreachable."""
        if self._is_ready:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def fail(self) -> None:
        """There is no connection."""
        self.lost = True
        self._tell(Failure(Unreachable()))  # type: ignore[no-untyped-call]

    def _tell(self, result: Any) -> None:
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            if not deferred.called:  # else it was given up
                deferred.callback(result)

    def ask(self, mechanism: str, peer: Peer, response: bytes | None) -> tuple[int, Deferred[Answer]]:
        """A new request: its number, and what comes."""
        if len(self._asked) >= MAX_ASKED:
            raise Busy
        self._last += 1
        self._open.add(self._last)
        return self._last, self._say(self._last, begin(self._last, mechanism, peer, response))

    def go_on(self, id: int, response: bytes) -> Deferred[Answer]:
        """The next step of a request."""
        return self._say(id, go_on(id, response))

    def over(self, id: int) -> None:
        """Nobody goes on with that request: take it back, unless Dovecot has ended it."""
        self._asked.pop(id, None)
        if id in self._open:
            self._open.discard(id)
            if self._has_cancel:
                self.transport.write(cancel(id))
            self._leave()

    def retire(self) -> None:
        """No further requests come: close when there is none left."""
        self._is_last = True
        self._leave()

    def _leave(self) -> None:
        """If it is time.  What was written last still goes out, and has as long for it as an answer has."""
        if self._is_last and self._is_ready and not (self._open or self.lost or self.leaving):
            self.leaving = True
            self.transport.loseConnection()
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._clock.callLater(ANSWER_TIME, self._look)

    def _say(self, id: int, line: bytes) -> Deferred[Answer]:
        answer: Deferred[Answer] = Deferred(lambda _: self.over(id))
        self._asked[id] = self._clock.seconds(), answer
        self.transport.write(line)
        if self._timer is None:
            self._timer = self._clock.callLater(ANSWER_TIME, self._look)
        return answer

    def _look(self) -> None:
        """One timer for all: whoever waits for too long ends the connection, for Dovecot is stuck."""
        self._timer = None
        oldest = next(iter(self._asked.values()), None)
        if not self._is_ready or self.leaving:
            self.transport.abortConnection()
        elif oldest is not None:
            left = oldest[0] + ANSWER_TIME - self._clock.seconds()
            if left > 0:
                self._timer = self._clock.callLater(left, self._look)
            else:
                self.transport.abortConnection()


@attrs.define(slots=True, eq=False)
class _Begun:
    """An exchange that Dovecot holds."""

    wire: _Wire
    id: int


@implementer(ICredentialsChecker)
class Dovecot:
    """where: the path of a UNIX socket, or a Twisted client endpoint string.  reactor: a clock, and what the endpoint wants."""

    credentialInterfaces = (IUsernamePassword, IBearerToken, IProvenLogin)

    def __init__(self, where: str, reactor: Any, random: Callable[[int], bytes] = os.urandom) -> None:
        self.where = where
        self._reactor = reactor
        self._random = random
        self._wire: _Wire | None = None
        self._former: set[_Wire] = set()  # that are on their way out
        self._is_retired = False
        self._begun: WeakKeyDictionary[Any, _Begun] = WeakKeyDictionary()

    def requestAvatarId(self, credentials: Any) -> Deferred[bytes | tuple[()]]:
        """The user's name as Dovecot has it; errbacks with UnauthorizedLogin, Unreachable or Busy."""
        if IProvenLogin.providedBy(credentials):
            return succeed(credentials.username)
        return Deferred.fromCoroutine(self._check(credentials))

    async def _check(self, credentials: Any) -> bytes:
        wire = await self._connected()
        peer = getattr(credentials, "peer", Peer())
        if IBearerToken.providedBy(credentials):
            mechanism, user = credentials.mechanism, credentials.username.decode()
            message = message_of(mechanism, user, credentials.token.decode())
        else:
            mechanism, message = "PLAIN", b"\0".join((b"", credentials.username, credentials.password))
        if mechanism not in wire.mechanisms:
            raise Unreachable
        if len(message) > MAX_MESSAGE:  # LOGIN says a name and a password in lines of their own
            raise UnauthorizedLogin
        id, asked = wire.ask(mechanism, peer, message)
        answer = await asked
        if answer.verdict == "CONT" and mechanism != "PLAIN":  # why the token is refused: RFC 7628 3.2.3
            answer = await wire.go_on(id, b"\1")
        wire.over(id)  # there is nothing more to say, if Dovecot should want it
        return _user(answer).encode()

    def step(self, question: PassedOn, peer: Peer) -> Deferred[bytes | JudgedCredentials]:
        """The next challenge, or the end of it."""
        return Deferred.fromCoroutine(self._step(question, peer))

    async def _step(self, question: PassedOn, peer: Peer) -> bytes | JudgedCredentials:
        begun = self._begun.get(question.exchange)
        if begun is None:
            wire = await self._connected()
            if question.mechanism not in wire.mechanisms:
                raise Unreachable
            id, asked = wire.ask(question.mechanism, peer, question.response)
            self._begun[question.exchange] = _Begun(wire, id)
            question.exchange.when_over(partial(wire.over, id))
        elif begun.wire.lost:
            raise Unreachable
        else:
            asked = begun.wire.go_on(begun.id, question.response or b"")
        answer = await asked
        if answer.verdict == "CONT":
            return answer.octets
        try:
            return JudgedCredentials(question.mechanism, "", _user(answer))
        except UnauthorizedLogin:
            return JudgedCredentials(question.mechanism, "", answer.words.get("user", ""), "wrong user or password")

    def retire(self) -> None:
        """Other settings hold for those to come: keep no connection for longer than there are exchanges on it."""
        self._is_retired = True
        if self._wire is not None:
            self._wire.retire()

    def stop(self) -> Deferred[None]:
        """Keep no connection; fires when it is gone."""
        wire, self._wire = self._wire, None
        former, self._former = self._former, set()
        gone = [_end(wire) for wire in (*former, *([] if wire is None else [wire])) if not wire.lost]
        everything: Deferred[Any] = DeferredList(gone)
        return everything.addCallback(lambda _: None)

    # ---- the connection

    async def _connected(self) -> _Wire:
        wire = self._wire
        if wire is None or wire.lost or wire.leaving:
            wire = self._new_wire()
        if wire.lost:
            raise Unreachable
        await wire.ready()
        return wire

    def _new_wire(self) -> _Wire:
        endpoint = self._endpoint()  # first: it may raise, and nobody must wait for a wire that leads nowhere
        if self._wire is not None and not self._wire.lost:
            self._former.add(self._wire)
            self._wire.gone.addCallback(lambda _, wire: self._former.discard(wire), self._wire)
        wire = self._wire = _Wire(self._reactor, int.from_bytes(self._random(4), "big") >> 1 or 1)
        wire.connecting = _connect(endpoint, wire)
        wire.connecting.addErrback(self._unreachable, wire)
        if self._is_retired:
            wire.retire()
        return wire

    def _endpoint(self) -> Any:
        if self.where.startswith("/"):
            return UNIXClientEndpoint(self._reactor, self.where, HELLO_TIME)  # type: ignore[no-untyped-call]
        return _parse(self._reactor, self.where)

    def _unreachable(self, failure: Failure, wire: _Wire) -> None:
        _bugs.error("dovecot cannot be reached at {where}: {why}", where=self.where, why=failure.getErrorMessage())
        wire.fail()


def _end(wire: _Wire) -> Deferred[None]:
    """Break it off, whatever is on it."""
    if wire.transport is not None:
        wire.transport.abortConnection()
        return wire.gone
    assert wire.connecting is not None
    wire.connecting.cancel()
    return succeed(None)


def _user(answer: Answer) -> str:
    """Who it is; UnauthorizedLogin, or Unreachable where Dovecot says that it cannot tell."""
    if answer.is_denied:
        raise UnauthorizedLogin
    if answer.verdict == "OK" and answer.words.get("user"):
        return answer.words["user"]
    raise Unreachable
