"""The plan of one delivery attempt: which address next, with TLS or in clear, and what follows when one fails.  Pure.

Faults T0 to T10 are the TLS failures of docs/tls.md (RFC 3207, RFC 7435 3); `CONSEQUENCES` is the one table of what
follows where clear text is allowed and where it never is (`Required.may_go_clear`).  Hosts are tried in the order given
(RFC 5321 5.1), at most `MAX_ADDRESSES` of them; those to which nothing may be sent now are left out.  Clear text after a
failed handshake needs two strikes of that host and address at least `fallback_delay` apart: a glitch never costs the
encryption, a host that is broken costs one short delay, and later messages none, for strikes are remembered in the hints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import attrs

from mta.config.settings import TlsClient
from mta.envelope import Target
from mta.relay.handover import ReuseKey
from mta.status import MailError, Reply, Scope
from mta.tls.policy import Demand, Level, Required

if TYPE_CHECKING:
    from mta.interfaces import IHints
    from mta.relay.credentials import Credentials

__all__ = [
    "CONSEQUENCES",
    "MAX_ADDRESSES",
    "Candidate",
    "Consequence",
    "Fault",
    "Plan",
    "Step",
    "StrikeMemory",
    "Trouble",
    "struck_as",
    "where",
]

MAX_ADDRESSES: Final = 10  # a domain with hundreds of dead addresses must not hold a delivery for hours


class Trouble(Enum):
    """What went wrong with a connection."""

    CONNECT = "connect"  # none came to be
    GREETING = "greeting"  # no greeting, or a negative one
    HELLO = "hello"  # EHLO and HELO refused or unanswered in clear
    POLICY = "policy"  # nothing may be sent there now, not even in TLS: no connection was made
    T0 = "T0"  # our own side of TLS cannot be set up: STARTTLS was not sent
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
    AUTH = "auth"  # it does not take our credentials, or we must not show them
    REQUIRETLS = "requiretls"  # it does not offer REQUIRETLS (RFC 8689)
    CLOSING = "421"  # the server closes
    LOST = "lost"  # connection lost or silent in the transaction
    BROKEN = "broken"  # the server broke the protocol
    BODY = "body"  # our own stored body cannot be read

    @property
    def is_tls(self) -> bool:
        """One of the faults T0 to T10, or no connection for the sake of TLS."""
        return self is Trouble.POLICY or self.value.startswith("T")


class Consequence(Enum):
    """What follows from a trouble."""

    CLEAR = "clear"  # go on in clear text on this connection: the peer said no, nothing is lost
    ASK = "ask"  # send STARTTLS although it was not offered: the offer may have been deleted on the way
    STRIKE = "strike"  # next address; a strike against this one
    NEXT = "next"  # next address


# Where clear text is allowed, and where it is not.
_MAY_NEVER = {
    Trouble.T1: (Consequence.CLEAR, Consequence.ASK),
    Trouble.T2: (Consequence.CLEAR, Consequence.NEXT),
    Trouble.T3: (Consequence.CLEAR, Consequence.NEXT),
    Trouble.T4: (Consequence.CLEAR, Consequence.NEXT),
    Trouble.T5: (Consequence.STRIKE, Consequence.NEXT),
    Trouble.T6: (Consequence.STRIKE, Consequence.NEXT),
    Trouble.T8: (Consequence.STRIKE, Consequence.NEXT),
    Trouble.T9: (Consequence.STRIKE, Consequence.NEXT),
}
_NEXT = (Consequence.NEXT, Consequence.NEXT)
CONSEQUENCES: Final[Mapping[tuple[Trouble, bool], Consequence]] = MappingProxyType(
    {(trouble, may): _MAY_NEVER.get(trouble, _NEXT)[not may] for trouble in Trouble for may in (True, False)}
)


@attrs.frozen(slots=True)
class Fault:
    """One failure of one connection.  reply: as a deferral would tell it.  unknown: it struck after the final dot was sent
    and before its reply came, so that nobody can say whether the message was taken (RFC 1047)."""

    trouble: Trouble
    reply: Reply
    unknown: bool = False


@attrs.frozen(slots=True)
class Candidate:
    """An address that may be tried: what is owed there, which deliveries may share a connection to it, and who we are.

    struck: the name under which its strikes are remembered.
    """

    target: Target
    required: Required
    key: ReuseKey
    credentials: Credentials | None = None
    struck: str = attrs.field(init=False)

    @struck.default
    def _struck(self) -> str:
        return struck_as(self.target, self.required)


@attrs.frozen(slots=True)
class Step:
    """Try this address now.  tls False: in clear text, because the level says so or because TLS is known to be broken."""

    candidate: Candidate
    tls: bool
    fallback: bool = False  # clear text only because TLS is broken

    @property
    def target(self) -> Target:
        """Where to."""
        return self.candidate.target

    @property
    def required(self) -> Required:
        """What is owed there."""
        return self.candidate.required


class StrikeMemory:
    """Which hosts fail to speak TLS, kept in the hints and shared by all messages.  Times are seconds of one clock.

    They are kept by name (`struck_as`).  The value is a pair, for hints are kept as JSON: when the first strike fell, and
    the last failed try, None until TLS counts as broken.  Times to come are from before the clock was put back, and void.
    """

    __slots__ = ("_delay", "_hints", "_reprobe", "_ttl")

    KIND: Final = "tls-strikes"

    def __init__(self, hints: IHints, settings: TlsClient) -> None:
        self._hints = hints
        self._delay = settings.fallback_delay
        self._reprobe = settings.reprobe
        self._ttl = settings.broken_ttl

    def tries_tls(self, name: str, now: float) -> bool:
        """Shall TLS be tried?  Not while it is known to be broken, except for a probe every `reprobe`."""
        _, probed = self._hints.get(self.KIND, name) or (None, None)
        return probed is None or not 0 <= now - probed < self._reprobe

    def strike(self, name: str, now: float) -> bool:
        """Note a failure.  True: TLS with this address counts as broken from now on."""
        if self._delay <= 0:
            return False
        first, _ = self._hints.get(self.KIND, name) or (now, None)
        first = min(first, now)
        broken = bool(now - first >= self._delay)
        self._hints.put(self.KIND, name, (first, now if broken else None), now + self._ttl)
        return broken

    def worked(self, name: str, now: float) -> None:
        """TLS was fine: one success wipes all strikes."""
        self._hints.put(self.KIND, name, None, now)


def where(target: Target) -> str:
    """How log, reports and hints name an address."""
    return f"{target.name}[{target.address}]:{target.port}"


def struck_as(target: Target, required: Required) -> str:
    """The name for strikes: that of the address, and how TLS is spoken where a destination has its own way.  What fails with
    those versions and ciphers is no reason to send the mail of others in clear."""
    parameters = required.parameters
    return " ".join([where(target), parameters.min_version, parameters.max_version, parameters.ciphers]).rstrip()


class Plan:
    """One attempt's way through the addresses of a next hop."""

    __slots__ = (
        "_candidates",
        "_clear",
        "_closing_delay",
        "_faults",
        "_index",
        "_insists",
        "_memory",
        "_refused",
        "_settings",
        "_struck",
    )

    def __init__(
        self,
        candidates: Sequence[Candidate],
        refused: Sequence[Demand],
        memory: StrikeMemory,
        settings: TlsClient,
        closing_delay: float,
    ) -> None:
        """candidates: at most MAX_ADDRESSES, in order.  refused: where nothing may be sent; not both are empty.

        closing_delay: seconds until a site that answers 421 everywhere is asked again.
        """
        self._candidates = candidates
        self._refused = refused
        self._memory = memory
        self._settings = settings
        self._closing_delay = closing_delay
        self._index = 0
        self._clear = False  # this address again, in clear
        self._insists = False  # this address again, with TLS though it counts as broken
        self._struck = False
        self._faults: list[tuple[Candidate, Fault]] = []

    def step(self, now: float) -> Step | None:
        """Where to go now; the same answer until `failed` or `wanted` is told.  None: every address has failed."""
        if self._index >= len(self._candidates):
            return None
        candidate = self._candidates[self._index]
        required = candidate.required
        if required.level is Level.NONE or not required.may_go_clear:
            return Step(candidate, required.level is not Level.NONE)
        tls = self._insists or (not self._clear and self._memory.tries_tls(candidate.struck, now))
        return Step(candidate, tls, fallback=not tls)

    def failed(self, step: Step, fault: Fault, now: float) -> None:
        """The connection of this step came to nothing; `step` now answers with what follows."""
        self._faults.append((step.candidate, fault))
        if step.tls and CONSEQUENCES[fault.trouble, step.required.may_go_clear] is Consequence.STRIKE:
            self._struck = True
            if self._memory.strike(step.candidate.struck, now) and not self._insists:
                self._clear = True
                return
        self._index += 1
        self._clear = self._insists = False

    def wanted(self, step: Step) -> bool:
        """The server wants TLS, and we had left it out as broken: True, `step` now answers with TLS, once.

        False: it was tried in this attempt already, or something else was the reason.
        """
        if not step.fallback or self._clear:
            return False
        self._insists = True
        return True

    def encrypted(self, step: Step, now: float) -> None:
        """A transaction went through inside TLS."""
        if step.required.may_go_clear:
            self._memory.worked(step.candidate.struck, now)

    @property
    def tried(self) -> bool:
        """At least one address has failed."""
        return bool(self._faults)

    @property
    def blamed(self) -> Candidate | Demand:
        """The address that `verdict` speaks of."""
        return self._telling()[0]

    def _telling(self) -> tuple[Candidate | Demand, Fault | None]:
        """The last address that failed, but one where TLS or the policy for it failed rather than another: it is the one
        that somebody can mend.  Without a fault it is one where nothing may be sent."""
        for candidate, fault in reversed(self._faults):
            if fault.trouble.is_tls:
                return candidate, fault
        return (self._refused[-1], None) if self._refused else self._faults[-1]

    def verdict(self) -> MailError:
        """What to tell of the recipients when every address has failed: transient, but for what `_final` names."""
        blamed, fault = self._telling()
        if fault is None:
            refusal = self._refused[-1].refusal
            assert refusal is not None, "that is why it is among them"
            return refusal
        trouble, said = fault.trouble.value, fault.reply
        text = f"{where(blamed.target)}: {said.text}"
        if final := self._final():
            return MailError(Reply(550, final, text), trouble, Scope.MESSAGE if blamed.required.requiretls else Scope.SITE)
        reply = Reply(said.code, said.enhanced, text)
        if all(fault.trouble is Trouble.CLOSING for _, fault in self._faults):
            return MailError(reply, trouble, Scope.SITE, retry_after=self._closing_delay)
        if self._struck:
            return MailError(reply, trouble, Scope.SESSION, retry_after=self._settings.fallback_delay or None)
        return MailError(reply, trouble, Scope.SITE)

    def _final(self) -> str:
        """The enhanced code of a failure for good, "" for a transient one.

        RFC 8689 4.2.1: REQUIRETLS mail goes back when no server takes it so, or none has TLS at all; a server that could not
        be asked may.  `mandatory_5xx = bounce`: the operator believes a 5yz to STARTTLS though nobody vouches for it.
        """
        troubles = {fault.trouble for _, fault in self._faults}
        if self._refused:
            return ""
        if self._faults[-1][0].required.requiretls and troubles <= {Trouble.REQUIRETLS, Trouble.T3, Trouble.T4}:
            return "5.7.30" if Trouble.REQUIRETLS in troubles else "5.7.10"
        return "5.7.5" if self._settings.mandatory_5xx == "bounce" and troubles == {Trouble.T3} else ""
