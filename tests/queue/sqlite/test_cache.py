"""What is kept in memory until it is settled."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mta.envelope import BodyRef, NewMessage, NewRecipient
from mta.queue.sqlite.cache import OVERHEAD, Cache


def message(id: int, size: int, path: str | None = None) -> NewMessage:
    to = (NewRecipient("a@example.org"), NewRecipient("b@example.org"))
    return NewMessage(id, "s", to, BodyRef(size, None if path else b"x" * size, path), b"PRE", 1, 2, "cli", "ann", 3, "env", "{}")


class CacheTests(SynchronousTestCase):
    """Bounded, and empty when all is settled."""

    def test_the_whole_message(self) -> None:
        """As it would be read from the file; of a large one all but the body."""
        cache = Cache(1 << 20)
        cache.keep(message(1, 100), 1)
        stored = cache.get(1)
        assert stored is not None
        kept = stored.message
        self.assertEqual(
            (1, "s", 1, 2, 103, 3, 2, b"PRE"),
            (kept.id, kept.sender, kept.created, kept.expires, kept.size, kept.flags, kept.nrcpt, kept.prefix),
        )
        self.assertEqual(
            ("cli", "ann", "env", "{}", b"x" * 100), (kept.source, kept.account, kept.envid, kept.trace, stored.body)
        )
        cache.keep(message(5, 500_000, "ab/x"), 1)
        large = cache.get(5)
        assert large is not None
        self.assertEqual((None, 500_003), (large.body, large.message.size))

    def test_dropped_with_the_last_claim(self) -> None:
        """Then its bytes are free again; unknown messages are nothing."""
        cache = Cache(1 << 20)
        cache.keep(message(1, 100), 2)
        cache.settled(1)
        self.assertIsNotNone(cache.get(1))
        cache.settled(1)
        cache.settled(1)
        self.assertIsNone(cache.get(1))
        self.assertEqual(0, cache.size)

    def test_bounded(self) -> None:
        """What does not fit is not kept, and does not push out what is."""
        cache = Cache(3 * (OVERHEAD + 103))
        for id in range(5):
            cache.keep(message(id, 100), 1)
        self.assertEqual([True, True, True, False, False], [cache.get(id) is not None for id in range(5)])
        cache.settled(0)
        cache.keep(message(9, 100), 1)
        self.assertIsNotNone(cache.get(9))
        self.assertTrue(cache.size <= 3 * (OVERHEAD + 103))
