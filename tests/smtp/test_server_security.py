"""The receiver's machine against those who mean harm, or speak something else: framing, STARTTLS, limits."""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from mta.smtp.event import Hello, MailFrom, Refused, Reset, StartTls
from mta.smtp.server import Counters, Receiver
from mta.status import Reply
from tests.smtp.talk import OPTIONS, Talk, bytewise

LATER = Reply(454, "4.7.0", "TLS not available due to local problem")


class StartTlsTests(SynchronousTestCase):
    def hello(self, **changes) -> Talk:
        talk = Talk(attrs.evolve(OPTIONS, **changes))
        talk.say(b"EHLO c.test\r\n")
        return talk

    def test_go(self):
        """S04: in any letters, with blanks behind; then the machine is dead."""
        for line in (b"STARTTLS\r\n", b"starttls\r\n", b"STARTTLS  \r\n"):
            talk = self.hello()
            self.assertEqual(b"220 2.0.0 Ready to start TLS\r\n", talk.say(line))
            self.assertEqual(b"", talk.say(b"NOOP\r\n"))
            self.assertEqual((0, False), (talk.machine.buffered, talk.machine.ended))

    def test_argument(self):
        """S04, S43: 501, stays."""
        talk = self.hello()
        self.assertEqual([501, 501, 220], talk.codes(b"STARTTLS foo\r\nSTARTTLS example.com\r\n") + talk.codes(b"STARTTLS\r\n"))

    def test_in_tls(self):
        """S03: not listed, 503, and NOOP still works."""
        talk = Talk(in_tls=True, greet=False)
        self.assertNotIn(b"STARTTLS", talk.say(b"EHLO c.test\r\n"))
        self.assertEqual(b"503 5.5.1 TLS already active\r\n250 2.0.0 Ok\r\n", talk.say(b"STARTTLS\r\nNOOP\r\n"))

    def test_not_offered(self):
        """S05, S06, S30a: not listed, 502."""
        talk = Talk(attrs.evolve(OPTIONS, starttls=False))
        self.assertNotIn(b"STARTTLS", talk.say(b"EHLO c.test\r\n"))
        self.assertEqual(b"502 5.5.1 Command not implemented\r\n", talk.say(b"STARTTLS\r\n"))

    def test_before_ehlo(self):
        """S02, S07: 503 before EHLO and after HELO; 220 where the setting says so."""
        self.assertEqual([503], Talk().codes(b"STARTTLS\r\n"))
        talk = Talk()
        self.assertEqual([250, 503], talk.codes(b"HELO c.test\r\n") + talk.codes(b"STARTTLS\r\n"))
        self.assertEqual([220], Talk(attrs.evolve(OPTIONS, starttls_needs_ehlo=False)).codes(b"STARTTLS\r\n"))

    def test_fourth(self):
        """S08: 421 and the end."""
        talk = self.hello()
        talk.answers[StartTls] = [LATER] * 3
        self.assertEqual([454, 454, 454, 421], talk.codes(b"STARTTLS\r\n" * 4))
        self.assertTrue(talk.machine.ended)

    def test_not_now(self):
        """S09, S32: 454, and the conversation goes on in clear, pipelined bytes and all."""
        talk = self.hello()
        talk.answers[StartTls] = [LATER]
        self.assertEqual([454, 250, 250], talk.codes(b"STARTTLS\r\nNOOP\r\nMAIL FROM:<>\r\n"))

    def test_bytes_behind(self):
        """S18, X01, CVE-2011-0411: 554 and the end, whole line or a single byte; what lies behind is never executed."""
        for behind in (b"RSET\r\n", b"\x16", b"MAIL FROM:<evil@x>\r\n", b"\r\n"):
            talk = self.hello()
            self.assertEqual(b"554 5.5.0 SMTP protocol synchronization\r\n", talk.say(b"STARTTLS\r\n" + behind))
            self.assertTrue(talk.machine.ended)
            self.assertEqual([Hello, StartTls, Refused], [type(event) for event in talk.events])
            self.assertEqual((0, 1), (talk.machine.buffered, talk.counters.errors))

    def test_bytes_behind_while_the_answer_waits(self):
        """S18: also when they come in another segment, before 220 was said."""
        machine = Receiver(OPTIONS, Counters())
        machine.greet()
        machine.receive_data(b"EHLO c.test\r\n")
        machine.events()
        machine.reply(Reply(250, "", ""))
        machine.receive_data(b"STARTTLS\r\n")
        machine.data_to_send()
        machine.receive_data(b"M")
        machine.reply(Reply(220, "2.0.0", "Go"))
        self.assertEqual(b"554", machine.data_to_send()[:3])
        self.assertTrue(machine.ended)

    def test_in_transaction(self):
        """S12: the transaction is dropped, before 220; or 503 where the setting says so."""
        talk = Talk().begin()
        self.assertEqual([220], talk.codes(b"STARTTLS\r\n"))
        self.assertEqual([Reset, StartTls], [type(event) for event in talk.events[-2:]])
        talk = Talk(attrs.evolve(OPTIONS, starttls_in_transaction="refuse")).begin()
        self.assertEqual([503, 354], talk.codes(b"STARTTLS\r\n") + talk.codes(b"DATA\r\n"))

    def test_fresh_machine(self):
        """S10, S11, A44, A45: knows nothing but the counters; does not greet; EHLO is needed again."""
        talk = self.hello()
        talk.codes(b"STARTTLS\r\n")
        fresh = Talk(in_tls=True, counters=talk.counters, greet=False)
        fresh.machine.greet()
        self.assertEqual(b"", fresh.machine.data_to_send())
        self.assertEqual(("", False), (fresh.machine.hello_name, fresh.machine.extended))
        self.assertEqual([503, 503, 250, 250, 221], fresh.codes(b"MAIL FROM:<>\r\nAUTH PLAIN\r\nNOOP\r\nRSET\r\nQUIT\r\n"))
        self.assertEqual((7, 2, 1), (fresh.counters.commands, fresh.counters.errors, fresh.counters.starttls))

    def test_errors_go_on_counting(self):
        """S14: the limit is of the connection, not of the machine."""
        talk = self.hello()
        talk.codes(b"X\r\n" * 4)
        talk.codes(b"STARTTLS\r\n")
        self.assertEqual([500, 421], Talk(in_tls=True, counters=talk.counters, greet=False).codes(b"X\r\nX\r\nNOOP\r\n"))


