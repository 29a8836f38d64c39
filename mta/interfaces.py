"""The seams between rooms, and the only ones.

Each room is given providers of these interfaces; none imports another room.  All Deferreds fire on the reactor
thread.  Failures that concern mail are `mta.status.MailError`; anything else that errbacks is a bug, and the
caller treats it as transient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twisted.cred.credentials import ICredentials
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from pathlib import Path

    from mta.dns.answer import Answer
    from mta.envelope import (
        BodyRef,
        Claim,
        Job,
        Measure,
        NewMessage,
        NewRecipient,
        Outcome,
        Refusal,
        Route,
        Settlement,
        Stored,
        Target,
        Want,
    )
    from mta.queue.flights import Flights
    from mta.queue.state import (
        Alteration,
        Carried,
        CopyReport,
        DestState,
        DestSummary,
        Lane,
        Move,
        Overdue,
        Place,
        Row,
        Selector,
        SweepReport,
    )
    from mta.relay.handover import Verdict
    from mta.tls.policy import Achieved, Demand, Level, Required

__all__ = [
    "IAccept",
    "IAccount",
    "IBearerToken",
    "IBodyReader",
    "IBodySink",
    "IDeliveryAgent",
    "IDemands",
    "IEventLog",
    "IHandover",
    "IHints",
    "IMailResolver",
    "IMeasured",
    "INextHops",
    "IPolicy",
    "IProvenLogin",
    "IQueue",
    "IRecipients",
    "IRouter",
    "IScramVerifiers",
    "ISites",
    "ITlsReports",
]


class IBodySink(Interface):
    """A body on its way to disk.  Nothing of it exists until `finish` has fired."""

    id: int = Attribute("the queue id reserved for the message; its recipients are id+1 ... id+recipients")
    name: str = Attribute("the id as people see it: in the reply to the end of data, the Received header, log lines")
    size: int = Attribute("bytes written so far")

    def write(data: bytes) -> Deferred[None] | None:
        """Take bytes.  A Deferred means: send no more until it has fired (or errbacked with a MailError)."""

    def finish() -> Deferred[BodyRef]:
        """All was written.  Fires when a large body is durable and named, at once for a small one.  MailError 452 when full."""

    def abort() -> None:
        """Forget it; leaves nothing behind.  May be called at any time, also twice and after `finish`."""


class IBodyReader(Interface):
    """A stored body, read in pieces.  Never holds a transaction between two reads."""

    def read() -> Deferred[bytes]:
        """The next piece (at most 64 KiB); b"" at the end."""

    def close() -> None:
        """No more will be read.  May be called twice."""


class IAccept(Interface):
    """All that `receive` and `bounce` see of the queue.  Provided by `queue/service.py`."""

    pressure: float = Attribute("0 idle ... 1 full: above 0.8 slow new mail down, above 1 refuse it with 452")

    def create_body(recipients: int) -> IBodySink:
        """Begin a message for that many recipients: reserves its ids.  MailError when the queue takes no more."""

    def accept(message: NewMessage) -> Deferred[int]:
        """Route the recipients and make the message durable.  Fires with its id after the commit; only then say 250."""


class IQueue(Interface):
    """Messages that were accepted and what is still to be done with them.

    Two engines provide it (memory, sqlite) and one conformance suite holds both.  `now` values are ms since the epoch.
    """

    pressure: float = Attribute("0 idle ... 1 full: how the engine itself does; see IAccept")
    flights: Flights = Attribute("the jobs on their way, see queue/flights.py; another one after each start")
    recovered: Deferred[None] = Attribute(
        "fires when what the last owner had taken waits again: before `start` does; on a full disk when there is room, unless it"
        " is stopped before. Another one after each start"
    )

    def room() -> int | None:
        """Bytes that are free where the mail is stored; None where there is no such limit, or it cannot be told."""

    def start() -> Deferred[None]:
        """Open, recover, be the only owner.  Errbacks with a MailError that says what is wrong."""

    def stop() -> Deferred[None]:
        """Finish what was asked, then close.  Claims that were not settled are waiting again at the next start."""

    def create_body(recipients: int) -> IBodySink:
        """See IAccept."""

    def enqueue(
        messages: Sequence[NewMessage],
        admit: Callable[[NewRecipient], bool] | None = None,
        wanted: Callable[[], bool] | None = None,
    ) -> Deferred[list[Claim]]:
        """Make messages durable; fires after the sync.  All or nothing for each message.

        admit, asked at once on the reactor thread, says which recipients the caller delivers itself: they come back as
        claims, in order.  The recipients of a message with `hold` are held from the first, and nobody is asked.  Repeating
        an id is harmless.  One bad message fails alone (MailError): its neighbours are stored.
        wanted, asked once when the writing begins, perhaps in another thread: False, nothing is stored and the call fails.
        """

    def body_of(id: int, recipients: int) -> Deferred[IBodySink | None]:
        """For a message of another queue that keeps its id, accepted for so many recipients; None: an id of it is in use here."""

    def adopt(messages: Sequence[Carried]) -> Deferred[None]:
        """Make messages of another queue durable as they were there, but what was taken waits; fires after the sync.

        Their bodies were written to sinks of `body_of`.  All or nothing.  A service that delivers from it is told (`adopted`).
        """

    def claim(wants: Sequence[Want], now: int) -> Deferred[list[Claim]]:
        """Due recipients, oldest first within a lane; nothing that is claimed already, nothing with due > now."""

    def settle(outcomes: Sequence[Outcome], spawn: Sequence[NewMessage] = ()) -> Deferred[list[bool]]:
        """Record outcomes and store the messages born of them, in one transaction.

        DEFERRED needs `due`.  FAILED and CONFIRMED move the recipient to BOUNCE.  False: that claim was not the caller's (any
        more).
        """

    def lanes(dest: str | None = None, after: str = "", limit: int = 1000) -> Deferred[list[Lane]]:
        """Where waiting work is: (dest, lane, first due), of one destination or of all after a name."""

    def load(message: int) -> Deferred[Stored]:
        """The message, with its body when that is stored inline."""

    def open_body(message: int) -> IBodyReader:
        """A reader of any stored body."""

    def mark(
        dest: str,
        blocked_until: int | None = None,
        why: str | None = None,
        suspended: bool | None = None,
        clear: bool = False,
    ) -> Deferred[DestState]:
        """Change a destination's state; clear makes it plain again."""

    def destinations() -> Deferred[list[DestState]]:
        """Those that are not in their plain state."""

    def alter(selector: Selector, action: Alteration, now: int, limit: int = 500, after: int = 0) -> Deferred[tuple[int, int]]:
        """hold | release | retry | remove, on at most `limit` recipients: (how many, 0 or where to go on).

        Call again with `after` what was answered, until that is 0.  Without it the same is done, perhaps slower.
        """

    def browse(selector: Selector, after: int = 0, limit: int = 100) -> Deferred[list[Row]]:
        """Recipients in the order of their ids, for people."""

    def summary(now: int, limit: int = 20) -> Deferred[list[DestSummary]]:
        """The destinations with the most recipients first, for people; reads beside the writer."""

    def refile(moves: Sequence[Move], now: int) -> Deferred[int]:
        """File waiting and held recipients elsewhere (at most 500), due now; what is in flight stays, and what is at BOUNCE.
        How many were moved."""

    def overdue(before: int, after: int = 0, limit: int = 100) -> Deferred[list[Overdue]]:
        """Messages begun before a time (ms), of ids above `after`, with waiting recipients whose sender wants to hear of a
        delay, not warned yet and not with a time of their own: in the order of their ids."""

    def overdue_by(now: int, after: Place = (0, 0), limit: int = 100) -> Deferred[list[Overdue]]:
        """As `overdue`, of those that their senders wanted delivered by now, and told else (RFC 2852, mode N): in the order of
        these times, behind a place in it."""

    def warn(message: int, spawn: Sequence[NewMessage]) -> Deferred[bool]:
        """Note that the sender was warned, and store the warning, in one transaction.  False: gone, or warned already."""

    def noted(key: str) -> Deferred[str]:
        """A word that is kept with the mail; "" when there is none."""

    def note(key: str, value: str) -> Deferred[None]:
        """Keep a word with the mail.  Durable when it fires."""

    def backup(dest: Path, progress: Callable[[str, int, int], None]) -> Deferred[CopyReport]:
        """Copy all of it into a folder that is not there yet, while it works; one at a time.

        progress: told what is copied ("pages", "files"), how many are done, of how many.  Errbacks with a MailError, and
        nothing is left; also where there is nothing that can be copied.
        """

    def sweep(now: int) -> Deferred[SweepReport]:
        """Expire what is too old (to BOUNCE), remove orphan bodies: one bounded bite."""


