"""The receiver's machine against anything: random clients, random answers, random pieces."""

from __future__ import annotations

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from mta.smtp.event import Auth, BodyChunk, BodyEnd, BodyStart, ChunkEnd, Hello, MailFrom, RcptTo, Reset, StartTls, Verify
from mta.smtp.order import REQUIREMENTS
from mta.smtp.server import Counters, Receiver
from mta.status import Reply
from tests.smtp.talk import OPTIONS, WITH_AUTH, Talk, bytewise, cut

LINES = [
    b"EHLO c.test\r\n",
    b"HELO c.test\r\n",
    b"MAIL FROM:<a@c.test>\r\n",
    b"MAIL FROM:<> SIZE=999999999\r\n",
    b"MAIL FROM:<a@c.test> RET=HDRS ENVID=a+3D\r\n",
    b"RCPT TO:<b@mx.test>\r\n",
    b"RCPT TO:<b@mx.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b\r\n",
    b"RCPT TO:<b@mx.test> NOTIFY=NEVER,DELAY\r\n",
    b"RCPT TO:<>\r\n",
    b"DATA\r\n",
    b"RSET\r\n",
    b"NOOP\r\n",
    b"STARTTLS\r\n",
    b"QUIT\r\n",
    b"AUTH PLAIN AHRpbQB0YW4=\r\n",
    b"BDAT 6\r\nRSET\r\n",
    b"BDAT 3\r\na\r\n",
    b"BDAT 6 LAST\r\nQUIT\r\n",
    b"BDAT 0 LAST\r\n",
    b"VRFY a@mx.test\r\n",
    b".\r\n",
    b"XYZZY\r\n",
    b"\r\n",
]
SHRAPNEL = [*LINES, *LINES, b"\r", b"\n", b"\0", b"\r\n.\r\n", b"x" * 1500, b"MAIL FROM:<", b"\xff", b"GET / HTTP/1.1\r\n"]
SHRAPNEL += [b"BDAT 1500 LAST\r\n", b"BDAT 2\r\n\n\n", b"BDAT 5 x\r\n", b"BDAT 99999999999999999999\r\n"]
SHRAPNEL += [b"AUTH LOGIN\r\n", b"AUTH CRAM-MD5\r\n", b"dGlt\r\n", b"*\r\n"]
# Commands behind which more may lie without harm: for these the pieces do not matter.
CHUNKS = [b"BDAT 6\r\nQUIT\r\n", b"BDAT 3 LAST\r\nabc"]
STEADY = [line for line in LINES if line[:4] not in (b"EHLO", b"HELO", b"DATA", b"STAR")]
WANT_ANSWERS = (Hello, Auth, MailFrom, RcptTo, Verify, BodyStart, ChunkEnd, BodyEnd, StartTls)


OPTIONS_ALL = [
    OPTIONS,
    *(attrs.evolve(WITH_AUTH, mail_requires=requirement, max_auth_failures=2) for requirement in REQUIREMENTS),
    attrs.evolve(OPTIONS, max_commands=7, max_transactions=2, max_recipients_total=2),
    attrs.evolve(OPTIONS, refuse_all=Reply(554, "5.7.1", "No")),
    attrs.evolve(OPTIONS, max_size=9, vrfy="local"),
    attrs.evolve(OPTIONS, withhold=frozenset({"CHUNKING", "DSN"})),
]


class SplitTests(SynchronousTestCase):
    @settings(deadline=None, max_examples=150)
    @given(
        st.lists(st.sampled_from([*STEADY, b"x" * 2500, b"NOOP x\n", b"\0"]), max_size=15),
        st.lists(st.integers(0, 3000), max_size=8),
        st.sampled_from(OPTIONS_ALL),
    )
    def test_any_pieces_of_commands(self, lines, places, options):
        """The same events, replies and counters, however a batch of commands arrives."""
        data = b"".join(lines)
        results = []
        for pieces in ([data], cut(data, places), bytewise(data)):
            talk = Talk(options)
            talk.say(b"EHLO c.test\r\n")
            said = talk.say(data, lambda _, pieces=pieces: pieces)
            events = [event for event in talk.events if type(event) is not BodyChunk]
            results.append((said, events, talk.messages, talk.counters, talk.machine.ended))
        self.assertEqual(results[0], results[1])
        self.assertEqual(results[0], results[2])

    @settings(deadline=None, max_examples=150)
    @given(
        st.lists(st.sampled_from([b"a\r\n", b"\r\n", b".", b"..\r\n", b".\r\n", b"\r", b"\n", b"x" * 700]), max_size=12).map(
            b"".join
        ),
        st.lists(st.integers(0, 3000), max_size=8),
    )
    def test_any_pieces_of_a_body(self, body, places):
        """The same body, error and replies, with the next commands behind it."""
        data = body + b"\r\n.\r\nNOOP\r\nQUIT\r\n"
        results = []
        for pieces in ([data], cut(data, places), bytewise(data)):
            talk = Talk().begin()
            talk.say(b"DATA\r\n")
            said = talk.say(data, lambda _, pieces=pieces: pieces)
            events = [event for event in talk.events if type(event) is not BodyChunk]
            results.append((said, events, talk.messages, talk.counters))
        self.assertEqual(results[0], results[1])
        self.assertEqual(results[0], results[2])

    @settings(deadline=None, max_examples=200)
    @given(st.lists(st.one_of(st.sampled_from(SHRAPNEL), st.binary(max_size=20)), max_size=25), st.booleans())
    def test_garbage(self, pieces, in_tls):
        """Nothing is ever raised; after the end nothing is kept or said."""
        talk = Talk(in_tls=in_tls, greet=not in_tls)
        for piece in pieces:
            ended = talk.machine.ended
            said = talk.say(piece)
            if ended:
                self.assertEqual((b"", 0, []), (said, talk.machine.buffered, talk.machine.events()))


