"""AUTH at the receiver: the exchange by itself, and in the machine."""

from __future__ import annotations

from functools import partial

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.smtp import wording
from mta.smtp.auth import Exchange, begin, refuse
from mta.smtp.bearer import BEARER, why_refused
from mta.smtp.credentials import PlainCredentials, decode, encode
from mta.smtp.event import Auth, MailFrom, Refused
from mta.smtp.sasl import SERVER, pass_on
from mta.status import MailError, Reply
from tests.smtp.talk import CHALLENGE, WITH_AUTH, Talk, bytewise, cut

PLAIN = b"AUTH PLAIN " + encode(b"\0tim\0tan") + b"\r\n"
TIM = PlainCredentials("PLAIN", "", "tim", "tan")
NO = Reply(535, "5.7.8", "Authentication credentials invalid")


def hello(options=WITH_AUTH, **more) -> Talk:
    talk = Talk(options, **more)
    talk.say(b"EHLO c.test\r\n")
    return talk


def asked(talk: Talk) -> list[object]:
    return [event.credentials for event in talk.events if type(event) is Auth]


class ExchangeTests(SynchronousTestCase):
    def refusal(self, argument: bytes, **changes) -> Reply:
        return self.assertRaises(MailError, begin, argument, attrs.evolve(WITH_AUTH, **changes)).reply

    def test_begin(self):
        """The challenge, or the credentials at once; the mechanism in any letters."""
        _, step = begin(b"plain " + encode(b"\0tim\0tan"), WITH_AUTH)
        self.assertEqual(TIM, step)
        for argument, challenge in (
            (b"PLAIN", b""),
            (b"Login", b"Username:"),
            (b"LOGIN dGlt", b"Password:"),
            (b"CRAM-MD5", CHALLENGE),
        ):
            exchange, step = begin(argument, WITH_AUTH)
            self.assertIsInstance(exchange, Exchange)
            self.assertEqual(Reply(334, "", encode(challenge).decode()), step)

    def test_a_question_first(self):
        """A mechanism that is passed on, and whose server speaks first: a question, before anything is said."""
        options = attrs.evolve(WITH_AUTH, mechanisms={**SERVER, "CRAM-MD5": partial(pass_on, "CRAM-MD5")})
        exchange, step = begin(b"CRAM-MD5", options)
        self.assertEqual(("CRAM-MD5", None), (step.mechanism, step.response))
        self.assertEqual(Reply(334, "", encode(CHALLENGE).decode()), exchange.supply(CHALLENGE))
        self.assertEqual(b"tim x", exchange.answer(encode(b"tim x")).response)

    def test_refuse(self):
        """RFC 7628 3.2.3: whose token is refused for good hears why, others do not; "*" is 501, all else the refusal."""
        for mechanism, reply in (("PLAIN", NO), ("OAUTHBEARER", Reply(454, "4.7.0", "Not now"))):
            self.assertIsNone(refuse(mechanism, reply))
        for mechanism in BEARER:
            refusal, challenge = refuse(mechanism, NO)
            self.assertEqual((334, why_refused(mechanism)), (challenge.code, decode(challenge.text.encode())))
            for line in (b"", b"AQ==", b"?", b"NOOP"):
                self.assertEqual(NO, refusal.answer(line))
            self.assertEqual(wording.AUTH_CANCELLED, self.assertRaises(MailError, refusal.answer, b"*").reply)

    def test_refusals(self):
        """RFC 4954 4 and 6: 501, 504, and 538 for what TLS would offer; a mechanism that cannot be one is bad syntax."""
        for argument, reply in (
            (b"", wording.AUTH_SYNTAX),
            (b"PLAIN a b", wording.AUTH_SYNTAX),
            (b"PL\xc3\x84IN", wording.AUTH_SYNTAX),
            (b"X" * 21, wording.AUTH_SYNTAX),
            (b"SCRAM-SHA-256", wording.AUTH_UNKNOWN),
            (b"LOGIN", wording.AUTH_NEEDS_TLS),
            (b"CRAM-MD5 dGlt", wording.AUTH_NOT_FIRST),
            (b"PLAIN ?", wording.AUTH_UNDECODABLE),
            (b"PLAIN =", wording.AUTH_UNDECODABLE),
        ):
            self.assertEqual(reply, self.refusal(argument, auth=("PLAIN", "CRAM-MD5"), auth_elsewhere=("LOGIN",)), argument)

    def test_each_challenge_is_new(self):
        """RFC 2195 2: what another client was asked is of no use."""
        challenges = iter([b"<1@x>", b"<2@x>"])
        options = attrs.evolve(WITH_AUTH, challenge=lambda: next(challenges))
        steps = [begin(b"CRAM-MD5", options)[1] for _ in range(2)]
        self.assertEqual([encode(b"<1@x>").decode(), encode(b"<2@x>").decode()], [step.text for step in steps])


