"""TLS handshakes as they are counted: each is under way, or has come to its end, or has failed."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mta.tls.tally import Handshakes


class HandshakesTests(SynchronousTestCase):
    """`Handshakes`."""

    def test_results(self) -> None:
        """Nine were begun, two are under way, three have ended well: the other four have failed."""
        tally = Handshakes()
        tally.handshakes = 9
        for resumed in (True, False, True):
            tally.completed(resumed)
        told = {labels: number for name, labels, number in tally.shaken("in", 2) if name == "mta_tls_handshakes_total"}
        self.assertEqual({("in", "full"): 1, ("in", "resumed"): 2, ("in", "failed"): 4}, told)
