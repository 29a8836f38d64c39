"""PROXY headers as a proxy writes them: for the tests of their reader and of the sessions behind it."""

from __future__ import annotations

from ipaddress import ip_address

from mta.receive.proxy import crc32c

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def tlv(kind: int, value: bytes) -> bytes:
    """A type, a length, a value."""
    return bytes([kind]) + len(value).to_bytes(2, "big") + value


def ssl_tlv(*words: bytes, client: int = 1, verify: int = 0) -> bytes:
    """PP2_TYPE_SSL with what is in it."""
    return tlv(0x20, bytes([client]) + verify.to_bytes(4, "big") + b"".join(words))


def version1(source: str, destination: str = "", port: int = 40001, to: int = 25) -> bytes:
    """A line."""
    family = ip_address(source).version
    destination = destination or ("192.0.2.25" if family == 4 else "2001:db8::25")
    return f"PROXY TCP{family} {source} {destination} {port} {to}\r\n".encode()


def version2(source: str, destination: str = "", port: int = 40001, to: int = 25, more: bytes = b"") -> bytes:
    """A block.  more: its TLVs."""
    family = ip_address(source).version
    destination = destination or ("192.0.2.25" if family == 4 else "2001:db8::25")
    addresses = ip_address(source).packed + ip_address(destination).packed + port.to_bytes(2, "big") + to.to_bytes(2, "big")
    return block(addresses + more, family=0x11 if family == 4 else 0x21)


def block(data: bytes, command: int = 0x21, family: int = 0x11) -> bytes:
    """Version 2 around anything."""
    return SIGNATURE + bytes([command, family]) + len(data).to_bytes(2, "big") + data


def summed(source: str, more: bytes = b"") -> bytes:
    """Version 2 with its checksum, in front of other TLVs."""
    empty = version2(source, more=tlv(3, bytes(4)) + more)
    return version2(source, more=tlv(3, crc32c(empty).to_bytes(4, "big")) + more)
