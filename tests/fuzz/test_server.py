"""Our server against clients that say anything at any point of STARTTLS: before, in and after the handshake, in any pieces.

Whatever they do: no error in the log, never a reply in clear behind 220, no command from in front of TLS executed in it, no
name, login or sender carried over, no message that was not ended in the security state it began in; every connection ends
in its time, and then no count, slot, timer or body is left and the next client is served.
"""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from mta.tls.context import ServerTls
from tests.fuzz.far import CLOSE_NOTIFY, FATAL, Far, junk, sizes, spoilings
from tests.fuzz.server_world import OFFERS, Server, begin_tls, load
from tests.fuzz.watch import run

MOST = 3  # clients that go on at a time
versions = st.sampled_from([SSL.TLS1_3_VERSION, SSL.TLS1_3_VERSION, SSL.TLS1_2_VERSION, SSL.TLS1_1_VERSION])
names = st.sampled_from([b"", b"mx.example.org", b"other.example.org", b"unknown.example", b"\xff", b"x" * 255])
# {} becomes "NUMBER-clear" or "NUMBER-inside": what of it is known later shows where it was said.
VERBS = {
    "ehlo": "EHLO c{}.example\r\n",
    "helo": "HELO c{}.example\r\n",
    "mail": "MAIL FROM:<s{}@client.example>\r\n",
    "null": "MAIL FROM:<>\r\n",
    "rcpt": "RCPT TO:<r{}@example.org>\r\n",
    "nobody": "RCPT TO:<nobody@example.org>\r\n",
    "data": "DATA\r\n",
    "body": "Subject: {}\r\n\r\n.line\r\n",
    "dot": "\r\n.\r\n",
    "bare": "\n.\n\r.\r",
    "chunk": "BDAT 6\r\nRSET\r\n",
    "last": "BDAT 6 LAST\r\nQUIT\r\n",
    "long": "BDAT 70\r\n",
    "wrong": "BDAT 2 LAST\r\n\n\n",
    "rset": "RSET\r\n",
    "noop": "NOOP\r\n",
    "quit": "QUIT\r\n",
    "plain": "AUTH PLAIN {plain}\r\n",
    "login": "AUTH LOGIN\r\n",
    "answer": "{user}\r\n",
    "cancel": "*\r\n",
    "starttls": "STARTTLS\r\n",
    "half": "MAIL FRO",
    "http": "GET / HTTP/1.1\r\n",
}
likely = st.sampled_from(
    [
        ["ehlo", "mail", "rcpt"],
        ["ehlo", "mail"],
        ["mail", "rcpt"],
        ["ehlo", "plain"],
        ["ehlo", "login"],
        ["login", "answer"],
        ["rcpt", "data", "body"],
        ["body", "dot"],
        ["rcpt", "chunk"],
        ["chunk", "last"],
        ["data"],
        ["noop"],
        ["starttls", "ehlo", "mail"],
        ["quit"],
    ]
)
scripts = st.one_of(likely, likely, st.lists(st.sampled_from(sorted(VERBS)), min_size=1, max_size=4))
# Where a client stands inside TLS when something happens to it.
STATES = {
    "new": [],
    "idle": [["ehlo"]],
    "mail": [["ehlo"], ["mail"]],
    "rcpt": [["ehlo"], ["mail", "rcpt"]],
    "auth": [["ehlo"], ["login"]],
    "known": [["ehlo"], ["plain"]],
    "data": [["ehlo"], ["mail", "rcpt"], ["data"]],
    "body": [["ehlo"], ["mail", "rcpt"], ["data"], ["body"]],
    "chunks": [["ehlo"], ["mail", "rcpt", "chunk"]],
    "long": [["ehlo"], ["mail", "rcpt", "chunk", "long"]],
    "done": [["ehlo"], ["mail", "rcpt"], ["data"], ["body", "dot"]],
}
states = st.sampled_from(sorted(STATES))


def written(script: list[str], number: int, inside: bool) -> bytes:
    """The bytes of a few commands."""
    mark = f"{number}-{'inside' if inside else 'clear'}"
    user = f"u{mark}"
    plain = b64encode(f"\0{user}\0secret".encode()).decode()
    words = {"plain": plain, "user": b64encode(user.encode()).decode()}
    return "".join(VERBS[verb].format(mark, **words) for verb in script).encode()