class IRouter(Interface):
    """Which way a recipient goes."""

    def route(address: str) -> Route | Refusal:
        """Synchronous; used at RCPT and at enqueue."""

    digest: str = Attribute("changes when the table of routes changes: then waiting rows are routed anew")


class IDeliveryAgent(Interface):
    """Something that delivers: relay, Maildir, bounce."""

    def deliver(job: Job) -> Deferred[Settlement]:
        """One outcome for each claim of the job.  Never errbacks, always fires."""


class ISites(Interface):
    """What a delivery agent may provide too: which destinations share their mail servers."""

    def site(dest: str) -> Deferred[str]:
        """One name for all destinations that are brought to the same hosts; "" when nobody can say now.  Never errbacks."""


class IMailResolver(Interface):
    """DNS as mail needs it (`IResolver` is Twisted's own name)."""

    def query(name: str, rdtype: str) -> Deferred[Answer]:
        """Ask for MX, A, AAAA, CNAME, TXT, TLSA, PTR.  A failed lookup is an Answer too (its rcode says so), never an errback."""


class INextHops(Interface):
    """Where the mail for a next hop may be taken.  Provided by `route/hosts.py`; all that `relay` sees of MX and DNS."""

    def hosts(next_hop: str) -> Deferred[list[Target]]:
        """The addresses of a next hop in the order to try them (RFC 5321 5.1), never an empty list.

        next_hop: "example.org" (its MX, else its own addresses) or "[host]", "[host]:port", "[192.0.2.1]", "[IPv6:...]"
        (no MX).  Errbacks with a MailError of Scope.SITE: permanent for a domain that does not exist, takes no mail or
        leads back to us; transient for a failed lookup.
        """


