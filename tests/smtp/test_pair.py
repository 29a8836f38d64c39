"""Our sender against our receiver: what one says the other understands, whatever the message and the pieces."""

from __future__ import annotations

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.envelope import Flag
from mta.smtp.client import Sender, Transaction
from mta.smtp.data import LONG_LINE
from mta.smtp.event import BodyWanted, Greeted, HelloAnswered, QuitAnswered, RcptTo, Transacted
from mta.status import Reply
from tests.smtp.talk import OPTIONS, Talk, cut
from tests.smtp.test_address import paths
from tests.smtp.test_data import anything, canonical, cuts

ROOMY = attrs.evolve(OPTIONS, max_size=0, max_recipients=100)


class Pair:
    """Both machines and the wire between them, which cuts what it carries."""

    def __init__(self, places=(), extended: bool = True) -> None:
        self.places = list(places)
        self.talk = Talk(ROOMY)
        self.sender = Sender("c.test")
        self.body: list[bytes] = []
        self.events: list[object] = []
        self.hear(self.talk.greeting)
        self.sender.hello()
        self.exchange()
        if not extended:
            self.sender.extensions = {}

    def hear(self, data: bytes) -> None:
        for piece in cut(data, self.places):
            self.sender.receive_data(piece)
            for event in self.sender.events():
                self.events.append(event)
                if type(event) is BodyWanted:
                    for part in self.body:
                        self.sender.send_body(part)
                    self.sender.end_body()

    def exchange(self) -> None:
        """Until both are silent."""
        while data := self.sender.data_to_send():
            self.hear(self.talk.say(data, lambda data: cut(data, self.places)))

    def send(self, body: list[bytes], transaction: Transaction, rset: bool = False) -> Transacted:
        self.body = body
        self.sender.transact(transaction, rset)
        self.exchange()
        done = self.events[-1]
        assert isinstance(done, Transacted), self.events
        return done


class PairTests(SynchronousTestCase):
    def test_conversation(self):
        """From the greeting to QUIT, with two messages."""
        pair = Pair()
        for number in (1, 2):
            done = pair.send(
                [b"Subject: %d\r\n\r\n.\r\n" % number], Transaction("", ("b@mx.test", "c@mx.test"), 20, 1), rset=number > 1
            )
            self.assertEqual((2, True), (len(done.replies), all(reply.is_positive for reply in done.replies)))
        pair.sender.quit()
        pair.exchange()
        self.assertEqual([b"Subject: 1\r\n\r\n.\r\n", b"Subject: 2\r\n\r\n.\r\n"], pair.talk.messages)
        self.assertEqual(
            [Greeted, HelloAnswered, BodyWanted, Transacted, BodyWanted, Transacted, QuitAnswered], list(map(type, pair.events))
        )
        self.assertTrue(pair.talk.machine.ended)
        self.assertEqual(0, pair.talk.counters.errors)

    def test_refused_recipients(self):
        """Each reply finds its recipient, pipelined and not; when all are refused nothing is delivered."""
        no = Reply(550, "5.1.1", "No such user")
        for extended in (True, False):
            pair = Pair(extended=extended)
            pair.talk.answers[RcptTo] = [no, Reply(250, "2.1.5", "Ok"), no]
            done = pair.send([b"x\r\n"], Transaction("a@c.test", ("1@x", "2@x", "3@x"), 3, 0))
            self.assertEqual([550, 250, 550], [reply.code for reply in done.replies])
            pair.talk.answers[RcptTo] = [no]
            done = pair.send([b"y\r\n"], Transaction("a@c.test", ("1@x",), 3, 0), rset=True)
            self.assertEqual(((no,), None), (done.replies, done.final))
            self.assertEqual([b"x\r\n"], pair.talk.messages)

    @settings(deadline=None, max_examples=100)
    @given(canonical, cuts, cuts, st.booleans())
    def test_canonical_bodies_arrive_unchanged(self, body, places, wire_places, extended):
        """X13, law 8: bytes in, the same bytes out; one message, no error."""
        pair = Pair(wire_places, extended)
        done = pair.send(cut(body, places), Transaction("a@c.test", ("b@mx.test",), len(body), 0))
        self.assertEqual(([body], [None]), (pair.talk.messages, pair.talk.errors))
        self.assertEqual(250, done.replies[0].code)

    @settings(deadline=None, max_examples=150)
    @given(st.one_of(anything, st.binary(max_size=300)), cuts, cuts)
    def test_any_bytes_are_one_message(self, body, places, wire_places):
        """X13: nothing that is in a body is ever taken for a command."""
        pair = Pair(wire_places)
        pair.send(cut(body, places), Transaction("a@c.test", ("b@mx.test",), len(body), 0))
        self.assertEqual(1, len(pair.talk.errors))
        self.assertIn(pair.talk.errors[0], (None, LONG_LINE))
        self.assertEqual((4, 0), (pair.talk.counters.commands, pair.talk.counters.errors))

    @settings(deadline=None, max_examples=100)
    @given(paths, st.lists(paths, min_size=1, max_size=3), st.sampled_from([0, 1, 2, 3]), st.integers(0, 10**9))
    def test_envelopes_arrive_unchanged(self, sender, recipients, flags, size):
        """Every path and the flags, as they were given."""
        pair = Pair()
        transaction = Transaction(sender.address, tuple(path.address for path in recipients), size, flags)
        self.assertIsNone(pair.sender.unfit(transaction))
        pair.send([], transaction)
        mail, *rcpts = [event for event in pair.talk.events if hasattr(event, "sender") or hasattr(event, "recipient")]
        self.assertEqual((sender, size, recipients), (mail.sender, mail.size, [event.recipient for event in rcpts]))
        utf8 = flags & Flag.SMTPUTF8 or not all(path.is_ascii for path in (sender, *recipients))
        self.assertEqual(flags & 1 | (2 if utf8 else 0), mail.flags)
