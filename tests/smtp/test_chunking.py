"""BDAT in the conversation: every byte of a chunk is counted, whatever comes of it; the dialogs are in tests/dialogs/bdat*.smtp."""

from __future__ import annotations

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.smtp.event import BodyChunk, BodyEnd, BodyStart, ChunkEnd, MailFrom, Refused, Reset
from mta.smtp.server import Counters, Receiver
from mta.status import Reply
from tests.smtp.talk import OPTIONS, Talk, bytewise, cut

PATIENT = attrs.evolve(OPTIONS, max_errors=99, binarymime=True)
INNER = [
    b"QUIT\r\n",
    b"RSET\r\n",
    b"MAIL FROM:<evil@c.test>\r\n",
    b".\r\n",
    b"\r\n.\r\n",
    b"BDAT 3 LAST\r\n",
    b"a\nb",
    b"\0",
    b"",
    b"x" * 1200,
]
ENVELOPE = b"MAIL FROM:<a@c.test>\r\nRCPT TO:<b@mx.test>\r\n"


def bdat(data: bytes, last: bool = False) -> bytes:
    """A chunk on the wire."""
    return b"BDAT %d%s\r\n%s" % (len(data), b" LAST" if last else b"", data)


class ChunkTests(SynchronousTestCase):
    def test_streams(self) -> None:
        """A chunk is passed on as it comes, never gathered."""
        talk = Talk().begin()
        talk.say(b"BDAT 50000 LAST\r\n")
        for _ in range(5):
            talk.say(b"x" * 78 + b"\r\n")
            self.assertEqual((80, 0), (len(talk.events[-1].data), talk.machine.buffered))

    def test_waits_for_the_session(self) -> None:
        """Until the session opens the body its bytes wait unparsed, and 354 is not said."""
        machine = Receiver(OPTIONS, Counters())
        machine.greet()
        for line, reply in ((b"EHLO c.test\r\n", 250), (b"MAIL FROM:<a@c.test>\r\n", 250), (b"RCPT TO:<b@mx.test>\r\n", 250)):
            machine.receive_data(line)
            machine.reply(Reply(reply, "2.0.0", "x"))
        machine.events(), machine.data_to_send()
        machine.receive_data(b"BDAT 5 LAST\r\nabc\r\nNOOP\r\n")
        self.assertEqual(([BodyStart()], 11, False), (machine.events(), machine.buffered, machine.in_body))
        machine.reply(Reply(354, "", "Go on"))
        self.assertEqual(([BodyChunk(b"abc\r\n"), BodyEnd(5, None)], b""), (machine.events(), machine.data_to_send()))
        machine.reply(Reply(250, "2.0.0", "Queued"))
        self.assertEqual(b"250 2.0.0 Queued\r\n250 2.0.0 Ok\r\n", machine.data_to_send())

    def test_the_last_chunk_ends_it(self) -> None:
        """Refused by the session, out of order or behind a refused one: the session hears that the transaction is over."""
        for before, refused, codes in (
            (b"", BodyStart, [b"452"]),
            (b"BDAT 2\r\n\n\n", None, [b"550", b"503"]),
            (b"BDAT 2\r\nab", ChunkEnd, [b"452", b"503"]),
        ):
            talk = Talk().begin()
            if refused is not None:
                talk.answers[refused] = [Reply(452, "4.3.1", "Full")]
            said = talk.say(before + b"BDAT 2 LAST\r\nab")
            self.assertEqual(codes, [line[:3] for line in said.splitlines()], before)
            self.assertIsInstance(talk.events[-1], Reset)
            self.assertFalse(talk.machine.in_transaction)

    def test_in_body(self) -> None:
        """While a chunk comes, wanted or not, what comes is no command."""
        talk = Talk()
        for line, inside in (
            (b"BDAT 4\r\n", True),
            (b"abcd", False),
            (b"EHLO c.test\r\n", False),
            (ENVELOPE, False),
            (b"BDAT 2\r\n", True),
        ):
            talk.say(line)
            self.assertEqual(inside, talk.machine.in_body, line)

    def test_events(self) -> None:
        """ChunkEnd for each chunk, BodyEnd for the last; the size is that of the whole."""
        talk = Talk().begin()
        talk.events.clear()
        talk.say(bdat(b"ab") + bdat(b"cd\r\n") + bdat(b"ef", last=True))
        ends = [event for event in talk.events if type(event) in (ChunkEnd, BodyEnd)]
        self.assertEqual([ChunkEnd(2, None), ChunkEnd(6, None), BodyEnd(8, None)], ends)
        self.assertEqual((8, 1), (talk.counters.bytes, talk.counters.messages))

    def test_error_is_final(self) -> None:
        """Law 7: whatever the session says, a chunk with an error is refused."""
        for last in (False, True):
            talk = Talk().begin()
            talk.machine.receive_data(bdat(b"a\n", last))
            talk.machine.events()
            talk.machine.reply(Reply(354, "", "x"))
            talk.machine.events()
            talk.machine.reply(Reply(250, "2.0.0", "Fine"))
            self.assertEqual(b"550 5.6.0", talk.machine.data_to_send()[:9])

    def test_pipelined_behind_a_failure(self) -> None:
        """RFC 3030 2: chunks under way when one failed are no mistakes of the client; they are neither counted nor logged."""
        talk = Talk().begin()
        talk.answers[BodyStart] = [Reply(452, "4.3.1", "Full")]
        self.assertEqual([452] + [503] * 30, talk.codes(bdat(b"QUIT\r\n") * 31))
        self.assertEqual(0, talk.counters.errors)
        self.assertEqual([], [event for event in talk.events if type(event) is Refused])

    def test_out_of_order_is_a_mistake(self) -> None:
        """Chunks without a transaction cost the client its errors, and then the connection."""
        talk = Talk()
        self.assertEqual([250] + [503] * 5 + [421], talk.codes(b"HELO c.test\r\n") + talk.codes(bdat(b"QUIT\r\n") * 9))
        self.assertTrue(talk.machine.ended)

    def test_garbage_ends(self) -> None:
        """X15: in every state, and whatever gate is shut; also what only begins like BDAT."""
        for before in (b"", b"HELO c.test\r\n", b"HELO c.test\r\n" + ENVELOPE):
            for line in (
                b"BDAT\r\n",
                b"BDAT x\r\n",
                b"BDAT -1 LAST\r\n",
                b"BDAT\t3\r\n",
                b"BDATA 3\r\n",
                b"bdat %d\r\n" % 10**20,
            ):
                for options in (PATIENT, attrs.evolve(PATIENT, mail_requires="tls")):
                    talk = Talk(options)
                    for part in before.splitlines(keepends=True):
                        talk.say(part)
                    said = talk.say(line + b"QUIT\r\n")
                    self.assertEqual((b"501 5.5.4 Syntax: BDAT size [LAST]\r\n", True), (said, talk.machine.ended), line)

    def test_refused_client(self) -> None:
        """S23: where nothing is served a chunk is dropped all the same."""
        talk = Talk(attrs.evolve(PATIENT, refuse_all=Reply(554, "5.7.1", "No")))
        self.assertEqual([554, 221], talk.codes(bdat(b"RSET\r\n") + b"QUIT\r\n"))

    def test_flag(self) -> None:
        """BODY=BINARYMIME is in the flags of MAIL (32, docs/queue.md), and forgotten with the transaction."""
        talk = Talk(PATIENT)
        talk.say(b"EHLO c.test\r\n")
        talk.say(b"MAIL FROM:<a@c.test> BODY=BINARYMIME\r\nRSET\r\n" + ENVELOPE)
        self.assertEqual([32, 0], [event.flags for event in talk.events if type(event) is MailFrom])
        self.assertEqual([354], talk.codes(b"DATA\r\n"))


