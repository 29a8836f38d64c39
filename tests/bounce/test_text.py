"""How reports are written: nothing breaks out of its line."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.bounce.text import date, encoding, field, folded, part


class TextTests(SynchronousTestCase):
    """Lines, fields, parts."""

    def test_folding(self) -> None:
        """In front of a space, with the indent of the line; what has no space stays whole."""
        line = "  " + "word " * 30 + "x" * 100
        lines = folded(line, False, "  ").decode().split("\r\n")
        self.assertTrue(all(len(one) <= 80 for one in lines[:-2]))
        self.assertTrue(all(one.startswith("  word") for one in lines[:-2]))
        self.assertEqual(["  " + "x" * 100, ""], lines[-2:])
        self.assertEqual(line.split(), " ".join(lines).split())
        self.assertEqual(b"a" * 70 + b"\r\n" + b"b" * 70 + b"\r\n", folded("a" * 70 + " " + "b" * 70, False))

    def test_controls_and_escapes(self) -> None:
        """No control survives; beyond ASCII is escaped as in RFC 6533 where it may not be."""
        self.assertEqual(b"X: a  b c\r\n", field("X", "a\r\nb\tc\x85", False))
        self.assertEqual(b"X: \\x{FC}\r\n", field("X", "ü", False))
        self.assertEqual("X: ü\r\n".encode(), field("X", "ü", True))

    def test_part(self) -> None:
        """Type, encoding as the content is, content."""
        self.assertEqual(b"Content-Type: a/b\r\nContent-Transfer-Encoding: 7bit\r\n\r\nx\r\n", part("a/b", b"x\r\n"))
        self.assertEqual(b"Content-Transfer-Encoding: 8bit\r\n", encoding(b"\xff"))

    def test_date(self) -> None:
        """RFC 5322, in UTC."""
        self.assertEqual("Tue, 14 Nov 2023 22:13:20 +0000", date(1_700_000_000_999))

    @settings(deadline=None, max_examples=150)
    @given(st.text(max_size=1500), st.booleans(), st.sampled_from(["", " ", "  "]))
    def test_any_text(self, text, utf8, indent) -> None:
        """Lines of at most 998 bytes that end in CRLF, and no other CR, LF or NUL."""
        data = folded(f"X: {text}", utf8, indent)
        self.assertTrue(data.endswith(b"\r\n"))
        for line in data[:-2].split(b"\r\n"):
            self.assertLessEqual(len(line), 998)
            self.assertFalse({0, 10, 13} & set(line))
        self.assertTrue(utf8 or data.isascii())
