"""What the queue in memory says of its rows, where the conformance suite does not look."""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from mta.envelope import BOUNCE, BodyRef, NewMessage, NewRecipient
from mta.queue.memory_rows import Recipient, kept, late, recipient
from mta.status import Reply

NEW = NewMessage(64, "ann@example.com", (NewRecipient("a@x", dest="smtp:a/x"),), BodyRef(2, b"hi"), b"pre", 5, 9)


class RowTests(SynchronousTestCase):
    """Recipient and Kept."""

    def row(self) -> Recipient:
        return recipient(64, 65, NEW.recipients[0])

    def test_kept(self) -> None:
        """Size is of prefix and body; all recipients are pending."""
        found = kept(NEW)
        self.assertEqual((5, 1, 1, b"hi"), (found.message.size, found.message.nrcpt, found.pending, found.body))

    def test_refused(self) -> None:
        """The router's reason is the last reply."""
        refused = recipient(64, 65, attrs.evolve(NEW.recipients[0], dest=BOUNCE, refused=Reply(550, "5.1.2", "no")))
        self.assertEqual((550, "550 5.1.2 no", None), (refused.last_code, refused.last_reply, refused.failed_dest))

    def test_owe(self) -> None:
        """Where it was going is remembered, also when it is filed there once more."""
        row = self.row()
        row.attempts = 3
        row.owe(7)
        row.owe(8)
        self.assertEqual((BOUNCE, 8, 0, "smtp:a/x"), (row.dest, row.due, row.attempts, row.failed_dest))

    def test_removed_in_flight_is_not_late(self) -> None:
        """An operator has removed it: nobody is told that it waits."""
        row = self.row()
        self.assertIsNotNone(late(kept(NEW), {65: row}))
        row.removed = True
        self.assertIsNone(late(kept(NEW), {65: row}))
