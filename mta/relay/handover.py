"""May the open connection of a finished delivery be given to the next one?  The verdict and the reuse key.

Words, rules and the history that led to them: docs/tls.md, "Hand-over".
KEEP leaves TLS up and gives the connection on; CLEAR takes TLS down, proves in clear text that the peer goes on, and the
next delivery starts TLS again; QUIT ends it.  Two deliveries may share a connection only when their reuse
keys are equal in every field: each field is there because some mail server once left it out and sent mail to the
wrong host, with the wrong credentials, or weaker than owed.  Pure; after construction nothing here raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from hashlib import sha256
from typing import Final

import attrs
from zope.interface import implementer

from mta.config.settings import Handover
from mta.hostlist import HostList, HostLists
from mta.interfaces import IHandover
from mta.tls.policy import Achieved, Level, Required

__all__ = ["PRESETS", "HandoverPolicy", "ReuseKey", "Verdict", "allowed"]


class Verdict(Enum):
    """What becomes of the connection."""

    KEEP = "keep"  # TLS stays up, the next delivery goes on inside it
    CLEAR = "clear"  # TLS is taken down, the next delivery starts it again
    QUIT = "quit"  # QUIT, close


# What the lists of [handover] are where the file leaves them alone: (nopass, clear, pass).  The five are those that Philip
# Hazel weighed for Exim in 2002; "keep" is what seventeen years of use have led Exim and us to.
PRESETS: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]]] = {
    "keep": ((), (), ("*",)),
    "exim2002": ((), ("*",), ("*",)),  # without any test whether the peer goes on: for tests only
    "exim2002-rset": ((), ("*",), ("*",)),
    "nopass-default": (("*",), (), ("*",)),
    "pass-unset": ((), (), ()),
    "never": (("*",), (), ()),  # in clear text too
}
_UNSET: Final = Handover()


@implementer(IHandover)
class HandoverPolicy:
    """Decides by `hosts_nopass_tls` (the veto), `hosts_clear_tls` and `hosts_pass_tls`, in this order; else QUIT.

    In clear text the lists say nothing: KEEP, unless the preset is "never".
    """

    def __init__(self, settings: Handover, lists: HostLists | None = None) -> None:
        """lists: what `@[]`, `+name` and `/file` mean.  ValueError for a bad item in a list."""
        nopass, clear, passes = PRESETS[settings.preset]

        def given(name: str, preset: tuple[str, ...]) -> HostList:
            strings = getattr(settings, name)
            return HostList.parse(preset if strings == getattr(_UNSET, name) else strings, lists)

        self._nopass = given("hosts_nopass_tls", nopass)
        self._clear = given("hosts_clear_tls", clear)
        self._pass = given("hosts_pass_tls", passes)
        self._never = settings.preset == "never"

    def verdict(self, required: Required, achieved: Achieved) -> tuple[Verdict, str]:
        """The verdict, and the reason in one word for the log."""
        host, address = required.host, required.address
        if not achieved.version:
            return (Verdict.QUIT, "preset-never") if self._never else (Verdict.KEEP, "clear-text")
        if self._nopass.match(host, address):
            return Verdict.QUIT, "hosts_nopass_tls"
        if self._clear.match(host, address):
            return Verdict.CLEAR, "hosts_clear_tls"
        if self._pass.match(host, address):
            return Verdict.KEEP, "hosts_pass_tls"
        return Verdict.QUIT, "not-in-hosts_pass_tls"


def allowed(verdict: Verdict, why: str, required: Required, achieved: Achieved) -> tuple[Verdict, str]:
    """The verdict as it may be carried out, whoever gave it.

    CLEAR becomes QUIT wherever clear text on this connection could cost more than a little privacy: an attacker on the path
    owns it from close_notify on (docs/tls.md).
    """
    if verdict is not Verdict.CLEAR:
        return verdict, why
    for reason, holds in (
        ("level", required.level is not Level.MAY or required.never_clear),
        ("auth", bool(required.sasl or achieved.authenticated)),
        ("client-certificate", bool(required.parameters.certificate or achieved.client_certificate)),
        ("requiretls", required.requiretls),
        ("in-clear", not achieved.version),
    ):
        if holds:
            return Verdict.QUIT, f"no-clear-{reason}"
    return verdict, why


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
    parameters: str  # 10 digest of versions, ciphers, names looked for, pins and trust
    next_hop: str  # 11 the domain, where the check depends on it; "" at none, may, encrypt: domains with one MX share
    evidence: str  # 12 MTA-STS id and mode, digest of the TLSA records and their base domain
    client_certificate: str  # 13 SHA-256 of ours, "" for none: it authorises
    sasl: str  # 14 identity and credential: they authorise
    flags: int  # 15 REQUIRETLS and TLS-Required: No of the message
    sender_data: str  # 16 XCLIENT, PROXY, anything that depends on the sender (constant now)

    @classmethod
    def of(cls, required: Required, *, route: str, source: str, hello: str, flags: int, certificate: str) -> ReuseKey:
        """The key of a delivery.  certificate: SHA-256 of the one of ours that a connection for it would show, "" for none."""
        checked = required.level.verifies
        return cls(
            route=route,
            protocol="smtp",
            address=required.address,
            port=required.port,
            source=source,
            hello=hello,
            host=required.host,
            sni=required.sni,
            level=required.level,
            parameters=_digest((required.parameters, required.names if checked else (), required.never_clear)),
            next_hop=required.next_hop if checked else "",
            evidence=required.evidence,
            client_certificate=certificate,
            sasl=required.sasl,
            flags=flags,
            sender_data="",
        )

    def showing(self, certificate: str) -> ReuseKey:
        """The key of a connection that shows this certificate: its file may have been replaced since the delivery was planned."""
        return self if certificate == self.client_certificate else attrs.evolve(self, client_certificate=certificate)


def _digest(facts: tuple[object, ...]) -> str:
    """One short text for values that are compared by their `repr`: frozen classes, paths, strings and tuples of them."""
    return sha256(repr(facts).encode()).hexdigest()[:32]
