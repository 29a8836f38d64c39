"""The settings as the sessions of one service see them."""

from __future__ import annotations

import attrs
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mta.config.settings import Limits, Retry, Seconds, Size, Tls
from mta.receive.common import Common
from tests.receive.door import SETTINGS, FakeAccept, FakeLog, FakeRouter


class CommonTests(SynchronousTestCase):
    """`Common.of`."""

    def test_settings_reach_the_machine(self) -> None:
        """Every setting of the receiver-SMTP arrives in its options, with and without STARTTLS."""
        settings = attrs.evolve(
            SETTINGS,
            limits=Limits(message_size=Size(1000), recipients_per_message=7, connections=3, connections_per_client=2, errors=4),
            tls=Tls(starttls_needs_ehlo=False, starttls_in_transaction="refuse", handshakes_at_once=5),
            retry=Retry(queue_lifetime=Seconds(60.0)),
        )
        common = Common.of(settings, FakeAccept(), FakeRouter(), FakeLog(), Clock())
        plain, starttls = common.plain, common.starttls
        self.assertEqual((plain.hostname, plain.max_size, plain.max_recipients, plain.max_errors), ("mx.example.org", 1000, 7, 4))
        self.assertEqual((plain.starttls_needs_ehlo, plain.starttls_in_transaction), (False, "refuse"))
        self.assertEqual((plain.starttls, starttls.starttls), (False, True))
        self.assertEqual(attrs.evolve(starttls, starttls=False), plain)
        self.assertEqual((common.connections.limit, common.connections.per_client), (3, 2))
        self.assertEqual((common.slots.free, common.lifetime), (5, 60_000))

    def test_without_tls(self) -> None:
        """Nobody has given a context: nothing is offered."""
        common = Common.of(SETTINGS, FakeAccept(), FakeRouter(), FakeLog(), Clock())
        self.assertFalse(common.tls.offered)
        self.assertFalse(common.roster.open)