class ReceiverModel(RuleBasedStateMachine):
    """A client that says anything, and a session that answers when and what it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.counters = Counters()
        self.known = False  # the session has said 235
        self.waiting: object | None = None
        self.asked = self.replies = 0
        self.accepted = 0  # recipients of this transaction
        self.dead = False
        self.body_open = False

    @initialize(options=st.sampled_from(OPTIONS_ALL))
    def begin(self, options) -> None:
        self.options = options
        self.machine = Receiver(options, self.counters)
        self.machine.greet()

    def look(self) -> None:
        for event in self.machine.events():
            assert self.waiting is None, "an event came while an answer was due"
            if type(event) in WANT_ANSWERS:
                self.waiting = event
                self.asked += 1
            if type(event) is BodyStart:
                assert self.accepted
            if type(event) is MailFrom:
                assert self.known or self.options.mail_requires == "none", "mail from somebody unknown, in clear"
            if type(event) is RcptTo:
                assert event.notify in (0, 10) and bool(event.notify) == bool(event.orcpt), "a wish that nobody had"
            if type(event) in (BodyChunk, ChunkEnd, BodyEnd):
                assert self.body_open
            if type(event) is Reset:
                self.body_open = False
        if self.machine.ended:
            self.waiting = None

    @rule(pieces=st.lists(st.sampled_from(SHRAPNEL), min_size=1, max_size=3))
    def client_says(self, pieces) -> None:
        self.machine.receive_data(b"".join(pieces))
        self.look()

    @rule(
        data=st.sampled_from(
            [b"EHLO c.test\r\n", b"MAIL FROM:<>\r\nRCPT TO:<b@mx.test>\r\n", b"DATA\r\n", b"a\r\n.\r\n", *CHUNKS]
        )
    )
    def client_is_good(self, data) -> None:
        self.machine.receive_data(data)
        self.look()

    @precondition(lambda self: self.waiting is not None)
    @rule(yes=st.sampled_from([True, True, True, False]))
    def session_answers(self, yes) -> None:
        event, self.waiting = self.waiting, None
        code = {BodyStart: 354, StartTls: 220, Auth: 235}.get(type(event), 250) if yes else 535 if type(event) is Auth else 451
        self.known |= yes and type(event) is Auth
        unread, in_chunks = self.machine.buffered, self.machine._chunk is not None
        if type(event) is ChunkEnd:
            self.body_open = yes and event.error is None
        elif type(event) is not Verify:
            self.body_open = type(event) is BodyStart and yes and (in_chunks or not unread)
        self.machine.reply(Reply(code, "", "x"))
        if type(event) is RcptTo:
            self.accepted += yes
        elif type(event) in (MailFrom, BodyEnd):
            self.accepted = 0
        if type(event) is StartTls and yes:
            assert self.machine.ended or not unread, "bytes crossed the border to TLS"
            self.dead = True
        self.look()

    @precondition(lambda self: self.machine.ended or self.dead)
    @rule(data=st.sampled_from(LINES))
    def nothing_after_the_end(self, data) -> None:
        self.machine.data_to_send()
        self.machine.receive_data(data)
        assert (self.machine.events(), self.machine.data_to_send(), self.machine.buffered) == ([], b"", 0)

    @rule()
    def session_writes(self) -> None:
        data = self.machine.data_to_send()
        assert data.count(b"\n") == data.count(b"\r\n") == data.count(b"\r")

    @invariant()
    def counters_agree(self) -> None:
        assert self.counters.messages <= self.counters.transactions
        assert self.counters.errors <= OPTIONS.max_errors + 1
        assert self.counters.recipients >= self.accepted or self.machine.ended
        assert self.machine.authenticated == self.known

    @invariant()
    def limits_hold(self) -> None:
        for count, limit in (
            (self.counters.transactions, self.options.max_transactions),
            (self.counters.recipients, self.options.max_recipients_total),
            (self.counters.auth_failures, self.options.max_auth_failures),
        ):
            assert count <= limit or not limit


class ModelTests(SynchronousTestCase):
    def test_model(self):
        """Law 1 and law 4 hold for every client and every session: one question at a time, nothing crosses a border."""
        run_state_machine_as_test(ReceiverModel, settings=settings(deadline=None, max_examples=120, stateful_step_count=30))
