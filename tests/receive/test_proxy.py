"""The PROXY header: what is one, in whatever pieces it comes, and what is none."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.receive.proxy import MAX_BLOCK, MAX_LINE, Header, HeaderReader, ProxyFault, ProxyTls, crc32c
from tests.receive.headers import SIGNATURE, block, ssl_tlv, summed, tlv, version1, version2

FOUR = Header("203.0.113.9", 40001, "192.0.2.25", 25)
SIX = Header("2001:db8::9", 40001, "2001:db8::25", 25)
TLS13 = ssl_tlv(tlv(0x21, b"TLSv1.3"), tlv(0x23, b"TLS_AES_256_GCM_SHA384"))
GOOD = {
    version1(FOUR.source): FOUR,
    version1(SIX.source): SIX,
    b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n": Header("255.255.255.255", 65535, "255.255.255.255", 65535),
    b"PROXY TCP4 1.2.3.4 5.6.7.8 0 0\r\n": Header("1.2.3.4", 0, "5.6.7.8", 0),
    b"PROXY UNKNOWN\r\n": Header(),
    b"PROXY UNKNOWN " + b"f" * 91 + b"\r\n": Header(),  # 107 bytes
    version2(FOUR.source): FOUR,
    version2(SIX.source): SIX,
    version2(FOUR.source, more=tlv(4, bytes(MAX_BLOCK - 15))): FOUR,
    version2(SIX.source, more=tlv(1, b"smtp") + tlv(0xE1, b"") + tlv(5, b"id")): SIX,
    summed(FOUR.source): FOUR,
    summed(SIX.source, tlv(4, b"padding")): SIX,
    block(b"", 0x20, 0): Header(local=True),
    block(b"\xff whatever", 0x20, 0xFF): Header(local=True),
    block(b"", 0x21, 0): Header(),
    block(b"not to be looked at", 0x21, 0): Header(),
    block(bytes(216), 0x21, 0x31): Header(),  # a UNIX socket
    block(bytes(12), 0x21, 0x12): Header(),  # UDP
}
BAD = (
    b"EHLO client.example\r\n",
    b"\x16\x03\x01\x02\x00",
    b"PROXY\r\n",
    b"proxy TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
    b"PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
    b"PROXY TCP4 1.2.3.04 5.6.7.8 1 2\r\n",
    b"PROXY TCP4 1.2.3.256 5.6.7.8 1 2\r\n",
    b"PROXY TCP4 2001:db8::1 5.6.7.8 1 2\r\n",
    b"PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
    b"PROXY TCP6 fe80::1%lo ::1 1 2\r\n",
    b"PROXY TCP5 1.2.3.4 5.6.7.8 1 2\r\n",
    b"PROXY UNKNOWNS\r\n",
    b"PROXY UNKNOWN a\nb\r\n",
    b"PROXY UNKNOWN a\rb\r\n",
    b"PROXY UNKNOWN " + b"f" * 92 + b"\r\n",
    b"PROXY " + b"x" * MAX_LINE,
    SIGNATURE[:-1] + b"\r",
    block(bytes(12), 0x11),
    block(bytes(12), 0x22),
    block(bytes(12), 0x21, 0x41),
    block(bytes(12), 0x21, 0x13),
    block(bytes(11)),
    block(bytes(35), 0x21, 0x21),
    block(bytes(215), 0x21, 0x31),
    block(bytes(MAX_BLOCK + 1)),
    version2(FOUR.source, more=b"\x04"),
    version2(FOUR.source, more=b"\x04\x00"),
    version2(FOUR.source, more=b"\x04\x00\x02x"),
    version2(FOUR.source, more=tlv(3, bytes(4))),
    version2(FOUR.source, more=tlv(3, b"123")),
    summed(FOUR.source, tlv(3, bytes(4))),
    summed(FOUR.source)[:-1] + b"!",
    version2(FOUR.source, more=tlv(0x20, bytes(4))),
    version2(FOUR.source, more=tlv(0x20, b"\1\0\0\0\0\x21\0\x09TLS")),
)
ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
PORTS = st.integers(0, 65535)


class ReaderTests(SynchronousTestCase):
    """Whole, byte by byte, and with the conversation behind it."""

    def test_whole(self) -> None:
        """One segment is enough, and nothing is left."""
        for data, header in GOOD.items():
            reader = HeaderReader()
            self.assertEqual((reader.feed(data), reader.rest), (header, b""), data)

    def test_byte_by_byte(self) -> None:
        """Nothing is known before the last byte."""
        for data, header in GOOD.items():
            reader = HeaderReader()
            for at in range(len(data) - 1):
                self.assertIsNone(reader.feed(data[at : at + 1]), data)
            self.assertEqual(reader.feed(data[-1:]), header, data)

    def test_what_lies_behind(self) -> None:
        """It is left as it is, even another header."""
        for data, header in GOOD.items():
            reader = HeaderReader()
            self.assertEqual((reader.feed(data + data + b"\r\n\0EHLO x"), reader.rest), (header, data + b"\r\n\0EHLO x"))

    def test_bad(self) -> None:
        """Whole or byte by byte, and never a header."""
        for data in BAD:
            self.assertRaises(ProxyFault, HeaderReader().feed, data)
            self.assertRaises(ProxyFault, self.bytewise, data)

    def bytewise(self, data: bytes) -> None:
        reader = HeaderReader()
        for at in range(len(data)):
            self.assertIsNone(reader.feed(data[at : at + 1]))

    def test_bad_at_once(self) -> None:
        """Who does not speak PROXY is found out by the first byte that does not fit, whoever promises too much by its length."""
        for data in (b"E", b"\x16", b"PROXI", b"\r\n\r\n\r", block(bytes(MAX_BLOCK + 1))[:16]):
            reader = HeaderReader()
            self.assertTrue(len(data) < 2 or reader.feed(data[:-1]) is None)
            self.assertRaises(ProxyFault, reader.feed, data[-1:])

    def test_checksum(self) -> None:
        """CRC32C by its published check value; one wrong bit anywhere is seen."""
        self.assertEqual(crc32c(b"123456789"), 0xE3069283)
        data = summed(FOUR.source)
        for at in range(16, len(data)):
            broken = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
            if at not in (28, 29, 30):  # else it is another type, or a length that does not fit
                self.assertRaises(ProxyFault, HeaderReader().feed, broken)

    def test_tls(self) -> None:
        """What the proxy says of TLS; of a certificate only what it has verified."""
        name = tlv(0x22, b"client.example")
        for more, tls in (
            (TLS13, ProxyTls("TLSv1.3", "TLS_AES_256_GCM_SHA384")),
            (ssl_tlv(name, client=3), ProxyTls(name="client.example", verified=True)),
            (ssl_tlv(name, client=5), ProxyTls(name="client.example", verified=True)),
            (ssl_tlv(name, client=3, verify=1), ProxyTls()),
            (ssl_tlv(name, client=1), ProxyTls()),
            (ssl_tlv(name, client=0), None),
            (ssl_tlv(tlv(0x21, b"\xff")), ProxyTls(version="\ufffd")),
        ):
            header = HeaderReader().feed(version2(FOUR.source, more=more))
            assert header is not None
            self.assertEqual((header.source, header.tls), (FOUR.source, tls))

    @settings(deadline=None, max_examples=200)
    @given(source=ADDRESSES, port=PORTS, pieces=st.lists(st.integers(0, 200), max_size=5), data=st.data())
    def test_any_address(self, source: str, port: int, pieces: list[int], data: st.DataObject) -> None:
        """What a proxy writes is read, in whatever pieces."""
        write = data.draw(st.sampled_from((version1, version2, lambda source, port: version2(source, port=port, more=TLS13))))
        text = write(source, port=port)
        reader, header, begin = HeaderReader(), None, 0
        for end in (*sorted(min(piece, len(text)) for piece in pieces), len(text)):
            if begin < end:
                self.assertIsNone(header)
                header, begin = reader.feed(text[begin:end]), end
        assert header is not None
        self.assertEqual((header.source, header.port, reader.rest), (source, port, b""))

    @settings(deadline=None, max_examples=200)
    @given(
        start=st.sampled_from(
            (b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11\x00\x20", summed(FOUR.source)[:28])
        ),
        rest=st.binary(max_size=120),
    )
    def test_any_bytes(self, start: bytes, rest: bytes) -> None:
        """A header, a fault or a wait, and never more than its length is waited for."""
        try:
            header = HeaderReader().feed(start + rest)
        except ProxyFault:
            return
        if header is None:
            self.assertTrue(len(start + rest) < MAX_LINE or start.startswith(SIGNATURE))
