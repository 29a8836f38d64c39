"""Logins that succeeded: found again for a while, and never more of them than there is room for."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mta.receive.auth.remembered import Remembered

KEY = b"k" * 32


class RememberedTests(SynchronousTestCase):
    """`Remembered`."""

    def test_a_while(self) -> None:
        """The same user with the same password, until the time is over; another key knows nothing."""
        known = Remembered(KEY, 300.0)
        known.put(b"tim", b"tan", 1000.0)
        for user, password, now, is_known in (
            (b"tim", b"tan", 1299.9, True), (b"tim", b"tan", 1300.0, False), (b"tim", b"Tan", 1000.0, False),
            (b"tom", b"tan", 1000.0, False), (b"ti", b"mtan", 1000.0, False), (b"", b"", 1000.0, False),
        ):  # fmt: skip
            self.assertEqual(known.knows(user, password, now), is_known)

    def test_bounded(self) -> None:
        """The one that was put longest ago goes first; who comes again is young again."""
        known = Remembered(KEY, 300.0, most=3)
        for user in (b"a", b"b", b"c", b"a", b"d"):
            known.put(user, b"p", 0.0)
        self.assertEqual([known.knows(user, b"p", 1.0) for user in (b"a", b"b", b"c", b"d")], [True, False, True, True])
        self.assertEqual(len(known), 3)

    def test_nothing(self) -> None:
        """A lifetime of 0 keeps nothing; what was kept can be forgotten."""
        none, known = Remembered(KEY, 0.0), Remembered(KEY, 300.0)
        for memory in (none, known):
            memory.put(b"tim", b"tan", 0.0)
        self.assertEqual((len(none), len(known)), (0, 1))
        known.forget()
        self.assertFalse(known.knows(b"tim", b"tan", 1.0))

    def test_no_passwords(self) -> None:
        """What lies in memory is a digest with a key, not what was said."""
        known = Remembered(KEY, 300.0)
        known.put(b"tim", b"xyzzy", 0.0)
        self.assertNotIn(b"xyzzy", b"".join(known._until))
        self.assertEqual({len(digest) for digest in known._until}, {32})
