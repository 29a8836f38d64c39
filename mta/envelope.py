"""The values that travel between the rooms: all frozen, none knows where it came from or goes.

A message is accepted once (`NewMessage`), kept (`Message`), claimed recipient by recipient (`Claim`), handed to a
delivery agent (`Job`) and settled with one `Outcome` for each recipient.  Times are milliseconds since the epoch,
sizes are bytes, addresses are text without angle brackets; the null reverse-path is "".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum, IntFlag
from types import MappingProxyType
from typing import TYPE_CHECKING

import attrs

from mta.status import Reply, Scope

if TYPE_CHECKING:
    from mta.interfaces import IBodyReader

__all__ = [
    "BOUNCE",
    "Action",
    "BodyRef",
    "Claim",
    "Flag",
    "Job",
    "Kind",
    "Measure",
    "Message",
    "NewMessage",
    "NewRecipient",
    "Notify",
    "Outcome",
    "Refusal",
    "Route",
    "Ruling",
    "Settlement",
    "Stored",
    "Target",
    "Want",
    "return_by",
    "split_dest",
]

NO_FACTS: Mapping[str, object] = MappingProxyType({})

# A metric (control/metrics.py): its name, the values of its labels, its number; of a histogram each bucket's count, then the sum.
Measure = tuple[str, tuple[str, ...], float | tuple[float, ...]]
BOUNCE = "bounce:"  # the destination of recipients that have failed: "a bounce is owed"


class Flag(IntFlag):
    """What the message needs or has (column `flags`; the numbers are on disk, never change them)."""

    EIGHTBITMIME = 1
    SMTPUTF8 = 2
    REQUIRETLS = 4
    RET_HDRS = 8
    DELAY_WARNED = 16
    BINARYMIME = 32
    TLS_REQUIRED_NO = 64
    RET_FULL = 128
    BY_RETURN = 256
    BY_TRACE = 512
    PUT_OFF = 1024  # it came with a release (RFC 4865): its time has not begun when it came


_BY_RETURN = int(Flag.BY_RETURN)  # plain numbers: arithmetic with enum flags is slow


class Notify(IntFlag):
    """When the sender wants to hear of a recipient (RFC 3461 4.1; column `notify`; the numbers are on disk).

    0: nothing was said, which is FAILURE, and DELAY as we please.
    """

    NEVER = 1
    SUCCESS = 2
    FAILURE = 4
    DELAY = 8


class Action(Enum):
    """What a policy may answer but no (`IPolicy`)."""

    ACCEPT = "accept"  # nobody else is asked at this stage; it opens nothing that is shut (relaying, an unknown recipient)
    HOLD = "hold"  # the message is taken, and waits until an operator releases it
    DISCARD = "discard"  # the message is answered 250 and thrown away


@attrs.frozen(slots=True)
class Ruling:
    """An action with its reason, for the log and for who looks at what is held."""

    action: Action
    reason: str


@attrs.frozen(slots=True)
class BodyRef:
    """A body at rest: its bytes when small, else the name of its durable file in the spool."""

    size: int
    data: bytes | None = None
    path: str | None = None


@attrs.frozen(slots=True)
class NewRecipient:
    """A recipient to be stored.  dest, lane and due are filled in by the queue's service, by routing.

    refused: set where routing refused it; then dest is BOUNCE.
    """

    address: str
    orcpt: str | None = None
    notify: int = 0
    dest: str = ""
    lane: int = 0
    due: int = 0
    refused: Reply | None = None


@attrs.frozen(slots=True)
class NewMessage:
    """A message to be made durable.  Its recipients have the ids id+1 .. id+n (docs/queue.md).

    release: nothing is delivered before (RFC 4865), 0: at once.  priority: -9 to 9 (RFC 6710).  deliver_by: 0 for none; the
    flags say what happens then (RFC 2852).
    """

    id: int
    sender: str
    recipients: tuple[NewRecipient, ...]
    body: BodyRef
    prefix: bytes  # header lines put in front of the body: Received, Return-Path's place is the agent's
    created: int
    expires: int
    source: str = "smtp"  # smtp | submission | dsn | postmaster (a copy of a report) | cli
    account: str | None = None
    flags: int = 0
    envid: str | None = None
    trace: str | None = None  # JSON: client, helo, tls
    lane_key: str = ""  # whose turn it is: account, sender domain or client network
    hold: str = ""  # why it waits until an operator releases it, "" when it need not
    release: int = 0
    priority: int = 0
    deliver_by: int = 0

    @property
    def return_by(self) -> int:
        """See Message."""
        return return_by(self)

    def stored(self) -> Message:
        """As it is read again."""
        return Message(
            self.id,
            self.sender,
            self.created,
            self.expires,
            len(self.prefix) + self.body.size,
            int(self.flags),
            len(self.recipients),
            self.prefix,
            self.source,
            self.account,
            self.envid,
            self.trace,
            self.priority,
            self.deliver_by,
        )


@attrs.frozen(slots=True)
class Message:
    """A stored message without its body."""

    id: int
    sender: str
    created: int
    expires: int
    size: int  # of prefix and body together
    flags: int
    nrcpt: int
    prefix: bytes
    source: str = "smtp"
    account: str | None = None
    envid: str | None = None
    trace: str | None = None
    priority: int = 0
    deliver_by: int = 0

    @property
    def return_by(self) -> int:
        """When it goes back undelivered because its sender wants it so (ms; RFC 2852, mode R); 0: it ends by its lifetime."""
        return return_by(self)


def return_by(message: NewMessage | Message) -> int:
    """See `Message.return_by`."""
    return message.deliver_by if message.flags & _BY_RETURN and message.deliver_by == message.expires else 0


@attrs.frozen(slots=True)
class Stored:
    """A message with its body when that is small; body is None where it must be read from its file."""

    message: Message
    body: bytes | None


@attrs.frozen(slots=True)
class Want:
    """What the scheduler asks the queue for: at most quota due recipients of one lane of one destination."""

    dest: str
    lane: int
    quota: int


@attrs.frozen(slots=True)
class Claim:
    """One recipient that is ours to deliver.  attempts counts the finished ones before this."""

    id: int
    message: int
    dest: str
    lane: int
    due: int
    attempts: int
    address: str
    orcpt: str | None = None
    notify: int = 0
    last_reply: str | None = None  # why it failed before; what a bounce tells the sender
    failed_dest: str | None = None  # at BOUNCE: where it was going, or had got to
    last_host: str | None = None  # the mail server that said `last_reply`, where one did


class Kind(Enum):
    """What became of a claim."""

    __hash__ = object.__hash__  # Enum's own runs Python, and every delivery looks something up

    DELIVERED = "delivered"  # done with: the row goes (for bounce: reported, or dropped with a log line)
    DEFERRED = "deferred"  # tried again later
    CONFIRMED = "confirmed"  # delivered, and the sender is owed a report of it: filed under BOUNCE with its positive reply
    FAILED = "failed"  # a bounce is owed
    GIVEN_BACK = "given-back"  # not tried: no attempt is counted


@attrs.frozen(slots=True)
class Outcome:
    """What became of one claim, and why.

    reply: the deciding reply, the peer's or ours.  scope: what failed (feeds the destination's concurrency).
    due: when to try again, in ms; agents leave it None and the retry policy fills it in, or set retry_after
    (seconds).  facts: further key=value pairs for the log line (relay, tls, conn_use, handover ...).
    connect, transfer: seconds spent.
    """

    claim: Claim
    kind: Kind
    reply: Reply
    scope: Scope = Scope.RECIPIENT
    due: int | None = None
    retry_after: float | None = None
    facts: Mapping[str, object] = NO_FACTS
    connect: float = 0.0
    transfer: float = 0.0
    host: str | None = None  # the mail server that said `reply`, None where it is ours


@attrs.frozen(slots=True)
class Settlement:
    """A finished job: one outcome for each claim, and messages born of them, stored in the same transaction.

    undone: called when those messages could not be stored and are given up.
    """

    outcomes: tuple[Outcome, ...]
    spawn: tuple[NewMessage, ...] = ()
    undone: Callable[[], None] | None = None


@attrs.frozen(slots=True)
class Job:
    """One transaction to be: recipients of one message that go the same way.

    body: the whole body when it is at hand, else None and `open_body` gives a reader.
    """

    message: Message
    claims: tuple[Claim, ...]
    dest: str
    body: bytes | None
    open_body: Callable[[], IBodyReader]


@attrs.frozen(slots=True)
class Route:
    """Which way a recipient goes.  `dest` is what the queue files it under: "agent:route-name/next-hop".

    A level that the route demands stands behind its name ("smtp:bank+verify/..."): mail that waits must not lose it when
    the routes are changed and the name means another one, or none.
    """

    name: str
    agent: str  # smtp | maildir | bounce ...
    next_hop: str  # domain, "[host]:port", or "" where the agent needs none
    tls: str = ""  # level demanded by the route, "" for the default

    @property
    def dest(self) -> str:
        """The destination's name, from which `split_dest` finds the way back."""
        return f"{self.agent}:{self.name}{'+' if self.tls else ''}{self.tls}/{self.next_hop}"


