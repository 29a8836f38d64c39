"""The way out when things go wrong: agents that break their contract, an engine that cannot record."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from mta.envelope import Kind, Outcome, Refusal, Route, Settlement
from mta.queue.ids import id_text
from mta.queue.state import Alteration, Selector
from mta.status import MailError, Reply, Scope, transient
from tests.queue.station import LATER, OK, Station, deferred, delivered, down, failed

TO = "bob@example.org"
FULL = transient("4.3.1", "disk full", code=452)


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.station = Station().start()

    def accepted(self, *addresses: str, **more) -> int:
        return self.successResultOf(self.station.accept(*(addresses or (TO,)), **more))

    def lines(self, event: str):
        return [fields for name, _, fields in self.station.log.lines if name == event]

    def ends_quiet(self) -> None:
        self.assertEqual([], self.station.left)
        scheduler = self.station.service._scheduler
        self.assertEqual((0, 0), (scheduler.active, scheduler.running))


class ReportTests(Case):
    """Messages born of a settlement."""

    def test_no_way_just_now(self) -> None:
        """A report that cannot be routed for now (a mount is dead) is no double bounce: it is undone, and owed on."""
        station, route, undone = self.station, self.station.router.route, list[str]()

        def reported(job):
            spawn = (station.message(job.message.sender, sender=""),) if job.message.sender else ()
            return succeed(Settlement(tuple(map(delivered, job.claims)), spawn, lambda: undone.append(job.message.sender)))

        station.bounce.deliver = reported
        station.smtp.answer = failed
        self.accepted()
        station.router.route = lambda address: Refusal(LATER)
        station.smtp.answer = delivered
        station.advance(60)
        self.assertEqual(["ann@example.com"], undone)
        station.router.route = route
        station.advance(400)
        self.assertEqual(([(TO,), ("ann@example.com",)], 1), (station.smtp.seen, len(undone)))
        self.ends_quiet()

    def test_confirmed(self) -> None:
        """Delivered, and the sender is owed a report: the destination did well, the bounce agent hears what was said."""
        station = self.station
        station.smtp.answer = lambda claim: Outcome(claim, Kind.CONFIRMED, OK)
        told: list[tuple[str | None, str | None]] = []
        station.bounce.answer = lambda claim: told.append((claim.last_reply, claim.failed_dest)) or delivered(claim)
        for number in range(6):
            self.accepted(f"u{number}@example.org")
        destination = station.service._scheduler._destinations["smtp:default/example.org"]
        self.assertEqual((0, 6), (destination.busy, len(self.lines("delivered"))))
        self.assertEqual([], told)
        station.advance(2.1)
        self.assertEqual([(str(OK), "smtp:default/example.org")] * 6, told)
        self.assertEqual(6, len(station.smtp.seen), "nothing was delivered twice")
        self.ends_quiet()

    def test_confirmed_is_good_news(self) -> None:
        """A blocked destination is alive again after one."""
        station = self.station
        station.smtp.answer = down
        for number in range(10):
            self.accepted(f"u{number}@example.org")
        self.assertTrue(self.lines("blocked"))
        station.smtp.answer = lambda claim: Outcome(claim, Kind.CONFIRMED, OK)
        station.advance(400)
        self.assertEqual(1, len(self.lines("unblocked")))
        self.assertEqual(10, len(self.lines("delivered")))


class BrokenAgentTests(Case):
    """Whatever an agent does, its mail is deferred with 451 4.3.0 and nothing else suffers."""

    def breaks(self, deliver, logged: type[Exception] | None = None) -> None:
        whole = self.station.smtp.deliver
        self.station.smtp.deliver = deliver
        self.accepted("a@example.org", "b@example.org")
        if logged is not None:
            self.assertEqual(1, len(self.flushLoggedErrors(logged)))
        self.assertEqual(["451 4.3.0"] * 2, [fields["reply"][:9] for fields in self.lines("deferred")])
        self.station.smtp.deliver = whole
        self.station.advance(331)
        self.ends_quiet()

    def test_raises(self) -> None:
        """It raises."""
        self.breaks(lambda job: 1 / 0, ZeroDivisionError)

    def test_errbacks(self) -> None:
        """It errbacks."""
        self.breaks(lambda job: fail(KeyError("x")), KeyError)

    def test_answers_nonsense(self) -> None:
        """It answers with something that is no settlement, or not even a Deferred."""
        self.breaks(lambda job: succeed(None), AttributeError)
        self.station.log.lines.clear()
        self.breaks(lambda job: None, AttributeError)

    def test_forgets_recipients(self) -> None:
        """No outcome at all: every claim is deferred."""
        self.breaks(lambda job: succeed(Settlement(())))

    def test_forgets_one(self) -> None:
        """One of two is settled: it counts, the other is deferred; one told twice counts once."""
        self.station.smtp.deliver = lambda job: succeed(Settlement((delivered(job.claims[1]), failed(job.claims[1]))))
        self.accepted("a@example.org", "b@example.org")
        self.assertEqual([("a@example.org", False)], self.station.left)
        self.assertEqual(
            [("deferred", "a@example.org"), ("delivered", "b@example.org")],
            self.station.log.of("delivered", "deferred", "bounced"),
        )

    def test_none_of_that_name(self) -> None:
        """The routes have changed: the mail waits and is delivered when the agent is there."""
        self.station.router.route = lambda address: Route("old", "lmtp", "x")
        self.accepted()
        (line,) = self.lines("deferred")
        self.assertEqual(("451 4.3.5", "no agent for lmtp:old/x"), (line["reply"][:9], line["reason"]))
        self.station.service._dispatch._agents["lmtp"] = self.station.smtp
        self.station.advance(331)
        self.ends_quiet()

    def test_gives_back_for_ever(self) -> None:
        """What is not tried costs no attempt, and is not offered again in the same breath."""
        self.station.smtp.answer = lambda claim: Outcome(claim, Kind.GIVEN_BACK, LATER)
        self.accepted()
        self.station.advance(10)
        self.assertTrue(9 <= len(self.station.smtp.seen) <= 11)
        self.assertEqual([0], [row.attempts for row in self.station.engine._rows.values()])


class FaultyEngineTests(Case):
    """The disk is full, the engine is in trouble."""

    def test_settle_fails(self) -> None:
        """The outcome is recorded later; meanwhile the recipient is delivered to nobody."""
        self.station.queue.faults["settle"] = [FULL, FULL, FULL]
        self.accepted()
        self.assertEqual(1, len(self.flushLoggedErrors(MailError)))
        self.station.advance(2.9)
        self.assertEqual([(TO, False)], self.station.left)
        self.station.advance(0.2)
        self.assertEqual(2, len(self.flushLoggedErrors(MailError)))
        self.assertEqual([(TO,)], self.station.smtp.seen)
        self.ends_quiet()

    def test_settle_raises(self) -> None:
        """The same for an engine that raises."""
        settle = self.station.engine.settle
        self.station.engine.settle = lambda *_: 1 / 0
        self.accepted()
        self.station.engine.settle = settle
        self.station.advance(1.1)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.ends_quiet()

    def three_end_while_the_queue_records(self, *faults: Exception) -> int:
        """Three jobs end, the last two while the first is being recorded; how often the queue was asked to record."""
        queue, smtp = self.station.queue, self.station.smtp
        smtp.wait = True
        for name in ("a", "b", "c"):
            self.accepted(f"{name}@example.org")
        queue.held = []
        smtp.finish()
        queue.faults["settle"] = list(faults)
        smtp.finish()
        smtp.finish()
        queue.let_go()
        return queue.calls["settle"]

    def test_settled_together(self) -> None:
        """What ends while the queue records is recorded in one call."""
        self.assertEqual(2, self.three_end_while_the_queue_records())
        self.ends_quiet()

    def test_settled_together_and_failed(self) -> None:
        """When that call fails each job is repeated by itself: one that is bad does not hold up the others."""
        self.assertEqual(2, self.three_end_while_the_queue_records(FULL, FULL))
        self.station.advance(1.1)
        self.assertEqual(3, self.station.queue.calls["settle"])
        self.assertEqual(2, len(self.station.left))
        self.assertEqual(2, len(self.flushLoggedErrors(MailError)))
        self.station.advance(1)
        self.assertEqual(5, self.station.queue.calls["settle"])
        self.ends_quiet()

    def test_many_on_a_full_disk(self) -> None:
        """Fifty outcomes that cannot be recorded: a full disk is asked once a second; a second after it has room all are."""
        settle = self.station.engine.settle
        self.station.engine.settle = lambda *_: fail(FULL)
        for number in range(50):
            self.accepted(f"u{number}@d{number}.example")
        asked = self.station.queue.calls["settle"]
        self.station.advance(10.1)
        self.assertEqual(asked + 10, self.station.queue.calls["settle"])
        self.station.engine.settle = settle
        self.station.advance(1)
        self.assertEqual(50, len(self.station.smtp.seen))
        self.assertEqual(60, len(self.flushLoggedErrors(MailError)))
        self.ends_quiet()

    def test_settled_together_at_the_end(self) -> None:
        """A stop awaits what has gathered, too."""
        queue, smtp = self.station.queue, self.station.smtp
        smtp.wait = True
        self.accepted()
        self.accepted("eve@example.org")
        queue.held = []
        smtp.finish()
        smtp.finish()
        stopped = self.station.service.stopService()
        self.assertNoResult(stopped)
        queue.let_go()
        self.successResultOf(stopped)
        self.assertEqual([], self.station.left)

    def test_settle_fails_until_the_end(self) -> None:
        """It is tried once more at the stop; then the log says what may be delivered twice."""
        self.station.queue.faults["settle"] = [FULL] * 3
        self.accepted()
        self.successResultOf(self.station.service.stopService())
        self.assertEqual(2, len(self.flushLoggedErrors(MailError)))
        self.assertEqual([{"to": TO, "status": "delivered"}], self.lines("unrecorded"))
        self.assertEqual([], self.station.clock.getDelayedCalls())

    def test_claim_fails(self) -> None:
        """Asked again a second later."""
        self.station.smtp.answer = deferred
        self.accepted()
        self.station.smtp.answer = delivered
        self.station.queue.faults["claim"] = [FULL, FULL]
        self.station.advance(340)
        self.assertEqual(2, len(self.flushLoggedErrors(MailError)))
        self.ends_quiet()

    def asked(self, method: str) -> Deferred[object]:
        """What is asked about a destination when the first of its rows falls due, not answered yet; a job is on its way."""
        station, asked, whole = self.station, list[Deferred[object]](), getattr(self.station.engine, method)
        station.smtp.answer = deferred
        self.accepted()
        station.advance(120)
        self.accepted("eve@example.org")
        station.smtp.wait = True
        self.accepted("sue@example.net")

        def answer(of, *more):
            if of is None:  # a walk through the whole file
                return whole(of, *more)
            asked.append(Deferred())
            return asked[-1]

        setattr(station.engine, method, answer)
        station.advance(230)
        (waiting,) = asked
        return waiting

    def ends_amid(self, waiting: Deferred[object]) -> None:
        """The question fails while a stop awaits a job: no word of it, nothing is asked again, the stop ends."""
        station = self.station
        stopped = station.service.stopService()
        waiting.errback(FULL)
        self.assertEqual(([], 0), (self.flushLoggedErrors(), station.service._dispatch.next_time()))
        self.assertNoResult(stopped)
        while station.smtp.jobs:
            station.smtp.finish(0, delivered)
        self.successResultOf(stopped)
        self.assertEqual([], station.clock.getDelayedCalls())

    def test_claim_fails_amid_a_stop(self) -> None:
        """Nothing is to be delivered any more: that the queue cannot say what is due is no news."""
        self.ends_amid(self.asked("claim"))

    def test_look_fails_amid_a_stop(self) -> None:
        """A stop does not wait for a look at a destination's later mail, which the next start repeats."""
        self.ends_amid(self.asked("lanes"))

    def test_look_fails(self) -> None:
        """While mail is delivered that is told as what it is, a bug; a walk finds the mail all the same."""
        self.asked("lanes").errback(FULL)
        self.assertEqual(1, len(self.flushLoggedErrors(MailError)))
        self.station.smtp.wait, self.station.smtp.answer = False, delivered
        while self.station.smtp.jobs:
            self.station.smtp.finish()
        self.station.advance(200)
        self.ends_quiet()

    def test_due_while_a_claim_is_answered(self) -> None:
        """A row that falls due between a claim and its answer is claimed at once, not taken for one on its way."""
        self.station.smtp.answer = failed
        self.accepted()
        self.station.advance(0.02)
        self.accepted("eve@example.org")
        self.station.advance(1.97)
        self.station.queue.held = []
        self.station.advance(0.04)  # the first report's claim was asked for, the second's row fell due
        self.station.queue.let_go()
        self.station.advance(0.1)
        self.assertEqual([(TO,), ("eve@example.org",)], self.station.bounce.seen)

    def test_message_cannot_be_read(self) -> None:
        """Deferred, without a sender in its line, and delivered when it can be read."""
        self.station.queue.faults["load"] = [FULL]
        id = self.accepted()
        self.assertEqual(1, len(self.flushLoggedErrors(MailError)))
        ((event, queue_id, fields),) = self.station.log.lines
        self.assertEqual(("deferred", id_text(id), TO), (event, queue_id, fields["to"]))
        self.assertNotIn("from", fields)
        self.station.advance(331)
        self.ends_quiet()

    def test_removed_on_its_way(self) -> None:
        """An operator removes a recipient that is being delivered: it goes when the delivery ends."""
        self.station.smtp.wait = True
        id = self.accepted()
        self.successResultOf(self.station.engine.alter(Selector(message=id), Alteration.REMOVE, self.station.now()))
        self.station.smtp.finish(0, deferred)
        self.ends_quiet()

    def test_claim_lost(self) -> None:
        """The engine says that a claim was not ours: a line in the log, and no harm."""
        self.station.engine.settle = lambda outcomes, spawn: succeed([False] * len(outcomes))
        self.accepted()
        self.assertEqual([("claim_lost", TO)], self.station.log.of("claim_lost"))
        self.assertEqual(0, self.station.service._scheduler.active)

    def test_mark_fails(self) -> None:
        """The block holds in memory though it cannot be recorded."""
        self.station.queue.faults["mark"] = [FULL]
        self.station.smtp.answer = lambda claim: Outcome(claim, Kind.DEFERRED, LATER, Scope.SITE)
        for number in range(9):
            self.accepted(f"u{number}@example.org")
        self.assertEqual(1, len(self.flushLoggedErrors(MailError)))
        self.assertEqual(5, len(self.station.smtp.seen))


