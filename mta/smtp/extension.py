"""The service extensions: what EHLO's answer says, written and read.  RFC 5321 2.2 and 4.1.1.1.

We offer PIPELINING (RFC 2920), SIZE (RFC 1870), 8BITMIME (RFC 6152), ENHANCEDSTATUSCODES (RFC 2034), DSN (RFC 3461),
SMTPUTF8 (RFC 6531), AUTH with its mechanisms (RFC 4954), STARTTLS (RFC 3207: never with parameters, never inside TLS) and
REQUIRETLS (RFC 8689: only inside TLS).  When reading, keywords are compared in upper case, the first of two equal ones
counts, parameters of STARTTLS are no matter, and a line that is no keyword ("AUTH=LOGIN") is ignored.  How long such a
list may be is bounded where replies are read (reply.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mta.smtp.grammar import KEYWORD
from mta.status import Reply

__all__ = ["offer", "parse_extensions", "size_limit"]


def offer(max_size: int, starttls: bool, auth: Sequence[str] = (), requiretls: bool = False) -> tuple[str, ...]:
    """The lines for the answer to EHLO, after the first.  max_size: bytes, 0 for no limit (RFC 1870 4)."""
    lines = ["PIPELINING", f"SIZE {max_size}", "8BITMIME", "ENHANCEDSTATUSCODES", "DSN", "SMTPUTF8"]
    if auth:
        lines.append(f"AUTH {' '.join(auth)}")
    if starttls:
        lines.append("STARTTLS")
    if requiretls:
        lines.append("REQUIRETLS")
    return tuple(lines)


def parse_extensions(reply: Reply) -> dict[str, str]:
    """Keyword in upper case -> its parameters as text, from a positive answer to EHLO."""
    extensions: dict[str, str] = {}
    for line in reply.lines[1:]:
        keyword, _, parameters = line.partition(" ")
        if KEYWORD.fullmatch(keyword):
            extensions.setdefault(keyword.upper(), parameters.strip())
    return extensions


def size_limit(extensions: Mapping[str, str]) -> int:
    """The largest message the server takes, in bytes; 0 when it did not say."""
    text = extensions.get("SIZE", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else 0