class IDemands(Interface):
    """What TLS is owed where.  Provided by `tls/demand.py`; all that `relay` sees of DANE, MTA-STS and `[[tls_policy]]`."""

    def of(next_hop: str, level: Level | None, targets: Sequence[Target], flags: int, sasl: str) -> Deferred[list[Demand]]:
        """One demand for each target, in their order: connect where `refusal` is None, as `required` says.

        level: of the route, None where it has none.  flags: REQUIRETLS and TLS_REQUIRED_NO of the message count.
        sasl: identity of the credentials that will be given, "" for none.  Errbacks with a MailError of Scope.SITE
        when nothing may be sent to this next hop at all now.
        """

    def until(demands: Sequence[Demand]) -> float:
        """Until when (seconds of the reactor's clock) the demands hold without asking again."""


class ITlsReports(Interface):
    """What TLSRPT (RFC 8460) counts: one session for each new handshake, or the failure to have one."""

    def succeeded(required: Required) -> None:
        """A new session gave what was owed."""

    def failed(required: Required, result_type: str, detail: str) -> None:
        """result_type: of RFC 8460 4.3 (starttls-not-supported, certificate-expired, validation-failure ...)."""


class IAccount(Interface):
    """The avatar that a `twisted.cred` portal gives for a login."""

    name: str = Attribute("the account: for the log, the fairness lane and the message's `account`")

    # Optional: `may_send(sender: str) -> bool`, synchronous: may the account send as this address ("" for the null reverse-path)?
    # An account without it may send as anybody.


