"""The header of the PROXY protocol, versions 1 and 2: who the client behind a proxy is (HAProxy's proxy-protocol.txt, 2).

Bytes in, a `Header` out once it is whole; what lies behind it is `rest`.  Strict: whatever is not by the specification raises
`ProxyFault` as soon as that can be seen, for nothing good comes behind it, and the connection ends without a word.  Version
1 is a line of at most 107 bytes; of version 2 we take up to MAX_BLOCK bytes behind its first 16.  A CRC32C is checked where
there is one.  What the proxy says about TLS on its own side (PP2_TYPE_SSL) is for the log only: it is no TLS of ours.  Pure.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

import attrs

__all__ = ["Header", "HeaderReader", "ProxyFault", "ProxyTls", "crc32c"]

MAX_LINE: Final = 107  # version 1, with CRLF
MAX_BLOCK: Final = 4096  # version 2: addresses and TLVs; ours

_WORD: Final = b"PROXY "
_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED: Final = 16  # bytes of version 2 before the block
_UNKNOWN: Final = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?")
_TCP: Final = re.compile(rb"PROXY TCP([46]) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})")
_FAMILIES: Final = {1: IPv4Address, 2: IPv6Address}
_LENGTHS: Final = {0: 0, 1: 12, 2: 36, 3: 216}  # of the addresses with their ports: none, IPv4, IPv6, UNIX
_STREAM: Final = 1
_DGRAM: Final = 2
_LOCAL: Final = 0x20  # version 2 and its command
_PROXY: Final = 0x21
_TYPE_CRC32C: Final = 0x03
_TYPE_SSL: Final = 0x20
_SSL_VERSION: Final = 0x21
_SSL_NAME: Final = 0x22
_SSL_CIPHER: Final = 0x23
_CLIENT_SSL: Final = 0x01
_CLIENT_CERTIFICATE: Final = 0x06  # shown on this connection, or earlier in its TLS session


class ProxyFault(ValueError):
    """This is no PROXY header.  The text is for the log."""


@attrs.frozen(slots=True)
class ProxyTls:
    """What the client and the proxy have agreed on, as the proxy says.  name: CN of a certificate that was `verified`."""

    version: str = ""
    cipher: str = ""
    name: str = ""
    verified: bool = False


@attrs.frozen(slots=True)
class Header:
    """What it says.

    source and destination: addresses of the client, and of the proxy's port that it came to; "" where the proxy does not
    know, or speaks for itself: then the socket's address counts.  local: it speaks for itself (a health check).
    """

    source: str = ""
    port: int = 0
    destination: str = ""
    destination_port: int = 0
    local: bool = False
    tls: ProxyTls | None = None


class HeaderReader:
    """Reads one header.  rest: what came behind it, once `feed` has given it."""

    __slots__ = ("_data", "rest")

    def __init__(self) -> None:
        self._data = b""
        self.rest = b""

    def feed(self, data: bytes) -> Header | None:
        """The header when it is whole, None while it is not; ProxyFault."""
        self._data += data
        if self._data.startswith(_WORD[: len(self._data)]):
            return self._line()
        if self._data.startswith(_SIGNATURE[: len(self._data)]):
            return self._block()
        raise ProxyFault("no PROXY header")

    def _line(self) -> Header | None:
        end = self._data.find(b"\r\n", 0, MAX_LINE)
        if end < 0:
            if len(self._data) >= MAX_LINE:
                raise ProxyFault("PROXY line is too long")
            return None
        self.rest = self._data[end + 2 :]
        return _parse_line(self._data[:end])

    def _block(self) -> Header | None:
        data = self._data
        if len(data) < _FIXED:
            return None
        size = _FIXED + int.from_bytes(data[14:16], "big")
        if size > _FIXED + MAX_BLOCK:
            raise ProxyFault("PROXY header is too long")
        if len(data) < size:
            return None
        self.rest = data[size:]
        return _parse_block(data[:size])


# ---- version 1


def _parse_line(line: bytes) -> Header:
    if _UNKNOWN.fullmatch(line):
        return Header()
    match = _TCP.fullmatch(line)
    if match is None:
        raise ProxyFault("PROXY line is not by the grammar")
    family = IPv4Address if match[1] == b"4" else IPv6Address
    try:
        source, destination = (str(family(match[at].decode("ascii"))) for at in (2, 3))
    except AddressValueError:
        raise ProxyFault("PROXY line has a bad address") from None
    port, destination_port = int(match[4]), int(match[5])
    if max(port, destination_port) > 65535:
        raise ProxyFault("PROXY line has a bad port")
    return Header(source, port, destination, destination_port)


# ---- version 2


def _parse_block(data: bytes) -> Header:
    """data: a whole header, its signature seen."""
    if data[12] == _LOCAL:
        return Header(local=True)  # whatever else it has is to be discarded
    family, protocol = data[13] >> 4, data[13] & 15
    if data[12] != _PROXY or family not in _LENGTHS or protocol > _DGRAM:
        raise ProxyFault("PROXY header has an unknown version, command or family")
    if not family:
        return Header()
    begin = _FIXED + _LENGTHS[family]
    if len(data) < begin:
        raise ProxyFault("PROXY header is shorter than its addresses")
    tlvs = _tlvs(data, begin, len(data))
    _check(data, tlvs)
    tls = next((_tls(data, at, end) for kind, at, end in tlvs if kind == _TYPE_SSL), None)
    if protocol != _STREAM or family not in _FAMILIES:
        return Header(tls=tls)  # 2.2: what one has no use for is as unspecified
    read, octets = _FAMILIES[family], (begin - _FIXED - 4) // 2
    return Header(
        source=str(read(data[_FIXED : _FIXED + octets])),
        port=int.from_bytes(data[begin - 4 : begin - 2], "big"),
        destination=str(read(data[_FIXED + octets : _FIXED + 2 * octets])),
        destination_port=int.from_bytes(data[begin - 2 : begin], "big"),
        tls=tls,
    )


def _tlvs(data: bytes, at: int, end: int) -> list[tuple[int, int, int]]:
    """Type, begin and end of each value."""
    found = []
    while at < end:
        begin = at + 3
        after = begin + int.from_bytes(data[at + 1 : begin], "big")
        if after > end or begin > end:
            raise ProxyFault("PROXY header has a TLV that does not end")
        found.append((data[at], begin, after))
        at = after
    return found


def _check(data: bytes, tlvs: list[tuple[int, int, int]]) -> None:
    """2.2.3: the checksum is over the whole header, with noughts in its own place."""
    sums = [(begin, end) for kind, begin, end in tlvs if kind == _TYPE_CRC32C]
    if not sums:
        return
    begin, end = sums[0]
    if len(sums) > 1 or end - begin != 4:
        raise ProxyFault("PROXY header has a bad CRC32C field")
    if crc32c(data[:begin] + bytes(4) + data[end:]) != int.from_bytes(data[begin:end], "big"):
        raise ProxyFault("PROXY header has a wrong CRC32C")


def _tls(data: bytes, at: int, end: int) -> ProxyTls | None:
    """2.2.6.  None: the client spoke no TLS to the proxy."""
    if end - at < 5:
        raise ProxyFault("PROXY header has a bad TLS field")
    client, refused = data[at], any(data[at + 1 : at + 5])
    words = {kind: data[begin:after].decode("utf-8", "replace") for kind, begin, after in _tlvs(data, at + 5, end)}
    if not client & _CLIENT_SSL:
        return None
    verified = bool(client & _CLIENT_CERTIFICATE) and not refused
    name = words.get(_SSL_NAME, "") if verified else ""
    return ProxyTls(words.get(_SSL_VERSION, ""), words.get(_SSL_CIPHER, ""), name, verified)


def _crc32c_table() -> tuple[int, ...]:
    """RFC 4960 appendix B, the polynomial reflected."""
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


_TABLE: Final = _crc32c_table()


def crc32c(data: bytes) -> int:
    """The Castagnoli checksum of a few hundred bytes, by the book."""
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ _TABLE[(value ^ byte) & 255]
    return value ^ 0xFFFFFFFF
