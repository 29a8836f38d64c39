"""The sender's machine against servers and men in the middle: injected, endless, broken replies."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.smtp.client import Sender, Transaction
from mta.smtp.event import BodyWanted, Broken, Ended, Greeted, HelloAnswered, StartTlsAnswered, Transacted
from mta.status import Reply
from tests.smtp.talk import bytewise, cut
from tests.smtp.test_client import ONE, TWO, hear, sender


class StartTlsTests(SynchronousTestCase):
    def ask(self) -> Sender:
        machine = sender("STARTTLS")
        machine.starttls()
        self.assertEqual((b"STARTTLS\r\n", "starttls"), (machine.data_to_send(), machine.awaiting))
        return machine

    def test_go(self):
        """C28: of one line or several; what comes then is not for this machine."""
        for data, text in ((b"220 2.0.0 go\r\n", "go"), (b"220-2.0.0 a\r\n220 2.0.0 b\r\n", "a\nb")):
            machine = self.ask()
            self.assertEqual([StartTlsAnswered(Reply(220, "2.0.0", text))], hear(machine, data))
            self.assertEqual([], hear(machine, b"\x16\x03\x01"))
            self.assertFalse(machine.is_idle)

    def test_other_answers(self):
        """C22: each is told as it is, and the conversation goes on in clear; C24: 421 is the end."""
        for code in (250, 354, 454, 500, 501, 502, 530, 221):
            machine = self.ask()
            self.assertEqual([StartTlsAnswered(Reply(code, "", "x"))], hear(machine, f"{code} x\r\n".encode()))
            self.assertTrue(machine.is_idle)
        self.assertEqual([Ended(Reply(421, "", "x"))], hear(self.ask(), b"421 x\r\n"))
        self.assertIsInstance(hear(self.ask(), b"garbage\r\n")[0], Broken)

    def test_bytes_behind(self):
        """C26, C27, X03: one byte is enough; nothing of it is read."""
        for behind in (b"250-x\r\n250 AUTH LOGIN\r\n", b"2", b"\r", b"\x16\x03", b"250 x\r\n"):
            machine = self.ask()
            self.assertEqual([Broken("bytes behind the reply to STARTTLS")], hear(machine, b"220 go\r\n" + behind), behind)
            machine.hello()
            self.assertEqual((b"", [], {"STARTTLS": ""}), (machine.data_to_send(), machine.events(), machine.extensions))

    def test_alone_in_its_segment(self):
        """C08: nothing is sent behind STARTTLS."""
        machine = Sender("c.test")
        self.assertEqual([Greeted], [type(event) for event in hear(machine, b"220 x\r\n")])
        machine.hello()
        hear(machine, b"250-x\r\n250 STARTTLS\r\n")
        machine.data_to_send()
        machine.starttls()
        self.assertEqual(b"STARTTLS\r\n", machine.data_to_send())

    def test_in_tls(self):
        """C05: STARTTLS offered in TLS is not there; C06, X08: nothing is known before EHLO was said again."""
        machine = Sender("c.test", in_tls=True)
        self.assertEqual(({}, ""), (machine.extensions, machine.awaiting))
        machine.hello()
        (event,) = hear(machine, b"250-x\r\n250-STARTTLS\r\n250 SIZE 1\r\n")
        self.assertEqual({"SIZE": "1"}, event.extensions)

    def test_ehlo_refused_in_tls(self):
        """C07, A43: no HELO in TLS."""
        machine = Sender("c.test", in_tls=True)
        machine.hello()
        machine.data_to_send()
        self.assertEqual([HelloAnswered(Reply(500, "", "x"), {})], hear(machine, b"500 x\r\n"))
        self.assertEqual(b"", machine.data_to_send())


class InjectionTests(SynchronousTestCase):
    def test_reply_before_ehlo(self):
        """C29: a reply that was there before EHLO is not its answer: whole, or begun."""
        for behind in (b"250 x\r\n", b"250-x\r\n", b"2"):
            machine = Sender("c.test")
            machine.receive_data(b"220 x\r\n" + behind)
            events = machine.events()
            machine.hello()
            events += machine.events()
            self.assertEqual([Greeted, Broken], [type(event) for event in events], behind)
            self.assertEqual(b"", machine.data_to_send())

    def test_reply_before_the_next_command(self):
        """X03: the same in lock-step, where the machine itself asks on."""
        for machine, behind in ((sender(), b"250 r\r\n"), (sender(), b"2")):
            machine.transact(ONE)
            machine.data_to_send()
            self.assertEqual([Broken("bytes that nobody asked for")], hear(machine, b"250 m\r\n" + behind))
            self.assertEqual(b"", machine.data_to_send())
        machine = sender()
        machine.hello()
        machine.data_to_send()
        self.assertIsInstance(hear(machine, b"500 x\r\n250 y\r\n")[0], Broken)
        self.assertEqual(b"", machine.data_to_send())

    def test_two_final_lines(self):
        """C10: a second final line to EHLO is a reply that nobody asked for."""
        machine = sender()
        machine.hello()
        self.assertEqual([HelloAnswered, Broken], [type(event) for event in hear(machine, b"250 AUTH\r\n250 STARTTLS\r\n")])

    def test_unread_bytes_are_not_idle(self):
        """H41: a conversation with bytes unread is not handed on, and no transaction begins on it."""
        machine = sender("PIPELINING")
        self.assertTrue(machine.is_idle)
        self.assertEqual([], hear(machine, b"25"))
        self.assertFalse(machine.is_idle)
        machine.transact(ONE)
        self.assertEqual((b"", [Broken("bytes that nobody asked for")]), (machine.data_to_send(), machine.events()))

    def test_while_the_body_is_sent(self):
        """A reply in the middle of the body is no answer to its end."""
        machine = sender("PIPELINING")
        machine.transact(ONE)
        hear(machine, b"250 m\r\n250 r\r\n354 go\r\n")
        machine.send_body(b"x\r\n")
        self.assertEqual([Broken], [type(event) for event in hear(machine, b"250 2.0.0 Ok\r\n")])
        machine.data_to_send()
        machine.end_body()
        self.assertEqual(b"", machine.data_to_send())

    def test_with_the_354(self):
        """The same when it comes in one segment with 354: the event to be heeded is the last."""
        machine = sender("PIPELINING")
        machine.transact(ONE)
        events = hear(machine, b"250 m\r\n250 r\r\n354 go\r\n250 2.0.0 Ok\r\n")
        self.assertEqual([BodyWanted, Broken], [type(event) for event in events])
        machine.data_to_send()
        machine.send_body(b"x")
        machine.end_body()
        self.assertEqual(b"", machine.data_to_send())

    def test_bad_replies(self):
        """X23: different codes, lines too long, replies without end, garbage."""
        for data in (
            b"250-a\r\n550 b\r\n",
            b"250 " + b"x" * 3000,
            b"250-x\r\n" * 600,
            b"SSH-2.0\r\n",
            b"250 a\n",
            b"\x16\x03\x01\x00\n",
        ):
            for pieces in ([data], bytewise(data)):
                machine = sender()
                machine.reset()
                events = hear(machine, *pieces)
                self.assertEqual([Broken], [type(event) for event in events], data[:20])
                self.assertEqual("rset", machine.awaiting)


class EndedTests(SynchronousTestCase):
    def test_idle(self):
        """H25: 421 without a question is the end, not a fault; also in two pieces."""
        for pieces in ([b"421 4.4.2 timeout\r\n"], bytewise(b"421 4.4.2 timeout\r\n")):
            machine = sender()
            self.assertEqual([Ended(Reply(421, "4.4.2", "timeout"))], hear(machine, *pieces))
            machine.reset()
            self.assertEqual((b"", False), (machine.data_to_send(), machine.is_idle))

    def test_in_a_transaction(self):
        """What was due, and what was answered, is known."""
        machine = sender("PIPELINING")
        machine.transact(TWO)
        self.assertEqual([Ended(Reply(421, "", "x"))], hear(machine, b"250 m\r\n550 a\r\n421 x\r\n250 x\r\n"))
        self.assertEqual(("rcpt", (Reply(550, "", "a"),)), (machine.awaiting, machine.replies))

    def test_at_the_end_of_data(self):
        """The delivery is not answered."""
        machine = sender("PIPELINING")
        machine.transact(ONE)
        hear(machine, b"250 m\r\n250 r\r\n354 go\r\n")
        machine.end_body()
        self.assertEqual([Ended(Reply(421, "", "x"))], hear(machine, b"421 x\r\n"))
        self.assertEqual("end_of_data", machine.awaiting)


class AnythingTests(SynchronousTestCase):
    @settings(deadline=None, max_examples=200)
    @given(
        st.lists(
            st.sampled_from(
                [b"250 ok\r\n", b"250-x\r\n", b"354 go\r\n", b"550 no\r\n", b"421 x\r\n", b"2", b"\r\n", b"\n", b"\0"]
            ),
            max_size=14,
        ),
        st.booleans(),
        st.booleans(),
        st.lists(st.integers(0, 120), max_size=6),
    )
    def test_any_server(self, parts, pipelining, rset, places):
        """Nothing is raised; one end at most; no delivery without a body; when all was asked the pieces do not matter."""
        data = b"".join(parts)
        whole, pieces = self.run_through([data], pipelining, rset), self.run_through(cut(data, places), pipelining, rset)
        if pipelining:
            self.assertEqual(whole, pieces)

    def run_through(self, pieces, pipelining, rset):
        machine = sender("PIPELINING") if pipelining else sender()
        machine.transact(Transaction("", ("b@mx.test", "d@mx.test"), 1, 0), rset)
        events = hear(machine, *pieces)
        ends = [event for event in events if type(event) in (Ended, Broken)]
        self.assertLessEqual(len(ends), 1)
        for event in events:
            if type(event) is Transacted:
                self.assertEqual(2, len(event.replies))
                self.assertFalse(any(reply.is_positive for reply in event.replies), "the body was never sent")
        return events
