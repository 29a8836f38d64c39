"""Who of the recipients gets which reply, and bodies in chunks between the machines (RFC 3030)."""

from __future__ import annotations

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.envelope import Flag
from mta.smtp.chunk_writer import CHUNK
from mta.smtp.client import Sender, Transaction
from mta.smtp.event import BodyStart, BodyWanted, Broken, ChunkEnd, Ended, Transacted
from mta.smtp.exchange import Exchange
from mta.status import Reply
from tests.smtp.test_client import OK, TWO, hear, sender
from tests.smtp.test_data import anything, cuts
from tests.smtp.test_pair import ROOMY, Pair

NO = Reply(550, "5.1.1", "no")
BINARY = attrs.evolve(TWO, flags=int(Flag.BINARYMIME))
SERVER = ("PIPELINING", "CHUNKING", "BINARYMIME", "8BITMIME")
LINES = b"MAIL FROM:<a@c.test> BODY=BINARYMIME\r\nRCPT TO:<b@mx.test>\r\nRCPT TO:<d@mx.test>\r\n"
BIG = b"\0\r\n" * CHUNK


class ExchangeTests(SynchronousTestCase):
    def test_decided(self):
        """That of MAIL for all, else each recipient's own, else what ended it."""
        exchange = Exchange(TWO, iter(()), chunked=False)
        exchange.mail, exchange.replies = OK, [OK, NO]
        self.assertEqual((NO, NO), exchange.decided(NO))
        self.assertEqual((OK, NO), exchange.decided(None))
        self.assertFalse(exchange.mail_refused)
        exchange.mail = NO
        self.assertEqual(((NO, NO), True), (exchange.decided(OK), exchange.mail_refused))


class ChunksTests(SynchronousTestCase):
    def begun(self, *replies: bytes) -> tuple[Sender, list[object]]:
        machine = sender(*SERVER)
        machine.transact(BINARY)
        self.assertEqual(LINES, machine.data_to_send())
        return machine, hear(machine, *replies)

    def test_message(self):
        """No DATA: chunks once the recipients are known, one reply for each, that of the last decides."""
        machine, events = self.begun(b"250 ok\r\n", b"250 ok\r\n550 5.1.1 no\r\n")
        self.assertEqual([BodyWanted()], events)
        machine.send_body(BIG)
        self.assertEqual(b"BDAT %d\r\n%s" % (len(BIG), BIG), machine.data_to_send())
        self.assertEqual(("chunk", False), (machine.awaiting, machine.body_ended))
        machine.send_body(b"\n.")
        machine.end_body()
        self.assertEqual(b"BDAT 2 LAST\r\n\n.", machine.data_to_send())
        self.assertEqual(("chunk", True), (machine.awaiting, machine.body_ended))
        self.assertEqual([], hear(machine, b"250 ok\r\n"))
        final = Reply(250, "2.0.0", "taken")
        self.assertEqual([Transacted((final, NO), Reply(250, "", "ok"), final)], hear(machine, b"250 2.0.0 taken\r\n"))
        self.assertTrue(machine.is_idle)

    def test_no_recipient(self):
        """No chunk is sent that nobody would get."""
        for replies, codes in (
            (b"250 ok\r\n550 5.1.1 no\r\n550 5.1.1 no\r\n", [550, 550]),
            (b"452 4.3.1 full\r\n503 x\r\n503 x\r\n", [452, 452]),
            (b"452 4.3.1 full\r\n250 x\r\n250 x\r\n", [452, 452]),
        ):
            machine, (done,) = self.begun(replies)
            self.assertEqual((codes, None), ([reply.code for reply in done.replies], done.final))
            self.assertEqual((b"", True), (machine.data_to_send(), machine.is_idle))

    def test_chunk_refused(self):
        """The refusal is that of the message; what was on its way is answered too, and no more of the body is sent."""
        machine, _ = self.begun(b"250 ok\r\n250 ok\r\n250 ok\r\n")
        machine.send_body(BIG)
        machine.send_body(BIG)
        machine.data_to_send()
        self.assertEqual([], hear(machine, b"452 4.3.1 full\r\n"))
        machine.send_body(BIG)
        machine.end_body()
        self.assertEqual(b"", machine.data_to_send())
        (done,) = hear(machine, b"503 5.5.1 no\r\n")
        full = Reply(452, "4.3.1", "full")
        self.assertEqual(((full, full), full), (done.replies, done.final))
        self.assertTrue(machine.is_idle)

    def test_chunk_refused_after_the_last(self):
        """Also when all of it was sent already."""
        machine, _ = self.begun(b"250 ok\r\n250 ok\r\n250 ok\r\n")
        machine.send_body(BIG)
        machine.end_body()
        machine.data_to_send()
        (done,) = hear(machine, b"554 5.6.0 no\r\n503 5.5.1 no\r\n")
        self.assertEqual(([554, 554], 554), ([reply.code for reply in done.replies], done.final.code))

    def test_cut_off(self):
        """421, or a reply too many, amid the chunks: the end, with what was answered so far."""
        for reply, kind in ((b"421 4.3.2 closing\r\n", Ended), (b"250 ok\r\n250 ok\r\n", Broken)):
            machine, _ = self.begun(b"250 ok\r\n250 ok\r\n250 ok\r\n")
            machine.send_body(BIG)
            self.assertIs(kind, type(hear(machine, reply)[-1]))
            self.assertEqual((2, False), (len(machine.replies), machine.is_idle))
            machine.send_body(BIG)
            machine.end_body()

    def test_only_where_all_is_offered(self):
        """DATA, as ever, where one of the extensions is missing or the message is not binary."""
        for missing in ("PIPELINING", "CHUNKING", "BINARYMIME"):
            machine = sender(*(keyword for keyword in SERVER if keyword != missing))
            machine.transact(BINARY)
            said = machine.data_to_send()
            hear(machine, b"250 ok\r\n")
            self.assertNotIn(b"BINARY", said + machine.data_to_send())
        machine = sender(*SERVER)
        machine.transact(TWO)
        self.assertTrue(machine.data_to_send().endswith(b"DATA\r\n"))


