"""The queue in JSON: selectors that come in, facts that go out."""

from __future__ import annotations

import json
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as some
from twisted.trial.unittest import SynchronousTestCase

from mta.control.queue_facts import (
    HEADER_LIMIT,
    dest_facts,
    header_of,
    message_facts,
    row_facts,
    selector_of,
    summary_facts,
)
from mta.envelope import Flag, Message
from mta.queue.ids import id_text
from mta.queue.state import DestState, DestSummary, Row, Selector, State

ID = 123 << 22
ROW = Row(ID + 1, ID, "a@b.test", "c@d.test", "smtp:_mx/d.test", State.HELD, 5, 1, 2, 3, flags=int(Flag.SMTPUTF8 | Flag.RET_HDRS))


class SelectorTests(SynchronousTestCase):
    """`selector_of`."""

    def test_every_condition(self) -> None:
        """Each key is a field."""
        asked = {"id": id_text(ID), "to": "*@x", "from": "", "dest": "bounce:", "before": 7, "state": "held", "account": "ann"}
        self.assertEqual(Selector(ID, "bounce:", State.HELD, "*@x", "", 7, "ann"), selector_of(asked))
        self.assertEqual(Selector(), selector_of({}))

    def test_nonsense(self) -> None:
        """Anything else is a ValueError: a condition that is not understood must not select more than was meant."""
        for asked in (
            None,
            [],
            {"too": "x"},
            {"to": 5},
            {"to": None},
            {"state": "lost"},
            {"state": ["held"]},
            {"before": "7"},
            {"before": True},
            {"before": 1 << 63},
            {"id": "x"},
            {"id": 5},
        ):
            with self.assertRaises(ValueError, msg=asked):
                selector_of(asked)

    @settings(deadline=None, max_examples=100)
    @given(
        some.recursive(some.none() | some.booleans() | some.integers() | some.text(), lambda s: some.dictionaries(some.text(), s))
    )
    def test_any_json(self, asked: Any) -> None:
        """Whatever comes: a selector or a ValueError."""
        try:
            self.assertIsInstance(selector_of(asked), Selector)
        except ValueError as error:
            self.assertTrue(str(error))


class FactsTests(SynchronousTestCase):
    """What goes out."""

    def test_row(self) -> None:
        """Every field of a row is there, and all of it is JSON."""
        facts = row_facts(ROW)
        self.assertEqual(facts, json.loads(json.dumps(facts)))
        self.assertEqual((id_text(ID), id_text(ID + 1), "held"), (facts["id"], facts["recipient"], facts["state"]))
        self.assertEqual(["SMTPUTF8", "RET_HDRS"], facts["flags"])
        self.assertEqual(len(attrs.fields(Row)), len(facts))

    def test_summary(self) -> None:
        """What is remembered of a destination stands beside its sums; suspended ones that have none are named."""
        states = [DestState("a:", blocked_until=9, blocked_why="down", fails=2), DestState("b:", suspended=True)]
        facts = summary_facts(
            [DestSummary("a:", 1, 2, 3, 4, 5, (6, 7, 8, 9)), DestSummary("c:", 0, 0, 1, 0, 5, (1, 0, 0, 0))], states
        )
        first, second = facts["destinations"]
        self.assertEqual((30, 9, "down", 2), (first["total"], first["blocked_until"], first["why"], first["fails"]))
        self.assertEqual(
            {**dest_facts(DestState("c:")), "total": 1}, {key: second[key] for key in (*dest_facts(states[0]), "total")}
        )
        self.assertEqual(["b:"], facts["suspended"])
        self.assertEqual(facts, json.loads(json.dumps(facts)))

    def test_message(self) -> None:
        """Envelope, flags and the header over the border of prefix and body."""
        message = Message(ID, "a@b.test", 1, 2, 3, int(Flag.REQUIRETLS), 4, b"Received: x\r\n", "smtp", "ann", "e", "{}")
        facts = message_facts(message, b"Subject: y\r\n\r\nbody")
        self.assertEqual("Received: x\nSubject: y", facts["header"])
        self.assertEqual((False, ["REQUIRETLS"], 4), (facts["header_cut"], facts["flags"], facts["accepted_recipients"]))


class HeaderTests(SynchronousTestCase):
    """`header_of`."""

    def test_ends(self) -> None:
        """At the first empty line; without one, or with nothing before it, all or nothing is header."""
        for start, header in (
            (b"A: 1\r\n\r\nB: 2\r\n\r\n", "A: 1"),
            (b"A: 1\r\nB: 2\r\n", "A: 1\nB: 2\n"),
            (b"\r\nbody", ""),
            (b"", ""),
            (b"A: \xff\xc3\xa9\r\n\r\n", "A: \ufffdé"),
        ):
            self.assertEqual((header, False), header_of(start), start)

    def test_limit(self) -> None:
        """A header of just the limit is whole, a longer one is cut and says so."""
        whole = b"A" * HEADER_LIMIT
        self.assertEqual((whole.decode(), False), header_of(whole + b"\r\n\r\nbody"))
        self.assertEqual((whole.decode(), True), header_of(whole + b"A\r\n\r\nbody"))
