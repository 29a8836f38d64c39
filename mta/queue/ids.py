"""Queue ids: 63-bit numbers made here, in the order of time, and their text form (pure).

    ms since 2020-01-01T00:00:00Z (41 bits) << 22 | node (8 bits) << 14 | sequence (14 bits)

A message takes a block of consecutive numbers: itself first, then its recipients (and the chunks of an inline body share
the first two).  So the recipients of a message are a range of primary keys and the order of keys is the order of age.
In text an id is 13 characters of Crockford's base 32, which sort as the numbers do.  A generator never repeats an id: a
clock that goes back, or a millisecond that is used up, makes it run ahead of the clock.  Bad text raises ValueError.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["EPOCH", "MAX_BLOCK", "Generator", "id_at", "id_text", "ms_of", "node_of", "parse_id"]

EPOCH = 1_577_836_800_000  # 2020-01-01T00:00:00Z in ms since 1970
MAX_BLOCK = 1 << 14  # numbers of one node in one millisecond: a message and at most 16,383 recipients
MAX_NODE = 255
LENGTH = 13  # 13 * 5 = 65 bits, the first two always 0
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
VALUES = {character: value for value, character in enumerate(ALPHABET)}
VALUES |= {character.lower(): value for character, value in VALUES.items()}
VALUES |= {"O": 0, "o": 0, "I": 1, "i": 1, "L": 1, "l": 1}  # read aloud or copied by hand (Crockford)
PAIRS = tuple(high + low for high in ALPHABET for low in ALPHABET)  # two characters for each look-up


def id_at(ms: int) -> int:
    """The smallest id of that moment (ms since 1970); moments before the epoch give 0."""
    return max(ms - EPOCH, 0) << 22


def ms_of(id: int) -> int:
    """When an id was made, in ms since 1970 (ahead of the clock where the generator ran ahead)."""
    return (id >> 22) + EPOCH


def node_of(id: int) -> int:
    """The node that made an id."""
    return (id >> 14) & MAX_NODE


def id_text(id: int) -> str:
    """The id as people see it: 13 characters."""
    return (
        ALPHABET[id >> 60]
        + PAIRS[(id >> 50) & 1023]
        + PAIRS[(id >> 40) & 1023]
        + PAIRS[(id >> 30) & 1023]
        + PAIRS[(id >> 20) & 1023]
        + PAIRS[(id >> 10) & 1023]
        + PAIRS[id & 1023]
    )


def parse_id(text: str) -> int:
    """The id of its text, in either case, O read as 0 and I and L as 1.  ValueError for everything else."""
    if len(text) != LENGTH:
        raise ValueError(f"a queue id has {LENGTH} characters: {text!r}")
    id = 0
    for character in text:
        value = VALUES.get(character)
        if value is None:
            raise ValueError(f"{character!r} is not in a queue id: {text!r}")
        id = id << 5 | value
    if id >> 63:
        raise ValueError(f"not a queue id: {text!r}")
    return id


class Generator:
    """Makes ids.  now: ms since 1970; node: 0 to 255; highest: no id up to this one's millisecond is made again."""

    __slots__ = ("_ms", "_node", "_now", "_sequence")

    def __init__(self, now: Callable[[], int], node: int = 0, highest: int = 0) -> None:
        if not 0 <= node <= MAX_NODE:
            raise ValueError(f"a node's number is 0 to {MAX_NODE}, not {node}")
        self._now = now
        self._node = node << 14
        self._ms = ms_of(highest) + 1 if highest else EPOCH
        self._sequence = 0

    def block(self, count: int) -> int:
        """The first of `count` consecutive new ids.  ValueError when a message cannot have that many."""
        if not 0 < count <= MAX_BLOCK:
            raise ValueError(f"a block has 1 to {MAX_BLOCK} ids, not {count}")
        now = self._now()
        if now > self._ms:
            self._ms = now
            self._sequence = 0
        elif self._sequence + count > MAX_BLOCK:
            self._ms += 1
            self._sequence = 0
        first = (self._ms - EPOCH) << 22 | self._node | self._sequence
        self._sequence += count
        return first
