"""Our sender against our receiver: what one says the other understands, whatever the message and the pieces."""

from __future__ import annotations

import attrs
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.envelope import Flag
from mta.smtp.client import Sender, Transaction
from mta.smtp.credentials import CramCredentials, JudgedCredentials, Login, Terms
from mta.smtp.data import LONG_LINE
from mta.smtp.dsn import original_recipient
from mta.smtp.event import Auth, AuthAnswered, BodyChunk, BodyWanted, Greeted, HelloAnswered, QuitAnswered, RcptTo, Transacted
from mta.smtp.sasl import CLIENT
from mta.smtp.scram import verifier_of
from mta.status import Reply
from tests.smtp.talk import CHALLENGE, OPTIONS, Talk, cut
from tests.smtp.test_address import paths
from tests.smtp.test_data import anything, canonical, cuts
from tests.smtp.test_dsn import envids, rets, wishes
from tests.smtp.test_sasl import in_scram, names, passwords

ROOMY = attrs.evolve(OPTIONS, max_size=0, max_recipients=100)

SECURE = attrs.evolve(
    ROOMY, auth=tuple(CLIENT), binding=b"binding", challenge=lambda: CHALLENGE, requiretls=True, mail_requires="tls+auth"
)


class Pair:
    """Both machines and the wire between them, which cuts what it carries."""

    def __init__(self, places=(), extended: bool = True, options=ROOMY, in_tls: bool = False) -> None:
        self.places = list(places)
        self.talk = Talk(options, in_tls, greet=not in_tls)
        self.sender = Sender("c.test", in_tls)
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

    def login(self, mechanism: str, login: Login) -> Reply:
        self.talk.verifier = verifier_of(login.password, b"salt")
        self.sender.authenticate(mechanism, login, Terms(b"client", b"binding", plus=True))
        self.exchange()
        answered = self.events[-1]
        assert isinstance(answered, AuthAnswered), self.events
        assert answered.mechanism == mechanism
        return answered.reply

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
    @given(paths, st.lists(st.tuples(paths, wishes), min_size=1, max_size=3), st.integers(0, 3), rets, envids)
    def test_envelopes_arrive_unchanged(self, sender, wanted, flags, ret, envid):
        """Every path, the flags, and what is asked of reports (RFC 3461 5.2.1), as they were given."""
        pair, size = Pair(), 77
        recipients, asked = [path for path, _ in wanted], tuple(wish for _, wish in wanted)
        transaction = Transaction(sender.address, tuple(path.address for path in recipients), size, flags | ret, envid, asked)
        self.assertIsNone(pair.sender.unfit(transaction))
        pair.send([], transaction)
        mail, *rcpts = [event for event in pair.talk.events if hasattr(event, "sender") or hasattr(event, "recipient")]
        self.assertEqual((sender, size, recipients), (mail.sender, mail.size, [event.recipient for event in rcpts]))
        utf8 = flags & Flag.SMTPUTF8 or not all(path.is_ascii for path in (sender, *recipients))
        self.assertEqual((flags & 1 | ret | (2 if utf8 else 0), envid), (mail.flags, mail.envid))
        self.assertEqual([notify for notify, _ in asked], [event.notify for event in rcpts])
        for (notify, orcpt), event in zip(asked, rcpts, strict=True):
            if utf8 and (orcpt or not notify):
                self.assertEqual(orcpt, event.orcpt)
            elif orcpt:
                self.assertEqual(original_recipient(orcpt, False), original_recipient(event.orcpt, False))

    def test_requiretls(self):
        """P42: the flag goes over the wire, in TLS."""
        pair = Pair(options=attrs.evolve(ROOMY, requiretls=True), in_tls=True)
        done = pair.send([b"x\r\n"], Transaction("a@c.test", ("b@mx.test",), 3, int(Flag.REQUIRETLS)))
        self.assertEqual(250, done.replies[0].code)
        (mail,) = [event for event in pair.talk.events if hasattr(event, "sender")]
        self.assertEqual(Flag.REQUIRETLS, mail.flags)


