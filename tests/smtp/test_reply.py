"""Replies: written and read, in any pieces, with every fault a server can have."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.smtp.reply import BadReply, ReplyParser, parse_reply, serialise
from mta.status import Reply
from tests.smtp.talk import bytewise, cut

printable = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60)
texts = st.lists(printable, min_size=1, max_size=4).map("\n".join)
codes = st.integers(200, 599)


@st.composite
def replies(draw):
    code = draw(codes)
    enhanced = draw(st.sampled_from(["", "1.2", "7.0", "999.999"]))
    if enhanced and code // 100 != 3:
        return Reply(code, f"{code // 100}.{enhanced}", draw(texts))
    return Reply(code, "", "\n".join("x" + text for text in draw(texts).split("\n")))


def read(pieces: list[bytes]) -> tuple[list[Reply], str, bool]:
    """Replies, the fault if there was one, and whether bytes are left."""
    parser, found = ReplyParser(), []
    for piece in pieces:
        parser.receive(piece)
        try:
            while (reply := parser.take()) is not None:
                found.append(reply)
        except BadReply as error:
            return found, str(error), True
    return found, "", parser.pending


class SerialiseTests(SynchronousTestCase):
    def test_lines(self):
        """Every line has the enhanced code (RFC 2034 3), the last a blank."""
        reply = Reply(550, "5.1.1", "No such user\nSorry")
        self.assertEqual(b"550-5.1.1 No such user\r\n550 5.1.1 Sorry\r\n", serialise(reply, True))
        self.assertEqual(b"550-No such user\r\n550 Sorry\r\n", serialise(reply, False))
        self.assertEqual(b"250 Ok\r\n", serialise(Reply(250, "", "Ok"), True))

    def test_no_enhanced_code_with_3yz(self):
        """RFC 2034 3: only 2yz, 4yz, 5yz have one."""
        self.assertEqual(b"354 Go\r\n", serialise(Reply(354, "3.0.0", "Go"), True))

    def test_challenge(self):
        """RFC 4954 4: a challenge stands on one line, however long it is; the nonce of a client in SCRAM may be."""
        self.assertEqual(b"334 " + b"x" * 2000 + b"\r\n", serialise(Reply(334, "", "x" * 2000), True))

    def test_clean(self):
        """X23: whatever the text is, the lines are ASCII, short, and as many as meant."""
        self.assertEqual(b"250 2.0.0 a?b?c?\td\r\n", serialise(Reply(250, "2.0.0", "a\rb\0cü\td"), True))
        self.assertEqual(b"250-a??\r\n250 b\r\n", serialise(Reply(250, "", "a\r\x85\nb"), True))
        lines = serialise(Reply(550, "5.0.0", "x" * 2000), True).split(b"\r\n")
        self.assertEqual(2000, b"".join(lines).count(b"x"))
        self.assertEqual(512, max(map(len, lines)) + 2)
        self.assertEqual(Reply(550, "5.0.0", ""), read([serialise(Reply(550, "5.0.0", ""), True)])[0][0])

    @settings(deadline=None, max_examples=150)
    @given(codes, st.text(max_size=600), st.booleans())
    def test_any_text_is_one_reply(self, code, text, enhanced):
        """What we say is always one reply of that code for our own parser."""
        found, fault, left = read([serialise(Reply(code, "", text), enhanced)])
        self.assertEqual(([code], "", False), ([reply.code for reply in found], fault, left))


class ReplyParserTests(SynchronousTestCase):
    def check(self, data: bytes, *expected: Reply) -> None:
        """Whole, byte by byte, and with something behind."""
        self.assertEqual((list(expected), "", False), read([data]))
        self.assertEqual((list(expected), "", False), read(bytewise(data)))
        self.assertEqual((list(expected), "", True), read([data + b"25"]))

    def faulty(self, data: bytes, *expected: Reply) -> str:
        found, fault, _ = read([data])
        self.assertTrue(fault, data)
        self.assertEqual(list(expected), found)
        self.assertEqual((found, fault), read(bytewise(data))[:2])
        return fault

    def test_plain(self):
        """A line, with and without text, with and without enhanced code."""
        self.check(b"250 Ok\r\n", Reply(250, "", "Ok"))
        self.check(b"250 2.1.0 Sender ok\r\n", Reply(250, "2.1.0", "Sender ok"))
        self.check(b"250 2.1.0\r\n", Reply(250, "2.1.0", ""))
        self.check(b"250 \r\n", Reply(250, "", ""))

    def test_without_text(self):
        """C09: 220 and nothing else."""
        self.check(b"220\r\n", Reply(220, "", ""))
        self.check(b"220-\r\n220-x\r\n220\r\n", Reply(220, "", "\nx\n"))

    def test_lines(self):
        """Several lines, several replies in a segment."""
        self.check(
            b"250-a.test\r\n250-SIZE 1\r\n250 HELP\r\n354 go\r\n550-5.1.1 no\r\n550 5.1.1 user\r\n",
            Reply(250, "", "a.test\nSIZE 1\nHELP"),
            Reply(354, "", "go"),
            Reply(550, "5.1.1", "no\nuser"),
        )

    def test_enhanced_code_of_another_class(self):
        """RFC 2034 3: the classes must agree; else it is text.  Lines without the code keep theirs."""
        self.check(b"250 5.1.0 x\r\n", Reply(250, "", "5.1.0 x"))
        self.check(b"354 3.0.0 x\r\n", Reply(354, "", "3.0.0 x"))
        self.check(b"250 2.1 x\r\n", Reply(250, "", "2.1 x"))
        self.check(b"250 2.1.0x\r\n", Reply(250, "", "2.1.0x"))
        self.check(b"550-5.1.1 a\r\n550-5.1.10 b\r\n550 c\r\n", Reply(550, "5.1.1", "a\n5.1.10 b\nc"))

    def test_harmless_text(self):
        """X23: control characters and bytes that are no UTF-8 do not get through."""
        self.check(b"250 a\x1b[2Jb\xff\x7f\tc\r\n", Reply(250, "", "a?[2Jb\ufffd?\tc"))
        self.check("250 grüß\r\n".encode(), Reply(250, "", "grüß"))

    def test_garbage(self):
        """What is no reply line breaks the stream; what came before it counts."""
        for line in (
            b"SSH-2.0-x\r\n",
            b"150 x\r\n",
            b"650 x\r\n",
            b"25 x\r\n",
            b"2500 x\r\n",
            b"250_x\r\n",
            b"\r\n",
            b" 250 x\r\n",
        ):
            self.faulty(line)
            self.faulty(b"250 Ok\r\n" + line, Reply(250, "", "Ok"))

    def test_framing(self):
        """Law 7: bare LF, bare CR and NUL."""
        for line in (b"250 Ok\n", b"250 a\nb\r\n", b"\n", b"250 a\rb\r\n", b"250 a\r\r\n", b"250 a\0b\r\n", b"250-a\n250 b\r\n"):
            self.faulty(line)

    def test_mixed_codes(self):
        """X23: one reply has one code."""
        self.assertIn("different codes", self.faulty(b"250-a\r\n251 b\r\n"))
        self.assertIn("different codes", self.faulty(b"250-a\r\n550-b\r\n250 c\r\n"))

    def test_line_too_long(self):
        """X23: 2,048 octets with CRLF are read, one more is not; nor is one without end."""
        self.check(b"250 " + b"x" * 2042 + b"\r\n", Reply(250, "", "x" * 2042))
        self.assertIn("too long", self.faulty(b"250 " + b"x" * 2043 + b"\r\n"))
        self.assertIn("too long", self.faulty(b"x" * 100_000))

    def test_reply_without_end(self):
        """X23: 512 lines and 64 KiB are read, more is not."""
        self.check(b"250-x\r\n" * 511 + b"250 x\r\n", Reply(250, "", "\n".join("x" * 512)))
        self.assertIn("without end", self.faulty(b"250-x\r\n" * 513))
        self.assertIn("without end", self.faulty((b"250-" + b"x" * 2000 + b"\r\n") * 33))

    def test_a_list_of_no_lines_is_not_asked(self):
        """parse_reply by itself judges every line."""
        self.assertEqual(Reply(250, "", "a\nb"), parse_reply([b"250-a", b"250 b"]))
        self.assertRaises(BadReply, parse_reply, [b"250-a", b"garbage"])
        self.assertRaises(BadReply, parse_reply, [b"250-a", b"251 b"])

    @settings(deadline=None, max_examples=150)
    @given(st.lists(replies(), min_size=1, max_size=4), st.lists(st.integers(0, 2000), max_size=6))
    def test_round_trip_in_any_pieces(self, wanted, places):
        """parse(serialise(x)) == x, however the bytes arrive."""
        data = b"".join(serialise(reply, True) for reply in wanted)
        self.assertEqual((wanted, "", False), read(cut(data, places)))

    @settings(deadline=None, max_examples=200)
    @given(
        st.lists(
            st.sampled_from([b"250", b" ", b"-", b"\r\n", b"\n", b"\r", b"\0", b"x", b"5.1.1 ", b"\xff", b"999"]), max_size=30
        ),
        st.lists(st.integers(0, 200), max_size=6),
    )
    def test_any_pieces_of_anything(self, parts, places):
        """The same replies and the same fault, however the bytes arrive; nothing else is raised."""
        data = b"".join(parts)
        whole = read([data])
        self.assertEqual(whole, read(cut(data, places)))
        self.assertEqual(whole, read(bytewise(data)))
