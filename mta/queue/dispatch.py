"""The way out: the pump that starts what the scheduler allows, and the settling of what comes back.

A job is recipients of one message in one destination.  Its agent answers with one outcome for each; what it forgets, and
everything when it breaks its contract, is deferred.  The destination's slot is free when the agent is done, the place in
memory only when the outcome is recorded.  While recording fails (a full disk) the recipients stay claimed: they are not
delivered again, and recording is repeated until it succeeds or the service stops.

A destination that is found dead is blocked: what of it was ready is given back in one settlement, with no attempt counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import Random
from typing import ClassVar

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure

from mta.envelope import BOUNCE, Claim, Job, Kind, Message, NewMessage, Outcome, Settlement, Stored, Want
from mta.interfaces import IDeliveryAgent, IEventLog, IQueue
from mta.queue.filing import PUT_OFF
from mta.queue.ids import id_text
from mta.queue.lines import delivery_line
from mta.queue.retry import conclude, given_up
from mta.queue.scheduler.destination import Batch
from mta.queue.scheduler.schedule import Change, Feedback, Scheduler
from mta.queue.state import Lane
from mta.queue.tally import Tally
from mta.queue.unrecorded import Record, Unrecorded
from mta.status import MailError, Reply, Scope

__all__ = ["Dispatch"]

ASTRAY = 60_000  # ms that mail waits at most until it is filed by the routes of now
NEVER = 1 << 62
ASK_AGAIN = 1_000  # ms until a claim that failed is repeated
TROUBLE = Reply(451, "4.3.0", "internal trouble, tried again later")
NO_AGENT = Reply(451, "4.3.5", "no delivery agent of that name, tried again later")
UNTRIED = Reply(451, "4.4.1", "the destination does not answer, not tried")


class _Flight:
    """A job on its way."""

    __slots__ = ("batch", "message", "slot", "started")

    def __init__(self, batch: Batch, started: int, slot: int) -> None:
        self.batch = batch
        self.started = started
        self.slot = slot  # of the flight recorder
        self.message: Message | None = None


_End = tuple[Sequence[Outcome], Sequence[NewMessage], tuple[Feedback, Outcome | None]]


class Dispatch:
    """Delivers.  file: where a spawned message goes; is_stray: one of these goes elsewhere; rearm: called after every change."""

    _log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        queue: IQueue,
        agents: Mapping[str, IDeliveryAgent],
        scheduler: Scheduler,
        *,
        file: Callable[[NewMessage, int], NewMessage],
        is_stray: Callable[[Sequence[Claim]], bool],
        random: Random,
        now: Callable[[], int],
        events: IEventLog,
        rearm: Callable[[], None],
    ) -> None:
        self._queue = queue
        self._agents, self.tally = agents, Tally(agents)
        self._scheduler = scheduler
        self._file = file
        self._is_stray = is_stray
        self._random = random.random
        self._now = now
        self._events = events
        self._rearm = rearm
        self._pumping = self._again = self._claiming = False
        self._not_before = 0  # ms; no claim before, the last one failed
        self._unrecorded = Unrecorded(self._settle)
        self._gathered: list[Record] = []  # what ended while the queue records what ended before
        self._recording = 0
        self._flights = 0
        self._drained: Deferred[None] | None = None
        self.running = False  # jobs may start

    # What comes in

    def take(self, claims: Sequence[Claim], now: int) -> None:
        """Claims of new mail, whose place in memory is kept."""
        if returned := self._scheduler.offer(claims, now, True):
            self.give_back(returned)
        self.pump()

    def pump(self) -> None:
        """Start what may start, ask for what there is room for.  Calls from within are done by the outermost one."""
        if self._pumping or not self.running:
            self._again = True
            return
        self._pumping = self._again = True
        try:
            while self._again:
                self._again = False
                now = self._now()
                while (batch := self._scheduler.next_batch(now)) is not None:
                    self._start(batch, now)
                self._refill(now)
        finally:
            self._pumping = False
        self._rearm()

    def _refill(self, now: int) -> None:
        if self._claiming or not self._scheduler.hungry:
            return
        if now < self._not_before or not (wants := self._scheduler.wants()):
            return
        self._claiming = True
        now = self._scheduler.horizon(wants, now)
        claimed = self._queue.claim(wants, now)
        claimed.addCallbacks(self._claimed, self._unclaimed, callbackArgs=(wants, now), errbackArgs=(wants,))

    def _claimed(self, claims: list[Claim], wants: list[Want], asked: int) -> None:
        self._claiming = False
        if returned := self._scheduler.answered(wants, claims, asked):
            self.give_back(returned)
        for name in self._scheduler.looks():
            looked = self._queue.lanes(name)
            looked.addCallback(self._located, name, asked)
            looked.addErrback(self._unlocated)
        self.pump()

    def _unclaimed(self, failure: Failure, wants: list[Want]) -> None:
        self._claiming = False
        if not self.running:  # nothing is to be delivered any more
            return
        self._log.failure("the queue cannot say what is due", failure)
        self._not_before = self._now() + ASK_AGAIN
        self._scheduler.unanswered(wants)
        self._rearm()

    def _located(self, lanes: list[Lane], name: str, asked: int) -> None:
        self._scheduler.located(name, lanes, asked)  # not now: what fell due since then is not "on its way"
        self.pump()

    def _unlocated(self, failure: Failure) -> None:
        if self.running:  # a stop does not wait for a look, which the next start repeats
            self._bug(failure, "where is the mail of a destination")

    # A job

    def _start(self, batch: Batch, now: int) -> None:
        slot = -ASTRAY if self._is_stray(batch.claims) else self._queue.flights.began(batch.claims[0].id)
        if slot < 0:
            self._put_off(batch, now, -slot)
            return
        self._flights += 1
        flight = _Flight(batch, now, slot)
        # Few callbacks, no chains: this is the hot path.  What nobody catches Twisted logs as an unhandled error.
        loading = self._queue.load(batch.message)
        loading.addCallbacks(self._deliver, self._broken, callbackArgs=(flight,), errbackArgs=(flight,))

    def _put_off(self, batch: Batch, now: int, wait: int) -> None:
        """It was on its way when the process was killed: such go one by one (flights.py).  Or its way is another one now."""
        self._scheduler.finished(batch.dest, Feedback.NONE, now, self._random())
        self._record(([Outcome(claim, Kind.GIVEN_BACK, UNTRIED, due=now + wait) for claim in batch.claims], ()))

    def _deliver(self, stored: Stored, flight: _Flight) -> None:
        batch, message = flight.batch, stored.message
        flight.message = message
        if 0 < message.return_by <= self._now() and batch.dest != BOUNCE:
            self._outdated(flight)
            return
        agent = self._agents.get(batch.dest.partition(":")[0])
        if agent is None:  # the routes have changed: the mail waits until they fit again, or expires
            self._delivered(_deferred(batch.claims, NO_AGENT, {"reason": f"no agent for {batch.dest}"}), flight)
            return
        job = Job(message, tuple(batch.claims), batch.dest, stored.body, partial(self._queue.open_body, message.id))
        try:
            delivering = agent.deliver(job)
            delivering.addCallbacks(self._delivered, self._broken, callbackArgs=(flight,), errbackArgs=(flight,))
        except Exception:
            fail().addErrback(self._broken, flight)

    def _broken(self, failure: Failure, flight: _Flight) -> None:
        """The message cannot be read, or an agent broke its contract."""
        self._log.failure("delivery to {dest}", failure, dest=flight.batch.dest)
        self._delivered(_deferred(flight.batch.claims, TROUBLE, {"reason": failure.getErrorMessage()}), flight)

    def _delivered(self, settlement: Settlement, flight: _Flight) -> None:
        dest, now = flight.batch.dest, self._now()
        try:
            final, spawn, (feedback, telling) = self._concluded(settlement, flight, now)
        except Exception as error:
            if not isinstance(error, MailError):  # that is a report with no way just now: it is owed on, nobody's bug
                self._log.failure("the settlement of {dest}", dest=dest)
            if isinstance(settlement, Settlement) and settlement.undone is not None:
                settlement.undone()
            trouble = _deferred(flight.batch.claims, TROUBLE, {"reason": str(error)})
            final, spawn, (feedback, telling) = self._concluded(trouble, flight, now)
        self._flights -= 1
        if feedback is Feedback.NONE and final[0].kind is Kind.GIVEN_BACK and final[0].due:  # the agent wants no more just now
            self._scheduler.rest(dest, final[0].due)
        change = self._scheduler.finished(dest, feedback, now, self._random())
        self._record((final, spawn))
        self._queue.flights.ended(flight.slot)
        if change is not None:
            self._changed(dest, change, now, telling)
        if change is not None or self._scheduler.eager:
            self.pump()

    def _outdated(self, flight: _Flight) -> None:
        """Its sender does not want it delivered any more (RFC 2852, mode R): not tried, whatever the destination is like."""
        batch, now = flight.batch, self._now()
        self._flights -= 1
        self._scheduler.finished(batch.dest, Feedback.NONE, now, self._random())
        self._record(([self._conclude(given_up(claim), flight, now) for claim in batch.claims], ()))
        self._queue.flights.ended(flight.slot)
        self.pump()

    def _concluded(self, settlement: Settlement, flight: _Flight, now: int) -> _End:
        """What is to be recorded; each recipient has its line in the log."""
        batch, outcomes = flight.batch, settlement.outcomes
        if len(outcomes) != 1 or len(batch.claims) != 1 or outcomes[0].claim is not batch.claims[0]:
            outcomes = self._matched(outcomes, batch)
        spawn = [self._file(message, now) for message in settlement.spawn] if settlement.spawn else ()
        final = [self._conclude(outcome, flight, now) for outcome in outcomes]
        return final, spawn, _feedback(outcomes)

    def _matched(self, outcomes: Sequence[Outcome], batch: Batch) -> tuple[Outcome, ...]:
        """One outcome for each claim, in their order, whatever the agent said."""
        said = {outcome.claim.id: outcome for outcome in reversed(outcomes)}
        unsaid = [claim for claim in batch.claims if claim.id not in said]
        if unsaid or len(outcomes) != len(batch.claims):
            self._log.error("the agent of {dest} settled {n} of {of}", dest=batch.dest, n=len(outcomes), of=len(batch.claims))
            rest = _deferred(unsaid, TROUBLE, {"reason": "the agent did not say"})
            said.update((outcome.claim.id, outcome) for outcome in rest.outcomes)
        return tuple(said[claim.id] for claim in batch.claims)

    def _conclude(self, outcome: Outcome, flight: _Flight, now: int) -> Outcome:
        """The outcome with its due, and its line in the log."""
        message = flight.message
        if outcome.kind is not Kind.DELIVERED:
            terms = self._scheduler.terms(flight.batch.dest)
            expires = message.expires if message is not None else NEVER
            if terms.lifetime and message is not None and not message.flags & PUT_OFF:  # its time began with its release
                expires = min(expires, message.created + int(terms.lifetime * 1000))
            outcome = conclude(outcome, expires, now, terms.retry, self._random(), terms.waits)
        event, fields = delivery_line(outcome, message, flight.batch.since, flight.started, now)
        self._events.event(event, id_text(flight.batch.message), fields)
        self.tally.add(outcome, event, fields.get("delay"))
        return outcome

    # Recording

    def _record(self, record: Record) -> None:
        """Have it recorded: now, or together with all that ends while the queue is at it."""
        self._gathered.append(record)
        if not self._recording:
            self._settle_gathered()

    def _settle_gathered(self) -> None:
        records, self._gathered = self._gathered, []
        self._settle(records)

    def _settle(self, records: list[Record]) -> None:
        """One call for all these: each costs the queue, and us, as much as ten outcomes more."""
        self._recording += 1
        outcomes, spawn = records[0]
        if len(records) > 1:
            outcomes = [outcome for record in records for outcome in record[0]]
            spawn = [message for record in records for message in record[1]]
        try:
            settled = self._queue.settle(outcomes, spawn)
        except Exception:
            settled = fail()
        settled.addCallbacks(self._recorded, self._not_recorded, callbackArgs=(outcomes, spawn), errbackArgs=(records,))

    def _recorded(self, results: list[bool], outcomes: Sequence[Outcome], spawn: Sequence[NewMessage]) -> None:
        scheduler = self._scheduler
        self._recording -= 1
        scheduler.released(len(outcomes))
        changed = bool(spawn)
        for outcome, good in zip(outcomes, results, strict=True):
            if outcome.kind is not Kind.DELIVERED:
                changed = True
                self._waiting(outcome)
            if not good:
                self._events.event("claim_lost", id_text(outcome.claim.message), {"to": outcome.claim.address})
        for message in spawn:
            for recipient in message.recipients:
                scheduler.waiting(recipient.dest, recipient.lane, recipient.due, self._now())
        if self._gathered and not self._recording:
            self._settle_gathered()
        if self._unrecorded.records:
            self._unrecorded.recorded()
        if changed or scheduler.eager:
            self.pump()
        self._check_drained()

    def _waiting(self, outcome: Outcome) -> None:
        """The recipient waits in the file again."""
        claim = outcome.claim
        dest = BOUNCE if outcome.kind is Kind.FAILED or outcome.kind is Kind.CONFIRMED else claim.dest
        due = claim.due if outcome.due is None else outcome.due
        self._scheduler.waiting(dest, claim.lane, due, self._now())

    def _not_recorded(self, failure: Failure, records: list[Record]) -> None:
        """They stay claimed, and are recorded later (unrecorded.py)."""
        self._log.failure("outcomes of {n} jobs cannot be recorded", failure, n=len(records))
        self._recording -= 1
        self._unrecorded.add(records, self._now())
        if self._gathered and not self._recording:
            self._settle_gathered()
        self._rearm()
        self._check_drained()

    def give_back(self, claims: Sequence[Claim], due: int | None = None) -> None:
        """Claims that are not tried: no attempt is counted.  due: when they may be claimed again (ms), None: as before."""
        self._record(([Outcome(claim, Kind.GIVEN_BACK, UNTRIED, due=due) for claim in claims], ()))

    # Destinations

    def _changed(self, dest: str, change: Change, now: int, telling: Outcome | None) -> None:
        """Tell the queue and the log; give back what was ready."""
        if change.returned:
            self.give_back(change.returned)
        if change.alive:
            self._events.event("unblocked", "", {"dest": dest})
            self._queue.mark(dest, clear=True).addErrback(self._bug, "a destination's record")
        elif change.until:
            why = str(telling.reply) if telling is not None else ""
            self._events.event("blocked", "", {"dest": dest, "seconds": (change.until - now) / 1000, "reply": why})
            if change.dead:
                self._queue.mark(dest, change.until, why).addErrback(self._bug, "a destination's record")

    # Time and end

    def next_time(self) -> int:
        """When to call `tick` (ms), 0: nothing is awaited."""
        return min((time for time in (self._unrecorded.at, self._not_before) if time > 0), default=0)

    def tick(self, now: int) -> None:
        """Repeat what failed and whose time has come."""
        if self._not_before <= now:
            self._not_before = 0
        self._unrecorded.tick(now)

    def stop(self) -> Deferred[None]:
        """Start nothing any more.  Fires when all that runs is settled, or cannot be: that is delivered again one day."""
        self.running = False
        self._unrecorded.offer_all()
        drained = self._drained = Deferred()
        self._check_drained()
        return drained

    def _check_drained(self) -> None:
        drained = self._drained
        if drained is None or self._flights or self._recording or self._gathered:
            return
        self._drained = None
        for outcomes, _ in self._unrecorded.records:
            for outcome in outcomes:
                fields = {"to": outcome.claim.address, "status": outcome.kind.value}
                self._events.event("unrecorded", id_text(outcome.claim.message), fields)
        drained.callback(None)

    def _bug(self, failure: Failure, where: str) -> None:
        self._log.failure("{where}", failure, where=where)


def _deferred(claims: Sequence[Claim], reply: Reply, facts: Mapping[str, object]) -> Settlement:
    return Settlement(tuple(Outcome(claim, Kind.DEFERRED, reply, facts=facts) for claim in claims))


def _feedback(outcomes: Sequence[Outcome]) -> tuple[Feedback, Outcome | None]:
    """What a settlement says about the destination, and the outcome that says so."""
    found, telling = Feedback.NONE, None
    for outcome in outcomes:
        kind = outcome.kind
        if kind is Kind.DELIVERED or kind is Kind.FAILED or kind is Kind.CONFIRMED:
            found = Feedback.GOOD if found is Feedback.NONE else found
        elif outcome.scope is Scope.SITE:
            return Feedback.BAD, outcome
        elif outcome.reply.code == 421:
            found, telling = Feedback.BUSY, outcome
        elif kind is Kind.DEFERRED and found is Feedback.NONE:
            found = Feedback.GOOD
    return found, telling
