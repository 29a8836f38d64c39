"""Our client against mail servers that lie at any point of STARTTLS: greeting, EHLO, behind 220, in TLS, after QUIT, between.

Whatever they say: no error in the log; each delivery is settled once, with an outcome for each recipient, and is delivered
only when somebody has all of it; never mail or a password in clear, or to somebody unknown, where the level forbids it;
everything ends in its time, and at the stop nothing is left on the clock, in the pool or on the wire.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from twisted.internet.error import ConnectionRefusedError
from twisted.trial.unittest import SynchronousTestCase

from mta.envelope import Flag
from tests.fuzz.far import CLOSE_NOTIFY, FATAL, HELLO_REQUEST, junk, sizes, spoilings
from tests.fuzz.liar import Liar
from tests.fuzz.relay_world import AUTHORITY, GOOD, HANDOVERS, ROUTES, World, contexts
from tests.fuzz.watch import run

SHOWN = contexts()
shows = st.one_of(st.just(GOOD), st.sampled_from(sorted(SHOWN)))
routes = st.sampled_from([*ROUTES, "may", "may", "verify"])
flags = st.sampled_from([0, 0, 0, int(Flag.REQUIRETLS), int(Flag.TLS_REQUIRED_NO)])
POINTS = ["greeting", "EHLO", "STARTTLS", "hello", "tls EHLO", "tls AUTH", "tls response", "tls MAIL", "tls RCPT", "tls DATA"]
POINTS += ["tls .", "tls QUIT", "tls RSET", "MAIL", "RCPT", "DATA", ".", "RSET", "QUIT", "close_notify", "tls close_notify"]
kept = st.sampled_from(["may", "may", "may", "encrypt", "login"])
# Where a connection is that was handed over: with TLS kept, and with TLS taken down.
LATER = {
    False: ["tls RSET", "tls RSET", "tls MAIL", "tls RCPT", "tls DATA", "tls .", "RSET"],
    True: ["tls close_notify", "EHLO", "RSET", "STARTTLS", "STARTTLS", "STARTTLS", "hello", "tls EHLO", "tls MAIL", "tls ."],
}
ways = st.sampled_from(["instead", "instead", "behind", "in clear", "slowly"])
points = st.sampled_from(POINTS)
REPLIES = [
    b"220 go\r\n",
    b"250 ok\r\n",
    b"250-x\r\n250-PIPELINING\r\n250-AUTH PLAIN LOGIN\r\n250 STARTTLS\r\n",
    b"250-x\r\n250-LIMITS MAILMAX=1\r\n250 SIZE 10\r\n",
    b"250-x\r\n250",
    b"354 go on\r\n",
    b"421 4.3.2 closing\r\n",
    b"221 bye\r\n",
    b"454 4.7.0 TLS not available\r\n",
    b"450 4.2.0 later\r\n",
    b"550 5.1.1 no\r\n",
    b"503 5.5.1 what?\r\n",
    b"530 5.7.0 Must issue a STARTTLS command first\r\n",
    b"535 5.7.8 no\r\n",
    b"334 \r\n",
    b"334 !!\r\n",
    b"235 ok\r\n",
    b"999 x\r\n",
    b"250 \xff\0\r\n",
    b"250-" + b"x" * 3000 + b"\r\n",
    b"\r\n",
    b"\n",
    b"GET / HTTP/1.1\r\n",
]
replies = st.lists(st.one_of(st.sampled_from(REPLIES), st.sampled_from(REPLIES), junk), min_size=1, max_size=4).map(b"".join)
refusals = st.sampled_from([reply for reply in REPLIES if reply[:1] in (b"4", b"5")])
seconds = st.sampled_from([0.5, 1, 2.1, 5.1, 29, 61, 301, 601])


class LyingServers(RuleBasedStateMachine):
    """Each rule is a job and a lie, at a point to which an honest server would have come."""

    trusted: Path

    @initialize(handover=st.sampled_from(HANDOVERS), slow=st.booleans(), patient=st.booleans())
    def begin(self, handover: Any, slow: bool, patient: bool) -> None:
        self.patient = patient
        self.world = World(handover, self.trusted, slow, SHOWN)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.close(self.patient)

    def server(self, who: int, **facts: Any) -> Liar | None:
        """Whoever has something to answer; else somebody new; else whoever is there."""
        world = self.world
        here = [liar for liar in world.here() if liar.point]
        if not here and (new := world.take(**facts)) is not None:
            return new
        here = here or world.here()
        return here[who % len(here)] if here else None

    # ---- lies

    @rule(route=routes, recipients=st.integers(1, 3), flags=flags, pieces=st.sampled_from([0, 0, 0, 1, 4]), breaks=st.booleans())
    def is_given_a_job(self, route: str, recipients: int, flags: int, pieces: int, breaks: bool) -> None:
        self.world.deliver(route, recipients, pieces, flags, breaks and pieces > 1)
        self.world.check()

    @rule(route=routes, flags=flags, shown=shows, point=points, data=replies, cut=sizes, then=st.booleans(), tells=st.booleans())
    def is_lied_to(
        self, route: str, flags: int, shown: str, point: str, data: bytes, cut: tuple[int, ...], then: bool, tells: bool
    ) -> None:
        """A reply that is none, or another one, or many."""
        self.world.deliver(route, flags=flags)
        if (liar := self.server(0, shows=shown, tells=tells or then)) is None:
            return
        liar.honest(point)
        liar.reply(data, cut)
        if then:
            liar.honest()
        self.world.check()

    @rule(route=routes, shown=shows, point=points, data=replies, cut=sizes)
    def hears_too_much(self, route: str, shown: str, point: str, data: bytes, cut: tuple[int, ...]) -> None:
        """The right answer, and more behind it in the same breath."""
        self.world.deliver(route)
        if (liar := self.server(0, shows=shown)) is None:
            return
        liar.honest(point)
        liar.behind = data
        liar.answer(cut)
        liar.honest()
        self.world.check()

    @rule(route=kept, number=st.integers(0, 9), data=st.one_of(refusals, replies, junk), how=ways, cut=sizes)
    def is_lied_to_later(self, route: str, number: int, data: bytes, how: str, cut: tuple[int, ...]) -> None:
        """A lie on a connection that was handed over, or is just being so."""
        points = LATER[self.world.is_clear]
        point = points[number % len(points)]
        self.world.deliver(route)
        if point != "tls close_notify":
            self.world.honest()
            self.world.deliver(route)
        if (liar := self.server(-1)) is None:
            return
        liar.honest(point)
        match how:
            case "instead":
                liar.reply(data, cut)
            case "behind":
                liar.behind = data
                liar.answer(cut)
            case "in clear":
                liar.say_raw(data, cut)
            case "slowly":
                self.world.pass_time(2.1)
        liar.honest()
        self.world.check()

    @rule(route=routes, shown=shows, spoil=spoilings, cut=sizes)
    def shakes_hands(self, route: str, shown: str, spoil: tuple[str, int], cut: tuple[int, ...]) -> None:
        """A hello that is cut, damaged or doubled, in any pieces."""
        self.world.deliver(route)
        if (liar := self.server(0, shows=shown)) is None:
            return
        if liar.honest("hello"):
            liar.spoil = spoil
            liar.answer(cut)
            liar.spoil = ("whole", 0)
        liar.honest()
        self.world.check()

    @rule(route=routes, point=points, data=junk, inside=st.booleans(), cut=sizes)
    def hears_nonsense(self, route: str, point: str, data: bytes, inside: bool, cut: tuple[int, ...]) -> None:
        """No SMTP, inside TLS or past it."""
        self.world.deliver(route)
        if (liar := self.server(0)) is None:
            return
        liar.honest(point)
        liar.say(data, cut) if inside else liar.say_raw(data, cut)
        liar.honest()
        self.world.check()

    @rule(route=routes, point=points, how=st.sampled_from(["notify", "alert", "fatal", "request", "again"]), data=replies)
    def loses_tls(self, route: str, point: str, how: str, data: bytes) -> None:
        """close_notify, alerts, another handshake, at any point; then SMTP in clear."""
        self.world.deliver(route)
        if (liar := self.server(0, shows="TLS 1.2" if how == "again" else GOOD)) is None:
            return
        liar.honest(point)
        if how == "notify":
            liar.close_notify()
        elif how == "again":
            liar.renegotiate()
        else:
            liar.say_raw({"alert": CLOSE_NOTIFY, "fatal": FATAL, "request": HELLO_REQUEST}[how])
        liar.say_raw(data)
        liar.honest()
        self.world.check()

    @rule(route=routes, point=points, reset=st.booleans(), data=st.sampled_from([b"", b"25", b"250 ok\r\n", b"\x17\x03\x03"]))
    def is_left(self, route: str, point: str, reset: bool, data: bytes) -> None:
        """The end at any byte."""
        self.world.deliver(route)
        if (liar := self.server(0)) is None:
            return
        liar.honest(point)
        if data:
            liar.say_raw(data)
        liar.reset() if reset else liar.end()
        self.world.check()

    @rule(route=routes, point=points, seconds=seconds)
    def waits(self, route: str, point: str, seconds: float) -> None:
        """A server that falls silent at some point, and goes on later."""
        self.world.deliver(route)
        if (liar := self.server(0)) is None:
            return
        liar.honest(point)
        self.world.pass_time(seconds)
        liar.honest()
        self.world.check()

    @rule()
    def is_refused(self) -> None:
        for connector in self.world.reactor.connectors:
            if connector.is_waiting:
                connector.refuse(ConnectionRefusedError())
        self.world.reactor.settle()
        self.world.check()

    # ---- whoever is there, wherever it stands

    @rule(who=st.integers(0, 3), data=st.one_of(replies, junk), inside=st.booleans(), cut=sizes)
    def goes_on(self, who: int, data: bytes, inside: bool, cut: tuple[int, ...]) -> None:
        """To an idle connection, behind QUIT, anywhere."""
        here = self.world.here()
        if here:
            liar = here[who % len(here)]
            liar.say(data, cut) if inside else liar.say_raw(data, cut)
        self.world.check()

    @rule(who=st.integers(0, 3), room=st.sampled_from([0, 1, 100, None]))
    def reads_slowly(self, who: int, room: int | None) -> None:
        here = self.world.here()
        if here:
            here[who % len(here)].socket.read_only(room)
        self.world.reactor.settle()
        self.world.check()

    @rule(seconds=seconds)
    def is_silent(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @rule()
    def is_honest(self) -> None:
        """All that waits is delivered."""
        for liar in self.world.here():
            liar.socket.read_only(None)
        self.world.honest()
        self.world.check()

    @precondition(lambda self: self.world.waiting)
    @rule()
    def a_piece_is_read(self) -> None:
        self.world.waiting.decide()
        self.world.reactor.settle()
        self.world.check()


class ClientTests(SynchronousTestCase):
    """C08, C10, C22 to C27, C29, C31, C49, C53 to C55, H09, H13, H15, H20 to H23, H25: not by example but by the thousand."""

    def test_lying_servers(self) -> None:
        """Nothing that a server says around STARTTLS breaks, stalls or misleads a delivery, its neighbours or the relay."""
        LyingServers.trusted = Path(self.mktemp())
        LyingServers.trusted.write_bytes(AUTHORITY.certificate_pem)
        run(LyingServers, examples=50, steps=18)
