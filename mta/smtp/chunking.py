"""BDAT in the conversation: when a chunk may come, and what becomes of it.  RFC 3030 2 and 3.

A chunk is counted, and read, whatever it is worth: one that is refused (out of order, no recipient, too big, by the
session) is read and dropped, and then the refusal is said, so that no byte of it is ever a command.  Only where its size
cannot be read, or CHUNKING was not offered and nobody should have sent one, does the conversation end.  A refused chunk
makes the transaction dead (`State.DEAD`) until RSET or a new EHLO; more chunks, which may be under way, are 503 and
no mistake.  A LAST chunk ends the transaction whatever is said to it, as the end of DATA does (RFC 5321 4.1.1.4): with it the
message is complete, and what a client that waits for nothing has sent behind it belongs to the next.
"""

from __future__ import annotations

from mta.smtp import wording
from mta.smtp.chunk import Chunk, ChunkedBody, parse_chunk
from mta.smtp.conversation import Conversation
from mta.smtp.event import BodyChunk, BodyEnd, BodyStart, ChunkEnd, Reset
from mta.smtp.options import Counters, ReceiverOptions
from mta.smtp.order import State
from mta.smtp.xclient import NOT_FORWARDED
from mta.status import Reply

__all__ = ["Chunking"]


class Chunking(Conversation):
    """The part of the receiver that takes chunks; commands and answers are in server.py."""

    __slots__ = ("_binary", "_chunks", "_offers_chunking", "_recipients", "_rejected", "forwarded")

    def __init__(self, options: ReceiverOptions, counters: Counters, state: State) -> None:
        super().__init__(options, counters, state)
        self._offers_chunking = "CHUNKING" not in options.withhold
        self._binary = False  # MAIL had BODY=BINARYMIME
        self._chunks: ChunkedBody | None = None
        self._recipients = 0  # accepted, in this transaction
        self._rejected = 0
        self.forwarded = NOT_FORWARDED

    @property
    def in_transaction(self) -> bool:
        """Between an accepted MAIL and its end."""
        return self._state in (State.MAIL, State.RCPT, State.BODY, State.CHUNKS, State.DEAD)

    def _forget(self) -> None:
        """Drop the mail transaction, if there is one."""
        if self.in_transaction:
            self.forwarded = NOT_FORWARDED
            self._enter(State.READY)
            self._events.append(Reset())

    # ---- the command

    def _bdat(self, argument: bytes) -> None:
        """In a transaction that lives."""
        chunk = self._announced(argument)
        if chunk is None:
            return
        if self._chunks is not None:
            self._chunks.announce(chunk.left)
        elif not self._recipients:
            chunk.refusal = wording.NO_VALID_RECIPIENT if self._rejected else wording.RCPT_FIRST
        else:
            body = ChunkedBody(self._options.max_size, self._binary)
            body.announce(chunk.left)
            if body.error is None:
                self._chunks, self._chunk = body, chunk
                self._ask(BodyStart())
                return
            chunk.refusal = body.error
        self._begin(chunk)

    def _misplaced_chunk(self, verb: bytes, argument: bytes, reply: Reply) -> None:
        chunk = self._announced(argument if verb == b"BDAT" else b"")
        if chunk is not None:
            chunk.refusal, chunk.known = reply, self._state is State.DEAD
            self._begin(chunk)

    def _announced(self, argument: bytes) -> Chunk | None:
        """None: nobody knows what follows, and the conversation has ended."""
        chunk = parse_chunk(argument)
        if not self._offers_chunking:
            self._die(b"BDAT", wording.NOT_IMPLEMENTED)
            return None
        if chunk is None:
            self._die(b"BDAT", wording.BDAT_SYNTAX)
        return chunk

    # ---- its bytes

    def _begin(self, chunk: Chunk) -> None:
        self._chunk = chunk
        if not chunk.left:
            self._chunk_read(chunk)

    def _read_chunk(self, chunk: Chunk) -> None:
        data = self._lines.take(chunk.left)
        chunk.left -= len(data)
        self._counters.bytes += len(data)
        if chunk.refusal is None:
            assert self._chunks is not None
            if piece := self._chunks.feed(data):
                self._events.append(BodyChunk(piece))
        if not chunk.left:
            self._chunk_read(chunk)

    def _chunk_read(self, chunk: Chunk) -> None:
        """All its bytes have come."""
        self._chunk = None
        if chunk.refusal is not None:
            self._chunk_refused(chunk, chunk.refusal)
            return
        body = self._chunks
        assert body is not None
        if not chunk.is_last:
            self._ask(ChunkEnd(body.size, body.error))
            return
        if rest := body.end():
            self._events.append(BodyChunk(rest))
        self._ask(BodyEnd(body.size, body.error))

    def _chunk_refused(self, chunk: Chunk, refusal: Reply) -> None:
        if chunk.known:
            self._say(refusal)
        else:
            self._refuse(b"BDAT", refusal)
        if chunk.is_last:
            self._forget()
        elif self.in_transaction:
            self._enter(State.DEAD)

    # ---- answers

    def _chunks_opened(self, chunk: Chunk, reply: Reply) -> None:
        """What the session says to the first chunk."""
        if reply.is_intermediate:
            self._enter(State.CHUNKS)
        else:
            chunk.refusal, chunk.known = reply, True
        if not chunk.left:
            self._chunk_read(chunk)

    def _chunk_answered(self, event: ChunkEnd, reply: Reply) -> None:
        if event.error is not None and reply.is_positive:
            reply = event.error  # law 7 (docs/architecture.md)
        self._say(reply)
        if not reply.is_positive:
            self._enter(State.DEAD)
