"""What the reactor asks of the writer."""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from mta.envelope import BodyRef, Claim, Kind, NewMessage, NewRecipient, Outcome
from mta.queue.sqlite.operation import Ask, Change, Enqueue, Settle, Take
from mta.status import MailError, Reply, transient

CLAIM = Claim(2, 1, "d", 0, 0, 0, "a@example.org")
MESSAGE = NewMessage(1, "s", (NewRecipient("a@example.org"),), BodyRef(3, b"abc"), b"", 0, 0)


class OperationTests(SynchronousTestCase):
    """Answers, sizes, and what must be durable."""

    def test_answered_once(self) -> None:
        """A result, or an error; after a cancellation nothing more, and that is no error of ours."""
        for operation in (
            Enqueue([MESSAGE], [CLAIM]),
            Settle([], []),
            Change(lambda db, _: None),
            Ask(lambda db: None),
            Take(lambda db: []),
        ):
            operation.answer(7, None)
            self.assertEqual(7, self.successResultOf(operation.deferred))
        refused = Ask(lambda db: None)
        refused.answer(None, transient("4.3.0", "no"))
        self.failureResultOf(refused.deferred, MailError)
        cancelled = Ask(lambda db: None)
        cancelled.deferred.cancel()
        self.failureResultOf(cancelled.deferred, CancelledError)
        self.assertTrue(cancelled.cancelled)
        cancelled.answer(7, None)

    def test_what_must_be_durable(self) -> None:
        """Accepts, reports and an operator's changes; a settlement alone may be lazy."""
        outcome = Outcome(CLAIM, Kind.DELIVERED, Reply(250, "", "ok"))
        self.assertEqual(
            [True, False, True, True],
            [
                o.synced
                for o in (Enqueue([MESSAGE], []), Settle([outcome], []), Settle([outcome], [MESSAGE]), Change(lambda db, _: None))
            ],
        )
        self.assertEqual(
            [3, 3, {2}], [Enqueue([MESSAGE], []).size, Settle([], [MESSAGE]).size, Enqueue([MESSAGE], [CLAIM]).admitted]
        )
