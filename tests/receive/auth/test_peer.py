"""What is known of a client that logs in."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mta.receive.auth.peer import Peer


class PeerTests(SynchronousTestCase):
    """`Peer`."""

    def test_nobody(self) -> None:
        """Of whom nothing is known nothing is believed."""
        self.assertEqual(Peer(), Peer("", False, b""))
