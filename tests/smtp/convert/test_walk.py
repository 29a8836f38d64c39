"""Messages taken apart while they stream by."""

from __future__ import annotations

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.smtp.convert.entity import Entity, Odd
from mta.smtp.convert.walk import MAX_DEPTH, MAX_HEADER, MAX_HEADER_LINES, MAX_LINE, Walk
from tests.smtp.convert.messages import cut, messages, places

TOP = b"Content-Type: multipart/mixed; boundary=x\r\n\r\n"


class Record(Walk):
    """What was told."""

    def __init__(self) -> None:
        super().__init__()
        self.out: list[bytes] = []
        self.told: list[tuple[str, int, bool]] = []
        self.contents: list[bytes] = []

    def header(self, entity: Entity, depth: int, is_part: bool, blank: bytes) -> None:
        self.out += [*entity.lines, blank]
        self.told.append(("/".join(entity.kind), depth, is_part))
        self.contents.append(b"")

    def content(self, data: bytes) -> None:
        self.out.append(data)
        self.contents[-1] += data

    def between(self, data: bytes) -> None:
        self.out.append(data)


def walked(*pieces: bytes) -> Record:
    record = Record()
    for piece in pieces:
        record.feed(piece)
    record.end()
    return record


class WalkTests(SynchronousTestCase):
    @settings(deadline=None, max_examples=150)
    @given(messages, places)
    def test_nothing_is_lost(self, data, places):
        """All that is told, joined, is the message, and is told alike however it is cut."""
        record = Record()
        with contextlib.suppress(Odd):
            for piece in cut(data, places):
                record.feed(piece)
            record.end()
            whole = walked(data)
            self.assertEqual((whole.told, whole.contents), (record.told, record.contents))
            self.assertEqual(data, b"".join(record.out))

    @settings(deadline=None, max_examples=100)
    @given(st.binary(max_size=20_000), places)
    def test_any_content(self, content, places):
        """Lines of any length are held in part only, and arrive octet for octet."""
        data = b"Content-Type: a/b\r\n\r\n" + content
        self.assertEqual([content], walked(*cut(data, places)).contents)

    def test_bodies_are_not_read_line_by_line(self):
        """However many lines somebody sends, whatever they begin with: a body costs what its octets cost."""
        for lines in (b"\r\n" * 50_000, b"--y\r\n" * 20_000, b"\r\n-" * 30_000):
            data = TOP + b"--x\r\n\r\n" + lines + b"\r\n--x--\r\n" + lines
            record = walked(*cut(data, [50_000, 100_000]))
            self.assertEqual((data, [b"", lines]), (b"".join(record.out), record.contents))
            self.assertLess(len(record.out), 30)

    def test_long_line_before_a_delimiter(self):
        """A line that is passed on in parts ends where its CRLF is, also when the cut goes through that."""
        long = b"y" * (MAX_LINE + 1)
        for at in (0, 1, 2, 3):
            data = TOP + b"--x\r\n\r\n" + long + b"\r\n--x--\r\n"
            border = data.index(long) + len(long) + at
            self.assertEqual([b"", long], walked(data[:border], data[border:]).contents)

    def test_tree(self):
        """Parts, a message in a part, and what belongs to whom at the borders."""
        data = (
            TOP
            + b"preamble\r\n--x\r\n\r\none\r\n\r\n--x \t\r\nContent-Type: message/rfc822\r\n\r\nSubject: y\r\n"
            + b"Content-Type: multipart/digest; boundary=y\r\n\r\n--y\r\n\r\nSubject: z\r\n\r\nzz\r\n--y--\r\nepilogue\r\n--x--"
        )
        record = walked(data)
        self.assertEqual(data, b"".join(record.out))
        self.assertEqual(
            [
                ("multipart/mixed", 0, False),
                ("text/plain", 1, True),
                ("message/rfc822", 1, True),
                ("multipart/digest", 1, False),
                ("message/rfc822", 2, True),
                ("text/plain", 2, False),
            ],
            record.told,
        )
        self.assertEqual([b"", b"one\r\n", b"", b"", b"", b"zz"], record.contents)

    def test_header_only(self):
        """A message may have no body at all, and no empty line."""
        self.assertEqual([b"Subject: x\r\n", b""], walked(b"Subject: x\r\n").out)
        self.assertEqual([b""], walked(b"Subject: x\r\n\r\n").contents)

    def test_odd(self):
        """Structures that two programs read in two ways, or that never end."""
        inner = b"--x\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y\r\n\r\n"
        deep = b"".join(b"Content-Type: multipart/mixed; boundary=b%d-\r\n\r\n--b%d-\r\n" % (n, n) for n in range(MAX_DEPTH + 1))
        for data in (
            TOP,
            TOP + b"--x\r\n\r\n",
            TOP + b"--x\r\nSubject: x\r\n--x--\r\n",
            TOP + b"--x\r\n\r\n--xy\r\n--x--\r\n",
            TOP + b"--x\r\n\r\n--x--y\r\n--x--\r\n",
            TOP + b"--x\r\n\r\n--x--\r\n--x--\r\n",
            TOP + b"--x\r\n\r\n--x--\r\n--x\r\n\r\n--x--\r\n",
            TOP + inner + b"--x--\r\n",
            TOP + inner + b"--y--\r\n--x\r\n\r\n--y\r\n--x--\r\n",
            TOP + b"--x",
            deep,
            b"Content-Type: message/rfc822\r\n\r\n",
            b"Subject: x",
            b"Subject: \0\r\n\r\n",
            b"Subject: \n\r\n\r\n",
            b"Subject: " + b"x" * MAX_LINE + b"\r\n\r\n",
            b"Subject: x\r\n" * (MAX_HEADER // 12 + 1) + b"\r\n",
            TOP + (b"--x\r\n" + b"X:\r\n" * (MAX_HEADER_LINES // 2) + b"\r\n\r\n") * 2 + b"--x--\r\n",
        ):
            if data == TOP + inner + b"--y--\r\n--x\r\n\r\n--y\r\n--x--\r\n":
                self.assertEqual(data, b"".join(walked(data).out))  # that boundary is free again
            else:
                self.assertRaises(Odd, walked, data)