class AuthTests(SynchronousTestCase):
    def test_who(self):
        """The session is asked once; then the client is known, until the machine is gone."""
        talk = hello()
        self.assertFalse(talk.machine.authenticated)
        self.assertEqual([235], talk.codes(PLAIN))
        self.assertEqual(([TIM], True), (asked(talk), talk.machine.authenticated))
        talk.say(b"RSET\r\nEHLO c.test\r\n")
        self.assertTrue(talk.machine.authenticated)

    def test_wrong(self):
        """535 is counted, 454 is not; neither makes the client known, nor does a 2yz that is not 235."""
        talk = hello()
        talk.answers[Auth] = [NO, Reply(454, "4.7.0", "Later"), Reply(250, "2.0.0", "Ok")]
        self.assertEqual([535, 454, 250], talk.codes(PLAIN * 3))
        self.assertEqual((1, 0, False), (talk.counters.auth_failures, talk.counters.errors, talk.machine.authenticated))

    def test_while_the_answer_waits(self):
        """Law 1: nothing is parsed while the portal thinks; what came behind is obeyed then."""
        machine = hello().machine
        machine.receive_data(PLAIN + b"MAIL FROM:<>\r\n")
        self.assertEqual([Auth(TIM)], machine.events())
        self.assertEqual((14, b""), (machine.buffered, machine.data_to_send()))
        machine.reply(Reply(235, "2.7.0", "Ok"))
        self.assertIsInstance(machine.events()[0], MailFrom)

    def test_421(self):
        """The session may end it all, also in the middle of an exchange."""
        talk = hello()
        talk.answers[Auth] = [Reply(421, "4.7.0", "Go away")]
        self.assertEqual([421], talk.codes(PLAIN))
        self.assertTrue(talk.machine.ended)
        talk = hello()
        talk.say(b"AUTH LOGIN\r\n")
        talk.machine.shut(Reply(421, "4.4.2", "Timeout"))
        self.assertEqual(b"421 4.4.2 Timeout\r\n", talk.say(b"dGlt\r\n"))

    def test_unframed(self):
        """X14: a bare LF, a bare CR or a NUL in a response ends the conversation, whatever the pieces."""
        for response in (b"dGlt\nNOOP\r\n", b"dG\rlt\r\n", b"dGlt\0\r\n"):
            for pieces in (lambda data: [data], bytewise):
                talk = hello()
                talk.say(b"AUTH LOGIN\r\n")
                self.assertEqual(b"500 5.5.2", talk.say(response, pieces)[:9])
                self.assertTrue(talk.machine.ended)

    def test_nothing_is_repeated(self):
        """X17: no reply, and no event but Auth, has a word of the exchange; a repr has no password."""
        secret = encode(b"s3cret")
        talk = hello(attrs.evolve(WITH_AUTH, max_errors=99))
        said = b""
        for line in (b"AUTH X " + secret, b"AUTH CRAM-MD5 " + secret, b"AUTH PLAIN " + secret, b"AUTH PLAIN", secret + b"?"):
            said += talk.say(line + b"\r\n")
        self.assertEqual({"AUTH"}, {event.command for event in talk.events if type(event) is Refused})
        for line in (b"AUTH LOGIN dGlt", secret, b"AUTH PLAIN " + secret, secret):
            said += talk.say(line + b"\r\n")
        shown = said + repr([event for event in talk.events if type(event) is not Auth]).encode() + repr(talk.events).encode()
        for word in (secret, b"s3cret"):
            self.assertNotIn(word, shown)

    def test_forgotten_in_tls(self):
        """S10, S13, X02, A46, C1.5: who was known in clear is nobody in TLS; an exchange begun in clear is gone; failures stay."""
        options = attrs.evolve(WITH_AUTH, mail_requires="auth")
        talk = hello(options)
        talk.answers[Auth] = [NO]
        self.assertEqual([535, 235], talk.codes(PLAIN * 2))
        self.assertEqual([220], talk.codes(b"STARTTLS\r\n"))
        fresh = Talk(options, in_tls=True, counters=talk.counters, greet=False)
        self.assertFalse(fresh.machine.authenticated)
        self.assertEqual([503], fresh.codes(PLAIN))
        fresh.say(b"EHLO c.test\r\n")
        self.assertEqual([530], fresh.codes(b"MAIL FROM:<>\r\n"))
        self.assertEqual([235, 250], fresh.codes(PLAIN + b"MAIL FROM:<>\r\n"))
        self.assertEqual(1, fresh.counters.auth_failures)


