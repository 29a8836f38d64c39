"""`mta.relay.tally`: what is counted of connections to mail servers."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mta.relay.destination import Trouble
from mta.relay.handover import Verdict
from mta.relay.tally import Tally


class TallyTests(SynchronousTestCase):
    """`Tally`."""

    def test_nothing_yet(self) -> None:
        """Every verdict and every trouble is there with 0."""
        found = list(Tally().measures(0, 0, 0))
        self.assertEqual({0}, {number for _, _, number in found})
        for name, words in (("mta_relay_handover_total", Verdict), ("mta_relay_faults_total", Trouble)):
            self.assertEqual({word.value for word in words}, {labels[0] for each, labels, _ in found if each == name})

    def test_told(self) -> None:
        """Whatever was counted; of handshakes those have failed that are neither done nor under way."""
        tally = Tally()
        tally.opened, tally.reused, tally.handshakes = 9, 4, 5
        tally.completed(False)
        tally.completed(True)
        tally.verdicts["keep"] += 2
        tally.faults["T6"] += 1
        found = {(name, *labels): number for name, labels, number in tally.measures(3, 2, 1) if number}
        wanted = {
            ("mta_relay_connections_opened_total",): 9,
            ("mta_relay_connections_reused_total",): 4,
            ("mta_relay_connections_open", "busy"): 3,
            ("mta_relay_connections_open", "idle"): 2,
            ("mta_relay_handover_total", "keep"): 2,
            ("mta_relay_faults_total", "T6"): 1,
            ("mta_tls_handshakes_total", "out", "full"): 1,
            ("mta_tls_handshakes_total", "out", "resumed"): 1,
            ("mta_tls_handshakes_total", "out", "failed"): 2,
        }
        self.assertEqual(wanted, found)
