"""AUTH at the sender's machine: what is said to each challenge, and what a server may do wrong."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.smtp.client import Sender
from mta.smtp.credentials import Login, Terms, decode, encode
from mta.smtp.event import AuthAnswered, Broken, Ended, Transacted
from mta.smtp.sasl import CLIENT
from mta.smtp.scram import scram, verifier_of
from mta.status import Reply
from tests.smtp.test_client import ONE, hear, sender

TIM = Login("tim", "tanstaaftanstaaf")
YES = Reply(235, "2.7.0", "Ok")


class AuthTests(SynchronousTestCase):
    def ask(self, mechanism: str, said: bytes, login: Login = TIM) -> Sender:
        machine = sender("AUTH PLAIN LOGIN CRAM-MD5")
        machine.authenticate(mechanism, login)
        self.assertEqual((said, "auth"), (machine.data_to_send(), machine.awaiting))
        return machine

    def test_plain(self):
        """RFC 4616: with the command; only the last reply is told."""
        machine = self.ask("PLAIN", b"AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\n")
        self.assertEqual([AuthAnswered(YES, "PLAIN")], hear(machine, b"235 2.7.0 Ok\r\n"))
        self.assertTrue(machine.is_idle)

    def test_plain_asked_again(self):
        """A server that overlooked the initial response is told again."""
        machine = self.ask("PLAIN", b"AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\n")
        self.assertEqual([], hear(machine, b"334 \r\n"))
        self.assertEqual(b"AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\n", machine.data_to_send())

    def test_login(self):
        """Whatever the prompts say, the user comes first."""
        for prompts in ((b"334 VXNlcm5hbWU6\r\n", b"334 UGFzc3dvcmQ6\r\n"), (b"334\r\n", b"334 dXNlcg==\r\n")):
            machine = self.ask("LOGIN", b"AUTH LOGIN\r\n")
            said = []
            for prompt in prompts:
                self.assertEqual([], hear(machine, prompt))
                said.append(machine.data_to_send())
                self.assertEqual("auth", machine.awaiting)
            self.assertEqual([b"dGlt\r\n", b"dGFuc3RhYWZ0YW5zdGFhZg==\r\n"], said)
            self.assertEqual([AuthAnswered(YES, "LOGIN")], hear(machine, b"235 2.7.0 Ok\r\n"))

    def test_cram_md5(self):
        """RFC 2195 2: its own example; the password is never said."""
        machine = self.ask("CRAM-MD5", b"AUTH CRAM-MD5\r\n")
        hear(machine, b"334 PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+\r\n")
        self.assertEqual(b"dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw\r\n", machine.data_to_send())

    def scram(self, *replies: bytes) -> tuple[Sender, list[object]]:
        """A client that logs in by SCRAM to a server that says this; what it made of it."""
        machine = sender("AUTH SCRAM-SHA-256")
        machine.authenticate("SCRAM-SHA-256", TIM, Terms(b"client"))
        events: list[object] = []
        for reply in replies:
            machine.data_to_send()
            events += hear(machine, reply)
        return machine, events

    def test_scram(self):
        """RFC 5802: said at once, and done when the server has proved itself too."""
        server = scram("SCRAM-SHA-256", Terms(b"server"))
        machine, _ = self.scram()
        first = machine.data_to_send()
        self.assertEqual(b"AUTH SCRAM-SHA-256 " + encode(b"n,,n=tim,r=" + encode(b"client")) + b"\r\n", first)
        next(server)
        server.send(decode(first.split()[2]))
        challenge = server.send(verifier_of(TIM.password, b"salt"))
        for _ in range(2):
            self.assertEqual([], hear(machine, b"334 " + encode(challenge) + b"\r\n"))
            said = machine.data_to_send()
            challenge = server.send(decode(said.strip())) if said.strip() else b""
        self.assertEqual(b"\r\n", said)
        self.assertEqual([AuthAnswered(YES, "SCRAM-SHA-256")], hear(machine, b"235 2.7.0 Ok\r\n"))

    def test_scram_without_proof(self):
        """A server that says yes before it has proved to know the password is not believed; no is no at any time."""
        challenge = b"334 " + encode(b"r=" + encode(b"client") + b"x,s=AAAA,i=4096") + b"\r\n"
        for replies in (
            (b"235 Ok\r\n",),
            (challenge, b"235 Ok\r\n"),
            (challenge, b"250 Ok\r\n"),
            (challenge, b"334 dj1B\r\n", b"235 Ok\r\n"),
        ):
            _, events = self.scram(*replies)
            self.assertEqual([Broken], [type(event) for event in events], replies)
        no = AuthAnswered(Reply(535, "5.7.8", "no"), "SCRAM-SHA-256")
        for replies in (
            (b"535 5.7.8 no\r\n",),
            (challenge, b"535 5.7.8 no\r\n"),
            (challenge, b"334 dj1B\r\n", b"535 5.7.8 no\r\n"),
        ):
            self.assertEqual([no], self.scram(*replies)[1])

    def test_530(self):
        """C30, A41: that MAIL wants STARTTLS or AUTH first is told as it is, and either can be said then; when, the session knows."""
        machine = sender("AUTH PLAIN")
        machine.transact(ONE)
        machine.data_to_send()
        no = Reply(530, "5.7.0", "Must issue a STARTTLS or AUTH command first")
        self.assertEqual(
            [Transacted((no,), no, None)], hear(machine, b"530 5.7.0 Must issue a STARTTLS or AUTH command first\r\n")
        )
        machine.authenticate("PLAIN", TIM)
        self.assertEqual([AuthAnswered(YES, "PLAIN")], hear(machine, b"235 2.7.0 Ok\r\n"))
        machine.data_to_send()
        machine.starttls()
        self.assertEqual(b"STARTTLS\r\n", machine.data_to_send())

    def test_any_answer_is_told(self):
        """535, 454, 534, 504, even 250: the session decides; the conversation goes on."""
        for code in (250, 354, 432, 454, 501, 504, 530, 534, 535, 538):
            machine = self.ask("CRAM-MD5", b"AUTH CRAM-MD5\r\n")
            self.assertEqual([AuthAnswered(Reply(code, "", "x"), "CRAM-MD5")], hear(machine, b"%d x\r\n" % code))
            self.assertTrue(machine.is_idle)
            machine.authenticate("PLAIN", TIM)
            self.assertEqual([AuthAnswered(YES, "PLAIN")], hear(machine, b"235 2.7.0 Ok\r\n"))

    def test_421(self):
        """The end; what was due is still named."""
        machine = self.ask("LOGIN", b"AUTH LOGIN\r\n")
        self.assertEqual([Ended(Reply(421, "", "x"))], hear(machine, b"421 x\r\n"))
        self.assertEqual("auth", machine.awaiting)

    def test_bad_challenges(self):
        """RFC 4954 4: what is no base64, of several lines, or one challenge too many is answered with "*", and nothing secret."""
        bad = (
            b"334 ?\r\n",
            b"334 =AAA\r\n",
            b"334-dGlt\r\n334 dGlt\r\n",
            b"334 Username:\r\n",
            b"334 \xff\xfe\r\n",
            b"334 AA\x00A\r\n",
        )
        for challenge in bad[:-1]:
            machine = self.ask("LOGIN", b"AUTH LOGIN\r\n")
            self.assertEqual([], hear(machine, challenge))
            self.assertEqual(b"*\r\n", machine.data_to_send(), challenge)
            self.assertEqual([AuthAnswered(Reply(501, "5.7.0", "x"), "LOGIN")], hear(machine, b"501 5.7.0 x\r\n"))
            self.assertTrue(machine.is_idle)
        self.assertIsInstance(hear(self.ask("LOGIN", b"AUTH LOGIN\r\n"), bad[-1])[0], Broken)
        machine = self.ask("PLAIN", b"AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\n")
        hear(machine, b"334 \r\n")
        machine.data_to_send()
        hear(machine, b"334 \r\n")
        self.assertEqual(b"*\r\n", machine.data_to_send())

    def test_no_end_of_challenges(self):
        """X23: who asks on after "*" is no server."""
        machine = self.ask("LOGIN", b"AUTH LOGIN\r\n")
        hear(machine, b"334 ?\r\n")
        self.assertEqual([Broken("AUTH goes on though it was cancelled")], hear(machine, b"334 \r\n"))
        self.assertEqual("", machine.awaiting)

    def test_injected(self):
        """X03: bytes behind a challenge were sent before the response: nothing is said to it, least of all the password."""
        for behind in (b"235 2.7.0 Ok\r\n", b"334 UGFzc3dvcmQ6\r\n", b"2"):
            machine = self.ask("LOGIN", b"AUTH LOGIN\r\n")
            self.assertEqual([Broken("bytes that nobody asked for")], hear(machine, b"334 VXNlcm5hbWU6\r\n" + behind))
            self.assertEqual(b"", machine.data_to_send())

    def test_unread_bytes(self):
        """X03: nor is AUTH said over bytes that lie there."""
        machine = sender("AUTH PLAIN")
        hear(machine, b"2")
        machine.authenticate("PLAIN", TIM)
        self.assertEqual((b"", [Broken("bytes that nobody asked for")]), (machine.data_to_send(), machine.events()))

    def test_unknown_mechanism(self):
        """A mistake of the session, said loudly."""
        machine = sender()
        self.assertRaises(KeyError, machine.authenticate, "GSSAPI", TIM)
        self.assertTrue(machine.is_idle)

    def test_never_by_itself(self):
        """Law 6: an offer is no question."""
        machine = Sender("c.test", in_tls=True)
        machine.hello()
        machine.data_to_send()
        hear(machine, b"250-x\r\n250 AUTH PLAIN LOGIN\r\n")
        self.assertEqual((b"", "PLAIN LOGIN"), (machine.data_to_send(), machine.extensions["AUTH"]))

    @settings(deadline=None, max_examples=200)
    @given(
        st.sampled_from([*CLIENT]),
        st.lists(
            st.one_of(
                st.sampled_from(
                    [b"334 \r\n", b"334 dGlt\r\n", b"334 ?\r\n", b"235 ok\r\n", b"535 no\r\n", b"334-x\r\n", b"\r", b"\n"]
                ),
                st.binary(max_size=30),
            ),
            max_size=8,
        ),
    )
    def test_any_server(self, mechanism, pieces):
        """Nothing is ever raised; the password is said at most twice; after the end nothing is."""
        machine = sender("AUTH")
        machine.authenticate(mechanism, Login("u", "p4ss"))
        said, events = machine.data_to_send(), []
        for piece in pieces:
            events += hear(machine, piece)
            said += machine.data_to_send()
        self.assertLessEqual(said.count(b"\r\n"), 4)
        self.assertLessEqual(len([event for event in events if type(event) is AuthAnswered]), 1)
