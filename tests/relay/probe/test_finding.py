"""The values of a probe: which result counts, and which list of [handover] a host belongs in."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mta.envelope import Target
from mta.relay.probe.finding import Finding, Handover, Result
from mta.tls.policy import Level, Required


class FindingTests(SynchronousTestCase):
    """`Finding`, `Result`, `Handover`."""

    def test_t04_results_are_exit_statuses(self) -> None:
        """T04: one server that gives what is owed is enough, and to miss it for good is more than not to know."""
        self.assertEqual([int(result) for result in Result], [0, 1, 75])
        self.assertIs(min(Result.UNKNOWN, Result.REACHED, Result.MISSED), Result.REACHED)
        self.assertIs(min(Result.UNKNOWN, Result.MISSED), Result.MISSED)

    def test_nothing_is_known_at_first(self) -> None:
        """Before anything was heard nobody knows; the verdict comes with its words."""
        finding = Finding(Target("mx.example", "192.0.2.1", 25), Required(Level.MAY, "mx.example", "192.0.2.1", 25, "example"))
        self.assertEqual((finding.result, finding.trouble, finding.achieved.version), (Result.UNKNOWN, "", ""))
        finding.ends(Result.MISSED, "why")
        self.assertEqual((finding.result, finding.trouble), (Result.MISSED, "why"))

    def test_suggestions(self) -> None:
        """TLS that stays up goes before TLS that is taken down, and QUIT is what is left."""
        for keep, clear, word in ((True, True, "keep"), (True, False, "keep"), (False, True, "clear"), (False, False, "quit")):
            self.assertTrue(Handover((), keep, clear).suggestion.startswith(word))