@attrs.frozen(slots=True)
class Target:
    """One address of one host that mail for a next hop may be given to, in the order to try them (RFC 5321 5.1).

    name: the MX host (or the bracketed host), an A-label in lower case without final dot, or the address itself where
    an address literal was given.  address: IPv4 or IPv6 in text.  mx_secure, address_secure: the MX answer, and the answer
    with this address, came DNSSEC-validated from a trusted resolver; a host that the operator wrote in brackets counts as
    mx_secure, an address literal never as address_secure (no DNS said so).  canonical: the host's name behind its CNAMEs.
    domain: the next hop's name behind its CNAMEs, "" where no MX was asked for.
    """

    name: str
    address: str
    port: int
    preference: int = 0
    mx_secure: bool = False
    address_secure: bool = False
    canonical: str = ""
    domain: str = ""

    @property
    def secure(self) -> bool:
        """DNSSEC vouches for the whole way to it."""
        return self.mx_secure and self.address_secure


@attrs.frozen(slots=True)
class Refusal:
    """Why a recipient cannot be routed: the reply for RCPT, or for the bounce."""

    reply: Reply


def split_dest(dest: str) -> tuple[str, str, str]:
    """agent, route name and next hop of a destination's name."""
    agent, _, rest = dest.partition(":")
    name, _, next_hop = rest.partition("/")
    return agent, name, next_hop
