"""The events: values that a session dispatches by type."""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from mta.smtp import client, event, server


class EventTests(SynchronousTestCase):
    def test_frozen(self):
        """An event can be kept: nobody changes it."""
        for name in event.__all__:
            kind = getattr(event, name)
            self.assertTrue(attrs.has(kind), name)
            self.assertIn("__slots__", vars(kind), name)
        self.assertRaises(attrs.exceptions.FrozenInstanceError, setattr, event.Hello("a", True), "name", "b")

    def test_each_has_its_machine(self):
        """Every event is of exactly one machine's."""
        self.assertEqual({getattr(event, name) for name in event.__all__}, {*server.Event.__args__, *client.Event.__args__})
        self.assertEqual(set(), {*server.Event.__args__} & {*client.Event.__args__})
