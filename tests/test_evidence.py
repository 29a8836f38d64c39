"""The parts that know about other servers' TLS, started and stopped as one."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from mta.config.settings import Dns, Settings, TlsClient
from mta.dns.answer import Answer
from mta.envelope import Target
from mta.evidence import HINTS, Evidence
from mta.testing.dns import FakeResolver
from tests.threads import ThreadedClock
from tests.tls.asking import Log, SlowResolver

SETTINGS = Settings(
    "mx.example.org", Path("/nowhere"), tls_client=TlsClient(level="dane"), dns=Dns(servers=("127.0.0.1:53",), trusted=True)
)


class EvidenceTests(SynchronousTestCase):
    """`Evidence`."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.clock = ThreadedClock()
        self.log = Log()

    def evidence(self, resolver: Any = None, **more: Any) -> Evidence:
        resolver = resolver or FakeResolver({}, secure=True)
        settings = attrs.evolve(SETTINGS, data_dir=self.folder)
        return Evidence(settings, reactor=self.clock, resolver=resolver, log=self.log, random=Random(1), **more)

    def test_start_and_stop(self) -> None:
        """DANE is known to work before the first delivery; hints are there again after a restart; nothing is left behind."""
        evidence = self.evidence()
        self.successResultOf(evidence.start())
        self.assertTrue(evidence.demands.validates)
        evidence.hints.put("kind", "key", [1], self.clock.seconds() + 100)
        self.successResultOf(evidence.stop())
        self.assertEqual([], self.clock.getDelayedCalls())
        again = self.evidence()
        self.successResultOf(again.start())
        self.assertEqual([1], again.hints.get("kind", "key"))
        self.successResultOf(again.stop())

    def test_in_memory(self) -> None:
        """lasting=False: nothing on disk."""
        evidence = self.evidence(lasting=False)
        self.successResultOf(evidence.start())
        evidence.hints.put("kind", "key", [1], self.clock.seconds() + 100)
        self.clock.advance(60)
        self.successResultOf(evidence.stop())
        self.assertFalse((self.folder / HINTS).exists())
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_silent_name_servers(self) -> None:
        """The start does not wait for them; mail that wants DANE does, and nothing is left when they have said nothing."""
        resolver = SlowResolver()
        evidence = self.evidence(resolver, lasting=False)
        self.successResultOf(evidence.start())
        target = Target("mx.example.org", "192.0.2.1", 25, mx_secure=True, address_secure=True)
        asked = evidence.demands.of("example.org", None, [target], 0, "")
        self.assertEqual([".", "dnssec-failed.org"], [name for name, _, _ in resolver.waiting])
        self.assertNoResult(asked)
        self.successResultOf(evidence.stop())
        for name, rdtype, answer in list(resolver.waiting):
            answer.callback(Answer(name, rdtype, "CLOSED"))
        for name, rdtype, answer in resolver.waiting[2:]:
            answer.callback(Answer(name, rdtype, "CLOSED"))
        self.assertIsNotNone(self.successResultOf(asked)[0].refusal)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_stopped_while_it_starts(self) -> None:
        """A stop in the middle, whether the file or the name server is waited for, leaves no timer and closes the file."""
        resolver = SlowResolver()
        evidence = self.evidence(resolver)
        self.clock.eager = False
        started = evidence.start()
        stopped = evidence.stop()
        self.clock.work()  # the file has been read
        self.clock.work()  # and closed
        self.successResultOf(stopped)
        for name, rdtype, answer in resolver.waiting:
            answer.callback(Answer(name, rdtype, "CLOSED"))
        self.successResultOf(started)
        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertEqual([], self.clock.waiting)

    def test_stopped_without_a_start(self) -> None:
        """Harmless."""
        self.successResultOf(self.evidence().stop())

    def test_reconfigure(self) -> None:
        """Another level holds for the next question."""
        evidence = self.evidence()
        evidence.reconfigure(attrs.evolve(SETTINGS, data_dir=self.folder, tls_client=TlsClient(level="encrypt")))
        self.assertEqual("encrypt", evidence.demands.settings.tls_client.level)