class UnsynchronisedTests(SynchronousTestCase):
    def test_before_the_greeting(self):
        """X16: a client that does not wait gets 554 for a greeting."""
        talk = Talk(greet=False)
        self.assertEqual(b"", talk.say(b"EHLO c.test\r\n"))
        talk.machine.greet()
        self.assertEqual(b"554 5.5.0 SMTP protocol synchronization\r\n", talk.machine.data_to_send())
        self.assertTrue(talk.machine.ended)

    def test_behind_hello(self):
        """X16: RFC 2920 3.1, EHLO is the last command of its group."""
        for verb in (b"EHLO", b"HELO"):
            talk = Talk()
            self.assertEqual([554], talk.codes(verb + b" c.test\r\nMAIL FROM:<>\r\n"))
            self.assertTrue(talk.machine.ended)

    def test_behind_data(self):
        """X16: a body that came before 354 is not read as one, nor as commands."""
        talk = Talk().begin()
        self.assertEqual([554], talk.codes(b"DATA\r\nSubject: x\r\n\r\nMAIL FROM:<evil@x>\r\n.\r\n"))
        self.assertTrue(talk.machine.ended)
        self.assertEqual([], talk.messages)

    def test_behind_refused_data(self):
        """X16: nor is a body behind a DATA that is refused."""
        talk = Talk()
        talk.say(b"EHLO c.test\r\n")
        self.assertEqual([250, 554], talk.codes(b"MAIL FROM:<>\r\nDATA\r\nMAIL FROM:<evil@x>\r\n"))
        self.assertTrue(talk.machine.ended)


class FramingTests(SynchronousTestCase):
    def test_bare_bytes_in_commands(self):
        """X14: 500 5.5.2 and the end; counted as an error; nothing of the line is executed."""
        for line in (b"NOOP\nNOOP", b"MAIL FROM:<a\nb@c.test>", b"EHLO a\rb", b"NOOP\0", b"RSET\n", b"\r", b"EHLO a\r"):
            for pieces in (lambda data: [data], bytewise):
                talk = Talk()
                talk.say(b"EHLO c.test\r\n")
                events = len(talk.events)
                self.assertEqual(b"500 5.5.2", talk.say(line + b"\r\nNOOP\r\n", pieces)[:9], line)
                self.assertTrue(talk.machine.ended)
                self.assertEqual([Refused], [type(event) for event in talk.events[events:]])
                self.assertEqual(1, talk.counters.errors)

    def test_line_too_long(self):
        """RFC 5321 4.5.3.1.10: 500, and the next line is good."""
        for pieces in (lambda data: [data], bytewise):
            talk = Talk()
            self.assertEqual(
                b"500 5.5.2 Line too long\r\n250 2.0.0 Ok\r\n", talk.say(b"NOOP " + b"x" * 5000 + b"\r\nNOOP\r\n", pieces)
            )

    def test_512_octets(self):
        """RFC 5321 4.5.3.1.4: a line of 512 octets is read."""
        self.assertEqual([250], Talk().codes(b"NOOP " + b"x" * 505 + b"\r\n"))


