"""One transaction: few statements whatever it holds, and nothing is true before it is committed."""

from __future__ import annotations

import apsw
import attrs
from twisted.trial.unittest import SynchronousTestCase

from mta.envelope import BodyRef, Claim, Kind, NewMessage, NewRecipient, Outcome
from mta.queue.body import INLINE_LIMIT
from mta.queue.sqlite.claims import Claims
from mta.queue.sqlite.operation import Enqueue, Settle
from mta.queue.sqlite.transaction import Transaction, remove_recipients
from mta.status import Reply
from tests.queue.sqlite.case import HOMELESS, UNCOUNTED, fresh_database

OK = Reply(250, "2.0.0", "ok")
NOW = 5000


class TransactionTests(SynchronousTestCase):
    """On bare tables."""

    def setUp(self) -> None:
        self.db = fresh_database()
        self.claims = Claims()

    def message(self, id: int, recipients: int = 1, size: int = 100) -> NewMessage:
        to = tuple(NewRecipient(f"u{n}@example.org", dest="smtp:a/b", lane=3, due=10) for n in range(recipients))
        return NewMessage(id, "s@example.com", to, BodyRef(size, b"x" * size), b"P", 1, 2)

    def enqueue(self, message: NewMessage, taken: bool = True) -> Enqueue:
        ids = range(message.id + 1, message.id + 1 + len(message.recipients))
        return Enqueue([message], [Claim(id, message.id, "smtp:a/b", 3, 10, 0, "a") for id in ids] if taken else [])

    def run_all(self, *operations: Enqueue | Settle) -> list:
        transaction = Transaction(self.claims, NOW)
        results = transaction.run(self.db, operations)
        transaction.committed()
        self.large = transaction.large
        return results

    def settled(self, claims: list[Claim], kind: Kind = Kind.DELIVERED) -> Settle:
        return Settle([Outcome(claim, kind, OK) for claim in claims], [])

    def count(self, table: str) -> int:
        return int(self.db.execute(f"SELECT count(*) FROM {table}").get)

    def test_few_statements(self) -> None:
        """64 accepts and 64 settlements of single messages: one statement for each table and kind."""
        first = [self.enqueue(self.message(n * 4)) for n in range(1, 65)]
        claims = [claim for found in self.run_all(*first) for claim in found]
        texts: list[str] = []
        self.db.exec_trace = lambda cursor, text, values: texts.append(text) or True
        second = [self.enqueue(self.message(1000 + n * 4)) for n in range(64)]
        self.run_all(*second, *[self.settled([claim]) for claim in claims])
        self.db.exec_trace = None
        self.assertEqual(6, len(texts), [text[:40] for text in texts])
        self.assertEqual((64, 64, 64), tuple(map(self.count, ("message", "body", "delivery"))))

    def test_q22_blocked_recipients_go_back_in_one_statement(self) -> None:
        """256 given back: one UPDATE."""
        (claims,) = self.run_all(self.enqueue(self.message(1000, 256)))
        texts: list[str] = []
        self.db.exec_trace = lambda cursor, text, values: texts.append(text) or True
        self.run_all(self.settled(claims, Kind.GIVEN_BACK))
        self.assertEqual(1, len(texts))

    def test_nothing_is_true_before_the_commit(self) -> None:
        """A transaction that is rolled back leaves the claims as they were."""
        (claims,) = self.run_all(self.enqueue(self.message(4)))
        taken = dict(self.claims.taken)
        Transaction(self.claims, NOW).run(self.db, [self.settled(claims), self.enqueue(self.message(8))])
        self.assertEqual(taken, self.claims.taken)

    def test_chunks_have_their_own_ids(self) -> None:
        """Two rows of at most 64 KiB, in the two ids that even a message of one recipient has reserved."""
        self.run_all(self.enqueue(self.message(8, size=INLINE_LIMIT)), self.enqueue(self.message(10, size=65_536)))
        self.assertEqual([(8, 65_536), (9, 65_536), (10, 65_536)], list(self.db.execute("SELECT id,length(data) FROM body")))

    def test_what_must_not_be_stored(self) -> None:
        """A body whose chunks would take its neighbours' ids; no recipients, or more than a block of ids has."""
        for message in (
            self.message(4, size=INLINE_LIMIT + 1),
            self.message(4, recipients=0),
            self.message(4, recipients=16_384),
        ):
            self.assertRaises(ValueError, self.run_all, self.enqueue(message))
        good = self.message(4)
        wrong = attrs.evolve(good, recipients=tuple(attrs.evolve(recipient, dest="") for recipient in good.recipients))
        self.assertRaises(apsw.ConstraintError, self.run_all, self.enqueue(wrong))

    def test_large_messages_are_named_when_they_are_gone(self) -> None:
        """Their files are removed after the commit (R4), by whoever runs the transaction."""
        message = attrs.evolve(self.message(4, recipients=2), body=BodyRef(500_000, path="ab/x"))
        (claims,) = self.run_all(self.enqueue(message))
        self.run_all(self.settled(claims[:1]))
        self.assertEqual([], self.large)
        self.run_all(self.settled(claims[1:]))
        self.assertEqual([4], self.large)
        self.assertEqual((0, 0, 0), tuple(map(self.count, ("message", "body", "delivery"))))

    def test_failed_dest_is_remembered(self) -> None:
        """Where it was going, for the report; a second failure, at the bounce, does not overwrite it."""
        (claims,) = self.run_all(self.enqueue(self.message(4)))
        for _ in range(2):
            self.claims.taken[claims[0].id] = 0
            self.run_all(self.settled(claims, Kind.FAILED))
        self.assertEqual(
            [("bounce:", "smtp:a/b", NOW + 2000)], list(self.db.execute("SELECT dest,failed_dest,due FROM delivery"))
        )

    def test_remove_recipients(self) -> None:
        """Some of a message, then the rest: counted, and gone with the last."""
        large: list[int] = []
        self.run_all(self.enqueue(self.message(4, 3), taken=False), self.enqueue(self.message(20, 2), taken=False))
        remove_recipients(self.db, [(5, 4), (21, 20), (7, 4)], large)
        self.assertEqual([(4, 1), (20, 1)], list(self.db.execute("SELECT id,pending FROM message")))
        for query in (UNCOUNTED, HOMELESS):
            self.assertIsNone(self.db.execute(query).get)
        remove_recipients(self.db, [(6, 4), (22, 20)], large)
        self.assertEqual((0, 0, 0), tuple(map(self.count, ("message", "body", "delivery"))))
