"""Mail data: where it ends and where not, what is refused, what leaves."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.smtp.data import BAD_LINES, LONG_LINE, TOO_BIG, BodyReader, DotStuffer, is_framed
from mta.status import Reply
from tests.smtp.talk import bytewise, cut

# Pieces out of which bodies are made that try every border.
PARTS = [b"\r\n", b"\r\n", b".", b"..", b"a", b"bc\r\n", b".\r\n", b"\r\n.", b"\r", b"\n", b"\0", b"\xff", b"x" * 400, b"y" * 998]
anything = st.lists(st.sampled_from(PARTS), max_size=25).map(b"".join)
cuts = st.lists(st.integers(0, 5000), max_size=8)
line = st.one_of(st.sampled_from([b"", b".", b"..", b".a", b"x" * 998, b". "]), st.binary(max_size=30))
canonical = st.lists(line.map(lambda data: data.translate(None, b"\r\n\0")[:998]), max_size=12).map(
    lambda lines: b"".join(data + b"\r\n" for data in lines)
)


def read(pieces: list[bytes], max_size: int = 0) -> tuple[bytes, int, Reply | None, bytes | None]:
    """Body, size, error, and what follows the end (None: it did not come)."""
    reader, body = BodyReader(max_size), []
    for number, piece in enumerate(pieces):
        chunk, rest = reader.feed(piece)
        body.append(chunk)
        if rest is not None:
            return b"".join(body), reader.size, reader.error, rest + b"".join(pieces[number + 1 :])
    return b"".join(body), reader.size, reader.error, None


def stuffed(pieces: list[bytes]) -> bytes:
    stuffer = DotStuffer()
    return b"".join([*map(stuffer.feed, pieces), stuffer.end()])


class FramedTests(SynchronousTestCase):
    """Law 7: what may stand in mail data."""

    def test_each_place(self):
        """A bare CR, a bare LF or a NUL anywhere in lines of 8-bit text; CRLF alone is right, and so is no line at all."""
        text = b"\xe4\xff\x85\x0b\x0c\x1c line\r\n" * 3
        for good in (b"", b"a", b"\r\n", b"\r\n\r\n", text, bytes(set(range(256)) - {0, 10, 13})):
            self.assertTrue(is_framed(good), good)
        for bad in (b"\r", b"\n", b"\0"):
            self.assertFalse(is_framed(bad))
            for place in range(len(text) + 1):
                if (bad, text[place - 1 : place]) != (b"\n", b"\r") and (bad, text[place : place + 1]) != (b"\r", b"\n"):
                    self.assertFalse(is_framed(text[:place] + bad + text[place:]), (bad, place))
        for bad in (b"\r\r\n", b"\r\n\n", b"\n\r", b"a\nb", b"a\rb", b"a\r\nb\r", b"\r\n\0"):
            self.assertFalse(is_framed(bad), bad)

    @settings(deadline=None, max_examples=200)
    @given(st.one_of(anything, st.binary(max_size=200)))
    def test_definition(self, data):
        """CR and LF are each other's neighbours, and there is no NUL."""
        rest = data.replace(b"\r\n", b"")
        self.assertEqual(not any(byte in b"\r\n\0" for byte in rest), is_framed(data))


