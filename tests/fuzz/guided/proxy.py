"""The reader of PROXY headers: any bytes, in any pieces, are read as when they come at once, or refused; never more than its bytes.

Where a header was read, its line or block is found again by the lengths of the specification, and the addresses are addresses.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from mta.receive.proxy import Header, HeaderReader, ProxyFault
from tests.fuzz.guided.draw import Draw, joined
from tests.fuzz.guided.target import Target
from tests.receive.headers import SIGNATURE, block, ssl_tlv, tlv, version1, version2

__all__ = ["TARGET"]

MOST = 16 + 4096  # bytes before a header is whole or refused


def read(pieces: list[bytes]) -> tuple[Header, bytes] | None:
    """The header and what lies behind; None for what is refused, or not whole."""
    reader = HeaderReader()
    for number, piece in enumerate(pieces):
        try:
            header = reader.feed(piece)
        except ProxyFault:
            return None
        if header is not None:
            return header, reader.rest + b"".join(pieces[number + 1 :])
    assert sum(map(len, pieces)) < MOST, "a header without end"
    return None


def size(wire: bytes) -> int:
    """Of the header that stands there, by the specification."""
    return 16 + int.from_bytes(wire[14:16], "big") if wire.startswith(SIGNATURE) else wire.index(b"\r\n") + 2


def check(data: bytes) -> None:
    """See the module."""
    draw = Draw(data)
    whole = read([draw.wire])
    assert read(draw.pieces(draw.wire)) == whole, "it matters how it is cut"
    if whole is None:
        return
    header, rest = whole
    assert rest == draw.wire[size(draw.wire) :], "bytes are lost, or read twice"
    assert 0 <= header.port <= 65535 and 0 <= header.destination_port <= 65535
    if header.source:
        assert ip_address(header.source).version == ip_address(header.destination).version
    else:
        assert not (header.port or header.destination)
    for text in (header.tls.version, header.tls.cipher, header.tls.name) if header.tls else ():
        text.encode()  # no surrogate will ever break the log


def seeds() -> Iterator[bytes]:
    """One of each kind."""
    words = ssl_tlv(tlv(0x21, b"TLSv1.3"), tlv(0x22, b"client.example"), tlv(0x23, b"AES"), client=7)
    for header in (
        version1("192.0.2.1"),
        version1("2001:db8::1"),
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN x y 1 2\r\n",
        version2("192.0.2.1"),
        version2("2001:db8::1", more=words),
        version2("192.0.2.1", more=tlv(3, bytes(4))),
        block(b"", command=0x20),
        block(bytes(216), family=0x31),
    ):
        for choices in ([], [1], [3]):
            yield joined(choices, header + b"EHLO c\r\n")


TARGET = Target(
    "proxy", check, seeds, (SIGNATURE, b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN", b"\r\n", b"\x21\x11\0\x0c", b"\x03\0\4")
)
