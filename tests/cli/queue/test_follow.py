"""What `--follow` tells from one look to the next."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mta.cli.queue.follow import changes
from tests.cli.queue.facts import NOW, row


class ChangesTests(SynchronousTestCase):
    """`changes`."""

    def test_all_three(self) -> None:
        """What is gone first, then what is new or has changed; what is as it was is not told."""
        one, two, three = row(recipient="1"), row(recipient="2"), row(recipient="3")
        later = row(recipient="2", attempts=4, due=NOW)
        self.assertEqual(
            [("gone", one), ("changed", later), ("new", three)], list(changes({"1": one, "2": two}, {"2": later, "3": three}))
        )
        self.assertEqual([], list(changes({"1": one}, {"1": dict(one)})))

    def test_what_counts(self) -> None:
        """State, destination, next try, attempts, reply: each alone is a change."""
        for changed in (
            {"state": "held"},
            {"dest": "bounce:"},
            {"due": 1},
            {"attempts": 9},
            {"last_reply": "x"},
            {"last_try": 1},
        ):
            self.assertEqual(1, len(list(changes({"1": row()}, {"1": row(**changed)}))), changed)