class LyingClients(RuleBasedStateMachine):
    """A few clients at a time; each rule is a lie, at a point to which an honest client would have come."""

    contexts: list[ServerTls]  # one for each of OFFERS

    @initialize(number=st.integers(0, len(OFFERS) - 1))
    def begin(self, number: int) -> None:
        self.server = Server(OFFERS[number], self.contexts[number])
        self.clients: list[Far] = []
        self.said = 0

    def teardown(self) -> None:
        if hasattr(self, "server"):
            self.server.close()

    def client(self, who: int) -> Far:
        """One of those who are there; a new one when there is none."""
        self.clients = [far for far in self.clients if not (far.has_ended or far.socket.is_closed)]
        return self.clients[who % len(self.clients)] if self.clients else self.another()

    def another(self, implicit: bool = False) -> Far:
        """A new one; the oldest falls silent for good when there are too many."""
        self.clients = [*self.clients[1 - MOST :], self.server.connect(implicit)]
        return self.clients[-1]

    def asking(self, implicit: bool = False) -> Far:
        """A new one who may speak TLS now, unless the service makes him wait."""
        far = self.another(implicit)
        if not implicit:
            self.say(far, ["ehlo"], False)
            self.say(far, ["starttls"], False)
        return far

    def say(self, far: Far, script: list[str], inside: bool, cut: tuple[int, ...] = ()) -> None:
        """Commands, one behind the other."""
        self.said += 1
        data = written(script, self.said, inside)
        far.say(data, cut) if inside else far.say_raw(data, cut)
        self.answered()

    def answered(self) -> None:
        """An honest end of TLS takes what it was told; all must hold."""
        for far in self.clients:
            far.pump()
        self.server.check()

    # ---- in front of TLS

    @rule(before=scripts, behind=scripts, cut=sizes)
    def injects(self, before: list[str], behind: list[str], cut: tuple[int, ...]) -> None:
        """Commands behind STARTTLS in the same breath, and then TLS as if nothing had been."""
        far = self.another()
        self.say(far, ["ehlo"], False)
        self.say(far, before, False)
        self.say(far, ["starttls", *behind], False, cut)
        begin_tls(far)
        self.say(far, behind, True)

    @rule(before=states, behind=scripts)
    def carries_over(self, before: str, behind: list[str]) -> None:
        """A transaction and a login in clear, then TLS as it should be."""
        far = self.another()
        for script in STATES[before]:
            self.say(far, script, False)
        self.say(far, ["starttls"], False)
        begin_tls(far)
        self.say(far, behind, True)

    @rule(implicit=st.booleans(), script=scripts, cut=sizes, then=st.booleans())
    def goes_on_in_clear(self, implicit: bool, script: list[str], cut: tuple[int, ...], then: bool) -> None:
        """SMTP in place of TLS, and perhaps TLS behind it."""
        far = self.asking(implicit)
        self.say(far, script, False, cut)
        if then:
            begin_tls(far)
        self.say(far, script, then)

    # ---- the handshake

    @rule()
    def hesitates(self) -> None:
        """A slot is taken, and others wait for it."""
        self.asking()

    @rule(implicit=st.booleans(), version=versions, name=names, cut=sizes, spoil=spoilings, behind=scripts)
    def shakes_hands(
        self, implicit: bool, version: int, name: bytes, cut: tuple[int, ...], spoil: tuple[str, int], behind: list[str]
    ) -> None:
        far = self.asking(implicit)
        begin_tls(far, version, name, cut, spoil)
        self.say(far, ["ehlo"], True, cut)
        self.say(far, behind, True)

    @rule(implicit=st.booleans(), version=versions, at=st.integers(0, 1700), data=junk, script=scripts, cut=sizes)
    def breaks_into_handshake(
        self, implicit: bool, version: int, at: int, data: bytes, script: list[str], cut: tuple[int, ...]
    ) -> None:
        """A part of the hello, or all of it, then something else."""
        far = self.asking(implicit)
        begin_tls(far, version, spoil=("cut", at))
        far.say_raw(data, cut)
        self.say(far, script, False)

    # ---- in TLS

    def inside(self, state: str, version: int = SSL.TLS1_3_VERSION, cut: tuple[int, ...] = ()) -> Far:
        """A new client that has come so far."""
        far = self.asking()
        begin_tls(far, version)
        for script in STATES[state]:
            self.say(far, script, True, cut)
        return far

    @rule(state=states, version=versions, script=scripts, cut=sizes)
    def speaks(self, state: str, version: int, script: list[str], cut: tuple[int, ...]) -> None:
        self.say(self.inside(state, version, cut), script, True, cut)

    @rule(state=states, version=versions, alert=st.sampled_from([b"", CLOSE_NOTIFY, FATAL]), behind=scripts, cut=sizes)
    def closes_tls(self, state: str, version: int, alert: bytes, behind: list[str], cut: tuple[int, ...]) -> None:
        """close_notify, or an alert in clear, and then SMTP as if TLS were over, or not."""
        far = self.inside(state, version)
        if alert:
            far.say_raw(alert, cut)
        else:
            far.close_notify()
        self.say(far, behind, False, cut)
        self.say(far, behind, True)

    @rule(state=states, script=scripts, spoil=spoilings, cut=sizes)
    def damages(self, state: str, script: list[str], spoil: tuple[str, int], cut: tuple[int, ...]) -> None:
        """Records that are broken on their way."""
        far = self.inside(state)
        self.said += 1
        far.say(written(script, self.said, True), cut, spoil)
        self.say(far, script, True)

    @rule(state=states, data=junk, script=scripts, cut=sizes)
    def mixes(self, state: str, data: bytes, script: list[str], cut: tuple[int, ...]) -> None:
        """Bytes in clear between the records."""
        far = self.inside(state)
        far.say_raw(data, cut)
        self.say(far, script, False, cut)
        self.say(far, script, True)

    @rule(state=states, version=versions, script=scripts)
    def renegotiates(self, state: str, version: int, script: list[str]) -> None:
        far = self.inside(state, version)
        far.renegotiate()
        self.say(far, script, True)

    @rule(state=states, script=scripts)
    def says_hello_again(self, state: str, script: list[str]) -> None:
        """A new hello, in clear between the records."""
        far = self.inside(state)
        begin_tls(far)
        self.say(far, script, True)

    # ---- whoever is there, wherever it stands

    @rule(who=st.integers(0, 2), script=scripts, inside=st.booleans(), cut=sizes)
    def goes_on(self, who: int, script: list[str], inside: bool, cut: tuple[int, ...]) -> None:
        self.say(self.client(who), script, inside, cut)

    @rule(who=st.integers(0, 2), data=st.lists(junk, min_size=1, max_size=3), inside=st.booleans(), cut=sizes)
    def talks_nonsense(self, who: int, data: list[bytes], inside: bool, cut: tuple[int, ...]) -> None:
        far = self.client(who)
        far.say(b"".join(data), cut) if inside else far.say_raw(b"".join(data), cut)
        self.answered()

    @rule(who=st.integers(0, 2), reset=st.booleans())
    def goes(self, who: int, reset: bool) -> None:
        far = self.client(who)
        far.reset() if reset else far.end()
        self.answered()

    @rule(who=st.integers(0, 2), room=st.sampled_from([0, 1, 20, 200, None]))
    def reads_slowly(self, who: int, room: int | None) -> None:
        self.client(who).socket.read_only(room)
        self.server.reactor.settle()
        self.answered()

    @rule(seconds=st.sampled_from([1, 2, 9, 61, 181, 301]))
    def is_silent(self, seconds: int) -> None:
        self.server.pass_time(seconds)
        self.answered()

    @rule(who=st.integers(0, 2), cut=st.booleans())
    def service_stops_one(self, who: int, cut: bool) -> None:
        session = self.server.session_of(self.client(who))
        session.cut() if cut else session.stop()
        self.server.reactor.settle()
        self.answered()

    @precondition(lambda self: self.server.waiting)
    @rule(times=st.integers(1, 5))
    def is_answered(self, times: int) -> None:
        """The policy, the portal or the queue, where they are slow."""
        for _ in range(times):
            self.server.waiting.decide()
            self.server.reactor.settle()
            self.answered()


class ServerTests(SynchronousTestCase):
    """S10, S12, S13, S15 to S19, S25, S26, S45, S48: not by example but by the thousand."""

    def test_lying_clients(self) -> None:
        """Nothing that a client does around STARTTLS breaks, stalls or stains a session, its neighbours or the service."""
        directory = Path(self.mktemp())
        LyingClients.contexts = [load(offer, directory / str(number)) for number, offer in enumerate(OFFERS)]
        run(LyingClients, examples=50, steps=20)
