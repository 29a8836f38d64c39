"""A file with an address a line ([[access.recipients]]): what its check and its reader both must know.  Pure.

Lines are UTF-8, with or without a byte order mark, and end as they like; empty ones and those that begin with "#" are
nothing.  Addresses are compared without regard to case, domains as A-labels (RFC 5890).  A line that is no address is a
ValueError with its number.
"""

from __future__ import annotations

from mta.smtp.address import Path, parse_address
from mta.status import MailError

__all__ = ["key_of", "read_addresses"]


def read_addresses(text: bytes) -> frozenset[str]:
    """All of them, as `key_of` spells them."""
    try:
        lines = text.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise ValueError("not in UTF-8") from None
    return frozenset(
        _address(number, line.strip())
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.strip().startswith("#")
    )


def key_of(address: str) -> tuple[str, str]:
    """The one spelling of an address, and its domain; "" for one without."""
    local, at, domain = address.rpartition("@")
    domain = domain.lower() if domain.isascii() else Path("", domain).domain_key
    return f"{local.lower()}{at}{domain}", domain if at else ""


def _address(number: int, line: str) -> str:
    try:
        address, domain = key_of(parse_address(line).address)
    except MailError:
        address = domain = ""
    if not domain:
        raise ValueError(f"wrong in line {number}; user@domain is wanted")
    return address