class AnyTests(SynchronousTestCase):
    @settings(deadline=None, max_examples=200)
    @given(
        st.lists(
            st.one_of(
                st.sampled_from([b"AUTH LOGIN\r\n", b"AUTH PLAIN\r\n", b"AUTH CRAM-MD5\r\n", PLAIN, b"*\r\n", b"=\r\n", b"\r\n"]),
                st.binary(max_size=40).map(lambda octets: encode(octets) + b"\r\n"),
                st.binary(max_size=40),
                st.sampled_from([b"AUTH ", b"\r", b"\n", b"\0", b"x" * 13_000, b"EHLO c.test\r\n", b"QUIT\r\n"]),
            ),
            max_size=20,
        ),
        st.lists(st.sampled_from([235, 535, 454]), max_size=6),
    )
    def test_any_bytes(self, pieces, codes):
        """Nothing is ever raised, and nobody is authenticated whom the session did not let in."""
        talk = hello(attrs.evolve(WITH_AUTH, max_errors=99, max_auth_failures=2))
        talk.answers[Auth] = [Reply(code, "", "x") for code in codes] + [NO] * 20
        for piece in pieces:
            talk.say(piece)
            self.assertTrue(talk.machine.ended or talk.machine.buffered <= 12_288 + 40)
        self.assertEqual(235 in codes[: len(asked(talk))], talk.machine.authenticated)
        self.assertLessEqual(talk.counters.auth_failures, 2)

    @settings(deadline=None, max_examples=150)
    @given(
        st.lists(
            st.sampled_from(
                [b"AUTH LOGIN dGlt", b"AUTH PLAIN", b"AUTH CRAM-MD5", b"AUTH X", b"*", b"dGFu", b"x" * 13_000, b"NOOP"]
            ),
            max_size=8,
        ),
        st.lists(st.integers(0, 30_000), max_size=6),
    )
    def test_any_pieces(self, lines, places):
        """The same events, replies and counters, however each line of an exchange arrives."""
        results = []
        for pieces in (lambda data: [data], lambda data: cut(data, places), lambda data: cut(data, range(0, len(data), 7))):
            talk = hello()
            said = [talk.say(line + b"\r\n", pieces) for line in lines]
            results.append((said, talk.events, talk.counters, talk.machine.authenticated))
        self.assertEqual(results[0], results[1])
        self.assertEqual(results[0], results[2])