class FeedbackTests(Case):
    """What a settlement does to its destination."""

    def test_busy(self) -> None:
        """421: a minute without mail to that destination, and none is given up."""
        busy = Reply(421, "4.7.0", "too many messages")
        self.station.smtp.answer = lambda claim: Outcome(claim, Kind.GIVEN_BACK, busy, Scope.SESSION)
        self.accepted()
        self.station.smtp.answer = delivered
        self.accepted("other@example.org")
        self.station.advance(59)
        self.assertEqual(1, len(self.station.smtp.seen))
        self.station.advance(2)
        self.assertEqual(3, len(self.station.smtp.seen))
        self.assertEqual([], self.successResultOf(self.station.engine.destinations()))
        self.ends_quiet()

    def test_recipient_trouble_is_no_feedback(self) -> None:
        """Any number of busy mailboxes: the destination is alive."""
        self.station.smtp.answer = deferred
        for number in range(30):
            self.accepted(f"u{number}@example.org")
        self.assertEqual(30, len(self.station.smtp.seen))
        self.assertEqual([], self.lines("blocked"))

    def test_line(self) -> None:
        """Delays before the queue, in it, connecting, transferring."""
        self.station.smtp.wait = True
        self.accepted()
        self.station.advance(2)
        self.station.smtp.finish(0, lambda claim: Outcome(claim, Kind.DELIVERED, OK, connect=0.5, transfer=1.25))
        (line,) = self.lines("delivered")
        self.assertEqual((2.0, "0.00/0.00/0.50/1.25"), (line["delay"], line["delays"]))
