"""The file of an export: a tar archive (POSIX.1-1988 "ustar") that every `tar` lists and opens.

    mta-queue.json      {"format": "mta queue", "version": 1, "made": ms}
    <id>.json           a message and its recipients (record.py), on one line; its last key is the digest of both
    <id>.eml            the message: the header lines that the server has added (`prefix` bytes), then the body as it arrived
    ...                 two members for each message, in the order of the ids
    end.json            {"messages": n, "recipients": n}: only a file that has it is whole

sha256 is that of the line up to the comma in front of its key, followed by the message.  Written and read in pieces of 64
KiB, one message at a time.  tarfile's own `TarFile` is not used, for it keeps every member in memory and takes damage for
the end.  A file that is not what it ought to be is `Broken`, with the number and the id of the record.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from tarfile import AREGTYPE, BLOCKSIZE, REGTYPE, USTAR_FORMAT, HeaderError, TarInfo
from typing import Any, BinaryIO, Final

from mta.envelope import Message
from mta.queue.carry.record import Envelope, envelope_of, facts_of
from mta.queue.ids import id_text
from mta.queue.state import Row

__all__ = ["PIECE", "Broken", "Packing", "Unpacking"]

FORMAT: Final = "mta queue"
VERSION: Final = 1
HEAD: Final = "mta-queue.json"
END: Final = "end.json"
PIECE: Final = 65536
LONGEST: Final = 64 << 20  # bytes of a line of JSON; 16,383 recipients have at most half of that
DIGEST: Final = ', "sha256": "'
NO_DIGEST: Final = f'{DIGEST}{"0" * 64}"}}\n'


class Broken(Exception):
    """The file is not what an export has written."""


class Packing:
    """Writes the file.  file: can be read, written and cut, and is empty; made: when (ms).  OSError."""

    def __init__(self, file: BinaryIO, made: int) -> None:
        self.messages = self.recipients = 0
        self._file = file
        self._made = made // 1000
        self._left = 0  # bytes of the message that are to come
        self._began = 0
        self._rows = 0
        self._digest = sha256()
        self._place = 0  # of its digest
        self._line(HEAD, {"format": FORMAT, "version": VERSION, "made": made})

    def begin(self, message: Message, rows: tuple[Row, ...]) -> None:
        """A message and its recipients; its body follows.  ValueError, and nothing is written, when they cannot be said."""
        line = json.dumps(facts_of(message, rows))[:-1]
        whole = (line + NO_DIGEST).encode()
        self._began, self._rows = self._file.tell(), len(rows)
        self._digest = sha256(line.encode())
        name = id_text(message.id)
        self._header(f"{name}.json", len(whole))
        self._place = self._file.tell() + len(line) + len(DIGEST)
        self._file.write(whole)
        self._pad(len(whole))
        self._header(f"{name}.eml", message.size)
        self._left = message.size
        self.write(message.prefix)

    def write(self, data: bytes) -> None:
        """A piece of the body."""
        self._left -= len(data)
        self._digest.update(data)
        self._file.write(data)

    def end(self) -> None:
        """The message is whole.  ValueError when it is not: then `undo` is to be called."""
        if self._left:
            raise ValueError("its body is not as long as it ought to be")
        end = self._file.tell()
        self._file.seek(self._place)
        self._file.write(self._digest.hexdigest().encode())
        self._file.seek(end)
        self._file.write(bytes(-end % BLOCKSIZE))
        self.messages += 1
        self.recipients += self._rows

    def undo(self) -> None:
        """What was written since `begin` is not there."""
        self._file.seek(self._began)
        self._file.truncate()

    def close(self) -> None:
        """All of it was written."""
        self._line(END, {"messages": self.messages, "recipients": self.recipients})
        self._file.write(bytes(2 * BLOCKSIZE))

    def _line(self, name: str, facts: dict[str, Any]) -> None:
        data = (json.dumps(facts) + "\n").encode()
        self._header(name, len(data))
        self._file.write(data)
        self._pad(len(data))

    def _header(self, name: str, size: int) -> None:
        info = TarInfo(name)
        info.size, info.mode, info.mtime = size, 0o600, self._made
        self._file.write(info.tobuf(USTAR_FORMAT))

    def _pad(self, size: int) -> None:
        self._file.write(bytes(-size % BLOCKSIZE))


class Unpacking:
    """Reads the file.

    `records` gives the envelopes one by one; before the next is asked for, the message itself is read, by `beginning` and
    `pieces`.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.position = 0  # bytes that were read
        self._file = file
        self._digest = sha256()
        self._given = ""
        self._left = 0  # bytes of the message that were not read
        self._size = 0
        self._where = ""  # the record that was given last

    def records(self) -> Iterator[Envelope]:
        """The messages in their order.  Broken, also when the last one is not followed by the end of an export."""
        self._head()
        number = recipients = last = 0
        try:
            while (envelope := self._record(last)) is not None:
                number, recipients = number + 1, recipients + len(envelope.recipients)
                last = envelope.message.id + envelope.message.nrcpt
                self._where = f"record {number} ({id_text(envelope.message.id)})"
                yield envelope
            self._ended(number, recipients)
        except Broken as error:
            raise Broken(f"behind {self._where}: {error}" if number else str(error)) from error

    def beginning(self, count: int) -> bytes:
        """So many bytes of the message of the record that was given last.  Broken."""
        if count > LONGEST:
            raise Broken(f"{self._where}: {count} bytes of header lines are no part of an export")
        return b"".join(self._piece(min(PIECE, count - start)) for start in range(0, count, PIECE))

    def pieces(self) -> Iterator[bytes]:
        """The rest of it.  Broken at its end when it is not the message that was exported."""
        while self._left:
            yield self._piece(min(self._left, PIECE))
        try:
            self._skip_pad(self._size)
        except Broken as error:
            raise Broken(f"{self._where}: {error}") from error
        if self._digest.hexdigest() != self._given:
            raise Broken(f"{self._where}: its digest is another one")

    def _piece(self, count: int) -> bytes:
        try:
            piece = self._read(count)
        except Broken as error:
            raise Broken(f"{self._where}: {error}") from error
        self._left -= count
        self._digest.update(piece)
        return piece

    def _head(self) -> None:
        name, size = self._header()
        head = self._json(self._line(size)) if name == HEAD else None
        if not isinstance(head, dict) or head.get("format") != FORMAT:
            raise Broken("is no export of a queue")
        if head.get("version") != VERSION:
            raise Broken(f"is an export of version {str(head.get('version'))[:20]}, this program knows version {VERSION}")

    def _record(self, last: int) -> Envelope | None:
        """The next one, None at the end; its ids are above `last`."""
        name, size = self._header()
        if name == END:
            self._size = size
            return None
        line = self._line(size)
        given = line[-len(NO_DIGEST) :]
        self._given = given[len(DIGEST) : -3]
        self._digest = sha256(line[: -len(NO_DIGEST)].encode())
        try:
            envelope = envelope_of(self._json(line))
        except ValueError as error:
            raise Broken(f"{name}: {error}") from error
        id = envelope.message.id
        body, self._size = self._header()
        if (name, body, given[: len(DIGEST)]) != (f"{id_text(id)}.json", f"{id_text(id)}.eml", DIGEST):
            raise Broken(f"{name} and {body}: are not the two parts of a message")
        if id <= last or self._size != envelope.message.size:
            raise Broken(f"{name}: is out of its order, or {body} is not its message")
        self._left = self._size
        return envelope

    def _ended(self, messages: int, recipients: int) -> None:
        if self._json(self._line(self._size)) != {"messages": messages, "recipients": recipients}:
            raise Broken("it has not as many messages as it says")

    # -- members

    def _header(self) -> tuple[str, int]:
        try:
            info = TarInfo.frombuf(self._read(BLOCKSIZE), "utf-8", "strict")
        except (HeaderError, ValueError) as error:
            raise Broken("what comes is no part of an export") from error
        if info.type not in (REGTYPE, AREGTYPE) or info.size < 0:
            raise Broken(f"{info.name[:40]!r} is no part of an export")
        return info.name, info.size

    def _line(self, size: int) -> str:
        if size > LONGEST:
            raise Broken(f"a line of {size} bytes is no part of an export")
        data = b"".join(self._read(min(PIECE, size - start)) for start in range(0, size, PIECE))
        self._skip_pad(size)
        try:
            return data.decode("ascii")
        except UnicodeDecodeError as error:
            raise Broken("a line of JSON is damaged") from error

    def _json(self, line: str) -> object:
        try:
            found: object = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Broken("a line of JSON is damaged") from error
        return found

    def _skip_pad(self, size: int) -> None:
        if any(self._read(-size % BLOCKSIZE)):
            raise Broken("there is something between two parts")

    def _read(self, count: int) -> bytes:
        data = self._file.read(count)
        self.position += len(data)
        if len(data) < count:
            raise Broken("it ends too early")
        return data
