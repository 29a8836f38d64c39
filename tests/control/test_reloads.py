"""`mta.control.reloads`: one after the other (`tests/test_process_reload.py` has them in a process)."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mta.control.reloads import Reloads
from mta.control.socket import Answer


class ReloadsTests(SynchronousTestCase):
    """`Reloads`."""

    def setUp(self) -> None:
        self.running: list[Deferred[Answer]] = []
        self.reloads = Reloads(self.once)

    async def once(self) -> Answer:
        done: Deferred[Answer] = Deferred()
        self.running.append(done)
        return await done

    def test_one_behind_the_running_one(self) -> None:
        """Whoever asks while one runs gets the answer of the next, which is one for all of them."""
        first = self.reloads.ask()
        others = [self.reloads.ask() for _ in range(3)]
        self.running[0].callback({"generation": 2})
        self.assertEqual({"generation": 2}, self.successResultOf(first))
        self.assertEqual(2, len(self.running))
        self.running[1].callback({"generation": 3})
        self.assertEqual([{"generation": 3}] * 3, [self.successResultOf(each) for each in others])

    def test_counted(self) -> None:
        """How many there were of each kind, and how the last one ended; before the first all is well."""
        told = [dict(self.told())]
        for said in ({"generation": 2}, {"ok": False, "mistakes": ["x"]}, {"generation": 3}):
            self.reloads.ask()
            self.running[-1].callback(said)
            told.append(dict(self.told()))
        self.assertEqual([(0, 0, 1), (1, 0, 1), (1, 1, 0), (2, 1, 1)], [tuple(each.values()) for each in told])

    def told(self) -> list[tuple[tuple[str, ...], object]]:
        return [((name, *labels), number) for name, labels, number in self.reloads.measures()]

    def test_the_next_begins_at_once(self) -> None:
        """When none runs."""
        self.reloads.ask()
        self.running[0].callback({})
        self.reloads.ask()
        self.assertEqual(2, len(self.running))
