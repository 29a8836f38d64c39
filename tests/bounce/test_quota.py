"""So many reports to an address in an hour."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mta.bounce.quota import ADDRESSES, HOUR, Quota


class QuotaTests(SynchronousTestCase):
    """Counting."""

    def used_up(self, limit: int = 2, now: int = 0) -> Quota:
        quota = Quota(limit)
        for _ in range(limit):
            self.assertTrue(quota.allows("a@x", now))
            quota.count("a@x", now)
        return quota

    def test_limit(self) -> None:
        """So many and no more, whatever the case of the address; others are not concerned."""
        quota = self.used_up()
        self.assertFalse(quota.allows("A@X", HOUR - 1))
        self.assertTrue(quota.allows("b@x", HOUR - 1))

    def test_an_hour_later(self) -> None:
        """The hour begins with the first report, and then anew with the next one."""
        quota = self.used_up()
        self.assertTrue(quota.allows("a@x", HOUR))
        quota.count("a@x", HOUR)
        quota.count("a@x", HOUR + 1)
        self.assertFalse(quota.allows("a@x", 2 * HOUR - 1))
        self.assertTrue(quota.allows("a@x", 2 * HOUR))

    def test_taken_back(self) -> None:
        """What did not come about is not counted: neither twice nor below nothing, nor in an hour that has ended."""
        quota = self.used_up()
        quota.take_back("A@X", 1)
        self.assertTrue(quota.allows("a@x", 1))
        quota.count("a@x", 1)
        self.assertFalse(quota.allows("a@x", 1))
        for _ in range(3):
            quota.take_back("a@x", 2)
            quota.take_back("never@x", 2)
        self.assertEqual({}, quota._hours)
        late = self.used_up()
        late.take_back("a@x", HOUR)
        self.assertFalse(late.allows("a@x", HOUR - 1))

    def test_no_limit(self) -> None:
        """0: everything is allowed and nothing remembered; a limit may be set later."""
        quota = Quota(0)
        for _ in range(100):
            quota.count("a@x", 0)
        self.assertTrue(quota.allows("a@x", 0))
        quota.limit = 1
        self.assertTrue(quota.allows("a@x", 0))
        quota.count("a@x", 0)
        self.assertFalse(quota.allows("a@x", 0))

    def test_clock_put_back(self) -> None:
        """No hour lasts longer than an hour."""
        self.assertTrue(self.used_up(now=10 * HOUR).allows("a@x", 9 * HOUR))

    def test_memory_is_bounded(self) -> None:
        """The address whose hour began first is forgotten; one that is counted again has its place anew."""
        quota = self.used_up(1, now=0)
        quota.count("b@x", 1)
        quota.count("a@x", HOUR)  # a new hour: b's is older now
        for number in range(ADDRESSES - 1):
            quota.count(f"{number}@y", HOUR)
        self.assertTrue(quota.allows("b@x", HOUR))
        self.assertFalse(quota.allows("a@x", HOUR))
        quota.count("last@y", HOUR)
        self.assertTrue(quota.allows("a@x", HOUR))
        self.assertLessEqual(len(quota._hours), ADDRESSES)
