"""TLS that can be taken down again: the verdict CLEAR (docs/tls.md, "Hand-over"), and used for nothing else.

RFC 8446 6.1 and RFC 5246 7.2.1 (close_notify).  Twisted's own TLS closes TCP with close_notify; here it ends TLS and the
connection goes on.  Without I/O: bytes of the network in, plain text out, and the other way round.  OpenSSL is fed record
by record, so that bytes behind the peer's close_notify stay ours (`rest`) and never get lost in its buffers.  `TlsBroken`
is the one error: an alert, a record that is none, bytes in clear inside TLS; nothing is to be read afterwards.
"""

from __future__ import annotations

from typing import Final

from OpenSSL import SSL

__all__ = ["TlsBroken", "UnwrappableTls"]

HEADER: Final = 5  # type, version, length (RFC 8446 5.1)
TYPES: Final = frozenset({20, 21, 22, 23})
LONGEST: Final = 16384 + 2048  # RFC 5246 6.2.3
PIECE: Final = 65536


class TlsBroken(Exception):
    """TLS cannot go on; str() has OpenSSL's reason."""


class UnwrappableTls:
    """One TLS session over a connection that outlives it.

    connection: a client's, without socket, not begun.  established: the handshake is done.  closed: the peer has said
    close_notify; `rest` are the bytes that came behind it.
    """

    def __init__(self, connection: SSL.Connection) -> None:
        self.connection = connection
        self.established = False
        self.closed = False
        self.rest = b""
        self._records = bytearray()
        connection.set_connect_state()
        self._handshake()

    def receive(self, data: bytes) -> bytes:
        """Bytes of the network; what they say.  Raises TlsBroken."""
        if self.closed:
            self.rest += data
            return b""
        self._records += data
        plain: list[bytes] = []
        while record := self._next_record():
            self.connection.bio_write(record)
            if (self.established or self._handshake()) and self._read(plain):
                self.closed, self.rest = True, bytes(self._records)
                break
        return b"".join(plain)

    def receive_late(self, data: bytes) -> bytes:
        """Bytes that come when we have stopped waiting for close_notify; those that are said in clear.  Raises TlsBroken.

        No reply begins with a byte that a record begins with; under TLS 1.3 an alert looks like any other record.  Not to
        be asked again behind clear text or `closed`.
        """
        self._records += data
        while not self.closed and self._records and self._records[0] in TYPES:
            if not (record := self._next_record()):
                return b""
            self.connection.bio_write(record)
            self.closed = self._read([])
        clear = bytes(self._records)
        self._records.clear()
        return clear

    def send(self, data: bytes) -> None:
        """Say something; `data_to_send` has it then.  Raises TlsBroken."""
        view = memoryview(data)
        while view:
            try:
                view = view[self.connection.send(view) :]
            except SSL.Error as error:
                raise TlsBroken(_reason(error)) from None

    def shut(self) -> None:
        """Say close_notify: nothing more is sent inside TLS."""
        try:
            self.connection.shutdown()
        except SSL.Error as error:
            raise TlsBroken(_reason(error)) from None

    def data_to_send(self) -> bytes:
        """Bytes for the network."""
        pieces: list[bytes] = []
        while True:
            try:
                pieces.append(self.connection.bio_read(PIECE))
            except SSL.WantReadError:
                return b"".join(pieces)

    def _next_record(self) -> bytes:
        """One whole record, b"" while there is none."""
        records = self._records
        if records and (records[0] not in TYPES or (len(records) > 1 and records[1] != 3)):
            raise TlsBroken("bytes that are no TLS record")  # at once: SMTP in clear may stop short of a header's length
        if len(records) < HEADER:
            return b""
        length = HEADER + int.from_bytes(records[3:5], "big")
        if length > HEADER + LONGEST:
            raise TlsBroken("a TLS record that is too long")
        if len(records) < length:
            return b""
        record = bytes(records[:length])
        del records[:length]
        return record

    def _handshake(self) -> bool:
        try:
            self.connection.do_handshake()
        except SSL.WantReadError:
            return False
        except SSL.Error as error:
            raise TlsBroken(_reason(error)) from None
        self.established = True
        return True

    def _read(self, plain: list[bytes]) -> bool:
        """Everything that the record had (a ticket or a key update has nothing for us); True when it was close_notify."""
        try:
            while True:
                plain.append(self.connection.recv(PIECE))
        except SSL.WantReadError:
            return False
        except SSL.ZeroReturnError:
            return True
        except SSL.Error as error:
            raise TlsBroken(_reason(error)) from None


def _reason(error: SSL.Error) -> str:
    """The last thing that OpenSSL put on its error stack, in words."""
    stack = error.args[0] if error.args else ()
    if isinstance(stack, list | tuple) and stack:
        return str(stack[-1][-1])
    return type(error).__name__
