"""What is known of other servers' TLS: memory about hosts, MTA-STS policies, DANE, and the reports on how it went.

Four parts that lean on one another, made and run as one: `hints.db`, the policies and their HTTPS client, the demands
that deliveries ask, and TLSRPT.  Order of the start: the memory, then the question whether the resolver validates (level
"dane" must not act as "may" for the first minute), then the timers.  For the answer only mail waits that wants DANE, not the
start: name servers that are silent must not keep the ports closed.  The stop goes the other way; it writes the memory.
"""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock

from mta.config.settings import Settings
from mta.hints import HintsFile, MemoryHints
from mta.interfaces import IEventLog, IMailResolver
from mta.node import ALONE, Node
from mta.tls.demand import Demands
from mta.tls.https import Https
from mta.tls.mtasts_cache import StsPolicies, StsRefresh
from mta.tls.mtasts_fetch import fetch_policy
from mta.tls.tlsrpt_service import TlsReports

__all__ = ["HINTS", "Evidence"]

HINTS = "hints.db"  # in data_dir; may be deleted at any time


class Evidence:
    """hints, demands, reports: what `relay` is given of it.

    lasting: the hints are kept in a file (each node has its own), else in memory alone.  https_port: another than 443 in tests.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        reactor: Any,
        resolver: IMailResolver,
        log: IEventLog,
        random: Random,
        lasting: bool = True,
        node: Node = ALONE,
        https_port: int = 443,
    ) -> None:
        """MailError when a file of `[tls_client] trust` cannot be used."""
        self._file = HintsFile(settings.data_dir / node.file(HINTS), reactor, log) if lasting else None
        self.hints = self._file or MemoryHints(reactor)
        self._https = Https(reactor, resolver, settings.tls_client.trust, port=https_port)
        policies = StsPolicies(resolver, partial(fetch_policy, self._https), self.hints, reactor, log)
        self._refresh = StsRefresh(policies, reactor)
        self.demands = Demands(settings, resolver, policies, clock=reactor, log=log)
        self.reports = TlsReports(
            settings,
            self.hints,
            resolver,
            self._https,
            reactor=reactor,
            log=log,
            random=random,
            sts_failure=policies.failure,
            part=node.number,
        )
        self._running = False
        self._turn = DeferredLock()  # the file is read or closed, not both at once

    def start(self) -> Deferred[None]:
        """Fires when deliveries may ask; never errbacks."""
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        self._running = True
        if self._file is not None:
            await self._turn.run(self._file.start)
        if self._running:  # else it was stopped meanwhile
            self.demands.start()
            self._refresh.startService()
            self.reports.startService()

    def reconfigure(self, settings: Settings) -> None:
        """Other levels, policies and switches; the authorities of the HTTPS client are those of the start."""
        self.demands.reconfigure(settings)

    def stop(self) -> Deferred[None]:
        """Fires when nothing of it is left on the reactor; may be called when it was not started."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._running = False
        for service in (self.reports, self._refresh):
            if service.running:
                await service.stopService()
        self._https.stop()
        if self._file is not None:
            await self._turn.run(self._file.stop)
