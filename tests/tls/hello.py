"""Client hellos made by hand, byte for byte, and the answers taken apart: for what no TLS library would send (RFC 5246, 6066)."""

from __future__ import annotations

from collections.abc import Iterator

from cryptography import x509
from OpenSSL import SSL

SSL3, TLS10, TLS11, TLS12 = b"\x03\x00", b"\x03\x01", b"\x03\x02", b"\x03\x03"
ECDSA_SHA256, RSA_PSS_SHA256, RSA_SHA256 = 0x0403, 0x0804, 0x0401
SUITES = (0xC02B, 0xC02F, 0x009C, 0x002F)  # ECDHE with ECDSA, with RSA, RSA with GCM, RSA with CBC (for the old versions)
UNRECOGNIZED_NAME = b"\x15\x03\x03\x00\x02\x02\x70"

# RFC 6101 E.1: a hello of SSL 2.0 that knows SSL 2.0 only, with three of its ciphers and a challenge.
SSL2_HELLO = b"\x80\x2b\x01\x00\x02\x00\x09\x00\x00\x00\x10" + b"\x07\x00\xc0\x05\x00\x80\x03\x00\x80" + b"\x01" * 25


def sized(size: int, data: bytes) -> bytes:
    """Data behind its length in so many bytes."""
    return len(data).to_bytes(size, "big") + data


def extension(kind: int, data: bytes) -> bytes:
    """One extension."""
    return kind.to_bytes(2, "big") + sized(2, data)


def server_name(name: bytes) -> bytes:
    """The extension server_name, whatever the name is."""
    return extension(0, sized(2, b"\x00" + sized(2, name)))


def client_hello(
    *extensions: bytes,
    version: bytes = TLS12,
    record: bytes = TLS10,
    schemes: tuple[int, ...] = (ECDSA_SHA256, RSA_PSS_SHA256, RSA_SHA256),
) -> bytes:
    """A whole hello in one record."""
    suites = b"".join([suite.to_bytes(2, "big") for suite in SUITES])
    signatures = b"".join([scheme.to_bytes(2, "big") for scheme in schemes])
    usual = (extension(10, sized(2, b"\x00\x17")), extension(11, b"\x01\x00"), extension(13, sized(2, signatures)))
    added = b"" if version == SSL3 else sized(2, b"".join((*usual, *extensions)))
    body = version + b"\x07" * 32 + b"\x00" + sized(2, suites) + b"\x01\x00" + added
    return b"\x16" + record + sized(2, b"\x01" + sized(3, body))


def answer(server: SSL.Connection, hello: bytes) -> bytes:
    """What a server connection says to it; a fatal alert where it refuses."""
    server.bio_write(hello)
    try:
        server.do_handshake()
    except SSL.Error:
        pass
    try:
        return server.bio_read(65536)
    except SSL.WantReadError:
        return b""


def messages(flight: bytes) -> Iterator[tuple[int, bytes]]:
    """The handshake messages of a flight in clear (TLS 1.2): type and body."""
    stream = b""
    while flight:
        kind, size = flight[0], int.from_bytes(flight[3:5], "big")
        if kind == 0x16:
            stream += flight[5 : 5 + size]
        flight = flight[5 + size :]
    while stream:
        size = int.from_bytes(stream[1:4], "big")
        yield stream[0], stream[4 : 4 + size]
        stream = stream[4 + size :]


def certificates(flight: bytes) -> list[x509.Certificate]:
    """The chain that a TLS 1.2 server shows."""
    chain = dict(messages(flight))[11][3:]
    found = []
    while chain:
        size = int.from_bytes(chain[:3], "big")
        found.append(x509.load_der_x509_certificate(chain[3 : 3 + size]))
        chain = chain[3 + size :]
    return found
