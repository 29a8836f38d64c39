"""What is returned of the original message."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.bounce.original import HEAD_LIMIT, header_section, is_sound, returned
from mta.envelope import Flag
from tests.bounce.common import parsed, report


class ReturnedTests(SynchronousTestCase):
    """The third part and its type."""

    def test_types(self) -> None:
        """RFC 6533: the international types only where they are needed and may be used."""
        plain, utf8, raw = b"A: b\r\n\r\nx\r\n", "A: ü\r\n\r\nx\r\n".encode(), b"A: \xff\r\n\r\nx\r\n"
        for original, whole, allowed, kind in (
            (plain, True, False, b"message/rfc822"),
            (plain, True, True, b"message/rfc822"),
            (utf8, True, False, b"message/rfc822"),
            (utf8, True, True, b"message/global"),
            (raw, True, True, b"message/rfc822"),
            (plain, False, False, b"text/rfc822-headers"),
            (utf8, False, True, b"message/global-headers"),
            (raw, False, True, b"text/rfc822-headers"),
        ):
            part = returned(original, whole, allowed)
            self.assertEqual(kind, part.split(b"\r\n")[0].removeprefix(b"Content-Type: "), (original, whole, allowed))
            self.assertEqual(original if whole else header_section(original), part.partition(b"\r\n\r\n")[2])

    def test_sound(self) -> None:
        """A bare CR or LF, NUL, a line over 998 bytes: such a message leaves in no way."""
        for data in (b"", b"a\r\n", b"x" * 998 + b"\r\n", b"\r\n\r\n"):
            self.assertTrue(is_sound(data), data)
        for data in (b"a\nb", b"a\rb", b"\n", b"a\r", b"a\0b", b"x" * 999, b"a\r\n" + b"x" * 999 + b"\r\n"):
            self.assertFalse(is_sound(data), data)

    @settings(deadline=None, max_examples=100)
    @given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b"\0", b"x" * 990]), max_size=8).map(b"".join))
    def test_sound_is_what_may_be_sent(self, data) -> None:
        """Just the bytes of which every line of the report stays by RFC 5322 2.1.1."""
        lines = data.split(b"\r\n")
        good = all(len(line) <= 998 and not {0, 10, 13} & set(line) for line in lines)
        self.assertEqual(good, is_sound(data))

    def test_raw_bytes_in_the_headers(self) -> None:
        """Headers in no known charset come back as they are, declared 8bit, never as UTF-8."""
        for flags in (0, int(Flag.SMTPUTF8)):
            data = report(head=b"Subject: \xff\xfe\r\n\r\n", flags=flags)
            part = parsed(data).get_payload(2)
            self.assertEqual(("text/rfc822-headers", "8bit"), (part.get_content_type(), part["Content-Transfer-Encoding"]))
            self.assertEqual(b"Subject: \xff\xfe\r\n", part.get_payload(decode=True))


class HeaderSectionTests(SynchronousTestCase):
    """What is taken of the original message."""

    def test_bounded_at_whole_lines(self) -> None:
        """64 KiB at most, cut between two lines."""
        line = b"X-Long: " + b"a" * 90 + b"\r\n"
        section = header_section(line * 2000 + b"\r\nbody\r\n")
        self.assertLessEqual(len(section), HEAD_LIMIT)
        self.assertGreater(len(section), HEAD_LIMIT - len(line))
        self.assertEqual(b"", section.replace(line, b""))

    def test_a_message_without_headers_returns_nothing(self) -> None:
        """The first line that is no field is body."""
        self.assertEqual(b"", header_section(b"Dear Bob,\r\nsecret: yes\r\n"))
        self.assertEqual(b"", header_section(b" leading\r\nX: y\r\n"))
        self.assertEqual(b"A: b\r\n", header_section(b"A: b\r\nsecret text\r\nC: d\r\n\r\n"))

    def test_lines_too_long_and_control_bytes(self) -> None:
        """What never should have been accepted does not leave either."""
        section = header_section(b"A: " + b"x" * 2000 + b"\r\nB: 1\r2\n3\x004\r\n\r\n")
        self.assertEqual([998, 10, 0], [len(line) for line in section.split(b"\r\n")])
        self.assertIn(b"B: 1 2 3 4\r\n", section)
