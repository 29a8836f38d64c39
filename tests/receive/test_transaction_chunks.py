"""A message in chunks (RFC 3030), from the first BDAT to the queue's answer: what DATA promises holds."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from mta.config.settings import Limits, Size
from mta.status import permanent
from tests.receive.door import BODY, FULL, DoorCase, FakePolicy

ENVELOPE = b"MAIL FROM:<sender@client.example>\r\nRCPT TO:<user@example.org>\r\n"


def bdat(data: bytes, last: bool = False) -> bytes:
    """A chunk on the wire."""
    return b"BDAT %d%s\r\n%s" % (len(data), b" LAST" if last else b"", data)


class ChunkTests(DoorCase):
    """Messages that are taken."""

    def test_message(self) -> None:
        """All in one segment; the body is the queue's piece by piece, and 250 to LAST comes behind the commit."""
        self.accept.slow = True
        session, wire = self.hello()
        said = self.say(session, ENVELOPE + bdat(b"Subject: x\r\n") + bdat(b"\r\nbo") + bdat(b"dy", last=True) + b"NOOP\r\n")
        self.assertEqual(said[2:], ["250 2.0.0 Chunk received"] * 2)
        self.assertEqual(self.accept.sinks[0].pieces, [b"Subject: x\r\n", b"\r\nbo", b"dy", b"\r\n"])
        wire.clear()
        self.accept.commits[0].callback(1000)
        self.assertEqual(wire.value(), b"250 2.0.0 Ok: queued as Q1000\r\n250 2.0.0 Ok\r\n")
        self.assertEqual(self.accept.accepted[0].body.data, b"Subject: x\r\n\r\nbody\r\n")

    def test_next_message(self) -> None:
        """Another message may follow, by BDAT or by DATA."""
        session, _ = self.hello()
        self.assertEqual(self.codes(session, ENVELOPE + bdat(BODY, last=True)), ["250", "250", "250"])
        self.envelope(session)
        self.assertEqual(self.codes(session, BODY + b".\r\n"), ["250"])
        self.assertEqual(self.codes(session, ENVELOPE + bdat(BODY) + bdat(b"", last=True)), ["250", "250", "250", "250"])
        self.assertEqual([message.body.data for message in self.accept.accepted], [BODY] * 3)

    def test_queue_asks_to_wait(self) -> None:
        """A chunk is answered when the queue has taken its bytes, and meanwhile nothing more is read."""
        session, wire = self.hello()
        self.say(session, ENVELOPE + b"BDAT 4\r\nab")
        self.accept.sinks[0].wait = wait = Deferred()
        self.assertEqual(self.say(session, b"cd" + bdat(b"ef", last=True)), [])
        self.assertEqual(wire.producerState, "paused")
        wait.callback(None)
        self.assertEqual(wire.value(), b"250 2.0.0 Chunk received\r\n250 2.0.0 Ok: queued as Q1000\r\n")
        self.assertEqual((wire.producerState, self.accept.accepted[0].body.data), ("producing", b"abcdef\r\n"))

    def test_time(self) -> None:
        """A chunk gains time with each piece, one that is dropped too; a half command gains none."""
        data_block, command = self.common.settings.timeouts.data_block, self.common.settings.timeouts.command
        for begin in (ENVELOPE + b"BDAT 9 LAST\r\n", b"BDAT 9 LAST\r\n"):
            session, wire = self.hello()
            self.say(session, begin)
            for _ in range(8):
                self.clock.pump([1.0] * int(data_block - 20))
                session.dataReceived(b"x")
            self.assertFalse(wire.disconnecting)
            self.assertEqual(len(self.say(session, b"x")), 1)
        session, wire = self.hello()
        self.say(session, ENVELOPE + bdat(b"x"))
        for byte in (b"B", b"D", b"A"):
            session.dataReceived(byte)
            self.clock.pump([1.0] * int(command / 2))
        self.assertTrue(wire.disconnecting)


