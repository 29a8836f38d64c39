"""base64 and quoted-printable of content that streams by."""

from __future__ import annotations

from base64 import decodebytes
from quopri import decodestring

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.smtp.convert.encoding import Base64, QuotedPrintable, base64_size, quoted_printable_size
from tests.smtp.convert.messages import cut, places

octets = st.one_of(st.binary(max_size=400), st.text("-= \t.é\r\n", max_size=400).map(str.encode))


def encoded(encoder: Base64 | QuotedPrintable, pieces: list[bytes], at_end: bool = False) -> bytes:
    return b"".join([*(encoder.feed(piece) for piece in pieces), encoder.end(at_end)])


class EncodingTests(SynchronousTestCase):
    def check_lines(self, out: bytes) -> None:
        self.assertTrue(out.isascii())
        for line in out.split(b"\r\n"):
            self.assertLessEqual(len(line), 76)
            self.assertNotIn(line[:1], (b"-",))
            self.assertNotIn(line[-1:], (b" ", b"\t"))
            self.assertFalse({b"\r", b"\n"} & {line[at : at + 1] for at in range(len(line))})

    @settings(deadline=None, max_examples=200)
    @given(octets, places, st.booleans())
    def test_base64(self, data, places, at_end):
        """RFC 2045 6.8: any octets come back, in any pieces the same lines, none too long."""
        out = encoded(Base64(), cut(data, places), at_end)
        self.assertEqual(encoded(Base64(), [data], at_end), out)
        self.assertEqual(data, decodebytes(out))
        self.assertLessEqual(len(out), base64_size(len(data)))
        self.check_lines(out)

    @settings(deadline=None, max_examples=200)
    @given(octets, places, st.booleans())
    def test_quoted_printable(self, data, places, at_end):
        """RFC 2045 6.7: the same, with lines ended by CRLF and nothing but CRLF; a bare CR or LF is encoded."""
        out = encoded(QuotedPrintable(), cut(data, places), at_end)
        self.assertEqual(encoded(QuotedPrintable(), [data], at_end), out)
        self.assertEqual(data, decodestring(out.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n") if _is_text(data) else data)
        special = sum(octet not in range(33, 127) or octet in b"=-" for octet in data)
        self.assertLessEqual(len(out), quoted_printable_size(len(data), special))
        self.check_lines(out)

    def test_lines(self):
        """Spaces at the end of a line, soft breaks that never cut an escape, no line that begins with a hyphen."""
        for data, out in (
            (b"a b \r\n\t", b"a b=20\r\n=09"),
            (b"x" * 75, b"x" * 75),
            (b"x" * 74 + b"\xff", b"x" * 74 + b"=\r\n=FF"),
            (b"x" * 75 + b"-y", b"x" * 75 + b"=\r\n=2Dy"),
            (b"--a=\r\n-", b"=2D-a=3D\r\n=2D"),
        ):
            self.assertEqual(out, encoded(QuotedPrintable(), [data]))
        self.assertEqual(b"x=\r\n", encoded(QuotedPrintable(), [b"x"], at_end=True))
        self.assertEqual(b"x\r\n", encoded(QuotedPrintable(), [b"x\r\n"], at_end=True))


def _is_text(data: bytes) -> bool:
    return data.count(b"\r\n") == data.count(b"\r") == data.count(b"\n")
