"""Chunks on the wire."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.smtp.chunk_writer import CHUNK, ChunkWriter


class ChunkWriterTests(SynchronousTestCase):
    def test_small(self):
        """One chunk, which is the last; also of nothing."""
        writer = ChunkWriter()
        self.assertEqual((b"", b""), (writer.feed(b".a\n"), writer.feed(b"\0")))
        self.assertEqual(b"BDAT 4 LAST\r\n.a\n\0", writer.end())
        self.assertEqual(b"BDAT 0 LAST\r\n", ChunkWriter().end())

    def test_large(self):
        """A chunk as soon as it is worth one, and then begins another."""
        writer = ChunkWriter()
        self.assertEqual(b"", writer.feed(b"x" * (CHUNK - 1)))
        self.assertEqual(b"BDAT %d\r\n%syz" % (CHUNK + 1, b"x" * (CHUNK - 1)), writer.feed(b"yz"))
        self.assertEqual(b"BDAT 0 LAST\r\n", writer.end())

    @settings(deadline=None, max_examples=50)
    @given(st.lists(st.integers(0, 2 * CHUNK), max_size=6))
    def test_all_arrives(self, sizes):
        """Whatever the pieces: the octets, in order, each call of feed one chunk or nothing."""
        writer = ChunkWriter()
        body = b"".join(bytes([number]) * size for number, size in enumerate(sizes))
        out, start = [], 0
        for size in sizes:
            out.append(writer.feed(body[start : start + size]))
            start += size
        out.append(writer.end())
        taken = b""
        for piece in filter(None, out):
            line = re.match(rb"BDAT (\d+)( LAST)?\r\n", piece)
            self.assertEqual(int(line[1]), len(piece) - line.end())
            self.assertEqual(piece is out[-1], line[2] is not None)
            taken += piece[line.end() :]
        self.assertEqual(body, taken)
