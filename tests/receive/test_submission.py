"""What is mended in the header of a submitted message: whatever the pieces, the same; the body as it came."""

from __future__ import annotations

import re
from email import message_from_bytes

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.receive.submission import FROM_TOO_LONG, LEFT_OUT, MAX_FROM, SubmittedHeader, authors, missing
from mta.smtp.data import LONG_LINE
from mta.smtp.grammar import MAX_TEXT_LINE
from tests.smtp.talk import bytewise, cut

LINES = (
    b"Bcc: a@x.example,\r\n",
    b"bcc : b@x.example\r\n",
    b"RESENT-BCC: c@x.example\r\n",
    b"Return-Path: <>\r\n",
    b"Bccx: d\r\n",
    b" folded\r\n",
    b"\tfolded: too\r\n",
    b" \r\n",
    b"From: <e@x.example>\r\n",
    b"from\t: f@x.example\r\n",
    b"Date: then\r\n",
    b"Message-ID: <1@x>\r\n",
    b"no field\r\n",
    b":\r\n",
    b"\r\n",
    b"Bcc: not in a header\r\n",
)
MESSAGES = st.lists(st.one_of(st.sampled_from(LINES), st.binary(max_size=12)), max_size=16).map(b"".join)


def mended(message: bytes, pieces: list[bytes] | None = None) -> tuple[bytes, SubmittedHeader]:
    """What is stored of a message, and what is known of its header."""
    header = SubmittedHeader()
    out = [header.feed(piece) for piece in pieces or [message]]
    return b"".join((*out, header.end())), header


class SubmittedHeaderTests(SynchronousTestCase):
    """`SubmittedHeader`."""

    def test_nothing_to_do(self) -> None:
        """A whole header and its body pass as they are, to the byte."""
        message = b"From: <a@x.example>\r\nDate: x\r\nMessage-ID: <y@z>\r\nX-8bit: \xff\r\n\r\nbody\r\n\r\nBcc: in the body\r\n"
        stored, header = mended(message)
        self.assertEqual(stored, message)
        self.assertEqual(header.has, {b"date", b"from", b"message-id"})
        self.assertEqual(header.froms, [b"From: <a@x.example>\r\n"])

    def test_left_out(self) -> None:
        """Bcc, Resent-Bcc and Return-Path go with their folds, in any letters, wherever they stand and however often."""
        stored, _ = mended(
            b"BCC: one@x.example,\r\n two@x.example,\r\n\tthree@x.example\r\n \r\nSubject: s\r\n folded\r\nResent-Bcc : x\r\n"
            b"Return-Path: <y>\r\nTo: t\r\nbcc:\r\n\r\nBcc: body\r\n"
        )
        self.assertEqual(stored, b"Subject: s\r\n folded\r\nTo: t\r\n\r\nBcc: body\r\n")

    def test_neighbours_stay(self) -> None:
        """A name that only begins or ends like one of them is another name."""
        message = b"Bccc: a\r\nX-Bcc: b\r\nBc: c\r\n\r\n"
        self.assertEqual(mended(message)[0], message)

    def test_no_header(self) -> None:
        """A message that begins with its empty line has none; nothing is added."""
        self.assertEqual(mended(b"\r\nBcc: x\r\n")[0], b"\r\nBcc: x\r\n")
        self.assertEqual(mended(b"")[0], b"")

    def test_body_without_empty_line(self) -> None:
        """A line that is no field, and a fold of nothing, begin the body: the empty line is put before them."""
        for line in (
            b"Hello there\r\n",
            b" indented\r\n",
            b"From bob Mon Jan 1\r\n",
            b": x\r\n",
            b"name with blanks: x\r\n",
            b"\xc3: x\r\n",
        ):
            self.assertEqual(mended(line + b"Bcc: x\r\n")[0], b"\r\n" + line + b"Bcc: x\r\n")
            self.assertEqual(mended(b"Bcc: y\r\nTo: z\r\n" + line)[0], b"To: z\r\n" + (line if line[0] == 32 else b"\r\n" + line))

    def test_end_amid_a_line(self) -> None:
        """Chunks may end without CRLF: the last line counts all the same."""
        self.assertEqual(mended(b"To: x\r\nBcc: y")[0], b"To: x\r\n")
        self.assertEqual(mended(b"Bcc: x\r\nDate: y")[0], b"Date: y")
        self.assertEqual(mended(b"Bcc: x\r\n\r")[0], b"\r\n\r")

    def test_only_crlf_ends_a_line(self) -> None:
        """A bare LF or CR begins no field: what no peer may take for a line is none here."""
        message = b"X: a\nBcc: b\rBcc: c\r\n\r\n"
        self.assertEqual(mended(message)[0], message)

    def test_endless_line(self) -> None:
        """No more than a line is ever kept back: a longer one is an error, and passes."""
        longest = b"Bcc: " + b"x" * (MAX_TEXT_LINE - 7) + b"\r\n"
        self.assertEqual(mended(longest + b"\r\n")[0], b"\r\n")
        message = b"Bcc: " + b"x" * 5 * MAX_TEXT_LINE
        for pieces in ([message], bytewise(message)):
            stored, header = mended(message, pieces)
            self.assertEqual((stored, header.error), (message, LONG_LINE))

    def test_much_from(self) -> None:
        """What is remembered of From is bounded, whether one is long or there are many."""
        for line in (b"From: a\r\n" + b" x\r\n" * MAX_FROM, b"From:\r\n" * MAX_FROM):
            header = mended(line)[1]
            self.assertEqual(header.error, FROM_TOO_LONG)
            self.assertLessEqual(sum(map(len, header.froms)), MAX_FROM)

    @settings(deadline=None, max_examples=200)
    @given(MESSAGES, st.lists(st.integers(0, 400), max_size=8))
    def test_any_pieces(self, message: bytes, places: list[int]) -> None:
        """However the message is cut, the same is stored and the same is known."""
        results = []
        for pieces in ([message], cut(message, places), bytewise(message)):
            stored, header = mended(message, pieces)
            results.append((stored, header.has, header.froms, header.error))
        self.assertEqual(results[0], results[1])
        self.assertEqual(results[0], results[2])

    @settings(deadline=None, max_examples=200)
    @given(st.lists(st.sampled_from(LINES[:12]), max_size=12), st.binary(max_size=200))
    def test_body(self, lines: list[bytes], body: bytes) -> None:
        """The body is stored to the byte; a regular expression over the whole header leaves the same of it."""
        lines = [b"To: x\r\n", *lines]
        stored, _ = mended(b"".join(lines) + b"\r\n" + body)
        self.assertTrue(stored.endswith(b"\r\n\r\n" + body))
        left = re.sub(rb"(?im)^(?:bcc|resent-bcc|return-path)[ \t]*:.*\r\n(?:[ \t].*\r\n)*", b"", b"".join(lines))
        self.assertEqual(stored, left + b"\r\n" + body)

    @settings(deadline=None, max_examples=200)
    @given(MESSAGES)
    def test_nobody_else_reads_it(self, message: bytes) -> None:
        """The standard library finds none of the fields in what is stored, behind a prefix as we write it."""
        stored = (
            b"Received: from x\r\n" + mended(message.replace(b"\r\n", b"\0").translate(None, b"\r\n").replace(b"\0", b"\r\n"))[0]
        )
        names = {name.strip().lower().encode("utf-8", "surrogateescape") for name in message_from_bytes(stored).keys()}
        self.assertEqual(set(), names & LEFT_OUT)


