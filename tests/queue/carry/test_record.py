"""A message as JSON: there and back the same, and nothing else is believed."""

from __future__ import annotations

import json
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.envelope import Flag, Notify
from mta.queue.carry.record import envelope_of, facts_of
from mta.queue.ids import MAX_BLOCK, id_text
from mta.queue.state import State
from tests.queue.carry.case import FIRST, message, row

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


class RecordTests(SynchronousTestCase):
    """See the module."""

    def facts(self) -> dict[str, Any]:
        of = message()
        return facts_of(of, (row(of, 1), row(of, 5, State.HELD)))

    def test_there_and_back(self) -> None:
        """Everything but the prefix, which stands in front of the message; with every flag, every NOTIFY, every state."""
        for state in State:
            of = attrs.evolve(message(), flags=int(sum(Flag)))
            rows = (attrs.evolve(row(of, 1, state), notify=int(sum(Notify))), row(of, 5))
            found = envelope_of(json.loads(json.dumps(facts_of(of, rows))))
            self.assertEqual(
                (attrs.evolve(of, prefix=b""), len(of.prefix), rows), (found.message, found.prefix, found.recipients)
            )

    @given(st.text(), st.integers(-(1 << 63) + 1, (1 << 63) - 1), st.none() | st.text(max_size=9))
    @settings(deadline=None, max_examples=100)
    def test_any_value(self, text: str, number: int, maybe: str | None) -> None:
        """Any text and any number that a column can hold; a reply is cut as the queue cuts it."""
        of = attrs.evolve(message(), sender=text, created=number, envid=maybe, priority=number, deliver_by=number)
        one = attrs.evolve(row(of), address=text, due=number, lane=number, last_host=maybe, failed_dest=maybe)
        found = envelope_of(json.loads(json.dumps(facts_of(of, (one,)))))
        self.assertEqual((attrs.evolve(of, prefix=b""), (one,)), (found.message, found.recipients))

    @given(st.sampled_from(sorted(facts_of(message(), (row(message()),)))), ANYTHING)
    @settings(deadline=None, max_examples=200)
    def test_any_damage(self, key: str, value: object) -> None:
        """A key with any other value, or without one, is a ValueError or the message that it says."""
        for damaged in (self.facts() | {key: value}, {name: kept for name, kept in self.facts().items() if name != key}):
            try:
                found = envelope_of(damaged)
            except ValueError:
                continue
            again = facts_of(attrs.evolve(found.message, prefix=bytes(found.prefix)), found.recipients)
            self.assertEqual({**damaged, "flags": set(damaged["flags"])}, {**again, "flags": set(again["flags"])})

    def test_what_is_refused(self) -> None:
        """Each with a line that names the key."""
        for key, value in (
            ("id", id_text(0)),
            ("id", "x"),
            ("created", 1 << 63),
            ("created", True),
            ("size", -1),
            ("prefix", 31),
            ("accepted_recipients", 0),
            ("accepted_recipients", MAX_BLOCK),
            ("accepted_recipients", 4),
            ("flags", ["SMTPUTF9"]),
            ("flags", [[]]),
            ("from", None),
            ("from", "\ud800"),
            ("recipients", []),
            ("recipients", ["x"]),
            ("recipients", None),
        ):
            error = self.assertRaises(ValueError, envelope_of, self.facts() | {key: value})
            self.assertTrue(str(error))
        for key, value in (("state", "flying"), ("dest", ""), ("recipient", id_text(FIRST)), ("last_code", "550"), ("to", 5)):
            facts = self.facts()
            facts["recipients"][0][key] = value
            self.assertRaises(ValueError, envelope_of, facts)
        twice = self.facts()
        twice["recipients"] = [twice["recipients"][0]] * 2
        self.assertIn("out of its order", str(self.assertRaises(ValueError, envelope_of, twice)))
        self.assertRaises(ValueError, envelope_of, [])

    def test_a_flag_without_a_name(self) -> None:
        """What could not be read back is not written."""
        self.assertRaises(ValueError, facts_of, attrs.evolve(message(), flags=1 << 30), ())
