"""What TLS a delivery is owed, and what a connection has achieved: frozen values that can be compared, logged and asserted.

RFC 3207, RFC 7435, RFC 7672 (DANE), RFC 8461 (MTA-STS), RFC 8689 (REQUIRETLS); docs/tls.md has the levels in words.
`demand.py` finds out what is owed to each host of a next hop (a `Demand`), `client.py` states what a handshake has
achieved for it (`Achieved`), and `judge` is the one place that compares the two: after every handshake, and again when
a kept connection is picked up.  Pure: no I/O, no clock.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from mta.dns.answer import Tlsa
    from mta.envelope import Target
    from mta.status import MailError

__all__ = ["LEVELS", "Achieved", "Demand", "Level", "Parameters", "Required", "judge"]


class Level(Enum):
    """How much security a delivery is owed (docs/tls.md), the weaker before the stronger."""

    NONE = "none"  # never STARTTLS
    MAY = "may"  # STARTTLS where offered; the certificate is recorded, not judged
    ENCRYPT = "encrypt"  # STARTTLS always, never in clear; the certificate is recorded, not judged
    DANE = "dane"  # where secure TLSA records are found they rule; elsewhere as may
    STS = "sts"  # the domain's MTA-STS policy in mode enforce: chain and MX host name
    FINGERPRINT = "fingerprint"  # as encrypt, and the leaf or its key is one that was pinned
    VERIFY = "verify"  # as encrypt, and the chain and the MX host's name must be right
    SECURE = "secure"  # as verify, but for the name of the next hop, which no DNS answer can change
    DANE_ONLY = "dane-only"  # as dane, and without secure TLSA records nothing goes

    @property
    def is_mandatory(self) -> bool:
        """Mail of this level never goes in clear."""
        return self not in (Level.NONE, Level.MAY)

    @property
    def verifies(self) -> bool:
        """The peer's certificate decides whether mail may go."""
        return self not in (Level.NONE, Level.MAY, Level.ENCRYPT)


LEVELS = tuple(level.value for level in Level)


@attrs.frozen(slots=True)
class Parameters:
    """How TLS is spoken with one destination; "" and () stand for what holds everywhere ([tls_client])."""

    min_version: str = ""  # "TLSv1" ... "TLSv1.3"
    max_version: str = ""
    ciphers: str = ""  # OpenSSL's cipher string for TLS 1.2 and below
    trust: tuple[Path, ...] = ()  # these authorities instead of the usual ones
    fingerprints: tuple[str, ...] = ()  # SHA-256 of the leaf or of its SubjectPublicKeyInfo, lower-case hex
    certificate: Path | None = None  # our own, shown when the server asks
    key: Path | None = None


@attrs.frozen(slots=True)
class Required:
    """What one delivery demands of its connection to one address.

    level: what holds here: never DANE without `tlsa`, which becomes MAY, or ENCRYPT where only unusable records are.
    origin: who demanded it: default | route | tls_policy | dane | sts | requiretls | tls-required-no.
    """

    level: Level
    host: str  # the MX host's name as looked up: A-label, lower case, no dot at the end; or the address literal's text
    address: str  # the IP address connected to
    port: int
    next_hop: str
    names: tuple[str, ...] = ()  # reference identifiers, any of which must be in the certificate
    sni: str = ""  # RFC 6066; "" for none
    origin: str = "default"
    parameters: Parameters = Parameters()
    tlsa: tuple[Tlsa, ...] = ()  # usable records only (DANE)
    evidence: str = ""  # what `level` rests on, in short: digest of the TLSA set and its base domain, MTA-STS id and mode
    half: bool = False  # DANE for a host that an insecure MX answer named: never logged as verified
    requiretls: bool = False  # RFC 8689: the next server must offer REQUIRETLS, and its name must be known securely
    sasl: str = ""  # identity and digest of the credentials that will be given, "" for none
    never_clear: bool = False  # beyond the level: credentials, client certificate, TLSA, MTA-STS enforce, REQUIRETLS
    policy: tuple[str, ...] = ()  # lines of the domain's MTA-STS policy, for reports; in mode testing it binds nobody

    @property
    def may_go_clear(self) -> bool:
        """Clear text may follow a failed handshake, in time (docs/tls.md)."""
        return not (self.level.is_mandatory or self.never_clear)


@attrs.frozen(slots=True)
class Demand:
    """What is owed at one address; or why nothing may be sent there (`refusal`: no connection is made).

    until: seconds of the reactor's clock, when it must be asked for anew.
    """

    target: Target
    required: Required
    refusal: MailError | None = None
    until: float = attrs.field(default=0.0, eq=False)


@attrs.frozen(slots=True)
class Achieved:
    """What a live connection has: facts, not judgements.  version is "" in clear text.

    chain_error, names_ok and match_error were found for one `Required`; `ClientTls.again` finds them anew for another.
    """

    version: str = ""  # "TLSv1.3"
    cipher: str = ""
    bits: int = 0
    chain_error: str = ""  # why the chain does not verify, "" when it does
    names_ok: bool = False  # one of `Required.names` is in it
    chain: tuple[bytes, ...] = ()  # DER, leaf first
    match_error: str = ""  # why it does not match the TLSA records or fingerprints asked for, "" when it does or none were
    client_certificate: str = ""  # SHA-256 of the one we showed, "" for none
    authenticated: str = ""  # the identity that AUTH gave this connection, "" for none
    resumed: bool = False  # the session of an earlier connection was gone on with: the chain was shown there

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
    """Does the connection give what the delivery is owed?  "" when it does, else why not (docs/tls.md)."""
    level = required.level
    if level.is_mandatory and not achieved.version:
        return "TLS is required, the connection is in clear text"
    if not level.verifies:
        return ""
    if not achieved.chain:
        return "the server showed no certificate"
    if level in (Level.DANE, Level.DANE_ONLY) and not required.tlsa:
        return "no usable TLSA record"
    if level is Level.FINGERPRINT and not required.parameters.fingerprints:
        return "no fingerprint is known"
    if level in (Level.DANE, Level.DANE_ONLY, Level.FINGERPRINT):
        return achieved.match_error
    if achieved.chain_error:
        return f"certificate not trusted: {achieved.chain_error}"
    if not achieved.names_ok:
        return f"certificate is for none of: {', '.join(required.names) or '(no name to look for)'}"
    return ""
