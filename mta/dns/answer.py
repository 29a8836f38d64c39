"""What a DNS question brought: one frozen value, for success and failure alike.

RFC 1034 3.7, RFC 2308 (negative answers), RFC 4035 3.2.3 (the AD bit).  Mail needs three kinds of answers apart, and
mixing them up loses mail: *found*, *does not exist* (proven by the server: mail may bounce) and *failed* (nobody
knows: mail waits).  `secure` is True only where a resolver that the operator trusts says that DNSSEC vouches for the
whole answer, every CNAME on the way included.

Pure: no I/O, no clock.  `expires` is in seconds of the reactor's clock.
"""

from __future__ import annotations

from typing import Any

import attrs

__all__ = ["NOERROR", "NXDOMAIN", "TIMEOUT", "UNREACHABLE", "Answer", "Mx", "Tlsa", "question_name"]

NOERROR = "NOERROR"
NXDOMAIN = "NXDOMAIN"
# Not from the wire: what the client says when no server said anything.
TIMEOUT = "TIMEOUT"
UNREACHABLE = "UNREACHABLE"


@attrs.frozen(slots=True)
class Mx:
    """RFC 1035 3.3.9.  host is an A-label name in lower case without final dot; "." is the null MX (RFC 7505)."""

    preference: int
    host: str


@attrs.frozen(slots=True)
class Tlsa:
    """RFC 6698 2.1: certificate usage, selector, matching type, certificate association data."""

    usage: int
    selector: int
    mtype: int
    data: bytes


@attrs.frozen(slots=True)
class Answer:
    """The answer to one question.

    rcode: the mnemonic of RFC 6895 2.3 ("NOERROR", "NXDOMAIN", "SERVFAIL", "REFUSED" ...), or ours: "TIMEOUT",
    "UNREACHABLE", "GARBLED", "CLOSED".  records: by type: `Mx`, address text (A, AAAA), bytes (TXT, its strings
    joined, RFC 7208 3.3), `Tlsa`, name text (PTR, CNAME).  canonical: the name at the end of the CNAME chain.
    reason: for the log, "" when the rcode says it all.
    """

    name: str
    rdtype: str
    rcode: str
    secure: bool = False
    records: tuple[Any, ...] = ()
    canonical: str = ""
    expires: float = 0.0
    reason: str = ""

    @property
    def found(self) -> bool:
        """There is at least one record."""
        return bool(self.records) and self.rcode == NOERROR

    @property
    def exists_not(self) -> bool:
        """A server said so: no such name, or no such record at it."""
        return self.rcode == NXDOMAIN or (self.rcode == NOERROR and not self.records)

    @property
    def failed(self) -> bool:
        """Nobody knows: SERVFAIL (which is also what a DNSSEC forgery looks like), refused, no answer, garbage."""
        return self.rcode not in (NOERROR, NXDOMAIN)

    def __str__(self) -> str:
        """For logs and replies: `mx.example.org A: SERVFAIL (DNSSEC Bogus)`."""
        why = f" ({self.reason})" if self.reason else ""
        return f"{self.name} {self.rdtype}: {self.rcode}{why}"


def question_name(name: str) -> str:
    """The one spelling of a name: lower case, no final dot (the root stays "")."""
    return name.lower().removesuffix(".")
