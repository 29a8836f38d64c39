"""`mta.queue.tally`: what is counted of attempts."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.trial.unittest import SynchronousTestCase

from mta.envelope import BOUNCE, Claim, Kind, Outcome
from mta.queue.tally import DELAYS, Tally
from mta.status import Reply

OK = Reply(250, "2.0.0", "ok")


def outcome(kind: Kind, dest: str = "smtp:default/a.org") -> Outcome:
    return Outcome(Claim(2, 1, dest, 0, 0, 0, "a@a.org", None, 0, None), kind, OK)


class TallyTests(SynchronousTestCase):
    """`Tally`."""

    def setUp(self) -> None:
        self.agents: dict[str, object] = {"smtp": None}
        self.tally = Tally(self.agents)

    def told(self) -> Mapping[tuple[str, ...], object]:
        return {labels: number for name, labels, number in self.tally.measures() if name == "mta_deliveries_total"}

    def test_nothing_yet(self) -> None:
        """Whatever may come of it is there with 0, also of an agent that came later."""
        self.agents["bounce"] = None
        self.assertEqual({0}, set(self.told().values()))
        self.assertEqual(8, len(self.told()))
        self.assertIn(("bounce", "reported"), self.told())

    def test_outcomes(self) -> None:
        """By agent and by the log's word; what was given back was not tried."""
        self.tally.add(outcome(Kind.DELIVERED), "delivered", 1.0)
        self.tally.add(outcome(Kind.CONFIRMED), "delivered", 1.0)
        self.tally.add(outcome(Kind.FAILED), "bounced", 1.0)
        self.tally.add(outcome(Kind.GIVEN_BACK), "deferred", 1.0)
        self.tally.add(outcome(Kind.DELIVERED, BOUNCE), "reported", 1.0)
        told = {labels: number for labels, number in self.told().items() if number}
        wanted = {("smtp", "delivered"): 2, ("smtp", "bounced"): 1, ("smtp", "not-tried"): 1, ("bounce", "reported"): 1}
        self.assertEqual(wanted, told)

    def test_delays(self) -> None:
        """Of what was delivered; the upper end belongs to its bucket, and what is longer than all to the last."""
        for delay in (0.0, DELAYS[0], DELAYS[0] + 0.01, DELAYS[-1] + 1):
            self.tally.add(outcome(Kind.DELIVERED), "delivered", delay)
        self.tally.add(outcome(Kind.DEFERRED), "deferred", 5.0)
        self.tally.add(outcome(Kind.DELIVERED), "delivered", None)  # its message could not be read
        ((*buckets, total),) = [
            number
            for name, _, number in self.tally.measures()
            if name == "mta_delivery_delay_seconds" and isinstance(number, tuple)
        ]
        self.assertEqual([2, 1, *[0] * (len(DELAYS) - 2), 1], buckets)
        self.assertAlmostEqual(2 * DELAYS[0] + 0.01 + DELAYS[-1] + 1, total)

    def test_expired(self) -> None:
        """Told beside the attempts."""
        self.tally.expired += 3
        self.assertIn(("mta_expired_total", (), 3), list(self.tally.measures()))
