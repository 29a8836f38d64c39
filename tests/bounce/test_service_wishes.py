"""The bounce agent: who is told what, and how often (RFC 3461 5.2); warnings, the postmaster, the limit of an hour."""

from __future__ import annotations

import email

import attrs

from mta.bounce.service import COPY
from mta.config.settings import Dsn, Size
from mta.envelope import Claim, Flag, Kind, Message, Notify, Settlement
from mta.queue.state import Overdue
from tests.bounce.station import FULL, NOW, AgentCase, Reader

OK = "250 2.0.0 taken"
POSTMASTER = "postmaster@example.org"


class NotifyTests(AgentCase):
    """NOTIFY."""

    def test_successes_and_failures_apart(self) -> None:
        """Two reports of one job, each with its own recipients; a success never returns more than the header."""
        job = self.job(
            to=("a@b.test", "b@b.test", "c@b.test", "d@b.test"),
            notify=(Notify.SUCCESS, Notify.SUCCESS | Notify.FAILURE, Notify.FAILURE, Notify.SUCCESS),
            replies=(OK, "550 5.1.1 no", "550 5.1.1 no", OK),
            flags=Flag.RET_FULL,
        )
        settlement = self.settled(job)
        success, failure = settlement.spawn
        self.assertEqual([("relayed", "a@b.test"), ("relayed", "d@b.test")], self.told(success))
        self.assertEqual([("failed", "b@b.test"), ("failed", "c@b.test")], self.told(failure))
        self.assertEqual(["REPORT1", "REPORT2", "REPORT2", "REPORT1"], self.reasons(settlement))
        self.assertEqual({Kind.DELIVERED}, {outcome.kind for outcome in settlement.outcomes})
        self.assertNotIn(b"secret", success.body.data)
        self.assertIn(b"secret", failure.body.data)

    def test_unwanted_failures(self) -> None:
        """RFC 3461 5.2.6 b: NEVER, or without FAILURE: no report names them; settled, and the log says why."""
        settlement = self.settled(self.job(notify=(Notify.NEVER, Notify.SUCCESS | Notify.DELAY)))
        self.assertEqual(((), []), (settlement.spawn, self.accept.sinks))
        self.assertEqual(["notify", "notify"], self.reasons(settlement))
        settlement = self.settled(self.job(notify=(Notify.NEVER, 0)))
        self.assertEqual(["notify", "REPORT1"], self.reasons(settlement))
        self.assertEqual([("failed", "eve@b.test")], self.told(settlement.spawn[0]))

    def test_success_of_the_null_sender(self) -> None:
        """RFC 3461 5.2: nobody is told, and it is no double bounce."""
        settlement = self.settled(self.job(sender="", notify=(2, 0), replies=(OK, "550 5.1.1 no")))
        self.assertEqual(((), ["null sender", "double bounce"]), (settlement.spawn, self.reasons(settlement)))

    def test_trouble_with_the_second_report(self) -> None:
        """All or nothing: the first one is given up too, and everything stays owed."""
        create = self.accept.create_body

        def second_fails(recipients: int):
            if self.accept.sinks:
                raise FULL
            return create(recipients)

        self.accept.create_body = second_fails
        settlement = self.settled(self.job(notify=(2, 0), replies=(OK, "550 5.1.1 no")))
        self.assertEqual(((), [Kind.DEFERRED] * 2), (settlement.spawn, [outcome.kind for outcome in settlement.outcomes]))
        self.assertEqual([True], [sink.aborted for sink in self.accept.sinks])