class IProvenLogin(ICredentials):
    """Credentials of `twisted.cred` for a user whom the mechanism has proved already: SCRAM, EXTERNAL, or a trusted proxy's word.

    A checker that takes them says the avatar's id, or raises UnauthorizedLogin for a user who may not log in any more.
    """

    username: bytes = Attribute("UTF-8")
    mechanism: str = Attribute("SCRAM-SHA-256, SCRAM-SHA-256-PLUS, EXTERNAL, XCLIENT")
    certificate: bytes = Attribute('of EXTERNAL: the verified leaf in DER, else b""')


class IBearerToken(ICredentials):
    """Credentials of `twisted.cred`: a token that the client says it was given (OAUTHBEARER, RFC 7628; XOAUTH2).

    A checker that takes them finds out what the token is worth, says the avatar's id, or raises UnauthorizedLogin.
    """

    username: bytes = Attribute('UTF-8, as whom the client wants to act; b"" where it leaves that to the token')
    mechanism: str = Attribute("OAUTHBEARER, XOAUTH2")
    token: bytes = Attribute("as RFC 6750 2.1 writes it")


class IScramVerifiers(Interface):
    """What a checker of a portal may provide too: then SCRAM can be offered."""

    def verifier(username: bytes) -> Any:
        """The `mta.smtp.sasl.Verifier` of that user, or a Deferred of it.  For an unknown user one with `exists=False`, always
        with the same salt for the same name, after the same work: who asks must not learn who exists."""


class IHandover(Interface):
    """May the open connection of a finished delivery be given to the next one?"""

    def verdict(required: Required, achieved: Achieved) -> tuple[Verdict, str]:
        """Synchronous and pure: KEEP, CLEAR or QUIT, and the reason for the log.  An exception means QUIT."""


class IHints(Interface):
    """Memory about hosts that may be lost at any time."""

    def get(kind: str, key: str) -> Any | None:
        """What was put, unless it has expired."""

    def put(kind: str, key: str, value: Any, expires: float) -> None:
        """Remember until `expires` (seconds of the reactor's clock); a value of None forgets.  Plain values only: what JSON
        can say, a tuple may come back as a list."""

    def keys(kind: str) -> list[str]:
        """Of all of that kind that has not expired, the one put longest ago first."""


class IPolicy(Interface):
    """What embedders may decide (docs/embedding.md, "A policy of your own").

    An exception or a failure means 451: a broken policy never opens the door.  A provider may have an attribute `stages`,
    a set of those at which it wants to be asked; without it it is asked at all of them.
    """

    def judge(stage: str, facts: Mapping[str, Any]) -> Any:
        """None ("as usual"), a MailError (no), an `envelope.Action` or a `Ruling`; or a Deferred or a coroutine of one of these.

        stage: connect, helo, auth, starttls, mail, rcpt, data, end.  facts: what is known of client and transaction so far.
        HOLD and DISCARD are for mail, rcpt, data and end.
        """


class IRecipients(Interface):
    """Who exists, where that is known elsewhere: asked at RCPT, for every recipient that is taken from this client."""

    def exists(address: str) -> Any:
        """True, False (550 5.1.1), None (cannot say), or a Deferred or a coroutine of one.  A failure means 451."""


class IMeasured(Interface):
    """What counts.  An engine, a resolver or a log may provide it too; who counts nothing does not."""

    def measures() -> Iterable[Measure] | Deferred[Iterable[Measure]]:
        """Its metrics of now, out of the table in docs/operators.md, "Metrics".  Counters only grow, also over a reload."""


class IEventLog(Interface):
    """One line for each thing that happened (docs/operators.md, "The log")."""

    def event(name: str, queue_id: str, fields: Mapping[str, object]) -> None:
        """Write `queue-id: event=name key=value ...`; queue_id is "" where no message is meant."""
