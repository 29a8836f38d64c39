"""The numbers that are on disk."""

from twisted.trial.unittest import SynchronousTestCase

from mta.queue.state import State


class StateTests(SynchronousTestCase):
    """Column `state`."""

    def test_numbers(self) -> None:
        """The indexes of the schema speak of these numbers: they never change."""
        self.assertEqual({"WAITING": 0, "TAKEN": 1, "HELD": 2}, {state.name: state.value for state in State})