class MissingTests(SynchronousTestCase):
    """`missing`."""

    def test_each(self) -> None:
        """What is there is not added again."""
        added = {"sender": "jörg@x.example", "date": "now", "message_id": "Q1@mx.example.org"}
        self.assertEqual(
            missing(set(), **added).decode(), "Date: now\r\nFrom: <jörg@x.example>\r\nMessage-ID: <Q1@mx.example.org>\r\n"
        )
        self.assertEqual(missing({b"from", b"message-id"}, **added), b"Date: now\r\n")
        self.assertEqual(missing({b"from", b"date", b"message-id"}, **added), b"")


class AuthorsTests(SynchronousTestCase):
    """`authors`."""

    def test_forms(self) -> None:
        """The forms that mail programs write."""
        for text, wanted in (
            ("a@x.example", ["a@x.example"]),
            ("<a@x.example>", ["a@x.example"]),
            ("Ann B. Example <a@x.example>", ["a@x.example"]),
            ('"Example, Ann" <a@x.example>', ["a@x.example"]),
            ('"Ann \\"B\\" <b@y>" <a@x.example>', ["a@x.example"]),
            ("=?utf-8?q?J=C3=B6rg?= <a@x.example>", ["a@x.example"]),
            ("Jörg <jörg@bücher.example>", ["jörg@bücher.example"]),
            ("a@x.example (Ann)", ["a@x.example"]),
            ("(c) Ann (c) <(c) a@x.example (c)> (c)", ["a@x.example"]),
            ("Ann\r\n <a@x.example>", ["a@x.example"]),
            ("Ann\u00a0B\u2003Example <a@x.example>", ["a@x.example"]),
            ('"a b"@x.example', ['"a b"@x.example']),
            ("a@[192.0.2.1]", ["a@[192.0.2.1]"]),
            ("a@x.example, Bob <b@x.example>", ["a@x.example", "b@x.example"]),
        ):
            self.assertEqual(authors(f"From: {text}\r\n".encode()), tuple(wanted), text)

    def test_two_readings(self) -> None:
        """What one mail program could read as another author than the next one does is not read at all."""
        for text in (
            "",
            "Ann",
            "ceo@y.example <a@x.example>",
            "<ceo@y.example> <a@x.example>",
            "<a@x.example> ceo@y.example",
            "<a@x.example>, ",
            ", <a@x.example>",
            "a@x.example b@x.example",
            "<@y.example:a@x.example>",
            "a@x.example@y.example",
            "group: a@x.example;",
            "undisclosed:;",
            "(nested (comment)) <a@x.example>",
            "a@x.example (open",
            '"open <a@x.example>',
            "a@x..example",
            "[ceo@y.example] <a@x.example>",
            "a\\@y.example <a@x.example>",
            "a@x.example\0",
            "<a@x.example>,<\x0cceo@y.example>",
            "a@x.example\x1f",
            "Ann\x0b<a@x.example>",
            "a@x.example\u2028",
            "a@x.example\udcff",
        ):
            self.assertEqual(authors(f"From: {text}\r\n".encode("utf-8", "surrogateescape")), (), text)

    @settings(deadline=None, max_examples=200)
    @given(st.text(alphabet='ab@.<>"\\(), \t:;[]', max_size=60))
    def test_anything(self, text: str) -> None:
        """Nothing is raised; whatever is an author stands in the field as it is."""
        for author in authors(f"From: {text}\r\n".encode()):
            self.assertIn(author.rpartition("@")[2], text)

    def test_linear(self) -> None:
        """The longest field there can be is read at once: no form of it costs more than its length."""
        for text in (
            '"' * MAX_FROM,
            "a " * 8000,
            "(" * MAX_FROM,
            "(a)" * 5000,
            '"a"' * 5000,
            "a@" * 8000,
            "a," * 8000,
            "\\" * MAX_FROM,
        ):
            self.assertEqual(authors(f"From: {text}".encode()), ())
