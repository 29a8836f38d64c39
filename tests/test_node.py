"""`mta.node`: which server this is."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mta.node import ALONE, Node


class NodeTests(SynchronousTestCase):
    """`Node`."""

    def test_files(self) -> None:
        """A server that is alone, and the first worker, have the names that there always were."""
        self.assertEqual(["hints.db"] * 2, [ALONE.file("hints.db"), Node(0, 4).file("hints.db")])
        self.assertEqual("hints.3.db", Node(3, 4).file("hints.db"))

    def test_alone(self) -> None:
        """Number 0 of 1, which opens its own ports."""
        self.assertEqual((0, 1, None), (ALONE.number, ALONE.count, ALONE.listen))
