"""When new mail is only stored: the word in the file, and the load."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mta.config.settings import Queue
from mta.queue.mode import LOOK, SAMPLE, Mode

NOW = 1_800_000_000_000


class ModeTests(SynchronousTestCase):
    """`Mode` with a load that a test sets."""

    def setUp(self) -> None:
        self.load = 0.0
        self.asked = 0

    def ask(self) -> float:
        self.asked += 1
        if self.load < 0:
            raise OSError("no load averages here")
        return self.load

    def mode(self, **queue: object) -> Mode:
        return Mode(Queue(**queue), self.ask)  # type: ignore[arg-type]

    def test_words(self) -> None:
        """deliver and spool ask nobody."""
        for word, spools in (("deliver", False), ("spool", True)):
            mode = self.mode(mode=word)
            self.assertEqual((spools, spools, False, 0), (mode.spools, mode.look(NOW), mode.watches, mode.next_time()))
        self.assertEqual(0, self.asked)

    def test_h31_load(self) -> None:
        """H31: above the limit mail is only stored, at it and below it is delivered."""
        mode = self.mode(spool_above_load=4.0)
        seen = []
        for step, self.load in enumerate((0.0, 4.0, 4.01, 20.0, 3.99)):
            seen.append(mode.look(NOW + step * SAMPLE))
        self.assertEqual([False, False, True, True, False], seen)

    def test_h31_at_most_once_a_second(self) -> None:
        """10,000 messages in ten seconds ask for the load ten times."""
        mode = self.mode(spool_above_load=4.0)
        for step in range(10_000):
            mode.look(NOW + step)
        self.assertEqual(10, self.asked)

    def test_looks_while_it_is_high(self) -> None:
        """Nobody may come to ask: a look is wanted until the load has fallen."""
        mode = self.mode(spool_above_load=4.0)
        mode.look(NOW)
        self.assertEqual(0, mode.next_time())
        self.load = 5.0
        mode.look(NOW + SAMPLE)
        self.assertEqual(NOW + SAMPLE + LOOK, mode.next_time())
        self.load = 1.0
        self.assertFalse(mode.look(mode.next_time()))
        self.assertEqual(0, mode.next_time())

    def test_clock_put_back(self) -> None:
        """An answer from the future is not believed for an hour."""
        mode = self.mode(spool_above_load=4.0)
        self.load = 5.0
        mode.look(NOW)
        self.load = 1.0
        self.assertFalse(mode.look(NOW - 3_600_000))

    def test_no_load_averages(self) -> None:
        """Where the system knows none mail is delivered."""
        self.load = -1.0
        self.assertFalse(self.mode(spool_above_load=4.0).look(NOW))

    def test_h38_reconfigured(self) -> None:
        """H38: another word or limit holds at once."""
        mode = self.mode(spool_above_load=4.0)
        self.load = 5.0
        self.assertTrue(mode.look(NOW))
        mode.reconfigure(Queue(spool_above_load=6.0))
        self.assertFalse(mode.look(NOW))
        mode.reconfigure(Queue(mode="spool"))
        self.assertTrue(mode.look(NOW))
        mode.reconfigure(Queue())
        self.assertFalse(mode.spools)
