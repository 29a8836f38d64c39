"""A receiving service in memory for clients that lie: what it is offered in, and what must hold whatever they do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
from OpenSSL import SSL
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred
from zope.interface import implementer

from mta.config.settings import Limits, Listen, Size, Sni, Tls
from mta.envelope import BodyRef, NewMessage
from mta.interfaces import IAccept, IPolicy
from mta.receive.auth.accounts import Account
from mta.receive.common import Common
from mta.receive.ending import Stage
from mta.receive.listener import Listener
from mta.receive.session import Session
from mta.testing.pki import Authority
from mta.tls.context import ServerTls
from tests.fuzz.far import Far, client_tls
from tests.fuzz.network import Reactor
from tests.fuzz.watch import Waiting, Watch
from tests.receive.door import SETTINGS, FakeAccept, FakeLog, FakeRouter, FakeSink

READY = b"220 2.0.0 Ready to start TLS\r\n"
REPLY = re.compile(rb"[2345]\d\d[ -][^\r\n]*\r\n")
AUTHORITY = Authority.create()
END = b"<the end>"
MECHANISMS = ("PLAIN", "LOGIN")


@attrs.frozen
class Offer:
    """How the service is configured.  slow: policy, portal and queue answer when they like."""

    tls: Mapping[str, Any] = {}
    listen: Mapping[str, Any] = {}
    limits: Limits = Limits()
    slow: bool = False


TIGHT = Limits(  # whatever is done twice is once too often
    message_size=Size(40),
    header_size=Size(20),
    recipients_per_message=1,
    errors=1,
    auth_failures=1,
    transactions_per_connection=2,
    recipients_per_connection=2,
    commands_per_connection=7,
    rejected_per_connection=1,
    bytes_per_connection=Size(60),
    message_rate=("2/min",),
    rejected_rate=("1/min",),
    tarpit_errors=1,
)
OFFERS = [
    Offer(),
    Offer({"handshakes_at_once": 1, "starttls_needs_ehlo": False}, {"auth_tls": MECHANISMS, "auth_clear": MECHANISMS}),
    Offer({"handshakes_at_once": 1}, {"auth_tls": MECHANISMS, "auth_clear": MECHANISMS}, slow=True),
    Offer({"client_cert": "require"}, {"mail_requires": "tls"}),
    Offer({"client_cert": "ask", "starttls_in_transaction": "refuse"}, {"auth_tls": MECHANISMS, "mail_requires": "tls+auth"}),
    Offer({"sni_unknown": "reject"}, limits=Limits(errors=3, commands_per_connection=12, tls_sessions_per_minute=4)),
    Offer({}, {"auth_tls": MECHANISMS, "auth_clear": MECHANISMS, "vrfy": "local"}, limits=TIGHT),
]


def load(offer: Offer, directory: Path) -> ServerTls:
    """The certificates of an offer: one, and another by SNI."""
    directory.mkdir(parents=True)
    (directory / "other").mkdir()
    certificate, key = AUTHORITY.issue("mx.example.org").write(directory)
    other = AUTHORITY.issue("other.example.org").write(directory / "other")
    (directory / "ca.pem").write_bytes(AUTHORITY.certificate_pem)
    settings = Tls(certificate, key, sni=(Sni(("other.example.org",), *other),), client_ca=(directory / "ca.pem",))
    return ServerTls.load(attrs.evolve(settings, **offer.tls))


@implementer(IPolicy)
class _Slow:
    """A policy that agrees, in its time."""

    def __init__(self, waiting: Waiting) -> None:
        self._waiting = waiting

    def judge(self, stage: str, facts: Mapping[str, Any]) -> Any:
        return self._waiting.later(lambda: None)


class _AnyUser(Portal):
    """Everybody is who he says.  here: logins that have not left."""

    def __init__(self, waiting: Waiting) -> None:
        self.here = 0
        self._waiting = waiting

    def login(self, credentials: Any, mind: object, *interfaces: Any) -> Any:
        def taken() -> Any:
            self.here += 1
            return interfaces[0], Account(credentials.username.decode()), self._left

        return self._waiting.later(taken)

    def _left(self) -> None:
        self.here -= 1


class _SlowSink(FakeSink):
    """Takes each piece in its time."""

    waiting: Waiting

    def write(self, data: bytes) -> Deferred[None] | None:
        super().write(data)
        return self.waiting.later(lambda: None)


@implementer(IAccept)
class _Queue(FakeAccept):
    """Looks at every message when it comes."""

    def __init__(self, waiting: Waiting, look: Callable[[NewMessage], None]) -> None:
        super().__init__()
        self._waiting = waiting
        self._look = look

    def create_body(self, recipients: int) -> FakeSink:
        sink = _SlowSink(1000 * (len(self.sinks) + 1))
        sink.waiting = self._waiting
        self.sinks.append(sink)
        return sink

    def accept(self, message: NewMessage) -> Deferred[int]:
        self._look(message)
        super().accept(message)
        return Deferred.fromCoroutine(self._stored(message))

    async def _stored(self, message: NewMessage) -> int:
        answer = self._waiting.later(lambda: message.id)
        return await answer if isinstance(answer, Deferred) else answer


class Server:
    """The service and its clients.  `check` holds after every step, `close` at the end of a run."""

    def __init__(self, offer: Offer, tls: ServerTls) -> None:
        self.reactor = Reactor()
        self.watch = Watch(self.reactor)
        self.reactor.advance(1_795_000_000)
        self.waiting = Waiting(offer.slow)
        self.queue = _Queue(self.waiting, self._look)
        self.log = FakeLog()
        self.portal = _AnyUser(self.waiting)
        policy = _Slow(self.waiting) if offer.slow else None
        settings = attrs.evolve(SETTINGS, tls=attrs.evolve(tls._settings), limits=offer.limits)
        self.common = Common.of(settings, self.queue, FakeRouter(), self.log, self.reactor, policy, tls, self.portal)
        self.common.roster.open = True
        self.listeners = [Listener.of(self.common, Listen("tcp:25", kind, **offer.listen)) for kind in ("starttls", "implicit")]
        self.sessions: dict[str, tuple[Session, Far]] = {}  # by the client's address

    def connect(self, implicit: bool = False) -> Far:
        """A client comes."""
        address = f"203.0.113.{len(self.sessions) + 1}"
        session = Session(self.listeners[implicit])
        socket = self.reactor.accept(session, address)
        self.reactor.settle()
        far = Far(self.reactor, socket)
        self.sessions[address] = session, far
        return far

    def pass_time(self, seconds: int) -> None:
        """Time goes by; the roster looks after it."""
        self.reactor.advance(seconds)
        self.reactor.advance(1)  # who was told that it is too late has had another second
        self.reactor.settle()
        self.check()

    def session_of(self, far: Far) -> Session:
        return next(session for session, other in self.sessions.values() if other is far)

    # ---- what must hold

    def check(self) -> None:
        """After every step."""
        self.watch.check()
        now = self.reactor.seconds()
        for session, far in self.sessions.values():
            _check_wire(far, session.implicit)
            if session.stage is not Stage.GONE:
                assert session.deadline > now - 2 or session.stage is Stage.HANDSHAKE, (
                    f"{session.stage} has outlived its deadline"
                )
                _check_marks(session)
            inside = len(re.findall(rb"(?m)^\d\d\d .*\r\n", bytes(far.heard_plain)))
            assert inside <= far.plain.count(b"\n") + 2, "more answers inside TLS than there were commands"

    def _look(self, message: NewMessage) -> None:
        """Law 7, and one security state: the whole body and its end were said there, and nothing of the envelope elsewhere."""
        facts = json.loads(message.trace)
        session, far = self.sessions[facts["client"]]
        assert isinstance(message.body, BodyRef)
        assert facts["tls"] == session.achieved.version
        in_tls = bool(facts["tls"])
        assert in_tls or READY not in far.socket.heard, "a message came in clear behind 220"
        said = bytes(far.plain if in_tls else far.raw)
        body = message.body.data or b""
        assert body + END + b"\r\n" in _bodies(said) or _ends_a_chunk(body, said), "a body that was not ended there"
        whole = b" ".join([message.sender.encode(), message.body.data or b"", *(r.address.encode() for r in message.recipients)])
        assert (b"-clear" if in_tls else b"-inside") not in whole, whole

    # ---- the end

    def close(self) -> None:
        """Everybody falls silent: all ends within its time, nothing is left, and the next client is served."""
        try:
            for _ in range(40):
                while self.waiting:
                    self.waiting.decide()
                    self.reactor.settle()
                self.pass_time(30)
            self._check_empty()
            self._serve_one_more()
            self._check_empty()
        finally:
            self.watch.stop()

    def _check_empty(self) -> None:
        slots, connections = self.common.slots, self.common.connections
        assert [session.stage for session in self.common.roster.here()] == []
        assert (connections.total, slots.waiting, slots._held) == (0, 0, set())
        assert slots.free == self.common.settings.tls.handshakes_at_once
        assert self.portal.here == 0, "somebody is still logged in"
        assert (self.reactor.getDelayedCalls(), self.reactor.readers, self.reactor.writers) == ([], {}, {})
        taken = {message.id for message in self.queue.accepted}
        assert all(sink.aborted or sink.id in taken for sink in self.queue.sinks), "a body was left"
        assert len(self.log.named("connect")) == len(self.log.named("disconnect"))
        self.watch.check()

    def _serve_one_more(self) -> None:
        """Nothing of the others has stayed."""
        self.waiting.slow = False
        self.reactor.advance(120)  # new TLS sessions may be counted
        far = self.connect()
        far.say_raw(b"EHLO last-clear.example\r\n")
        far.say_raw(b"STARTTLS\r\n")
        begin_tls(far, name=b"mx.example.org")
        far.say(b"EHLO last-inside.example\r\n")
        far.say(b"QUIT\r\n")
        assert re.fullmatch(rb"(250-.*\r\n)*250 .*\r\n221 .*\r\n|554 .*\r\n221 .*\r\n", bytes(far.heard_plain)), far.heard_plain
        far.close_notify()
        assert far.socket.is_closed


def begin_tls(
    far: Far,
    version: int = SSL.TLS1_3_VERSION,
    name: bytes = b"",
    cut: Iterable[int] = (),
    spoil: tuple[str, int] = ("whole", 0),
) -> None:
    """The client says hello, behind 220 or wherever it is."""
    heard = far.socket.heard
    begins = len(heard) if far.tls is not None or READY not in heard else heard.index(READY) + len(READY)
    far.start_tls(client_tls(version, name), begins, cut, spoil)


def _check_wire(far: Far, implicit: bool) -> None:
    """Replies as long as it is in clear; behind 220 TLS records and nothing else."""
    heard = bytes(far.socket.heard)
    clear, ready, rest = (b"", b"", heard) if implicit else heard.partition(READY)
    whole = clear if ready or far.socket.room is None else clear[: clear.rfind(b"\n") + 1]
    assert REPLY.sub(b"", whole) == b"", clear
    while rest:
        assert rest[0] in (20, 21, 22, 23) and (len(rest) < 2 or rest[1] == 3), f"that is no TLS: {rest[:80]!r}"
        rest = rest[5 + int.from_bytes(rest[3:5], "big") :] if len(rest) >= 5 else b""


def _check_marks(session: Session) -> None:
    """Nothing said before TLS is known in it, nor the other way round."""
    transaction = session.transaction
    if session.stage is Stage.HANDSHAKE:
        assert transaction is None and not session.account
        return  # the machine is dead: what it knows does not count
    known = [session.helo, session.account]
    if transaction is not None:
        known += [transaction._mail.sender.address, *transaction._recipients]
    wrong = "-clear" if session.achieved.version else "-inside"
    assert wrong not in " ".join(known), known


def _ends_a_chunk(body: bytes, said: bytes) -> bool:
    """A last chunk was said whole, and is what the body ends with."""
    for found in re.finditer(rb"(?i)BDAT ([0-9]+) LAST\r\n", said):
        chunk = said[found.end() : found.end() + int(found[1])]
        if len(chunk) == int(found[1]) and (body.endswith((chunk, chunk + b"\r\n"))):
            return True
    return False


def _bodies(said: bytes) -> bytes:
    """RFC 5321 4.5.2 for every line, as if all were bodies: the dots taken off, an end in place of the final ones."""
    lines = [END if line == b"." else line.removeprefix(b".") for line in said.split(b"\r\n")]
    return b"\r\n".join(lines)
