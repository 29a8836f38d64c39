"""The far end of a connection: bytes in clear and in TLS, honest or spoilt, and everything that it has said and heard.

`raw` is all that it sent as it went over the wire but for its own TLS, `plain` all that it said inside TLS, `heard_plain`
what it was told there.  When its own TLS breaks, because it was lied to or because it lied, it is deaf inside and goes on
in clear.  `spoil` is how records are damaged: a kind and a place.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hypothesis import strategies as st
from OpenSSL import SSL

from tests.fuzz.network import Reactor, Socket

CLOSE_NOTIFY = b"\x15\x03\x03\x00\x02\x01\x00"  # an alert record in clear
FATAL = b"\x15\x03\x03\x00\x02\x02\x28"
HELLO_REQUEST = b"\x16\x03\x03\x00\x04\x00\x00\x00\x00"
NO_RECORDS = [
    CLOSE_NOTIFY,
    FATAL,
    HELLO_REQUEST,
    b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",  # a hello that is too short
    b"\x16\x03\x01\xff\xff",  # a record that is too long
    b"\x17\x03\x03\x00\x20" + b"x" * 32,  # data that nobody can decrypt
    b"\x14\x03\x03\x00\x01\x01",
    b"\x80\x2e\x01\x00\x02",  # SSL 2
    b"\x00",
    b"\r\n",
    b"\x16",
]

sizes = st.one_of(st.just(()), st.just((1,)), st.lists(st.integers(1, 400), min_size=1, max_size=4).map(tuple))
junk = st.one_of(st.sampled_from(NO_RECORDS), st.binary(min_size=1, max_size=60))
spoilings = st.one_of(
    st.just(("whole", 0)),
    st.just(("whole", 0)),
    st.tuples(st.sampled_from(["cut", "flip", "insert", "twice", "drop"]), st.integers(0, 700)),
)


def spoilt(data: bytes, spoil: tuple[str, int]) -> bytes:
    """What a damaged wire makes of it."""
    kind, place = spoil
    at = place % (len(data) or 1)
    match kind if data else "whole":
        case "cut":
            return data[:at]
        case "flip":
            return data[:at] + bytes([data[at] ^ (1 << place % 8)]) + data[at + 1 :]
        case "insert":
            return data[:at] + b"NOOP\r\n" + data[at:]
        case "twice":
            return data[:at] + data
        case "drop":
            return data[:at] + data[at + 1 :]
    return data


def client_tls(version: int, name: bytes) -> SSL.Connection:
    """The client's side.  version: the highest.  name: the SNI, b"" for none."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(version)
    connection = SSL.Connection(context, None)
    if name:
        connection.set_tlsext_host_name(name)
    connection.set_connect_state()
    return connection


def server_tls(context: SSL.Context) -> SSL.Connection:
    """The server's side."""
    connection = SSL.Connection(context, None)
    connection.set_accept_state()
    return connection


class Far:
    """See the module."""

    def __init__(self, reactor: Reactor, socket: Socket) -> None:
        self.socket = socket
        self.raw = bytearray()
        self.plain = bytearray()
        self.heard_plain = bytearray()
        self.tls: SSL.Connection | None = None
        self.is_up = False  # the handshake is done
        self.has_ended = False
        self._reactor = reactor
        self._fed = 0  # of what was heard is known to our TLS

    # ---- in clear

    def say_raw(self, data: bytes, cut: Iterable[int] = ()) -> None:
        """Bytes past any TLS."""
        self.raw += data
        self._feed(data, cut)
        self._reactor.settle()

    def end(self) -> None:
        """Close in order, at this byte."""
        self.has_ended = True
        self.socket.end()
        self._reactor.settle()

    def reset(self) -> None:
        """Reset, at this byte."""
        self.has_ended = True
        self.socket.reset()
        self._reactor.settle()

    def _feed(self, data: bytes, cut: Iterable[int]) -> None:
        if not self.has_ended:
            self.socket.feed(data, cut)

    # ---- in TLS

    def start_tls(self, tls: SSL.Connection, begins: int, cut: Iterable[int] = (), spoil: tuple[str, int] = ("whole", 0)) -> None:
        """Speak TLS.  begins: where in what was heard the other's TLS begins."""
        self.tls, self.is_up, self._fed = tls, False, begins
        self.pump(cut, spoil)

    def pump(self, cut: Iterable[int] = (), spoil: tuple[str, int] = ("whole", 0), turns: int = 8) -> None:
        """Answer what was heard as TLS wants it, until there is nothing to be answered."""
        for _ in range(turns):
            if not self._listen() | self._flush(cut, spoil):
                return
            self._reactor.settle()

    def say(self, data: bytes, cut: Iterable[int] = (), spoil: tuple[str, int] = ("whole", 0)) -> None:
        """Inside TLS; nothing where there is none."""
        if self.tls is None or not self.is_up:
            return
        try:
            self.tls.send(data)
        except SSL.Error:
            return
        self.plain += data
        self.pump(cut, spoil)

    def close_notify(self) -> None:
        """Say that there will be no more, without waiting for an answer."""
        self._try("shutdown")
        self._flush((), ("whole", 0))
        self._reactor.settle()

    def renegotiate(self) -> None:
        """Ask for another handshake (TLS 1.2)."""
        if self.tls is not None and self.is_up and self.tls.get_protocol_version() == SSL.TLS1_2_VERSION:
            self._try("renegotiate")
            self._try("do_handshake")
            self.pump()

    def _listen(self) -> bool:
        """Take what was heard; True when there was something."""
        heard = bytes(self.socket.heard[self._fed :])
        if self.tls is None or not heard:
            return False
        self._fed += len(heard)
        self.tls.bio_write(heard)
        return True

    def _flush(self, cut: Iterable[int], spoil: tuple[str, int]) -> bool:
        """Go on and send what there is; True when there was something."""
        if self.tls is None:
            return False
        if not self.is_up:
            self.is_up = self._try("do_handshake") is None
        if self.is_up:
            while (data := self._try("recv", 65536)) and isinstance(data, bytes):
                self.heard_plain += data
        out = self._try("bio_read", 1 << 20)
        if isinstance(out, bytes):
            self._feed(spoilt(out, spoil), cut)
        return isinstance(out, bytes)

    def _try(self, name: str, *arguments: Any) -> Any:
        """What our TLS says; the error where it can say nothing."""
        if self.tls is None:
            return None
        try:
            return getattr(self.tls, name)(*arguments)
        except SSL.Error as broken:
            return broken