class RefusalTests(DoorCase):
    """Messages that are not."""

    def test_disk_full(self) -> None:
        """452 to the chunk that did not fit, though it was read whole; the connection lives on."""
        session, _ = self.hello()
        self.assertEqual(self.codes(session, ENVELOPE + bdat(b"first\r\n")), ["250", "250", "250"])
        self.accept.sinks[0].full = FULL
        self.assertEqual(self.codes(session, bdat(b"RSET\r\n") + bdat(b"QUIT\r\n", last=True)), ["452", "503"])
        self.assertTrue(self.accept.sinks[0].aborted)
        self.assertEqual(self.codes(session, b"RSET\r\n" + ENVELOPE + bdat(BODY, last=True)), ["250", "250", "250", "250"])
        self.assertEqual([message.body.data for message in self.accept.accepted], [BODY])

    def test_no_room(self) -> None:
        """The queue takes no body at all: its reply to the first chunk, whose bytes are no commands."""
        self.accept.refusal = FULL
        session, _ = self.hello()
        self.assertEqual(self.codes(session, ENVELOPE + bdat(b"QUIT\r\n") + b"NOOP\r\n"), ["250", "250", "452", "250"])
        self.assertEqual([self.log.named("rejected")[0][key] for key in ("stage", "why")], ["data", "disk full"])

    def test_size_and_lines(self) -> None:
        """Over the limit 552, bare LF 550, at the chunk; the body is forgotten at once, and one line of the log says so."""
        self.begin(limits=Limits(message_size=Size(1000)))
        for bad, code in (((b"x" * 78 + b"\r\n") * 13, "552"), (b"a\nb", "550")):
            session, _ = self.hello()
            self.assertEqual(self.codes(session, ENVELOPE + bdat(b"ok") + bdat(bad)), ["250", "250", "250", code])
            self.assertTrue(self.accept.sinks[-1].aborted)
            self.assertEqual(self.log.named("rejected")[-1]["stage"], "end")
        session, _ = self.hello()
        self.assertEqual(self.codes(session, ENVELOPE + bdat(b"x" * 1001, last=True)), ["250", "250", "552"])
        self.assertEqual(
            [self.log.named("rejected")[-1][key] for key in ("stage", "reply")], ["bdat", "552 5.3.4 Message too big"]
        )
        self.assertEqual((len(self.log.named("rejected")), self.accept.accepted), (3, []))

    def test_loop(self) -> None:
        """Too many Received lines end it at the chunk that has them."""
        self.begin(limits=Limits(received_hops=5))
        session, _ = self.hello()
        self.assertEqual(self.codes(session, ENVELOPE + bdat(b"Received: x\r\n" * 6)), ["250", "250", "554"])

    def test_policy(self) -> None:
        """The policy is asked at the first chunk ("data") and behind the last ("end"), at none between."""
        for stage, codes in (("data", ["550", "503"]), ("end", ["250", "550"])):
            self.policy = FakePolicy(**{stage: permanent("5.7.1", "No")})
            self.begin(self.policy)
            session, _ = self.hello()
            self.assertEqual(self.codes(session, ENVELOPE + bdat(b"x") + bdat(b"y", last=True))[2:], codes)
            self.assertEqual(
                [asked for asked in self.policy.asked if asked in ("data", "end")], ["data", "end"][: len(self.policy.asked) - 4]
            )
            self.assertTrue(stage == "data" or self.accept.sinks[-1].aborted)

    def test_policy_at_the_end_of_data(self) -> None:
        """Refused by the policy at its end the body is forgotten at once, not when the next command comes."""
        self.begin(FakePolicy(end=permanent("5.7.1", "No")))
        session, _ = self.hello()
        self.envelope(session)
        self.assertEqual(self.codes(session, BODY + b".\r\n"), ["550"])
        self.assertTrue(self.accept.sinks[-1].aborted)

    def test_left(self) -> None:
        """RSET, EHLO, another end and the end of the connection between chunks leave nothing."""
        for line in (b"RSET\r\n", b"EHLO client.example\r\n", b"QUIT\r\n", b""):
            session, wire = self.hello()
            self.say(session, ENVELOPE + bdat(b"half"))
            self.assertFalse(self.accept.sinks[-1].aborted)
            if line:
                self.say(session, line)
            if line in (b"QUIT\r\n", b""):
                wire.lose()
            self.assertTrue(self.accept.sinks[-1].aborted, line)
        self.assertEqual(self.accept.accepted, [])
