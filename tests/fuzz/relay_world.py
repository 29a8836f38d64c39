"""A relay in memory between servers that lie: its deliveries, and what must hold whatever they do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
from OpenSSL import SSL
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from mta.config.settings import Handover, Settings, TlsClient
from mta.envelope import Claim, Flag, Job, Kind, Message, Settlement, Target
from mta.hints import MemoryHints
from mta.interfaces import IBodyReader
from mta.relay.credentials import Credentials
from mta.relay.handover import HandoverPolicy
from mta.relay.service import RelayService
from mta.smtp.credentials import Login
from mta.testing.pki import Authority
from mta.tls.client import ClientTls
from mta.tls.policy import Level
from tests.fuzz.liar import Liar
from tests.fuzz.network import Reactor
from tests.fuzz.watch import Waiting, Watch
from tests.relay.world import Hops, Log, Owed, Reports
from tests.tls.client_case import server_context

AUTHORITY = Authority.create()
PASSWORD = "s3cret-of-the-relay"
SECRETS = re.compile(rb"s3cret|AG1lAHMzY3JldC1vZi10aGUtcmVsYXk|czNjcmV0LW9mLXRoZS1yZWxheQ")  # in clear, in PLAIN, in LOGIN
CREDENTIALS = Credentials(Login("me", PASSWORD), ("PLAIN", "LOGIN"), False, "me")
# Route -> level, and has it a login?
ROUTES = {
    "none": (Level.NONE, False),
    "may": (Level.MAY, False),
    "encrypt": (Level.ENCRYPT, False),
    "verify": (Level.VERIFY, False),
    "login": (Level.VERIFY, True),
    "shy": (Level.MAY, True),  # a password that is never shown at this level
}
HANDOVERS = [
    Handover(),
    Handover(hosts_clear_tls=("*",)),
    Handover(hosts_clear_tls=("*",), rset_test="never"),
    Handover(preset="never"),
]
GOOD = "good"
_PRINTABLE = bytes(range(32, 127)) + b"\r\n"
CLEAR_LINE = re.compile(rb"((EH|HE)LO \S+|STARTTLS|RSET|QUIT)\r\n|[EHLOSTARQUI \r]+\Z")  # or the beginning of one


def contexts() -> dict[str, SSL.Context]:
    """What servers show: one good certificate and others, of all kinds of badness."""
    names = ("mx1.example.org", "mx2.example.org")
    old = server_context(AUTHORITY.issue(*names))
    old.set_max_proto_version(SSL.TLS1_2_VERSION)
    older = server_context(AUTHORITY.issue(*names))
    older.set_max_proto_version(SSL.TLS1_1_VERSION)
    return {
        GOOD: server_context(AUTHORITY.issue(*names)),
        "TLS 1.2": old,
        "TLS 1.1": older,
        "other name": server_context(AUTHORITY.issue("mx.example.net")),
        "expired": server_context(AUTHORITY.issue(*names, expired=True)),
        "unknown authority": server_context(Authority.create().issue(*names)),
    }


@attrs.define
class Delivery:
    """One job and what came of it."""

    job: Job
    whole: bytes  # as it should be on the wire, with its end
    is_secret: bool  # never in clear
    verifies: bool
    settled: list[Settlement] = attrs.Factory(list)
    is_checked: bool = False

    @property
    def mark(self) -> bytes:
        return self.job.message.sender.partition("@")[0].encode()


@implementer(IBodyReader)
class _Pieces:
    """A body in pieces, each in its time; None among them: it cannot be read."""

    def __init__(self, pieces: list[bytes | None], waiting: Waiting) -> None:
        self._pieces = pieces
        self._waiting = waiting
        self.closed = False

    def read(self) -> Deferred[bytes]:
        if not self._pieces:
            return succeed(b"")
        piece = self._pieces.pop(0)
        answer = self._waiting.later(lambda: piece)
        if piece is None:
            return fail(OSError("the disk is gone"))
        return answer if isinstance(answer, Deferred) else succeed(answer)

    def close(self) -> None:
        self.closed = True


class World:
    """The relay and its servers.  `check` holds after every step, `close` at the end of a run."""

    def __init__(self, handover: Handover, trusted: Path, slow: bool, known: Mapping[str, SSL.Context]) -> None:
        self.reactor = Reactor()
        self.watch = Watch(self.reactor)
        self.waiting = Waiting(slow)
        self.deliveries: list[Delivery] = []
        self.liars: list[tuple[Liar, str]] = []  # with what they show
        self.readers: list[_Pieces] = []
        self._contexts = known
        self._checked: dict[Liar, tuple[int, int]] = {}  # how much of what it has heard
        self.is_clear = bool(handover.hosts_clear_tls)
        targets = [Target(f"mx{n}.example.org", f"192.0.2.{n}", 25, n) for n in (1, 2)]
        settings = Settings(
            hostname="relay.example.com",
            data_dir=trusted.parent,
            tls_client=TlsClient(trust=(trusted,)),
            handover=handover,
        )
        self.relay = RelayService(
            settings,
            reactor=self.reactor,
            next_hops=Hops(targets),
            demands=Owed(),
            tls=ClientTls(settings.tls_client),
            handover=HandoverPolicy(handover),
            hints=MemoryHints(self.reactor),
            log=Log(),
            routes={name: level for name, (level, _) in ROUTES.items()},
            credentials={name: CREDENTIALS for name, (_, has_login) in ROUTES.items() if has_login},
            reports=Reports(),
        )
        self.relay.startService()

    # ---- what is done

    def deliver(self, route: str, recipients: int = 1, pieces: int = 0, flags: int = 0, breaks: bool = False) -> None:
        """A job for the relay.  pieces: of a body that is read while it is sent; breaks: in the midst of it."""
        number = len(self.deliveries) + 1
        mark = f"job{number}x"
        body = f"Subject: {mark}\r\n\r\n.dot\r\n".encode()
        more = [f"{mark} {n}\r\n".encode() * 3000 for n in range(pieces)]
        dest = f"smtp:{route}/example.org"
        claims = tuple(Claim(1000 * number + n, number, dest, 0, 0, 0, f"{mark}.{n}@example.org") for n in range(recipients))
        prefix = b"Received: from here\r\n"
        size = len(prefix + body) + sum(map(len, more))
        message = Message(number, f"{mark}@example.com", 0, 0, size=size, nrcpt=recipients, prefix=prefix, flags=flags)

        def open_body() -> _Pieces:
            self.readers.append(_Pieces([body, *more, *[None] * breaks], self.waiting))
            return self.readers[-1]

        job = Job(message, claims, dest, None if more else body, open_body)
        level, has_login = ROUTES[route]
        secret = level.is_mandatory or has_login or bool(flags & Flag.REQUIRETLS)
        whole = (prefix + body + b"".join(more)).replace(b"\r\n.", b"\r\n..") + b".\r\n"
        delivery = Delivery(job, whole, secret, level.verifies)
        self.deliveries.append(delivery)
        self.relay.deliver(job).addCallback(delivery.settled.append)
        self.reactor.settle()

    def take(self, shows: str = GOOD, tells: bool = True, goes_on: bool = True) -> Liar | None:
        """Somebody answers the oldest connection that is asked for."""
        for connector in self.reactor.connectors:
            if connector.is_waiting:
                liar = Liar(self.reactor, connector.take(), self._contexts[shows], tells, goes_on)
                self.liars.append((liar, shows))
                return liar
        return None

    def here(self) -> list[Liar]:
        """Those who have a connection."""
        return [liar for liar, _ in self.liars if not liar.is_gone]

    def honest(self) -> None:
        """Everybody answers everything, and takes what connections are asked for, until nothing happens any more."""
        for _ in range(200):
            self.waiting.decide()
            self.reactor.settle()
            if not ([liar for liar in self.here() if liar.answer()] or self.take() or self.waiting):
                return
        raise AssertionError("the relay does not come to rest")

    def pass_time(self, seconds: float) -> None:
        """Time goes by."""
        self.reactor.advance(seconds)
        self.reactor.settle()
        self.check()

    # ---- what must hold

    def check(self) -> None:
        """After every step."""
        self.watch.check()
        for liar, shows in self.liars:
            liar.pump()
            heard = len(liar.socket.heard), len(liar.heard_plain)
            if self._checked.get(liar) != heard:
                self._checked[liar] = heard
                self._check_liar(liar, shows)
        for delivery in self.deliveries:
            if delivery.settled and not delivery.is_checked:
                delivery.is_checked = True
                self._check_delivery(delivery)

    def _check_liar(self, liar: Liar, shows: str) -> None:
        """What it has heard is what it may know."""
        heard, inside = bytes(liar.socket.heard), bytes(liar.heard_plain)
        is_known = shows in (GOOD, "TLS 1.2")
        assert not SECRETS.search(heard), "a password in clear"
        assert is_known or not SECRETS.search(inside), "a password for somebody unknown"
        for delivery in self.deliveries:
            assert not (delivery.is_secret and delivery.mark in heard), "mail in clear that must not be"
            assert is_known or not (delivery.verifies and delivery.mark in inside), f"mail for somebody unknown: {shows}"
        _check_wire(heard, self.is_clear)

    def _check_delivery(self, delivery: Delivery) -> None:
        """Settled once, an outcome for each recipient; delivered only when somebody has all of it."""
        [settlement] = delivery.settled
        assert [outcome.claim for outcome in settlement.outcomes] == list(delivery.job.claims)
        heard = [bytes(liar.heard_plain) for liar, _ in self.liars]
        heard += [bytes(liar.socket.heard) for liar, _ in self.liars] * (not delivery.is_secret)
        is_known = any(delivery.whole in stream for stream in heard) or any(liar.socket.is_slow for liar, _ in self.liars)
        for outcome in settlement.outcomes:
            assert is_known or outcome.kind is not Kind.DELIVERED, f"delivered, and nobody has it: {outcome}"

    # ---- the end

    def close(self, patient: bool) -> None:
        """The service stops; or everybody falls silent, all ends in its time, the next is served, and then it stops."""
        try:
            if patient:
                for _ in range(80):
                    while self.waiting:
                        self.waiting.decide()
                        self.reactor.settle()
                    self.pass_time(100)
                assert not self.relay.pool._alive, "a connection outlives its time"
                assert all(delivery.settled for delivery in self.deliveries), "a delivery without an end"
                self._serve_one_more()
            self._stop()
        finally:
            self.watch.stop()

    def _serve_one_more(self) -> None:
        """Nothing of the others has stayed."""
        self.waiting.slow = False
        self.deliver("verify", recipients=2)
        self.honest()
        [settlement] = self.deliveries[-1].settled
        assert [outcome.kind for outcome in settlement.outcomes] == [Kind.DELIVERED] * 2, settlement

    def _stop(self) -> None:
        stopped: list[Any] = []
        self.relay.stopService().addCallback(stopped.append)
        self.reactor.settle()
        for _ in range(25):
            self.pass_time(1)
        assert stopped, "the service does not stop"
        assert all(len(delivery.settled) == 1 for delivery in self.deliveries), "a delivery without an end"
        assert all(reader.closed for reader in self.readers), "a body is still open"
        pool = self.relay.pool
        assert (pool._alive, pool.idle, pool._idle) == (set(), 0, {})
        assert (self.reactor.getDelayedCalls(), self.reactor.readers, self.reactor.writers) == ([], {}, {})
        assert not any(connector.is_waiting for connector in self.reactor.connectors)
        self.check()


def _check_wire(heard: bytes, is_clear: bool) -> None:
    """SMTP until the first TLS record, which comes behind STARTTLS; then TLS, and mail in clear never again."""
    clear, _, rest = heard.partition(b"STARTTLS\r\n")
    is_tls = rest[:1] in (b"\x15", b"\x16")
    assert not (clear if is_tls else clear + rest).translate(None, _PRINTABLE), "that is no SMTP"
    while is_tls and rest:
        rest = rest[5 + int.from_bytes(rest[3:5], "big") :] if len(rest) >= 5 else b""
        if rest and not 0x14 <= rest[0] <= 0x17:
            assert is_clear, f"in clear behind TLS: {rest[:80]!r}"
            while line := CLEAR_LINE.match(rest):
                rest = rest[line.end() :]
            assert not rest or 0x14 <= rest[0] <= 0x17, f"in clear behind TLS: {rest[:80]!r}"
