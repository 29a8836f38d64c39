"""May the open connection of a finished delivery be given to the next one?  The verdict and the reuse key.

Words and rules: docs/tls.md, "Hand-over".
KEEP leaves TLS up and gives the connection on; QUIT ends it.  Two deliveries may share a connection only when their reuse
keys are equal in every field: each field is there because some mail server once left it out and sent mail to the
wrong host, with the wrong credentials, or weaker than owed.  Pure; nothing here raises.
"""

from __future__ import annotations

from enum import Enum

import attrs
from zope.interface import implementer

from mta.config.settings import Handover
from mta.interfaces import IHandover
from mta.relay.hostlist import HostList
from mta.tls.policy import Achieved, Level, Required

__all__ = ["HandoverPolicy", "ReuseKey", "Verdict"]


class Verdict(Enum):
    """What becomes of the connection."""

    KEEP = "keep"  # TLS stays up, the next delivery goes on inside it
    CLEAR = "clear"  # TLS is taken down, the next delivery starts it again (no list asks for this yet)
    QUIT = "quit"  # QUIT, close


@implementer(IHandover)
class HandoverPolicy:
    """Decides by `hosts_nopass_tls` (the veto) and `hosts_pass_tls`; in clear text the lists say nothing."""

    def __init__(self, settings: Handover) -> None:
        """ValueError for a bad item in a list."""
        self._nopass = HostList.parse(settings.hosts_nopass_tls)
        self._pass = HostList.parse(settings.hosts_pass_tls)

    def verdict(self, required: Required, achieved: Achieved) -> tuple[Verdict, str]:
        """KEEP or QUIT, and the reason in one word for the log."""
        if not achieved.version:
            return Verdict.KEEP, "clear-text"
        if self._nopass.match(required.host, required.address):
            return Verdict.QUIT, "hosts_nopass_tls"
        if self._pass.match(required.host, required.address):
            return Verdict.KEEP, "hosts_pass_tls"
        return Verdict.QUIT, "not-in-hosts_pass_tls"


@attrs.frozen(slots=True, cache_hash=True)
class ReuseKey:
    """What two deliveries must have in common to share a connection (16 fields, compared whole; docs/tls.md).

    Evidence for each is in docs/tls.md.  Fields marked "constant now" belong to features that come later; they stand
    here so that none is forgotten then.
    """

    route: str  # 1  which route's settings made the connection, with the configuration's generation
    protocol: str  # 2  smtp; lmtp and implicit TLS speak differently (constant now)
    address: str  # 3  the peer's IP address
    port: int  # 4  Exim 4.96 left it out: mail for one port went to another
    source: str  # 5  our own address: reputation and SPF hang on it
    hello: str  # 6  the name we said in EHLO
    host: str  # 7  the MX host's name, for which the certificate was checked
    sni: str  # 8  the name by which the server chose its certificate
    level: Level  # 9  the TLS level owed: a connection made under a weaker rule never serves a stronger one
    parameters: str  # 10 digest of versions, ciphers, pins and trust; one set for all now (constant now)
    next_hop: str  # 11 the domain, where the check depends on it; "" at none, may, encrypt: domains with one MX share
    evidence: str  # 12 MTA-STS id and mode, TLSA digest (constant now)
    client_certificate: str  # 13 it authorises (constant now)
    sasl: str  # 14 identity and credential: they authorise (constant now)
    flags: int  # 15 REQUIRETLS and TLS-Required: No of the message
    sender_data: str  # 16 XCLIENT, PROXY, anything that depends on the sender (constant now)

    @classmethod
    def of(cls, required: Required, *, route: str, source: str, hello: str, flags: int) -> ReuseKey:
        """The key of a delivery as far as this release can make deliveries differ."""
        return cls(
            route=route,
            protocol="smtp",
            address=required.address,
            port=required.port,
            source=source,
            hello=hello,
            host=required.host,
            sni=required.host,
            level=required.level,
            parameters="",
            next_hop=required.next_hop if required.level.verifies else "",
            evidence="",
            client_certificate="",
            sasl="",
            flags=flags,
            sender_data="",
        )
