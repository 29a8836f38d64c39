"""A body in chunks, as the sender writes it: BDAT (RFC 3030 2).

`ChunkWriter` has the verbs of `data.DotStuffer`, but what it is fed leaves as it is, whatever the bytes: chunks need no
transparency.  Small pieces are gathered until a chunk is worth its reply.  Each call of `feed` gives one chunk or nothing, so
that the machine knows how many replies are due; the last chunk may be empty.
"""

from __future__ import annotations

from typing import Final

__all__ = ["CHUNK", "ChunkWriter"]

CHUNK: Final = 65_536  # octets that a chunk has at least, but for the last


class ChunkWriter:
    """Body in, chunks out."""

    __slots__ = ("_gathered", "_size")

    def __init__(self) -> None:
        self._gathered: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> bytes:
        """The next chunk to send, b"" while there is not enough of it."""
        self._gathered.append(data)
        self._size += len(data)
        return self._chunk(b"") if self._size >= CHUNK else b""

    def end(self) -> bytes:
        """The last chunk."""
        return self._chunk(b" LAST")

    def _chunk(self, last: bytes) -> bytes:
        chunk = b"".join([b"BDAT %d%s\r\n" % (self._size, last), *self._gathered])
        self._gathered, self._size = [], 0
        return chunk