class RateTests(AgentCase):
    """So many reports to one address in an hour."""

    dsn = Dsn(per_sender_hour=2)

    def test_limit(self) -> None:
        """What is over it is dropped and settled; others, and the next hour, are not concerned."""
        for _ in range(2):
            self.assertEqual(1, len(self.settled(self.job()).spawn))
        settlement = self.settled(self.job(sender="Alice@Example.org"))
        self.assertEqual(((), ["rate"] * 2), (settlement.spawn, self.reasons(settlement)))
        self.assertEqual({Kind.DELIVERED}, {outcome.kind for outcome in settlement.outcomes})
        self.assertEqual(1, len(self.settled(self.job(sender="other@example.org")).spawn))
        self.now += 3_600_000
        self.assertEqual(1, len(self.settled(self.job()).spawn))

    def test_what_could_not_be_made_is_not_counted(self) -> None:
        """A disk that is full for an hour does not cost the report."""
        self.accept.trouble = {"finish": FULL}
        for _ in range(5):
            self.settled(self.job())
        self.accept.trouble = {}
        self.assertEqual(1, len(self.settled(self.job()).spawn))

    def test_what_could_not_be_stored_is_not_counted(self) -> None:
        """Made five times, for there was no way to the sender: nothing is left of them, and the sixth is the first."""
        for _ in range(5):
            settlement = self.settled(self.job())
            self.assertEqual(1, len(settlement.spawn))
            settlement.undone()
        self.assertEqual([True] * 5, [sink.aborted for sink in self.accept.sinks])
        self.assertEqual([1, 1, 0], [len(self.settled(self.job()).spawn) for _ in range(3)])

    def test_reconfigure(self) -> None:
        """Another limit and lifetime, from now on; what was counted counts."""
        self.settled(self.job())
        self.agent.reconfigure(Dsn(per_sender_hour=1), 7000)
        self.assertEqual((), self.settled(self.job()).spawn)
        self.agent.reconfigure(Dsn(per_sender_hour=0), 7000)
        (spawn,) = self.settled(self.job()).spawn
        self.assertEqual(NOW + 7000, spawn.expires)


class PostmasterTests(AgentCase):
    """`[dsn] postmaster`."""

    dsn = Dsn(postmaster=POSTMASTER, return_size=Size(1000))

    def test_copy_of_a_failure(self) -> None:
        """A message of its own without a sender: header only, whatever the sender gets; none of successes."""
        settlement = self.settled(self.job(flags=Flag.RET_FULL, notify=(2, 0), replies=(OK, "550 5.1.1 no")))
        success, failure, copy = settlement.spawn
        self.assertEqual(("alice@example.org",) * 2, (success.recipients[0].address, failure.recipients[0].address))
        self.assertEqual((POSTMASTER, "", COPY), (copy.recipients[0].address, copy.sender, copy.source))
        self.assertEqual([("failed", "eve@b.test")], self.told(copy))
        self.assertEqual((True, False), (b"secret" in failure.body.data, b"secret" in copy.body.data))
        self.assertEqual({"report": "REPORT2", "copy": "REPORT3"}, dict(settlement.outcomes[1].facts))

    def test_no_copy_of_his_own_or_of_what_nobody_hears(self) -> None:
        """The postmaster's own failures are told once; NOTIFY=NEVER is told to nobody."""
        self.assertEqual(1, len(self.settled(self.job(sender=POSTMASTER.upper())).spawn))
        self.assertEqual((), self.settled(self.job(notify=(1, 1))).spawn)

    def test_double_bounce(self) -> None:
        """RFC 3461 5.2: a report that failed is told to him, and to nobody else; its line says `removed`, and where the copy is."""
        settlement = self.settled(self.job(sender="", source="dsn"))
        (copy,) = settlement.spawn
        self.assertEqual((POSTMASTER, "", COPY), (copy.recipients[0].address, copy.sender, copy.source))
        self.assertEqual({"reason": "double bounce", "copy": "REPORT1"}, dict(settlement.outcomes[0].facts))
        self.assertIn("Nobody else is told", self.parsed(copy).get_payload(0).get_payload())

    def test_copies_never_loop(self) -> None:
        """A copy that failed, wherever it was sent on to, is dropped."""
        settlement = self.settled(self.job(sender="", source=COPY, to=("somebody@else.test",)))
        self.assertEqual(((), ["double bounce"]), (settlement.spawn, self.reasons(settlement)))

    def test_copies_are_limited_too(self) -> None:
        """The postmaster's mailbox is not flooded by what others cause; the sender is told all the same."""
        self.agent.reconfigure(attrs.evolve(self.dsn, per_sender_hour=1), 5000)
        self.settled(self.job())
        settlement = self.settled(self.job(sender="other@example.org"))
        self.assertEqual(["other@example.org"], [spawn.recipients[0].address for spawn in settlement.spawn])
        self.assertEqual("rate", settlement.outcomes[0].facts["copy"])


