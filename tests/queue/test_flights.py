"""The flight recorder: who is in the air, and how suspects are told from the innocent."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.queue import flights as module
from mta.queue.flights import SIZE, Flights, read


class FlightTests(SynchronousTestCase):
    """See the module."""

    def setUp(self) -> None:
        self.buffer = bytearray(SIZE)
        self.acquitted: list[int] = []

    def flights(self, *suspects: int) -> Flights:
        return Flights(self.buffer, suspects, self.acquitted.append)

    def test_in_the_air(self) -> None:
        """From the start to the end of a job its recipient can be read, by whoever comes after us."""
        flights = self.flights()
        slots = [flights.began(id) for id in (5, 6, 1 << 62)]
        self.assertEqual({5, 6, 1 << 62}, set(read(bytes(self.buffer))))
        flights.ended(slots[1])
        self.assertEqual({5, 1 << 62}, set(read(bytes(self.buffer))))
        self.assertEqual([], self.acquitted)

    @settings(deadline=None, max_examples=100)
    @given(st.lists(st.tuples(st.booleans(), st.integers(1, 20))))
    def test_any_order(self, steps: list[tuple[bool, int]]) -> None:
        """What can be read is what has begun and not ended."""
        self.buffer[:] = bytes(SIZE)
        flights, air = self.flights(), dict[int, int]()
        for begins, id in steps:
            if begins and id not in air:
                air[id] = flights.began(id)
            elif not begins and id in air:
                flights.ended(air.pop(id))
            self.assertEqual(sorted(air), sorted(read(bytes(self.buffer))))

    def test_no_slot(self) -> None:
        """More jobs than slots: they fly, unrecorded, and disturb nobody's."""
        flights = self.flights(9999)
        slots = [flights.began(id) for id in range(1, module.SLOTS + 1)]
        extra = [flights.began(id) for id in (9998, 9999)]
        self.assertEqual([SIZE, SIZE], extra)
        for slot in (*extra, slots[0]):
            flights.ended(slot)
        self.assertEqual(module.SLOTS - 1, len(read(bytes(self.buffer))))
        self.assertLess(flights.began(7), SIZE)

    def test_suspects_fly_one_at_a_time(self) -> None:
        """The others are put off, by less than all of them take; others fly beside them; who lands is suspect no more."""
        flights = self.flights(1, 2, 3)
        first = flights.began(1)
        self.assertGreaterEqual(flights.began(10), 0)
        waits = [-flights.began(id) for id in (2, 3, 2)]
        self.assertEqual([2 * module.WAIT, 3 * module.WAIT, module.WAIT], waits)
        self.assertEqual({1, 10}, set(read(bytes(self.buffer))))
        flights.ended(first)
        self.assertEqual([1], self.acquitted)
        second = flights.began(2)
        self.assertGreaterEqual(flights.began(1), 0, "it was acquitted")
        self.assertLess(flights.began(3), 0)
        flights.ended(second)
        flights.ended(flights.began(3))
        self.assertEqual([1, 2, 3], self.acquitted)

    def test_close(self) -> None:
        """An end in good order makes nobody suspect; what lands after it writes nowhere."""
        flights = self.flights(1)
        slot = flights.began(1)
        flights.close()
        self.assertEqual(bytes(SIZE), bytes(self.buffer))
        flights.ended(slot)
        flights.began(2)
        self.assertEqual((bytes(SIZE), []), (bytes(self.buffer), self.acquitted))
