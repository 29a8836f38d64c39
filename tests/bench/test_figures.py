"""Medians, spread and goals: the arithmetic by which a server is said to be faster than another."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from bench.figures import Goal, judge, medians, spread

ROUNDS = {
    "mta": [{"peak": 60.0}, {"rate": 900.0, "cpu": 0.9}, {"rate": 1200.0, "cpu": 0.5}, {"rate": 1000.0, "cpu": 0.6}],
    "Postfix": [{"peak": 90.0}, {"rate": 400.0, "cpu": 2.0}, {"rate": 300.0, "cpu": 3.0}, {"rate": 900.0, "cpu": 1.0}],
}


class FiguresTests(SynchronousTestCase):
    """Three rounds of two servers, and the first one that only shows the memory."""

    def test_medians_are_of_each_figure(self) -> None:
        """A round without a figure has no say in it; one server's best round is no median."""
        self.assertEqual(
            medians(ROUNDS),
            {"mta": {"rate": 1000.0, "cpu": 0.6, "peak": 60.0}, "Postfix": {"rate": 400.0, "cpu": 2.0, "peak": 90.0}},
        )

    def test_spread(self) -> None:
        """Least and most; nothing where there is no such figure."""
        self.assertEqual(spread(ROUNDS["mta"], "rate"), (900.0, 1200.0))
        self.assertEqual(spread(ROUNDS["mta"], "each"), (0.0, 0.0))

    def test_goals(self) -> None:
        """At least, at most, beside another and by itself; on the border it is reached."""
        found = medians(ROUNDS)
        for goal, value, reached in (
            (Goal("rate", "mta", at_least=2.5, other="Postfix"), 2.5, True),
            (Goal("rate", "mta", at_least=2.6, other="Postfix"), 2.5, False),
            (Goal("cpu", "mta", at_most=1 / 3, other="Postfix"), 0.3, True),
            (Goal("cpu", "mta", at_most=0.25, other="Postfix"), 0.3, False),
            (Goal("peak", "mta", at_most=60), 60.0, True),
            (Goal("peak", "mta", at_most=59), 60.0, False),
        ):
            verdict = judge(goal, found)
            self.assertAlmostEqual(verdict.value, value)
            self.assertIs(verdict.reached, reached, str(verdict))
            self.assertIn("NOT" if not reached else ", reached", str(verdict))

    def test_what_was_not_measured_is_not_judged(self) -> None:
        """A server that is missing, on either side, and a zero that nothing can be compared with."""
        found = {**medians(ROUNDS), "Exim": {"rate": 0.0}}
        for server, other in (("aiosmtpd", "Postfix"), ("mta", "aiosmtpd"), ("mta", "Exim")):
            verdict = judge(Goal("rate", server, at_least=1, other=other), found)
            self.assertIsNone(verdict.reached)
            self.assertIn("not measured", str(verdict))
