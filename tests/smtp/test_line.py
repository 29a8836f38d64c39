"""Lines out of a stream, in any pieces."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.smtp.line import LineBuffer, LineTooLong, Unframed
from tests.smtp.talk import bytewise, cut


def read(pieces: list[bytes]) -> list[object]:
    """Lines and faults; nothing is read behind an Unframed."""
    buffer, found = LineBuffer(), []
    for piece in pieces:
        buffer.receive(piece)
        while True:
            try:
                line = buffer.take_line()
            except LineTooLong:
                found.append(LineTooLong)
                continue
            except Unframed:
                return [*found, Unframed]
            if line is None:
                break
            found.append(line)
    return [*found, len(buffer)]


class LineBufferTests(SynchronousTestCase):
    def check(self, data: bytes, *expected: object) -> None:
        self.assertEqual(list(expected), read([data]))
        self.assertEqual(list(expected), read(bytewise(data)))

    def test_lines(self):
        """Whole lines are given, the open one is kept."""
        self.check(b"EHLO a\r\n\r\nQUIT\r\nNO", b"EHLO a", b"", b"QUIT", 2)
        self.check(b"a\r\nb\r", b"a", 2)
        self.check(b"", 0)

    def test_unframed(self):
        """X14: bare LF, bare CR, NUL; with their CRLF or before it."""
        for bad in (b"a\nb", b"a\rb", b"a\0b", b"\n", b"\0", b"a\r\r", b"\r\0"):
            self.check(b"ok\r\n" + bad, b"ok", Unframed)
            self.check(bad + b"\r\nnot read\r\n", Unframed)

    def test_line_too_long(self):
        """RFC 5321 4.5.3.1.4: 2,048 octets with CRLF; a longer line is passed over, and not kept in memory."""
        self.check(b"x" * 2046 + b"\r\nNOOP\r\n", b"x" * 2046, b"NOOP", 0)
        self.check(b"x" * 2047 + b"\r\nNOOP\r\n", LineTooLong, b"NOOP", 0)
        self.check(b"x" * 9000 + b"\r\nNOOP\r\n", LineTooLong, b"NOOP", 0)
        buffer = LineBuffer()
        for _ in range(100):
            buffer.receive(b"x" * 1000)
            self.assertIsNone(buffer.take_line())
        self.assertLess(len(buffer), 2048)

    def test_another_limit(self):
        """RFC 4954 4: where a longer line is expected it is given, and one over its limit is passed over."""
        for size, expected in ((12_286, b"x" * 12_286), (12_287, LineTooLong)):
            for pieces in ([b"x" * size + b"\r\nNOOP\r\n"], [b"x" * 3000, b"x" * (size - 3000) + b"\r", b"\nNOOP\r\n"]):
                buffer, found = LineBuffer(), []
                for piece in pieces:
                    buffer.receive(piece)
                    try:
                        found.append(buffer.take_line(12_288))
                    except LineTooLong:
                        found.append(LineTooLong)
                self.assertEqual([None] * (len(pieces) - 1) + [expected], found)
                self.assertEqual(b"NOOP", buffer.take_line())

    def test_line_too_long_and_unframed(self):
        """What comes first counts; the rest of a line too long is not looked at."""
        self.check(b"x" * 2000 + b"\n" + b"x" * 100, Unframed)
        self.check(b"x" * 2048 + b"\n\0\rx\r\nNOOP\r\n", LineTooLong, b"NOOP", 0)

    def test_take_all(self):
        """For the body: what is there, from where the lines ended."""
        buffer = LineBuffer()
        buffer.receive(b"DATA\r\nbody")
        self.assertEqual(b"DATA", buffer.take_line())
        self.assertEqual((4, b"body", 0, b""), (len(buffer), buffer.take_all(), len(buffer), buffer.take_all()))

    def test_take(self):
        """For a chunk: so many bytes and no more, from where the lines ended; what follows is a line again."""
        buffer = LineBuffer()
        buffer.receive(b"BDAT 3\r\n\r\n\0NOOP\r\nab")
        self.assertEqual(
            (b"BDAT 3", b"\r\n", b"\0", b"NOOP"), (buffer.take_line(), buffer.take(2), buffer.take(1), buffer.take_line())
        )
        self.assertEqual((b"ab", b"", 0), (buffer.take(99), buffer.take(99), len(buffer)))

    def test_clear(self):
        """Nothing is left, not even that a line was too long."""
        buffer = LineBuffer()
        buffer.receive(b"x" * 3000)
        buffer.take_line()
        buffer.clear()
        buffer.receive(b"a\r\n")
        self.assertEqual(b"a", buffer.take_line())

    @settings(deadline=None, max_examples=200)
    @given(
        st.lists(st.sampled_from([b"x", b"x" * 1000, b"x" * 1023, b"\r\n", b"\r\n", b"\r", b"\n", b"\0"]), max_size=12),
        st.lists(st.integers(0, 5000), max_size=8),
    )
    def test_any_pieces(self, parts, places):
        """The same lines and faults, however the bytes arrive."""
        data = b"".join(parts)
        whole, pieces = read([data]), read(cut(data, places))
        if isinstance(whole[-1], int) and whole != pieces:
            whole, pieces = whole[:-1], pieces[:-1]  # how much of a line too long is kept may differ
        self.assertEqual(whole, pieces)