class PairTests(SynchronousTestCase):
    """With our own receiver."""

    def setUp(self) -> None:
        self.options = attrs.evolve(ROOMY, binarymime=True)

    @settings(deadline=None, max_examples=60)
    @given(st.lists(anything, max_size=4), st.integers(0, 2), cuts)
    def test_octets_arrive_unchanged(self, pieces, large, places):
        """RFC 3030 3: any octets behind a header, in any pieces, however many chunks; the connection is good for another message."""
        pair = Pair(places, options=self.options)
        body = [b"S: x\r\n\r", b"\n", *pieces, *[BIG] * large, b"\r"]
        for _ in range(2):
            done = pair.send(body, BINARY)
            self.assertEqual([250, 250], [reply.code for reply in done.replies])
            self.assertEqual(b"".join(body), pair.talk.messages[-1])

    def test_refused(self):
        """By the session at the first chunk, or at a later one: the reply, and after RSET another message goes."""
        no = Reply(452, "4.3.1", "full")
        for asked in (BodyStart, ChunkEnd):
            pair = Pair(options=self.options)
            pair.talk.answers[asked] = [no]
            done = pair.send([b"\r\n", BIG, BIG, b"x"], BINARY)
            self.assertEqual((no, no), done.replies)
            self.assertEqual([], pair.talk.messages)
            self.assertTrue(pair.sender.is_idle)
            done = pair.send([b"\r\n\0"], BINARY, rset=True)
            self.assertEqual(([250, 250], [b"\r\n\0"]), ([reply.code for reply in done.replies], pair.talk.messages))


class TermsTests(SynchronousTestCase):
    """DELIVERBY (RFC 2852) and MT-PRIORITY (RFC 6710)."""

    def mail(self, transaction: Transaction, *extensions: str) -> bytes:
        machine = sender(*extensions)
        machine.transact(transaction)
        return machine.data_to_send().split(b"\r\n")[0].partition(b">")[2]

    def test_only_what_was_offered(self):
        """Each where it was offered, and where the message has it."""
        urgent = attrs.evolve(TWO, by="120;NT", priority=-3)
        self.assertEqual(b" BY=120;NT MT-PRIORITY=-3", self.mail(urgent, "DELIVERBY 60", "MT-PRIORITY MIXER"))
        self.assertEqual((b"", b""), (self.mail(urgent), self.mail(TWO, "DELIVERBY", "MT-PRIORITY")))

    def test_in_time_or_back(self):
        """Mode R is given to nobody who does not keep it, nor too late; mode N to everybody."""
        for by, extension, enhanced in (
            ("120;R", "SIZE", "5.3.3"),
            ("120;RT", "DELIVERBY", None),
            ("120;R", "DELIVERBY 120", None),
            ("120;R", "DELIVERBY 121", "5.4.7"),
            ("0;R", "DELIVERBY", "5.4.7"),
            ("120;R", "DELIVERBY soon", None),
            ("-5;N", "SIZE", None),
            ("-5;N", "DELIVERBY 100", None),
        ):
            refusal = sender(extension).unfit(attrs.evolve(TWO, by=by))
            self.assertEqual(enhanced, refusal and refusal.enhanced, (by, extension))
