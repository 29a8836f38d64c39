"""The receiver's machine: order of commands, answers, limits."""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from mta.envelope import Flag
from mta.smtp.event import BodyChunk, BodyEnd, BodyStart, Hello, MailFrom, Quit, RcptTo, Refused, Reset
from mta.smtp.server import Counters, Receiver
from mta.status import Reply
from tests.smtp.talk import OPTIONS, Talk, bytewise

NO = Reply(550, "5.7.1", "No")


class HelloTests(SynchronousTestCase):
    def test_greeting(self):
        """220 with our name first; once."""
        talk = Talk()
        self.assertEqual(b"220 mx.test ESMTP\r\n", talk.greeting)
        talk.machine.greet()
        self.assertEqual(b"", talk.machine.data_to_send())

    def test_ehlo(self):
        """S01: the list has STARTTLS once, without parameters."""
        talk = Talk()
        lines = talk.say(b"EHLO c.test\r\n").split(b"\r\n")
        self.assertEqual(b"250-mx.test", lines[0])
        self.assertEqual(1, sum(b"STARTTLS" in line for line in lines))
        self.assertEqual(b"250 STARTTLS", lines[-2])
        self.assertEqual(("c.test", True, [Hello("c.test", True)]), (talk.machine.hello_name, talk.machine.extended, talk.events))

    def test_helo(self):
        """S02: one line, no list."""
        talk = Talk()
        talk.answers[Hello] = [Reply(250, "2.0.0", "mx.test at your service")]
        self.assertEqual(b"250 mx.test at your service\r\n", talk.say(b"helo c.test\r\n"))
        self.assertEqual(("c.test", False), (talk.machine.hello_name, talk.machine.extended))

    def test_text_of_the_session(self):
        """RFC 5321 4.1.1.1: our name comes first, whatever the session says."""
        talk = Talk()
        talk.answers[Hello] = [Reply(250, "", "hello")]
        self.assertTrue(talk.say(b"EHLO c.test\r\n").startswith(b"250-mx.test hello\r\n"))

    def test_refused_by_the_session(self):
        """As if it had not been said."""
        talk = Talk()
        talk.answers[Hello] = [NO]
        self.assertEqual(b"550 5.7.1 No\r\n", talk.say(b"EHLO c.test\r\n"))
        self.assertEqual([503], talk.codes(b"MAIL FROM:<>\r\n"))

    def test_second_ehlo(self):
        """RFC 5321 4.1.4: drops the transaction, when it is accepted; a refused one does not."""
        talk = Talk().begin()
        self.assertEqual([501], talk.codes(b"EHLO\r\n"))
        self.assertTrue(talk.machine.in_transaction)
        self.assertEqual([250], talk.codes(b"EHLO d.test\r\n"))
        self.assertIsInstance(talk.events[-1], Reset)
        self.assertFalse(talk.machine.in_transaction)
        self.assertEqual("d.test", talk.machine.hello_name)