class EndTests(SynchronousTestCase):
    """Only CRLF.CRLF ends DATA."""

    def check(self, data: bytes, body: bytes) -> None:
        """Whole, byte by byte, with something behind."""
        expected = (body, len(body), None, b"")
        self.assertEqual(expected, read([data]))
        self.assertEqual(expected, read(bytewise(data)))
        self.assertEqual((*expected[:3], b"QUIT\r\n.\r\n"), read([data + b"QUIT\r\n.\r\n"]))
        self.assertIsNone(read([data[:-1]])[3])

    def test_bodies(self):
        """With dots in all places, and empty."""
        self.check(b".\r\n", b"")
        self.check(b"\r\n.\r\n", b"\r\n")
        self.check(b"a\r\n.\r\n", b"a\r\n")
        self.check(b"..\r\n.\r\n", b".\r\n")
        self.check(b"a\r\n..\r\n...b\r\n.c\r\n.\r\n", b"a\r\n.\r\n..b\r\nc\r\n")
        self.check(b"a.\r\n.\r\n", b"a.\r\n")
        self.check(b"\r\n\r\n.\r\n", b"\r\n\r\n")

    def test_no_smuggling(self):
        """X12: none of smtpsmug's sequences ends the message, all are refused at its true end (CVE-2023-51764)."""
        for sequence in (
            b"\n.\n",
            b"\n.\r\n",
            b"\r\n.\n",
            b"\r.\r",
            b"\r.\n",
            b"\n.\r",
            b"\r.\r\n",
            b"\r\n.\r",
            b"\r\n\0.\r\n",
            b"\r\n.\0\r\n",
            b"\r\n.\r\r\n",
            b"\n\n.\r\n",
            b"\r\n\x00.\x00\r\n",
        ):
            for inside in (b"a" + sequence + b"MAIL FROM:<evil@x>\r\n", sequence + b"x\r\n"):
                data = inside + b".\r\n"
                self.assertIsNone(read([inside])[3], sequence)
                for pieces in ([data], bytewise(data)):
                    _, _, error, rest = read(pieces)
                    self.assertEqual((BAD_LINES, b""), (error, rest), sequence)

    def test_bad_bytes_before_the_end(self):
        """X12: CR before CRLF.CRLF is bare; the dot after it still ends what CRLF.CRLF ends."""
        for pieces in ([b"a\r\r\n.\r\n"], bytewise(b"a\r\r\n.\r\n")):
            self.assertEqual((BAD_LINES, b""), read(pieces)[2:])

    def test_bad_bytes_anywhere(self):
        """Law 7: a bare CR, bare LF or NUL at either end of a piece."""
        for bad in (b"\r", b"\n", b"\0"):
            for pieces in (
                [bad, b"a\r\n.\r\n"],
                [b"a", bad, b"\r\n.\r\n"],
                [b"a\r\n", bad + b"b", b"\r\n.\r\n"],
                [b"a\r\n.", bad, b"b\r\n.\r\n"],
            ):
                self.assertEqual((BAD_LINES, b""), read(pieces)[2:], pieces)

    @settings(deadline=None, max_examples=200)
    @given(anything, cuts)
    def test_any_pieces(self, data, places):
        """The same end, size and error however the bytes arrive; the same body where there is no error."""
        data += b"\r\n.\r\nrest"
        whole, pieces = read([data]), read(cut(data, places))
        self.assertEqual(whole[1:], pieces[1:])
        if whole[2] is None:
            self.assertEqual(whole[0], pieces[0])
            self.assertEqual(whole[1], len(whole[0]))