class DelayTests(AgentCase):
    """Warnings."""

    dsn = Dsn(per_sender_hour=1, postmaster=POSTMASTER)

    def overdue(self, *notify: int, sender: str = "alice@example.org", flags: int = int(Flag.RET_FULL)) -> Overdue:
        message = Message(64, sender, NOW - 1, NOW + 86_400_000, 60, flags, 2, b"Received: x\r\n")
        claims = tuple(
            Claim(65 + n, 64, "smtp:mx/b.test", 0, 0, 3, f"{n}@b.test", notify=wish, last_reply="451 4.4.1 down")
            for n, wish in enumerate(notify)
        )
        self.bodies[64] = Reader([b"Subject: hi\r\n\r\nsecret\r\n"])
        return Overdue(message, claims)

    def warned(self, overdue: Overdue) -> Settlement:
        return self.successResultOf(self.agent.delayed(overdue))

    def test_q21_warning(self) -> None:
        """One report for all that wait and may be told of, header only (RFC 3461 4.3); the postmaster gets none."""
        (spawn,) = self.warned(self.overdue(0, Notify.DELAY, Notify.FAILURE, Notify.NEVER)).spawn
        self.assertEqual([("delayed", "0@b.test"), ("delayed", "1@b.test")], self.told(spawn))
        self.assertEqual(("", "dsn", 1), (spawn.sender, spawn.source, spawn.recipients[0].notify))
        text = email.message_from_bytes(spawn.body.data)
        self.assertIn("only a warning", text.get_payload(0).get_payload())
        self.assertIn(b"Subject: hi", spawn.body.data)
        self.assertNotIn(b"secret", spawn.body.data)
        self.assertTrue(self.bodies[64].closed)

    def test_none_wanted(self) -> None:
        """RFC 3461 5.2.5: none for those who did not ask for DELAY, nor for the null reverse-path."""
        for overdue in (self.overdue(2, 4, 1), self.overdue(0, sender=""), self.overdue()):
            self.assertEqual((), self.warned(overdue).spawn)
        self.assertEqual([], self.accept.sinks)

    def test_rate(self) -> None:
        """Over the limit there is none, and the log says so."""
        self.settled(self.job())
        self.assertEqual((), self.warned(self.overdue(0)).spawn)
        fields = {"to": "alice@example.org", "reason": "rate", "what": "delay warning"}
        self.assertEqual([("removed", "ID64", fields)], self.log.lines)

    def test_not_stored(self) -> None:
        """One that was made in vain leaves nothing, and the next may be made."""
        warning = self.warned(self.overdue(0))
        warning.undone()
        self.assertEqual((True, 1), (self.accept.sinks[0].aborted, len(self.warned(self.overdue(0)).spawn)))

    def test_trouble(self) -> None:
        """It fails with the reason, and leaves nothing: no room, or a body that cannot be read."""
        self.accept.trouble = {"finish": FULL}
        self.assertIs(FULL, self.failureResultOf(self.agent.delayed(self.overdue(0))).value)
        self.assertTrue(self.accept.sinks[0].aborted)
        overdue = self.overdue(0)
        self.bodies[64] = Reader([FULL])
        self.assertIs(FULL, self.failureResultOf(self.agent.delayed(overdue)).value)
        self.assertTrue(self.bodies[64].closed)