class ErrorTests(SynchronousTestCase):
    def test_too_many_errors(self):
        """max_errors refusals, then 421 4.7.0 and the end."""
        talk = Talk()
        self.assertEqual([500, 250, 500, 500, 500, 500, 421], talk.codes(b"X\r\nNOOP\r\n" + b"X\r\n" * 9))
        self.assertTrue(talk.machine.ended)
        self.assertEqual(Refused("", Reply(421, "4.7.0", "Too many errors")), talk.events[-1])

    def test_refusals_of_the_session_are_no_errors(self):
        """They are counted where they are decided."""
        talk = Talk()
        talk.say(b"EHLO c.test\r\n")
        talk.answers[MailFrom] = [Reply(550, "5.7.1", "No")] * 20
        self.assertEqual([550] * 20, talk.codes(b"MAIL FROM:<>\r\n" * 20))
        self.assertEqual(0, talk.counters.errors)

    def test_other_protocols(self):
        """S48, X17: 554 and the end at once, in clear and in TLS."""
        for line in (b"GET / HTTP/1.1", b"POST /x HTTP/1.1", b"CONNECT a:25 HTTP/1.1", b"USER x", b"Host: a.test"):
            for in_tls in (False, True):
                talk = Talk(in_tls=in_tls, greet=not in_tls)
                self.assertEqual(b"554 5.5.1 This is a mail server\r\n", talk.say(line + b"\r\nEHLO c.test\r\n"), line)
                self.assertTrue(talk.machine.ended)

    def test_no_echo(self):
        """X17: no reply has a word of the client's."""
        talk = Talk(attrs.evolve(OPTIONS, max_errors=99))
        talk.say(b"EHLO c.test\r\n")
        said = talk.say(
            b"XYZZY\r\nMAIL FROM:<XYZZY>\r\nMAIL FROM:<> XYZZY=XYZZY\r\nMAIL XYZZY\r\nRCPT TO:<XYZZY@x>\r\nHELP XYZZY\r\nVRFY XYZZY\r\nNOOP XYZZY\r\nEHLO XYZZY XYZZY\r\n"
        )
        self.assertEqual(9, said.count(b"\r\n"))
        self.assertNotIn(b"XYZZY", said)

    def test_refused_names_only_words_of_ours(self):
        """What is logged of a refused command is a verb, or nothing."""
        talk = Talk()
        talk.say(b"XYZZY\r\nMAIL FROM:<>\r\n\xff\xfe\r\n")
        self.assertEqual(["", "MAIL", ""], [event.command for event in talk.events])


class EndTests(SynchronousTestCase):
    def test_shut(self):
        """421 at any time, also while an answer is due; a late answer is dropped."""
        machine = Talk().begin().machine
        machine.receive_data(b"DATA\r\n")
        machine.shut(Reply(421, "4.3.2", "Shutting down"))
        machine.shut(Reply(421, "4.3.2", "Shutting down"))
        machine.reply(Reply(354, "", "Go"))
        self.assertEqual((b"421 4.3.2 Shutting down\r\n", True), (machine.data_to_send(), machine.ended))
        machine.receive_data(b"x" * 100)
        self.assertEqual(0, machine.buffered)

    def test_answer_421(self):
        """RFC 5321 3.8: 421 closes, whatever it answers."""
        talk = Talk()
        talk.say(b"EHLO c.test\r\n")
        talk.answers[MailFrom] = [Reply(421, "4.7.0", "Go away")]
        self.assertEqual([421], talk.codes(b"MAIL FROM:<>\r\nNOOP\r\n"))
        self.assertTrue(talk.machine.ended)

    def test_answer_to_nothing(self):
        """A mistake of the session, said loudly."""
        self.assertRaises(RuntimeError, Talk().machine.reply, Reply(250, "", ""))

    def test_shut_in_the_body(self):
        """The body is gone; nothing of it is read any more."""
        talk = Talk().begin()
        talk.say(b"DATA\r\n")
        talk.machine.shut(Reply(421, "4.4.2", "Timeout"))
        self.assertEqual(b"421 4.4.2 Timeout\r\n", talk.say(b"a\r\n.\r\n"))
        self.assertFalse(talk.machine.in_transaction)