class AuthPairTests(SynchronousTestCase):
    def test_refused_and_again(self):
        """A42, S20: EHLO, a login refused, another one, then mail; all in one conversation."""
        pair = Pair(options=SECURE, in_tls=True)
        pair.talk.answers[Auth] = [Reply(535, "5.7.8", "No")]
        self.assertEqual(535, pair.login("PLAIN", Login("tim", "wrong")).code)
        done = pair.send([b"x\r\n"], Transaction("a@c.test", ("b@mx.test",), 3, 0))
        self.assertEqual(Reply(530, "5.7.0", "Authentication required"), done.mail)
        self.assertEqual(235, pair.login("LOGIN", Login("tim", "right")).code)
        self.assertEqual(503, pair.login("LOGIN", Login("tim", "right")).code)
        done = pair.send([b"x\r\n"], Transaction("a@c.test", ("b@mx.test",), 3, 0), rset=True)
        self.assertEqual((250, [b"x\r\n"]), (done.replies[0].code, pair.talk.messages))

    @settings(deadline=None, max_examples=150)
    @given(st.sampled_from([*CLIENT]), names, passwords, cuts, st.booleans())
    def test_any_login_in_any_pieces(self, mechanism, user, password, places, welcome):
        """The server's session is asked about just what the client's was given, however the wire cuts it; then mail goes."""
        prepared = in_scram(user) if mechanism.startswith("SCRAM") else user
        assume(prepared)
        pair = Pair(places, options=SECURE, in_tls=True)
        answer = Reply(235, "2.7.0", "Welcome") if welcome else Reply(535, "5.7.8", "No")
        pair.talk.answers[Auth] = [answer]
        self.assertEqual(answer, pair.login(mechanism, Login(user, password)))
        (given,) = [event.credentials for event in pair.talk.events if type(event) is Auth]
        self.assertEqual(prepared, given.user)
        if isinstance(given, JudgedCredentials):
            self.assertEqual("", given.error)
        else:
            self.assertTrue(given.is_proof_of(password) if isinstance(given, CramCredentials) else given.password == password)
        self.assertEqual((welcome, not welcome), (pair.talk.machine.authenticated, bool(pair.talk.counters.auth_failures)))
        done = pair.send([b"x\r\n"], Transaction("a@c.test", ("b@mx.test",), 3, 0))
        self.assertEqual(250 if welcome else 530, done.replies[0].code)
        whole = Pair(options=SECURE, in_tls=True)
        whole.talk.answers[Auth] = [answer]
        whole.login(mechanism, Login(user, password))
        whole.send([b"x\r\n"], Transaction("a@c.test", ("b@mx.test",), 3, 0))
        self.assertEqual(without_bodies(whole), without_bodies(pair))

    def test_long_password(self):
        """RFC 4954 4: a PLAIN too long for the command waits for its challenge, and is read as a whole."""
        for size, challenged in ((300, False), (400, True), (8000, True)):
            pair = Pair(options=SECURE, in_tls=True)
            pair.sender.authenticate("PLAIN", Login("tim", "p" * size))
            command = pair.sender.data_to_send()
            self.assertEqual((challenged, True), (command == b"AUTH PLAIN\r\n", len(command) <= 512))
            pair.hear(pair.talk.say(command))
            pair.exchange()
            self.assertEqual(235, pair.events[-1].reply.code)
            (given,) = [event.credentials for event in pair.talk.events if type(event) is Auth]
            self.assertEqual(("tim", "p" * size), (given.user, given.password))


def without_bodies(pair: Pair) -> tuple[object, ...]:
    """What both sessions heard, but for how a body was cut."""
    heard = [event for event in pair.talk.events if type(event) is not BodyChunk]
    return heard, pair.events, pair.talk.messages, pair.talk.counters
