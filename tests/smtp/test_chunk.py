"""BDAT's argument, and a body in chunks: the same verdict as in DATA, wherever it is cut."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.smtp.chunk import BAD_HEADER, Chunk, ChunkedBody, parse_chunk
from mta.smtp.data import BAD_LINES, LONG_LINE, TOO_BIG, BodyReader, DotStuffer
from mta.status import Reply
from tests.smtp.talk import cut

PARTS = [b"\r\n", b"\r\n", b".", b"a", b"bc\r\n", b".\r\n", b"\r\n.", b"\r", b"\n", b"\0", b"\xff", b"x" * 400, b"y" * 998]
anything = st.lists(st.sampled_from(PARTS), max_size=20).map(b"".join)
cuts = st.lists(st.integers(0, 5000), max_size=8)


def read(chunks: list[bytes], max_size: int = 0, binary: bool = False, step: int = 0) -> tuple[bytes, Reply | None]:
    """Body and error of chunks, each fed at once or in pieces of `step`."""
    reader, body = ChunkedBody(max_size, binary), []
    for chunk in chunks:
        reader.announce(len(chunk))
        body += [reader.feed(chunk[at : at + (step or len(chunk))]) for at in range(0, len(chunk), step or len(chunk) or 1)]
    body.append(reader.end())
    return b"".join(body), reader.error


class ArgumentTests(SynchronousTestCase):
    """`parse_chunk`."""

    def test_good(self) -> None:
        """RFC 3030 2: a size of up to 20 digits, and LAST in any letters."""
        for argument, chunk in (
            (b"0", Chunk(0, False)),
            (b"86 LAST", Chunk(86, True)),
            (b"86   last", Chunk(86, True)),
            (b"0" * 19 + b"7", Chunk(7, False)),
            (b"9" * 20, Chunk(10**20 - 1, False)),
        ):
            self.assertEqual(chunk, parse_chunk(argument), argument)

    def test_garbage(self) -> None:
        """Whatever is not exactly that is no size: never a number that the client may have meant otherwise."""
        for argument in (
            b"",
            b"x",
            b"-1",
            b"+1",
            b"1.0",
            b"0x10",
            b"1_0",
            b"1 LASTX",
            b"1 LAST x",
            b"1LAST",
            b"LAST",
            b"1\tLAST",
        ):
            self.assertIsNone(parse_chunk(argument), argument)
        for argument in (b"9" * 21, b" 1", b"1 ", "١".encode(), b"1\xa0", b"1\n"):
            self.assertIsNone(parse_chunk(argument), argument)


class BodyTests(SynchronousTestCase):
    """`ChunkedBody`."""

    def test_law_7(self) -> None:
        """X15: what DATA refuses is refused, across chunks too; an error stays."""
        for chunks, error in (
            ([b"a\nb"], BAD_LINES),
            ([b"a\rb"], BAD_LINES),
            ([b"a\0b"], BAD_LINES),
            ([b"a\r", b"b"], BAD_LINES),
            ([b"a\r", b"\r\n"], BAD_LINES),
            ([b"a\r"], BAD_LINES),
            ([b"a", b"\nb"], BAD_LINES),
            ([b"a\nb", b"good\r\n"], BAD_LINES),
            ([b"x" * 999 + b"\r\n"], LONG_LINE),
            ([b"x" * 999], LONG_LINE),
            ([b"x" * 500, b"x" * 499, b"\r\n"], LONG_LINE),
            ([b"x" * 998 + b"\r", b"\n"], None),
            ([b"x" * 998], None),
            ([b"a\r", b"\nb\r\n"], None),
            ([b"\r\n.\r\nRSET\r\n"], None),
        ):
            for step in (0, 1):
                self.assertEqual(error, read(chunks, step=step)[1], chunks)

    def test_last_line(self) -> None:
        """A text whose last line has no CRLF gets one; an empty body stays empty."""
        self.assertEqual(b"abc\r\n", read([b"a", b"bc"])[0])
        self.assertEqual(b"abc\r\n", read([b"abc\r\n", b""])[0])
        self.assertEqual(b"", read([b"", b""])[0])

    def test_binary(self) -> None:
        """RFC 3030 3: behind the header every byte, and nothing added; the size counts all the same."""
        for header in (b"\r\n", b"Subject: x\r\n\r\n"):
            data = header + bytes(range(256)) * 5
            for step in (0, 1):
                self.assertEqual((data, None), read([data[:700], data[700:]], binary=True, step=step))
            self.assertEqual((header + b"\r", None), read([header + b"\r"], binary=True))
        self.assertEqual((b"Subject: x", None), read([b"Subject: x"], binary=True))
        self.assertEqual((b"", TOO_BIG), read([b"abc"], max_size=2, binary=True))

    def test_binary_header(self) -> None:
        """X15: a line of the header that only some see would be a field for them, BODY=BINARYMIME or not; cut anywhere."""
        for chunks, error in (
            ([b"S: x\nFrom: evil@x.test\r\n\r\nbody"], BAD_HEADER),
            ([b"S: x\rFrom: evil@x.test\r\n\r\nbody"], BAD_HEADER),
            ([b"S: x\0\r\n\r\n"], BAD_HEADER),
            ([b"S: x\n\nbody \r\n\r\n"], BAD_HEADER),
            ([b"S: x\r\n\n"], BAD_HEADER),
            ([b"S: x\r\n\rx\r\n\r\n"], BAD_HEADER),
            ([b"S: x\r\n\r", b"\r\n\r\n"], BAD_HEADER),
            ([b"S: x\r\r\n\r\n"], BAD_HEADER),
            ([b"\n"], BAD_HEADER),
            ([b"\r"], BAD_HEADER),
            ([b"S: x\r\n\r"], BAD_HEADER),
            ([b"never an end", b"of\nthe header"], BAD_HEADER),
            ([b"no field\r\nS: x\nFrom: evil@x.test\r\n"], BAD_HEADER),
            ([b"x" * 999 + b"\r\n\r\n"], LONG_LINE),
            ([b"x" * 999], LONG_LINE),
            ([b"S: x\r\n\r", b"\n\0\r\n\n", b"x" * 2000], None),
            ([b"x" * 998 + b"\r\n\r\n" + b"x" * 2000], None),
            ([b"\r\n\n"], None),
            ([b"\r", b"\n", b"\0"], None),
            ([b"S: x\r\n"], None),
        ):
            for step in (0, 1, 2, 3):
                body, found = read(chunks, binary=True, step=step)
                self.assertEqual(error, found, chunks)
                self.assertTrue(error or body == b"".join(chunks), chunks)

    def test_size(self) -> None:
        """RFC 1870 6.3: known at the announcement, over all chunks; nothing of that chunk passes; the added CRLF costs nothing."""
        reader = ChunkedBody(10, binary=False)
        reader.announce(4)
        self.assertEqual((b"abcd", None), (reader.feed(b"abcd"), reader.error))
        reader.announce(7)
        self.assertEqual((TOO_BIG, b""), (reader.error, reader.feed(b"e")))
        self.assertEqual((b"1234567890\r\n", None), read([b"12345", b"67890"], max_size=10))

    @settings(deadline=None, max_examples=200)
    @given(anything, anything, cuts, st.sampled_from([0, 1, 3]))
    def test_binary_cut_anywhere(self, header: bytes, rest: bytes, places: list[int], step: int) -> None:
        """X15: it is accepted where its header, up to the first empty line, could have come by DATA."""
        body = header + b"\r\n\r\n" + rest
        text = (b"\r\n" + body).partition(b"\r\n\r\n")[0][2:] + b"\r\n"
        found, error = read(cut(body, places), binary=True, step=step)
        self.assertEqual(read([text])[1] is None, error is None)
        self.assertTrue(error or found == body)

    @settings(deadline=None, max_examples=200)
    @given(anything, cuts, st.sampled_from([0, 1, 3]))
    def test_cut_anywhere(self, body: bytes, places: list[int], step: int) -> None:
        """X15: body and verdict are those of the whole, and of DATA; relayed by DATA it is the same one message."""
        found = read(cut(body, places), step=step)
        self.assertEqual(read([body])[1], found[1])
        if found[1] is None:
            self.assertEqual(body if not body or body.endswith(b"\r\n") else body + b"\r\n", found[0])
            again, relayed = DotStuffer(), BodyReader(0)
            stream = again.feed(found[0]) + again.end()
            self.assertEqual((found[0], b""), relayed.feed(stream), "what left by DATA is another message")
        by_data = BodyReader(0)
        by_data.feed((b"." + body if body[:1] == b"." else body).replace(b"\r\n.", b"\r\n..") + b"\r\n.\r\n")
        self.assertEqual(by_data.error is None, found[1] is None)