class AnyTests(SynchronousTestCase):
    @settings(deadline=None, max_examples=200)
    @given(
        st.lists(st.tuples(st.sampled_from(INNER), st.booleans()), max_size=6),
        st.sampled_from([b"", b"HELO c.test\r\n", b"HELO c.test\r\nMAIL FROM:<a@c.test>\r\n", b"HELO c.test\r\n" + ENVELOPE]),
        st.sampled_from([0, 20, 2000]),
        st.lists(st.integers(0, 4000), max_size=8),
    )
    def test_no_byte_of_a_chunk_is_a_command(self, chunks, before, max_size, places) -> None:
        """X15: one reply for each chunk, in any state, however cut; nobody's MAIL or QUIT inside is heard; behind them QUIT is."""
        data = b"".join(bdat(inner, last) for inner, last in chunks) + b"QUIT\r\n"
        results = []
        for pieces in ([data], cut(data, places), bytewise(data)):
            talk = Talk(attrs.evolve(PATIENT, max_size=max_size))
            for line in before.splitlines(keepends=True):
                talk.say(line)
            said = talk.say(data, lambda _, pieces=pieces: pieces)
            self.assertEqual(len(chunks) + 1, said.count(b"\r\n"), said)
            self.assertTrue(said.endswith(b"221 2.0.0 Bye\r\n"))
            self.assertEqual([], [event for event in talk.events if type(event) is MailFrom and "evil" in event.sender.address])
            self.assertEqual(sum(len(inner) for inner, _ in chunks), talk.counters.bytes)
            events = [event for event in talk.events if type(event) is not BodyChunk]
            results.append((said, events, talk.messages, talk.counters))
        self.assertEqual(results[0], results[1])
        self.assertEqual(results[0], results[2])
        for message in results[0][2]:
            self.assertEqual(message.count(b"\r\n"), message.count(b"\n"))
            self.assertTrue(not max_size or len(message) <= max_size + 2)