class LimitTests(SynchronousTestCase):
    def test_long_lines(self):
        """RFC 5321 4.5.3.1.6: 1,000 octets with CRLF, without the dot of transparency; wherever the piece ends."""
        for before in (b"", b"a\r\n" * 700, b"x" * 998 + b"\r\n"):
            for text, error in (
                (b"x" * 998, None),
                (b"x" * 999, LONG_LINE),
                (b"." + b"x" * 998, None),
                (b"." + b"x" * 999, LONG_LINE),
            ):
                data = before + text + b"\r\nb\r\n.\r\n"
                for pieces in (
                    [data],
                    cut(data, range(0, 9999, 7)),
                    cut(data, [len(before) + 998]),
                    cut(data, [len(before) + 999]),
                ):
                    self.assertEqual((error, b""), read(pieces)[2:], (len(before), len(text)))

    def test_line_without_end(self):
        """A body of one line is refused and nothing of it is given after the first 1,000 octets."""
        body, size, error, rest = read([b"x" * 500] * 100 + [b"\r\n.\r\n"])
        self.assertEqual((1000, 50_002, LONG_LINE, b""), (len(body), size, error, rest))

    def test_size(self):
        """552 5.3.4 over the limit; read to the end, nothing is given after it."""
        self.assertEqual((b"12345678\r\n", 10, None, b""), read([b"12345678\r\n.\r\n"], 10))
        self.assertEqual((b"", 11, TOO_BIG, b""), read([b"123456789\r\n.\r\n"], 10))
        body, size, error, rest = read([b"1234\r\n"] * 5 + [b".\r\n"], 10)
        self.assertEqual((b"1234\r\n", 30, TOO_BIG, b""), (body, size, error, rest))

    def test_worst_error_first(self):
        """A body with several faults is named after the one that could be an attack."""
        self.assertEqual(BAD_LINES, read([b"x" * 2000 + b"\0\r\n.\r\n"], 10)[2])
        self.assertEqual(LONG_LINE, read([b"x" * 2000 + b"\r\n.\r\n"], 10)[2])


class DotStufferTests(SynchronousTestCase):
    def test_canonical_bytes_are_not_copied(self):
        """The fast path: the very same object."""
        data = b"Subject: x\r\n\r\nbody. of . dots...\r\n"
        self.assertIs(data, DotStuffer().feed(data))

    def test_dots(self):
        """RFC 5321 4.5.2, also where a piece begins with the dot."""
        for pieces in ([b".a\r\n..\r\nb.\r\n"], bytewise(b".a\r\n..\r\nb.\r\n"), [b".a\r\n", b"..\r\n", b"b.\r\n"]):
            self.assertEqual(b"..a\r\n...\r\nb.\r\n.\r\n", stuffed(pieces))

    def test_end(self):
        """On a line of its own."""
        for body, data in (
            (b"", b".\r\n"),
            (b"a", b"a\r\n.\r\n"),
            (b"a\r\n", b"a\r\n.\r\n"),
            (b"a\r", b"a\r\n.\r\n"),
            (b"\r", b"\r\n.\r\n"),
        ):
            self.assertEqual(data, stuffed([body]))
            self.assertEqual(data, stuffed(bytewise(body)))

    def test_mended(self):
        """X13: bare CR and LF become CRLF, NUL goes."""
        self.assertEqual(b"a\r\nb\r\n\r\n..c\r\n.\r\n", stuffed([b"a\nb\r\r\n.c\0"]))
        self.assertEqual(b"a\r\nb\r\n.\r\n", stuffed([b"a\r", b"\0", b"", b"\0\n", b"b"]))
        self.assertEqual(b"a\r\nb\r\n.\r\n", stuffed([b"a\r", b"b\r\n"]))
        self.assertEqual(b"..\r\n.\r\n", stuffed([b"\0.", b"\0"]))
        self.assertEqual(b"\r\n..\r\n.\r\n", stuffed([b"\r", b".\r"]))

    @settings(deadline=None, max_examples=200)
    @given(st.one_of(anything, st.binary(max_size=200)), cuts, cuts)
    def test_one_message(self, body, places, wire_places):
        """X13: any bytes, in any pieces, are exactly one message; the pieces do not matter."""
        data = stuffed(cut(body, places))
        self.assertEqual(stuffed([body]), data)
        self.assertEqual(stuffed(bytewise(body)), data)
        _, _, error, rest = read(cut(data, wire_places))
        self.assertEqual(b"", rest)
        self.assertIn(error, (None, LONG_LINE))

    @settings(deadline=None, max_examples=200)
    @given(canonical, cuts, cuts)
    def test_canonical_arrives_unchanged(self, body, places, wire_places):
        """X13, law 8: bytes that arrive leave unchanged."""
        self.assertEqual((body, len(body), None, b""), read(cut(stuffed(cut(body, places)), wire_places)))
