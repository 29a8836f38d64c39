"""The plan of one delivery attempt: which address next, with TLS or in clear, and what follows when one fails.  Pure.

Faults T1 to T10 are the TLS failures of docs/tls.md (RFC 3207, RFC 7435 3); `CONSEQUENCES` is the one table of what
follows at level "may" and at the mandatory levels.  Hosts are tried in the order given (RFC 5321 5.1), at most
`MAX_ADDRESSES` of them.  Clear text after a failed handshake needs two strikes of that host and address at least
`fallback_delay` apart: a glitch never costs the encryption, a host that is broken costs one short delay, and later
messages none, for strikes are remembered for everybody in the hints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import attrs

from mta.config.settings import TlsClient
from mta.envelope import Target
from mta.status import MailError, Reply, Scope
from mta.tls.policy import Level

if TYPE_CHECKING:
    from mta.interfaces import IHints

__all__ = ["CONSEQUENCES", "MAX_ADDRESSES", "Consequence", "Fault", "Plan", "Step", "StrikeMemory", "Trouble", "where"]

MAX_ADDRESSES: Final = 10  # a domain with hundreds of dead addresses must not hold a delivery for hours


class Trouble(Enum):
    """What went wrong with a connection."""

    CONNECT = "connect"  # none came to be
    GREETING = "greeting"  # no greeting, or a negative one
    HELLO = "hello"  # EHLO and HELO refused or unanswered in clear
    T1 = "T1"  # STARTTLS not offered
    T2 = "T2"  # STARTTLS answered 4yz
    T3 = "T3"  # STARTTLS answered 5yz
    T4 = "T4"  # STARTTLS answered with another positive code: that peer is not speaking TLS
    T5 = "T5"  # 421, 221, end of connection or silence at STARTTLS
    T6 = "T6"  # handshake failed: alert, end, silence, a record that is none
    T7 = "T7"  # the certificate does not satisfy the level
    T8 = "T8"  # EHLO failed inside TLS
    T9 = "T9"  # TLS broke later, before the reply to the end of data
    T10 = "T10"  # bytes behind the 220 to STARTTLS: somebody injects
    CLOSING = "421"  # the server closes
    LOST = "lost"  # connection lost or silent in the transaction
    BROKEN = "broken"  # the server broke the protocol
    BODY = "body"  # our own stored body cannot be read

    @property
    def is_tls(self) -> bool:
        """One of the faults T1 to T10."""
        return self.value.startswith("T")


class Consequence(Enum):
    """What follows from a trouble."""

    CLEAR = "clear"  # go on in clear text on this connection: the peer said no, nothing is lost
    ASK = "ask"  # send STARTTLS although it was not offered: the offer may have been deleted on the way
    STRIKE = "strike"  # next address; a strike against this one
    NEXT = "next"  # next address


_MAY_MANDATORY = {
    Trouble.T1: (Consequence.CLEAR, Consequence.ASK),
    Trouble.T2: (Consequence.CLEAR, Consequence.NEXT),
    Trouble.T3: (Consequence.CLEAR, Consequence.NEXT),
    Trouble.T4: (Consequence.CLEAR, Consequence.NEXT),
    Trouble.T5: (Consequence.STRIKE, Consequence.NEXT),
    Trouble.T6: (Consequence.STRIKE, Consequence.NEXT),
    Trouble.T7: (Consequence.NEXT, Consequence.NEXT),
    Trouble.T8: (Consequence.STRIKE, Consequence.NEXT),
    Trouble.T9: (Consequence.STRIKE, Consequence.NEXT),
    Trouble.T10: (Consequence.NEXT, Consequence.NEXT),
    Trouble.CONNECT: (Consequence.NEXT, Consequence.NEXT),
    Trouble.GREETING: (Consequence.NEXT, Consequence.NEXT),
    Trouble.HELLO: (Consequence.NEXT, Consequence.NEXT),
    Trouble.CLOSING: (Consequence.NEXT, Consequence.NEXT),
    Trouble.LOST: (Consequence.NEXT, Consequence.NEXT),
    Trouble.BROKEN: (Consequence.NEXT, Consequence.NEXT),
    Trouble.BODY: (Consequence.NEXT, Consequence.NEXT),
}
CONSEQUENCES: Final[Mapping[tuple[Trouble, Level], Consequence]] = MappingProxyType(
    {(trouble, level): pair[level.is_mandatory] for trouble, pair in _MAY_MANDATORY.items() for level in Level}
)


@attrs.frozen(slots=True)
class Fault:
    """One failure of one connection.  reply: as a deferral would tell it.  unknown: it struck after the final dot was sent
    and before its reply came, so that nobody can say whether the message was taken (RFC 1047)."""

    trouble: Trouble
    reply: Reply
    unknown: bool = False


@attrs.frozen(slots=True)
class Step:
    """Try this address now.  tls False: in clear text, because the level says so or because TLS is known to be broken."""

    target: Target
    tls: bool
    fallback: bool = False  # clear text only because TLS is broken


@attrs.frozen(slots=True)
class _Strikes:
    """first: when the first one fell; probed: the last failed try, set once TLS counts as broken."""

    first: float
    probed: float | None = None


class StrikeMemory:
    """Which hosts fail to speak TLS, kept in the hints and shared by all messages.  Times are seconds of one clock."""

    __slots__ = ("_delay", "_hints", "_reprobe", "_ttl")

    KIND: Final = "tls-strikes"

    def __init__(self, hints: IHints, settings: TlsClient) -> None:
        self._hints = hints
        self._delay = settings.fallback_delay
        self._reprobe = settings.reprobe
        self._ttl = settings.broken_ttl

    def tries_tls(self, target: Target, now: float) -> bool:
        """Shall TLS be tried?  Not while it is known to be broken, except for a probe every `reprobe`."""
        strikes: _Strikes | None = self._hints.get(self.KIND, where(target))
        return strikes is None or strikes.probed is None or now - strikes.probed >= self._reprobe

    def strike(self, target: Target, now: float) -> bool:
        """Note a failure.  True: TLS with this address counts as broken from now on."""
        if self._delay <= 0:
            return False
        strikes: _Strikes | None = self._hints.get(self.KIND, where(target))
        first = now if strikes is None else strikes.first
        broken = now - first >= self._delay
        self._hints.put(self.KIND, where(target), _Strikes(first, now if broken else None), now + self._ttl)
        return broken

    def worked(self, target: Target, now: float) -> None:
        """TLS was fine: one success wipes all strikes."""
        self._hints.put(self.KIND, where(target), None, now)


def where(target: Target) -> str:
    """How log, reports and hints name an address."""
    return f"{target.name}[{target.address}]:{target.port}"


class Plan:
    """One attempt's way through the addresses of a next hop."""

    __slots__ = ("_clear", "_closing_delay", "_faults", "_index", "_level", "_memory", "_settings", "_struck", "_targets")

    def __init__(
        self, targets: Sequence[Target], level: Level, memory: StrikeMemory, settings: TlsClient, closing_delay: float
    ) -> None:
        """targets: never empty.  closing_delay: seconds until a site that answers 421 everywhere is asked again."""
        self._targets = targets[:MAX_ADDRESSES]
        self._level = level
        self._memory = memory
        self._settings = settings
        self._closing_delay = closing_delay
        self._index = 0
        self._clear = False  # this address again, in clear
        self._struck = False
        self._faults: list[tuple[Target, Fault]] = []

    def step(self, now: float) -> Step | None:
        """Where to go now; the same answer until `failed` is told.  None: every address has failed."""
        if self._index >= len(self._targets):
            return None
        target = self._targets[self._index]
        if self._level is not Level.MAY:
            return Step(target, self._level is not Level.NONE)
        tls = not self._clear and self._memory.tries_tls(target, now)
        return Step(target, tls, fallback=not tls)

    def failed(self, step: Step, fault: Fault, now: float) -> None:
        """The connection of this step came to nothing; `step` now answers with what follows."""
        self._faults.append((step.target, fault))
        if step.tls and CONSEQUENCES[fault.trouble, self._level] is Consequence.STRIKE:
            self._struck = True
            if self._memory.strike(step.target, now):
                self._clear = True
                return
        self._index += 1
        self._clear = False

    def encrypted(self, step: Step, now: float) -> None:
        """A transaction went through inside TLS."""
        if self._level is Level.MAY:
            self._memory.worked(step.target, now)

    @property
    def tried(self) -> bool:
        """At least one address has failed."""
        return bool(self._faults)

    def verdict(self) -> MailError:
        """What to tell of the recipients when every address has failed: transient, unless the operator wants
        `mandatory_5xx = bounce` and every host refused STARTTLS for good."""
        target, fault = self._telling()
        text = f"{where(target)}: {fault.reply.text}"
        if self._bounces():
            return MailError(Reply(550, "5.7.5", text), fault.trouble.value, Scope.SITE)
        reply = Reply(fault.reply.code, fault.reply.enhanced, text)
        if all(fault.trouble is Trouble.CLOSING for _, fault in self._faults):
            return MailError(reply, fault.trouble.value, Scope.SITE, retry_after=self._closing_delay)
        if not self._level.is_mandatory and self._struck:
            delay = self._settings.fallback_delay or None
            return MailError(reply, fault.trouble.value, Scope.SESSION, retry_after=delay)
        return MailError(reply, fault.trouble.value, Scope.SITE)

    def _telling(self) -> tuple[Target, Fault]:
        """The last fault, but a TLS fault rather than another: it is the one that somebody can mend."""
        for target, fault in reversed(self._faults):
            if fault.trouble.is_tls:
                return target, fault
        return self._faults[-1]

    def _bounces(self) -> bool:
        if self._settings.mandatory_5xx != "bounce" or not self._level.is_mandatory:
            return False
        return all(fault.trouble is Trouble.T3 for _, fault in self._faults)
