"""Counts the TLS of our deliveries and sends each domain that asks for it a report a day (RFC 8460).

Counts are kept in the hints, a kind for each UTC day, so that a restart loses seconds of them.  Once a day, at a random time
in its first four hours (4.1), the counts of the day before go to the https addresses that `_smtp._tls.DOMAIN` names; one 2xx
is enough.  What fails is tried again with growing delays for a day (5.5), then dropped with a log line.  Reports by mail
need a DKIM signature (5.3), which comes with a later release: they are not sent, and the log says so at the start.

Nothing here may cost a delivery: counting never raises, and what there is no room for is left out and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any, Final

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, FirstError, gatherResults, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mta.config.settings import Settings
from mta.interfaces import IEventLog, IHints, IMailResolver, ITlsReports
from mta.tls.https import Https, HttpsError
from mta.tls.tlsrpt import Tally, packed, policy_domain, report, report_addresses, report_id, without_policy

if TYPE_CHECKING:
    from mta.tls.mtasts import StsError
    from mta.tls.policy import Required

__all__ = ["TlsReports"]

MAX_DOMAINS: Final = 10_000  # in one day
MAX_ROWS: Final = 30_000  # policies and different failures of all of them
AT_ONCE: Final = 10  # reports on their way
SPREAD: Final = 4 * 3600.0  # seconds: 4.1
RETRY: Final = 900.0  # seconds to the second attempt, doubled for each further one
LIFETIME: Final = timedelta(hours=28)  # of a report, from the end of its day: the spread, and a day of attempts
DAY: Final = timedelta(days=1)


@implementer(ITlsReports)
class TlsReports(Service):
    """See ITlsReports.

    reactor: time.  random: when the reports are sent.  sts_failure: why the last fetch of a domain's MTA-STS policy failed, None
    where it did not; counted with each session.  uncounted: sessions of this day for which there was no room.
    part: the number of the worker that counts.
    """

    name = "tlsrpt"

    _log = Logger()

    def __init__(
        self,
        settings: Settings,
        hints: IHints,
        resolver: IMailResolver,
        https: Https,
        *,
        reactor: Any,
        log: IEventLog,
        random: Random,
        sts_failure: Callable[[str], StsError | None] = lambda _: None,
        part: int = 0,
    ) -> None:
        self.uncounted = 0
        self._enabled = settings.tlsrpt.enabled
        self._organization = settings.tlsrpt.organization or settings.hostname
        self._contact = settings.tlsrpt.contact or f"postmaster@{settings.hostname}"
        self._hostname = settings.hostname
        self._part = part
        self._sources = settings.relay.source_address
        self._hints = hints
        self._resolver = resolver
        self._https = https
        self._reactor = reactor
        self._events = log
        self._random = random
        self._sts_failure = sts_failure
        self._start = datetime.min.replace(tzinfo=UTC)  # of the day that is counted
        self._tallies: dict[str, Tally] = {}
        self._rows = 0
        self._timer: IDelayedCall | None = None
        self._round: Deferred[None] | None = None
        self._attempts = 0  # rounds since the daily one

    # ---- counting

    def succeeded(self, required: Required) -> None:
        """See ITlsReports.  Never raises."""
        self._count(required, "", "")

    def failed(self, required: Required, result_type: str, detail: str) -> None:
        """See ITlsReports.  Never raises."""
        self._count(required, result_type, detail)

    def _count(self, required: Required, result: str, detail: str) -> None:
        domain = policy_domain(required.next_hop) if self._enabled else ""
        if not domain:
            return
        try:
            if not self._counted(domain, required, result, detail):
                self.uncounted += 1
        except Exception:  # a bug, but not the delivery's trouble
            self._log.failure("counting a TLS session of {domain}", domain=domain)

    def _counted(self, domain: str, required: Required, result: str, detail: str) -> bool:
        self._turn_day()
        tally = self._tallies.get(domain)
        if tally is None:
            if len(self._tallies) >= MAX_DOMAINS:
                return False
            tally = Tally()
        before, room = tally.rows, self._rows < MAX_ROWS
        sending = self._sending(required.address)
        error = None if required.origin == "dane" else self._sts_failure(domain)
        if error is not None:
            tally.failed(without_policy(required), error.result, error.detail, sending, room)
        if not result:
            counted = tally.succeeded(required, room)
        else:
            counted = tally.failed(required, result, detail, sending, room)
        if counted:
            self._rows += tally.rows - before
            self._tallies[domain] = tally
            self._hints.put(_kind(self._start), domain, tally.plain, (self._start + DAY + LIFETIME).timestamp())
        return counted

    def _sending(self, address: str) -> str:
        """Our own address of the same family, where the configuration names one."""
        return next((source for source in self._sources if (":" in source) == (":" in address)), "")

    def _turn_day(self) -> None:
        """A new day begins empty; the first one of this process with what the hints have of it."""
        start = self._today()
        if start == self._start:
            return
        if self.uncounted:
            self._events.event("tlsrpt_uncounted", "", {"day": _name(self._start), "sessions": self.uncounted})
        self.uncounted = 0
        self._start = start
        kind = _kind(start)
        self._tallies = {domain: Tally(self._hints.get(kind, domain)) for domain in self._hints.keys(kind)}
        self._rows = sum(tally.rows for tally in self._tallies.values())

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._reactor.seconds(), UTC)

    def _today(self) -> datetime:
        return self._now().replace(hour=0, minute=0, second=0, microsecond=0)

    # ---- when to send

    def startService(self) -> None:
        """From now on.  The hints must have been read."""
        super().startService()  # type: ignore[no-untyped-call]
        if not self._enabled:
            return
        self._events.event("tlsrpt_not_by_mail", "", {"reason": "reports to mailto: addresses need DKIM and are not sent yet"})
        if self._pending():
            self._arm(self._random.uniform(60.0, 600.0))  # they may be late already; but a restart is not a time to hurry
        else:
            self._arm(self._until_daily())

    def stopService(self) -> Deferred[None]:
        """Fires when nothing is on its way any more; what was not sent stays in the hints."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        running, self._round = self._round, None
        if running is None:
            return succeed(None)
        running.cancel()
        return running

    def _arm(self, delay: float) -> None:
        if self.running:
            self._timer = self._reactor.callLater(delay, self._due)

    def _until_daily(self) -> float:
        """Seconds until the next day's reports are sent."""
        return (self._today() + DAY - self._now()).total_seconds() + self._random.uniform(60.0, SPREAD)

    def _due(self) -> None:
        self._timer = None
        self._turn_day()
        running = self._round = Deferred.fromCoroutine(self._send_all())
        running.addErrback(self._broken)
        running.addCallback(self._next)

    def _next(self, _: None) -> None:
        """The round is over: when is the next one?"""
        self._round = None
        daily = self._until_daily()
        retry = RETRY * 2**self._attempts
        if self._pending() and retry < daily:
            self._attempts += 1
            self._arm(retry)
        else:
            self._attempts = 0
            self._arm(daily)

    def _broken(self, reason: Failure) -> None:
        if isinstance(reason.value, FirstError):
            reason = reason.value.subFailure
        if not reason.check(CancelledError):  # type: ignore[no-untyped-call]
            self._log.failure("sending TLS reports", reason)

    # ---- sending

    def _pending(self) -> list[tuple[datetime, str]]:
        """What is to be sent: of yesterday, and of the day before where its time is not over."""
        today = self._today()
        days = [today - 2 * DAY, today - DAY]
        return [(day, domain) for day in days for domain in self._hints.keys(_kind(day))]

    async def _send_all(self) -> None:
        pending = iter(self._pending())
        await gatherResults([Deferred.fromCoroutine(self._send_some(pending)) for _ in range(AT_ONCE)], consumeErrors=True)

    async def _send_some(self, pending: Iterator[tuple[datetime, str]]) -> None:
        for day, domain in pending:
            if not self.running:
                return
            try:
                why = await self._send(day, domain)
            except CancelledError:  # stopping
                raise
            except Exception:  # a bug: it would fail tomorrow too
                self._log.failure("TLS report for {domain}", domain=domain)
                why = ""
            if why and self._now() < day + DAY + LIFETIME - timedelta(seconds=RETRY * 2**self._attempts):
                continue
            if why:
                self._events.event("tlsrpt_dropped", "", {"domain": domain, "day": _name(day), "reason": why})
            self._hints.put(_kind(day), domain, None, 0.0)

    async def _send(self, day: datetime, domain: str) -> str:
        """One report.  "" when there is nothing more to do, else why it must be tried again."""
        answer = await self._resolver.query(f"_smtp._tls.{domain}", "TXT")
        if answer.failed:
            return str(answer)
        urls = [address for address in report_addresses(answer.records) if not address.lower().startswith("mailto:")]
        tally, identity = Tally(self._hints.get(_kind(day), domain)), report_id(domain, day, self._hostname, self._part)
        if not urls or not tally.plain:
            return ""
        body = packed(report(tally, identity, day, self._organization, self._contact))
        refusals = [await self._post(url, body) for url in urls]
        if all(refusals):
            return "; ".join(refusals)
        fields = {
            "domain": domain,
            "day": _name(day),
            "report_id": identity,
            "refused": "; ".join(filter(None, refusals)) or None,
        }
        self._events.event("tlsrpt_sent", "", fields)
        return ""

    async def _post(self, url: str, body: bytes) -> str:
        """5.4.  "" when it was taken, else why not."""
        try:
            page = await self._https.post(url, {"Content-Type": "application/tlsrpt+gzip"}, body)
        except HttpsError as error:
            return f"{url}: {error.reason}"
        return "" if 200 <= page.status < 300 else f"{url}: HTTP status {page.status}"


def _name(day: datetime) -> str:
    return f"{day:%Y-%m-%d}"


def _kind(day: datetime) -> str:
    """Of the hints: one for each day, so that today's domains cannot push out what is still to be sent."""
    return f"tlsrpt {_name(day)}"
