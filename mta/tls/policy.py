"""What TLS a delivery is owed, and what a connection has achieved: two frozen values that can be compared and logged.

RFC 3207, RFC 7435.  Levels of this release: none, may, encrypt, verify (docs/tls.md).  The decisions that need
more (fingerprint, secure, dane, dane-only, sts) are named here so that a configuration can be told "not built yet".
Pure: no I/O, no clock.
"""

from __future__ import annotations

from enum import Enum

import attrs

__all__ = ["LEVELS", "NOT_BUILT", "Achieved", "Level", "Required", "judge"]


class Level(Enum):
    """How much security a delivery is owed (docs/tls.md)."""

    NONE = "none"  # never STARTTLS
    MAY = "may"  # STARTTLS where offered; the certificate is recorded, not judged
    ENCRYPT = "encrypt"  # STARTTLS always, never in clear; the certificate is recorded, not judged
    VERIFY = "verify"  # as encrypt, and the chain and the MX host's name must be right

    @property
    def is_mandatory(self) -> bool:
        """Mail of this level never goes in clear."""
        return self in (Level.ENCRYPT, Level.VERIFY)

    @property
    def verifies(self) -> bool:
        """The peer's certificate decides whether mail may go."""
        return self is Level.VERIFY


LEVELS = tuple(level.value for level in Level)
NOT_BUILT = ("fingerprint", "secure", "dane", "dane-only", "sts")


@attrs.frozen(slots=True)
class Required:
    """What one delivery demands of its connection."""

    level: Level
    host: str  # the MX host's name as looked up: A-label, lower case, no dot at the end; or the address literal's text
    address: str  # the IP address connected to
    port: int
    next_hop: str
    names: tuple[str, ...] = ()  # reference identifiers, any of which must be in the certificate (verify)


@attrs.frozen(slots=True)
class Achieved:
    """What a live connection has: facts, not judgements.  version is "" in clear text."""

    version: str = ""  # "TLSv1.3"
    cipher: str = ""
    bits: int = 0
    chain_error: str = ""  # why the chain does not verify, "" when it does
    names_ok: bool = False
    chain: tuple[bytes, ...] = ()  # DER, leaf first

    @property
    def verified(self) -> str:
        """For the log: none | anonymous | untrusted | trusted | verified (Postfix's words)."""
        if not self.version:
            return "none"
        if not self.chain:
            return "anonymous"
        if self.chain_error:
            return "untrusted"
        return "verified" if self.names_ok else "trusted"


def judge(required: Required, achieved: Achieved) -> str:
    """Does the connection give what the delivery is owed?  "" when it does, else why not (docs/tls.md).

    Asked after every handshake, and again when a kept connection is picked up.
    """
    if required.level.is_mandatory and not achieved.version:
        return "TLS is required, the connection is in clear text"
    if not required.level.verifies:
        return ""
    if not achieved.chain:
        return "the server showed no certificate"
    if achieved.chain_error:
        return f"certificate not trusted: {achieved.chain_error}"
    if not achieved.names_ok:
        return f"certificate is for none of: {', '.join(required.names) or '(no name to look for)'}"
    return ""
