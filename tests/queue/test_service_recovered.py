"""The service when what the last process had taken waits again only after the start, for the disk was full."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from mta.queue.filing import filed
from mta.queue.state import State
from mta.status import transient
from tests.queue.station import FakeAgent, Station, delivered

TO = "bob@example.org"


class RecoveredTests(SynchronousTestCase):
    """Mail that a killed process had taken, in a file that had no room for a word of that."""

    def setUp(self) -> None:
        self.station = station = Station()
        message = filed(station.message(TO), station.router.route, station.now())
        self.successResultOf(station.engine.enqueue([message]))
        self.row = station.engine._rows[message.id + 1]
        self.row.state = State.HELD  # seen by nobody
        self.recovered: Deferred[None] = Deferred()
        station.engine.recovered = self.recovered

    def wait_again(self) -> None:
        """There is room: the engine writes it and says so."""
        self.row.state = State.WAITING
        self.station.engine._file(self.row)
        self.recovered.callback(None)

    def test_goes_at_once(self) -> None:
        """It is delivered when the engine says that it waits, not when the next sweep comes."""
        self.successResultOf(self.station.start().service.ready)
        self.station.advance(1)
        self.assertEqual([], self.station.smtp.seen)
        self.wait_again()
        self.assertEqual(([(TO,)], []), (self.station.smtp.seen, self.station.left))

    def test_while_the_start_looks(self) -> None:
        """It waits again behind the back of the first walk through the file: that walk is not the last."""
        lanes, asked = self.station.engine.lanes, []

        def wait_again_after(*arguments):
            found = lanes(*arguments)
            if not asked:
                asked.append(arguments)
                self.wait_again()
            return found

        self.station.engine.lanes = wait_again_after
        self.successResultOf(self.station.start().service.ready)
        self.assertEqual([(TO,)], self.station.smtp.seen)

    def test_is_routed_anew(self) -> None:
        """The routes have changed since: what nobody could move then is moved before it goes."""
        station = self.station
        station.engine.start = lambda: succeed(None)
        self.row.claim = object()  # till then nobody may move it
        station.router.agent = "lmtp"
        station.agents["lmtp"] = FakeAgent(delivered)
        self.successResultOf(station.start().service.ready)
        self.assertEqual("smtp:default/example.org", self.row.dest)
        self.row.claim = None
        self.wait_again()
        self.assertEqual(([], [(TO,)]), (station.smtp.seen, station.agents["lmtp"].seen))

    def test_nothing_is_late(self) -> None:
        """On a disk with room the file is walked through once at the start."""
        station = Station().start()
        self.successResultOf(station.service.ready)
        self.assertEqual(1, station.queue.calls["lanes"])

    def test_stopped_before(self) -> None:
        """The service stops while there is no room: what comes after is no news to anybody."""
        self.successResultOf(self.station.start().service.ready)
        self.successResultOf(self.station.service.stopService())
        self.station.queue.faults["lanes"] = [transient("4.3.2", "the queue is not running")]
        self.wait_again()
        self.assertEqual(([], []), (self.station.smtp.seen, self.station.clock.getDelayedCalls()))
