"""Queue ids: order, uniqueness over a clock that misbehaves, and the text form."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.queue.ids import EPOCH, MAX_BLOCK, Generator, id_at, id_text, ms_of, node_of, parse_id

HOUR = 3_600_000
NOW = EPOCH + 200_000 * HOUR
IDS = st.integers(0, 2**63 - 1)


class TextTests(SynchronousTestCase):
    """The form that people and spool files use."""

    @settings(deadline=None, max_examples=200)
    @given(IDS)
    def test_round_trip(self, id: int) -> None:
        """Every id comes back from its text, in either case."""
        text = id_text(id)
        self.assertEqual(13, len(text))
        self.assertEqual(id, parse_id(text))
        self.assertEqual(id, parse_id(text.lower()))

    @settings(deadline=None, max_examples=200)
    @given(IDS, IDS)
    def test_text_sorts_as_numbers(self, one: int, other: int) -> None:
        """A directory listing is in the order of age."""
        self.assertEqual(one < other, id_text(one) < id_text(other))

    def test_look_alikes(self) -> None:
        """Crockford: O is 0, I and L are 1."""
        self.assertEqual(parse_id("0000000000011"), parse_id("OooooOOOOOOIl"))

    def test_what_is_no_id(self) -> None:
        """Wrong length, wrong characters, more than 63 bits: ValueError, never a wrong id."""
        for text in (
            "",
            "0",
            "0" * 12,
            "0" * 14,
            "U" + "0" * 12,
            "0" * 12 + "-",
            "8" + "0" * 12,
            "0" * 12 + "é",
            "0000/0000/000",
        ):
            self.assertRaises(ValueError, parse_id, text)
        self.assertEqual(2**63 - 1, parse_id("7" + "Z" * 12))


class GeneratorTests(SynchronousTestCase):
    """Blocks of consecutive ids."""

    def test_parts(self) -> None:
        """Time and node can be read back; the smallest id of a moment is its lower bound."""
        first = Generator(lambda: NOW, node=7).block(1)
        self.assertEqual((NOW, 7), (ms_of(first), node_of(first)))
        self.assertTrue(id_at(NOW) <= first < id_at(NOW + 1))
        self.assertEqual(0, id_at(0))

    def test_blocks_follow_one_another(self) -> None:
        """Within a millisecond the blocks are next to each other; a used up one makes it run ahead."""
        ids = Generator(lambda: NOW)
        first = ids.block(5)
        self.assertEqual(first + 5, ids.block(MAX_BLOCK - 5))
        self.assertEqual(NOW + 1, ms_of(ids.block(1)))

    def test_block_never_leaves_its_millisecond(self) -> None:
        """The numbers of a block share time and node, so that they collide with no other node's."""
        ids = Generator(lambda: NOW, node=3)
        ids.block(10)
        first = ids.block(MAX_BLOCK)
        self.assertEqual(first >> 14, (first + MAX_BLOCK - 1) >> 14)

    def test_q09_clock_back_over_a_restart(self) -> None:
        """A clock one hour back and a restart: the highest id of the file is not reached again, whoever made it."""
        highest = Generator(lambda: NOW, node=9).block(3) + 2
        for node in (0, 9, 255):
            self.assertTrue(Generator(lambda: NOW - HOUR, node=node, highest=highest).block(1) > highest)

    @settings(deadline=None, max_examples=100)
    @given(st.lists(st.tuples(st.integers(-HOUR, HOUR), st.integers(1, MAX_BLOCK)), max_size=60))
    def test_no_id_twice(self, steps: list[tuple[int, int]]) -> None:
        """Whatever the clock does, the blocks do not overlap and grow."""
        clock = [NOW]
        ids = Generator(lambda: clock[0])
        last = 0
        for step, count in steps:
            clock[0] += step
            first = ids.block(count)
            self.assertTrue(first > last)
            last = first + count - 1

    def test_limits(self) -> None:
        """Too large a block or node number is refused, not wrapped."""
        ids = Generator(lambda: NOW)
        for count in (0, -1, MAX_BLOCK + 1):
            self.assertRaises(ValueError, ids.block, count)
        for node in (-1, 256):
            self.assertRaises(ValueError, Generator, lambda: NOW, node)
