"""A small day in the life of the queue: whatever the world does, each message ends once, and the figures are what happened."""

from __future__ import annotations

from functools import cache

from twisted.trial.unittest import SynchronousTestCase

from bench.day.__main__ import lived, report
from bench.day.diary import Diary, End
from bench.day.ours import Ours
from bench.day.postfix import Postfix
from bench.day.world import Mail, Mood, Site, World

SIZE = (5, 600, 120)  # seed, messages, destinations
LIFETIME = 86_400.0


@cache
def days() -> tuple[Diary, Diary]:
    """Ours and Postfix's, lived once for all tests."""
    ours, postfix, _ = lived(SIZE, LIFETIME)
    return ours, postfix


class DayTests(SynchronousTestCase):
    """Both queues in the same world."""

    def test_each_message_ends_once_and_as_it_must(self) -> None:
        """Delivered exactly where a site ever takes it, bounced where nobody is there or no such user: in both queues."""
        world = World(*SIZE)
        moods = {world.sites[mail.site].mood for mail in world.mail}
        self.assertEqual(moods, set(Mood))  # the world is small, but has everything in it
        for diary in days():
            for mail in world.mail:
                dead = world.sites[mail.site].mood is Mood.DEAD
                end, at = diary.ends[mail.number]
                self.assertEqual(end, End.BOUNCED if dead or mail.refused else End.DELIVERED, mail)
                self.assertGreaterEqual(at, mail.at)

    def test_dead_hosts_cost_us_less(self) -> None:
        """A dead destination is one probe a block, not one attempt a message: fewer connections and rows than Postfix's."""
        ours, postfix = days()
        self.assertLess(ours.in_vain, postfix.in_vain / 2)
        self.assertLess(ours.updates, postfix.updates / 2)
        self.assertLess(ours.tries(Mood.DEAD), postfix.tries(Mood.DEAD) / 2)

    def test_mail_for_the_living_does_not_wait_for_the_dead(self) -> None:
        """What a live site takes at once it has at once: one attempt, and no wait but its own transaction."""
        ours, _ = days()
        self.assertEqual(ours.tries(Mood.LIVE), 1.0)
        self.assertLess(ours.wait(99, Mood.LIVE), 5)

    def test_the_same_seed_is_the_same_day(self) -> None:
        """Every figure comes from the seed alone."""
        ours, _ = days()
        again = Ours(World(*SIZE), SIZE[0], LIFETIME).run()
        self.assertEqual((again.ends, again.attempts, again.updates), (ours.ends, ours.attempts, ours.updates))

    def test_what_does_not_add_up_is_an_error(self) -> None:
        """A message that ends twice, or never, is no figure."""
        diary = Diary(World(*SIZE))
        diary.end(0, End.DELIVERED, 1)
        self.assertRaises(AssertionError, diary.end, 0, End.BOUNCED, 2)
        self.assertRaises(AssertionError, diary.close)

    def test_postfix_waits_as_long_as_the_message_is_old(self) -> None:
        """One message to a dead site: 300 s at least, then its age, 4,000 s at most, each rounded up to the next queue run."""
        world = World(1, 0, 1)
        world.sites, world.mail = [Site(Mood.DEAD, 1.0)], [Mail(0, 0.0, 0, 0, 0, 1.0, False)]
        postfix = Postfix(world, 20_000.0)
        tried: list[float] = []
        self.patch(postfix.diary, "attempt", lambda mail, now: tried.append(now))
        self.assertEqual(postfix.run().ends, {0: (End.BOUNCED, tried[-1] + 30)})
        self.assertEqual(tried, [0, 600, 1500, 3300, 6900, 11100, 15300, 19500, 23700])

    def test_postfix_leaves_a_dead_site_alone(self) -> None:
        """About a cohort of five finds nobody: the rest of the mail is put off at that moment, without an attempt."""
        world = World(1, 0, 1)
        world.sites = [Site(Mood.DEAD, 1.0)]
        world.mail = [Mail(number, 0.0, 0, 0, 0, 1.0, False) for number in range(50)]
        diary = Postfix(world, 0.0).run()
        self.assertIn(diary.in_vain, range(5, 10))
        tried = {number for number, (_, at) in diary.ends.items() if at > 30.0}
        self.assertLessEqual(len(tried), 5)  # those that were under way when it was found dead

    def test_the_report_has_both(self) -> None:
        """The table has a figure of each queue in each row."""
        table = report(*days(), {}).table()
        self.assertEqual({line.count("|") for line in table}, {4})
        self.assertIn("connections to dead hosts", "\n".join(table))