class TransactionTests(SynchronousTestCase):
    def test_message(self):
        """Each event with what it says, the body as it was, the counters."""
        for pieces in (lambda data: [data], bytewise):
            talk = Talk().begin(2)
            self.assertEqual(b"354 Go on\r\n", talk.say(b"DATA\r\n", pieces))
            self.assertEqual(b"250 2.0.0 Queued\r\n", talk.say(b"S: x\r\n\r\n..\r\n.\r\n", pieces))
            self.assertEqual([b"S: x\r\n\r\n.\r\n"], talk.messages)
            self.assertFalse(talk.machine.in_transaction)
            self.assertEqual(Counters(5, 0, 1, 1, 2, 0, 11, 0), talk.counters)

    def test_events(self):
        """In order, with paths, size and flags; the body in one chunk."""
        talk = Talk()
        talk.say(b"EHLO c.test\r\n")
        talk.say(b"MAIL FROM:<a@c.test> SIZE=5 BODY=8BITMIME\r\nRCPT TO:<Postmaster>\r\nDATA\r\n")
        talk.say(b"a\r\n.\r\n")
        _, mail, rcpt, start, chunk, end = talk.events
        self.assertEqual(("a@c.test", 5, Flag.EIGHTBITMIME), (mail.sender.address, mail.size, mail.flags))
        self.assertEqual("Postmaster", rcpt.recipient.address)
        self.assertEqual((BodyStart(), BodyChunk(b"a\r\n"), BodyEnd(3, None)), (start, chunk, end))

    def test_pipelined(self):
        """RFC 2920: everything up to DATA, and the next message behind the dot, each in one segment."""
        talk = Talk()
        talk.say(b"EHLO c.test\r\n")
        batch = b"MAIL FROM:<a@c.test>\r\nRCPT TO:<b@mx.test>\r\nDATA\r\n"
        self.assertEqual([250, 250, 354], talk.codes(batch))
        self.assertEqual([250, 250, 250, 354], talk.codes(b"one\r\n.\r\n" + batch))
        self.assertEqual([250, 221], talk.codes(b"two\r\n.\r\nQUIT\r\n"))
        self.assertEqual([b"one\r\n", b"two\r\n"], talk.messages)

    def test_nothing_is_parsed_while_an_answer_is_due(self):
        """Law 1: the machine waits, the bytes are counted; the answers come in order."""
        machine = Receiver(OPTIONS, Counters())
        machine.greet()
        machine.receive_data(b"EHLO c.test\r\n")
        machine.events()
        machine.reply(Reply(250, "", ""))
        machine.data_to_send()
        machine.receive_data(b"MAIL FROM:<>\r\nRCPT TO:<b@mx.test>\r\nNOOP\r\n")
        self.assertEqual([MailFrom], [type(event) for event in machine.events()])
        self.assertEqual((b"", 27), (machine.data_to_send(), machine.buffered))
        machine.receive_data(b"NO")
        machine.reply(Reply(250, "2.1.0", "Ok"))
        self.assertEqual([RcptTo], [type(event) for event in machine.events()])
        machine.reply(Reply(250, "2.1.5", "Ok"))
        self.assertEqual((b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n250 2.0.0 Ok\r\n", 2), (machine.data_to_send(), machine.buffered))

    def test_order(self):
        """RFC 5321 4.1.4: 503, and nothing has happened."""
        talk = Talk()
        self.assertEqual([503, 503, 503, 503], talk.codes(b"MAIL FROM:<>\r\nRCPT TO:<b@mx.test>\r\nDATA\r\nVRFY b\r\n"))
        talk = Talk()
        talk.say(b"EHLO c.test\r\n")
        self.assertEqual(
            [503, 503, 250, 503, 503], talk.codes(b"RCPT TO:<b@mx.test>\r\nDATA\r\nMAIL FROM:<>\r\nMAIL FROM:<>\r\nDATA\r\n")
        )
        self.assertEqual([250, 503], talk.codes(b"RCPT TO:<b@mx.test>\r\nMAIL FROM:<>\r\n"))

    def test_mail_refused(self):
        """No transaction begins."""
        talk = Talk()
        talk.say(b"EHLO c.test\r\n")
        talk.answers[MailFrom] = [NO]
        self.assertEqual([550, 503, 250], talk.codes(b"MAIL FROM:<>\r\nRCPT TO:<b@mx.test>\r\nMAIL FROM:<>\r\n"))

    def test_recipients_refused(self):
        """RFC 5321 3.3: DATA without a valid recipient is 554; one valid is enough."""
        talk = Talk()
        talk.say(b"EHLO c.test\r\n")
        talk.answers[RcptTo] = [NO, NO]
        self.assertEqual([250, 550, 554], talk.codes(b"MAIL FROM:<>\r\nRCPT TO:<b@mx.test>\r\nDATA\r\n"))
        self.assertEqual([550, 250, 354], talk.codes(b"RCPT TO:<b@mx.test>\r\nRCPT TO:<c@mx.test>\r\nDATA\r\n"))
        self.assertEqual((1, 2), (talk.counters.recipients, talk.counters.rejected))
        talk.say(b".\r\n")
        self.assertEqual([250, 503], talk.codes(b"MAIL FROM:<>\r\nDATA\r\n"), "those were of another message")

    def test_bad_recipients_are_refused_recipients(self):
        """A RCPT that the machine refused makes DATA 554 as well."""
        talk = Talk()
        talk.say(b"EHLO c.test\r\n")
        self.assertEqual([250, 501, 554], talk.codes(b"MAIL FROM:<>\r\nRCPT TO:<>\r\nDATA\r\n"))

    def test_too_many_recipients(self):
        """RFC 5321 4.5.3.1.10: 452 4.5.3, no error; those before stay accepted."""
        talk = Talk()
        talk.say(b"EHLO c.test\r\n")
        self.assertEqual([250, 250, 250, 250] + [452] * 9, talk.codes(b"MAIL FROM:<>\r\n" + b"RCPT TO:<b@mx.test>\r\n" * 12))
        self.assertEqual((0, 9), (talk.counters.errors, talk.counters.rejected))
        self.assertEqual([354], talk.codes(b"DATA\r\n"))
        self.assertEqual([250, 250, 250], talk.codes(b".\r\nMAIL FROM:<>\r\nRCPT TO:<b@mx.test>\r\n"))

    def test_data_refused_by_the_session(self):
        """The transaction goes on: the client may try again."""
        talk = Talk().begin()
        talk.answers[BodyStart] = [Reply(451, "4.3.0", "Later")]
        self.assertEqual([451], talk.codes(b"DATA\r\n"))
        self.assertEqual([354], talk.codes(b"DATA\r\n"))

    def test_message_refused_by_the_session(self):
        """The transaction is over all the same."""
        talk = Talk().begin()
        talk.answers[BodyEnd] = [Reply(452, "4.3.1", "Full")]
        self.assertEqual([354], talk.codes(b"DATA\r\n"))
        self.assertEqual([452, 250], talk.codes(b".\r\nMAIL FROM:<>\r\n"))
        self.assertEqual(0, talk.counters.messages)

    def test_rset(self):
        """Drops the transaction; allowed without one; says Reset each time."""
        talk = Talk().begin()
        self.assertEqual([250, 503, 250, 501], talk.codes(b"RSET\r\nRCPT TO:<b@mx.test>\r\nRSET\r\nRSET x\r\n"))
        self.assertEqual(2, sum(isinstance(event, Reset) for event in talk.events))

    def test_smtputf8_is_of_one_transaction(self):
        """RFC 6531 3.4: without the parameter addresses are ASCII; S10: it does not stay."""
        talk = Talk()
        talk.say(b"EHLO c.test\r\n")
        rcpt = "RCPT TO:<ü@mx.test>\r\n".encode()
        self.assertEqual(
            [250, 553, 250, 250, 250], talk.codes(b"MAIL FROM:<>\r\n" + rcpt + b"RSET\r\nMAIL FROM:<> SMTPUTF8\r\n" + rcpt)
        )
        self.assertEqual([250, 250, 553], talk.codes(b"RSET\r\nMAIL FROM:<>\r\n" + rcpt))

    def test_bad_body_is_never_accepted(self):
        """Law 7: a session that says yes to a body with an error is overruled."""
        talk = Talk().begin()
        talk.say(b"DATA\r\n")
        talk.machine.receive_data(b"a\nb\r\n.\r\n")
        (end,) = talk.machine.events()
        self.assertEqual(550, end.error.code)
        talk.machine.reply(Reply(250, "2.0.0", "Fine"))
        self.assertEqual(b"550 5.6.0", talk.machine.data_to_send()[:9])
        self.assertEqual(0, talk.counters.messages)

    def test_size(self):
        """552 5.3.4 at MAIL where it was declared, at the end where not; nothing is given on after the limit."""
        talk = Talk()
        talk.say(b"EHLO c.test\r\n")
        self.assertEqual([552], talk.codes(b"MAIL FROM:<> SIZE=100001\r\n"))
        talk.begin()
        talk.say(b"DATA\r\n")
        for _ in range(200):
            talk.say(b"x" * 998 + b"\r\n")
        self.assertEqual([552], talk.codes(b".\r\n"))
        self.assertEqual(100_000, sum(len(event.data) for event in talk.events if type(event) is BodyChunk))

    def test_no_size_limit(self):
        """RFC 1870 4: 0 is no limit."""
        talk = Talk(attrs.evolve(OPTIONS, max_size=0))
        self.assertIn(b"250-SIZE 0\r\n", talk.say(b"EHLO c.test\r\n"))
        self.assertEqual([250], talk.codes(b"MAIL FROM:<> SIZE=99999999999\r\n"))


class SmallCommandTests(SynchronousTestCase):
    def test_small_commands(self):
        """NOOP with an argument, VRFY, HELP, in any letters, with blanks behind."""
        talk = Talk()
        talk.say(b"EHLO c.test\r\n")
        self.assertEqual([250, 250, 252, 214, 214], talk.codes(b"NOOP\r\nnoop x \r\nVrfy joe\r\nHELP\r\nHELP MAIL  \r\n"))

    def test_help_names_starttls_where_it_is_offered(self):
        """tls.md C1.1: never in HELP when not offered."""
        self.assertIn(b"STARTTLS", Talk().say(b"HELP\r\n"))
        self.assertNotIn(b"STARTTLS", Talk(attrs.evolve(OPTIONS, starttls=False)).say(b"HELP\r\n"))
        self.assertNotIn(b"STARTTLS", Talk(in_tls=True, greet=False).say(b"HELP\r\n"))

    def test_quit(self):
        """221, end; nothing behind it is read."""
        talk = Talk()
        self.assertEqual(b"221 2.0.0 Bye\r\n", talk.say(b"QUIT\r\nNOOP\r\n"))
        self.assertEqual([Quit()], talk.events)
        self.assertTrue(talk.machine.ended)
        self.assertEqual(b"", talk.say(b"NOOP\r\n"))
        self.assertEqual(0, talk.machine.buffered)

    def test_quit_with_argument(self):
        """RFC 5321 4.1.1.10: no argument; the conversation goes on."""
        talk = Talk()
        self.assertEqual([501, 250], talk.codes(b"QUIT now\r\nNOOP\r\n"))
        self.assertEqual([Refused("QUIT", Reply(501, "5.5.4", "No argument is allowed"))], talk.events)
