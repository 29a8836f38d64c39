"""The sender's machine: greeting, EHLO, transactions with and without pipelining."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mta.smtp.client import Sender, Transaction
from mta.smtp.event import (
    BodyWanted,
    Broken,
    Ended,
    Greeted,
    HelloAnswered,
    QuitAnswered,
    ResetAnswered,
    Transacted,
)
from mta.status import Reply
from tests.smtp.talk import bytewise

OK = Reply(250, "2.0.0", "Ok")
ONE = Transaction("a@c.test", ("b@mx.test",), 10, 0)
TWO = Transaction("a@c.test", ("b@mx.test", "d@mx.test"), 10, 0)
BATCH = b"MAIL FROM:<a@c.test>\r\nRCPT TO:<b@mx.test>\r\nRCPT TO:<d@mx.test>\r\nDATA\r\n"


def sender(*extensions: str) -> Sender:
    """A conversation that stands idle, with these extensions."""
    return Sender("c.test", extensions=dict([extension.partition(" ")[::2] for extension in extensions]))


def hear(machine: Sender, *pieces: bytes) -> list[object]:
    """The events of these bytes from the server."""
    events: list[object] = []
    for piece in pieces:
        machine.receive_data(piece)
        events += machine.events()
    return events


class OpeningTests(SynchronousTestCase):
    def test_greeting(self):
        """C09: of one line, of three, without text; byte by byte."""
        for data, text in (
            (b"220 mx.test ESMTP\r\n", "mx.test ESMTP"),
            (b"220-a\r\n220-b\r\n220 c\r\n", "a\nb\nc"),
            (b"220\r\n", ""),
        ):
            machine = Sender("c.test")
            self.assertEqual("greeting", machine.awaiting)
            self.assertEqual([Greeted(Reply(220, "", text))], hear(machine, data))
            self.assertEqual(("", True), (machine.awaiting, machine.is_idle))
            machine = Sender("c.test")
            self.assertEqual([Greeted(Reply(220, "", text))], hear(machine, *bytewise(data)))

    def test_greeting_refused(self):
        """C09: 554 is a greeting as well, 421 is the end."""
        self.assertEqual([Greeted(Reply(554, "5.7.1", "No"))], hear(Sender("c.test"), b"554 5.7.1 No\r\n"))
        machine = Sender("c.test")
        self.assertEqual([Ended(Reply(421, "", "Busy"))], hear(machine, b"421 Busy\r\n"))
        self.assertEqual("greeting", machine.awaiting)

    def test_ehlo(self):
        """The extensions are those of this answer."""
        machine = sender("SIZE 10", "CHUNKING")
        machine.hello()
        self.assertEqual((b"EHLO c.test\r\n", "hello"), (machine.data_to_send(), machine.awaiting))
        (event,) = hear(machine, b"250-mx.test\r\n250-pipelining\r\n250 SIZE 5\r\n")
        self.assertEqual({"PIPELINING": "", "SIZE": "5"}, event.extensions)
        self.assertEqual(event.extensions, machine.extensions)

    def test_helo(self):
        """RFC 5321 3.2: where EHLO is refused for good, HELO is said, once; there are no extensions then."""
        machine = sender()
        machine.hello()
        machine.data_to_send()
        self.assertEqual([], hear(machine, b"502 what?\r\n"))
        self.assertEqual((b"HELO c.test\r\n", "hello"), (machine.data_to_send(), machine.awaiting))
        self.assertEqual([HelloAnswered(Reply(250, "", "mx\nSIZE 1"), {})], hear(machine, b"250-mx\r\n250 SIZE 1\r\n"))
        machine = sender()
        machine.hello()
        hear(machine, b"502 what?\r\n")
        self.assertEqual([HelloAnswered(Reply(550, "", "no"), {})], hear(machine, b"550 no\r\n"))

    def test_ehlo_refused_for_now(self):
        """A 4yz to EHLO is an answer; HELO would not help."""
        machine = sender()
        machine.hello()
        self.assertEqual([HelloAnswered(Reply(450, "4.7.0", "later"), {})], hear(machine, b"450 4.7.0 later\r\n"))

    def test_quit(self):
        """The answer, then silence."""
        machine = sender()
        machine.quit()
        self.assertEqual((b"QUIT\r\n", "quit"), (machine.data_to_send(), machine.awaiting))
        self.assertEqual([QuitAnswered(Reply(221, "2.0.0", "Bye"))], hear(machine, b"221 2.0.0 Bye\r\nmore\r\n"))
        machine.reset()
        self.assertEqual((b"", False), (machine.data_to_send(), machine.is_idle))

    def test_reset(self):
        """RSET by itself: any answer is told, and the conversation goes on."""
        machine = sender()
        for line, reply in ((b"250 Ok\r\n", Reply(250, "", "Ok")), (b"500 what\r\n", Reply(500, "", "what"))):
            machine.reset()
            self.assertEqual((b"RSET\r\n", "rset"), (machine.data_to_send(), machine.awaiting))
            self.assertEqual([ResetAnswered(reply)], hear(machine, line))
        self.assertTrue(machine.is_idle)


class PipelinedTests(SynchronousTestCase):
    def begin(self, transaction: Transaction = TWO, rset: bool = False) -> Sender:
        machine = sender("PIPELINING")
        machine.transact(transaction, rset)
        self.sent = machine.data_to_send()
        return machine

    def test_message(self):
        """All up to DATA in one write; the body; each recipient gets the reply to it."""
        machine = self.begin()
        self.assertEqual((BATCH, "mail"), (self.sent, machine.awaiting))
        self.assertEqual([BodyWanted()], hear(machine, b"250 m\r\n250 r\r\n250 r\r\n354 go\r\n"))
        self.assertEqual("", machine.awaiting)
        machine.send_body(b"a\r\n.b")
        machine.end_body()
        self.assertEqual((b"a\r\n..b\r\n.\r\n", "end_of_data"), (machine.data_to_send(), machine.awaiting))
        self.assertEqual([Transacted((OK, OK), Reply(250, "", "m"), OK)], hear(machine, b"250 2.0.0 Ok\r\n"))
        self.assertTrue(machine.is_idle)

    def test_awaiting(self):
        """Names each reply in its turn, for the timer."""
        machine, names = self.begin(rset=True), []
        for line in (b"250 x\r\n", b"250 m\r\n", b"250 r\r\n", b"250 r\r\n", b"354 go\r\n"):
            names.append(machine.awaiting)
            hear(machine, line)
        self.assertEqual(["rset", "mail", "rcpt", "rcpt", "data"], names)

    def test_some_recipients_refused(self):
        """Each has its own reply, in order."""
        machine = self.begin()
        hear(machine, b"250 m\r\n550 5.1.1 who\r\n250 r\r\n354 go\r\n")
        machine.end_body()
        self.assertEqual(
            ((Reply(550, "5.1.1", "who"), OK), OK), ((event := hear(machine, b"250 2.0.0 Ok\r\n")[0]).replies, event.final)
        )

    def test_too_many_recipients(self):
        """552 behind a recipient that was taken means 452 (RFC 5321 4.5.3.1.10), unless it says that it means something else."""
        for line, code in ((b"552 too many", 452), (b"552 5.5.3 too many", 452), (b"552 5.2.2 full", 552), (b"550 who", 550)):
            for first, codes in ((b"250 r", [250, code]), (b"550 who", [550, int(line[:3])])):
                machine = self.begin()
                events = hear(
                    machine, b"250 m\r\n%b\r\n%b\r\n%b\r\n" % (first, line, b"354 go" if codes[0] == 250 else b"503 none")
                )
                machine.end_body()
                events += hear(machine, b"250 2.0.0 Ok\r\n") if codes[0] == 250 else []
                self.assertEqual(codes, [reply.code for reply in events[-1].replies], line)

    def test_mail_refused(self):
        """Every recipient gets that reply, not the 503 that follow."""
        machine, no = self.begin(), Reply(550, "5.7.1", "no")
        self.assertEqual([], hear(machine, b"550 5.7.1 no\r\n503 x\r\n"))
        self.assertEqual([Transacted((no, no), no, None)], hear(machine, b"503 x\r\n503 x\r\n"))
        self.assertTrue(machine.is_idle)

    def test_data_refused(self):
        """The recipients that were accepted get that reply."""
        machine = self.begin()
        (event,) = hear(machine, b"250 m\r\n550 r\r\n250 r\r\n451 4.3.0 full\r\n")
        self.assertEqual((Reply(550, "", "r"), Reply(451, "4.3.0", "full")), event.replies)
        self.assertIsNone(event.final)

    def test_no_recipient_but_354(self):
        """RFC 2920 3.1: a lone dot ends the data; what is said to it is no matter."""
        for answer in (b"250 ok\r\n", b"554 no valid recipients\r\n"):
            machine = self.begin()
            self.assertEqual([], hear(machine, b"250 m\r\n550 a\r\n450 b\r\n354 go\r\n"))
            self.assertEqual((b".\r\n", "end_of_data"), (machine.data_to_send(), machine.awaiting))
            (event,) = hear(machine, answer)
            self.assertEqual(((Reply(550, "", "a"), Reply(450, "", "b")), None), (event.replies, event.final))

    def test_mail_refused_but_354(self):
        """With no recipient accepted the lone dot ends it; with one it could be taken for a message: closed."""
        machine = self.begin()
        hear(machine, b"550 m\r\n550 a\r\n450 b\r\n354 go\r\n")
        self.assertEqual(b".\r\n", machine.data_to_send())
        self.assertIsInstance(hear(self.begin(), b"550 m\r\n250 a\r\n450 b\r\n354 go\r\n")[0], Broken)

    def test_data_answered_with_250(self):
        """X07: never a delivery; neither does another 3yz open the data."""
        for code in (b"250", b"221", b"334"):
            machine = self.begin()
            self.assertIsInstance(hear(machine, b"250 m\r\n250 a\r\n250 b\r\n" + code + b" x\r\n")[0], Broken)
            machine.send_body(b"secret")
            machine.end_body()
            self.assertEqual(b"", machine.data_to_send())

    def test_rset_in_front(self):
        """In the same write; its positive answer is not told."""
        machine = self.begin(ONE, rset=True)
        self.assertEqual(b"RSET\r\nMAIL FROM:<a@c.test>\r\nRCPT TO:<b@mx.test>\r\nDATA\r\n", self.sent)
        self.assertEqual([BodyWanted()], hear(machine, b"250 x\r\n250 m\r\n250 r\r\n354 go\r\n"))

    def test_rset_refused(self):
        """tls.md decision 8: it is told, and what follows is ignored."""
        machine = self.begin(ONE, rset=True)
        self.assertEqual([ResetAnswered(Reply(500, "", "x"))], hear(machine, b"500 x\r\n250 m\r\n250 r\r\n354 go\r\n"))
        self.assertEqual((b"", [], False), (machine.data_to_send(), machine.events(), machine.is_idle))

    def test_final_reply(self):
        """Whatever it is, it is that of the accepted recipients."""
        for line, reply in ((b"550 5.6.0 bad\r\n", Reply(550, "5.6.0", "bad")), (b"354 x\r\n", Reply(354, "", "x"))):
            machine = self.begin(ONE)
            hear(machine, b"250 m\r\n250 r\r\n354 go\r\n")
            machine.end_body()
            self.assertEqual([Transacted((reply,), Reply(250, "", "m"), reply)], hear(machine, line))


class LockStepTests(SynchronousTestCase):
    def run_through(self, transaction: Transaction, *lines: bytes, rset: bool = False) -> tuple[list[bytes], list[object]]:
        """What was sent after each line of the server's, and the events."""
        machine = sender()
        machine.transact(transaction, rset)
        sent, events = [machine.data_to_send()], []
        for line in lines:
            events += hear(machine, line)
            sent.append(machine.data_to_send())
        self.assertLessEqual(set(map(type, events)), {BodyWanted, Transacted, ResetAnswered})
        return sent, events

    def test_message(self):
        """One command at a time."""
        sent, events = self.run_through(TWO, b"250 x\r\n", b"250 m\r\n", b"250 r\r\n", b"251 r\r\n", b"354 go\r\n", rset=True)
        self.assertEqual([b"RSET\r\n", *BATCH.splitlines(keepends=True), b""], sent)
        self.assertEqual([BodyWanted()], events)

    def test_mail_refused(self):
        """Nothing more is asked."""
        no = Reply(450, "", "m")
        self.assertEqual(
            ([b"MAIL FROM:<a@c.test>\r\n", b""], [Transacted((no, no), no, None)]), self.run_through(TWO, b"450 m\r\n")
        )

    def test_no_recipient(self):
        """DATA is not said."""
        sent, events = self.run_through(TWO, b"250 m\r\n", b"550 a\r\n", b"450 b\r\n")
        self.assertEqual(b"", sent[-1])
        self.assertEqual([Transacted((Reply(550, "", "a"), Reply(450, "", "b")), Reply(250, "", "m"), None)], events)

    def test_rset_refused(self):
        """The transaction is not begun."""
        self.assertEqual(
            ([b"RSET\r\n", b""], [ResetAnswered(Reply(500, "", "x"))]), self.run_through(ONE, b"500 x\r\n", rset=True)
        )
