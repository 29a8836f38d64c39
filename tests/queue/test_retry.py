"""When a recipient is tried again, and when it is given up."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.config.settings import Retry, Seconds
from mta.envelope import BOUNCE, Claim, Kind, Outcome
from mta.queue.retry import GATHER, HOURLY, NEVER_TRIED, TURN, UNTRIED, backoff, conclude, dead_for, given_up
from mta.status import Reply

RETRY = Retry()
NOW = 1_800_000_000_000
FAR = NOW + 10**9
BUSY = Reply(450, "4.2.1", "mailbox busy")
PLAIN = 0.0  # the roll without jitter


def outcome(kind: Kind, dest: str = "smtp:a/b", attempts: int = 0, **more) -> Outcome:
    return Outcome(Claim(2, 1, dest, 0, NOW, attempts, "u@example.org"), kind, BUSY, **more)


def concluded(kind: Kind, expires: int = FAR, roll: float = PLAIN, **more) -> Outcome:
    return conclude(outcome(kind, **more), expires, NOW, RETRY, roll)


class BackoffTests(SynchronousTestCase):
    """The ladder."""

    def test_q55_ladder(self) -> None:
        """C45: 300, 600, 1200, 2400, 4000, 4000 seconds; 225 and 7200, the other way to set it, too."""
        self.assertEqual([300, 600, 1200, 2400, 4000, 4000], [backoff(n, RETRY, PLAIN) // 1000 for n in range(6)])
        slower = Retry(minimal_backoff=225.0, maximal_backoff=7200.0)
        self.assertEqual([225, 450, 900, 1800, 3600, 7200, 7200], [backoff(n, slower, PLAIN) // 1000 for n in range(7)])

    def test_q55_jitter(self) -> None:
        """Up to 10 % later, never earlier (a greylister of 300 s refuses who comes after 299), however many attempts."""
        self.assertEqual((300_000, 330_000), (backoff(0, RETRY, 0.0), backoff(0, RETRY, 1.0)))
        self.assertEqual(4_400_000, backoff(100_000, RETRY, 1.0))

    def test_q55_other_settings(self) -> None:
        """A maximum below the minimum is the maximum."""
        retry = Retry(minimal_backoff=Seconds(50.0), maximal_backoff=Seconds(20.0))
        self.assertEqual(20_000, backoff(0, retry, PLAIN))

    @settings(deadline=None, max_examples=100)
    @given(st.integers(0, 10**6), st.floats(0, 1, exclude_max=True))
    def test_q55_bounds(self, attempts: int, roll: float) -> None:
        """Always within the ladder, and never shorter with more attempts by more than the jitter."""
        self.assertTrue(300_000 <= backoff(attempts, RETRY, roll) <= 4_400_000)
        self.assertTrue(backoff(attempts + 1, RETRY, roll) >= backoff(attempts, RETRY, roll))

    def test_explicit_ladder(self) -> None:
        """Its waits one by one, the last one repeated, each with the same jitter; for a dead destination too."""
        waits = (Seconds(60.0), Seconds(900.0))
        self.assertEqual([60, 900, 900], [backoff(n, RETRY, PLAIN, waits) // 1000 for n in range(3)])
        self.assertEqual((60_000, 66_000), (backoff(0, RETRY, 0.0, waits), backoff(0, RETRY, 1.0, waits)))
        self.assertEqual(900_000, dead_for(1, NOW - 1000, NOW, RETRY, PLAIN, waits))

    def test_dead_destination(self) -> None:
        """The ladder by failures; one try an hour when it has been dead for longer than mail lives."""
        self.assertEqual(600_000, dead_for(1, NOW - 1000, NOW, RETRY, PLAIN))
        self.assertEqual(HOURLY, dead_for(9, NOW - 6 * 86_400_000, NOW, RETRY, PLAIN))


class ConcludeTests(SynchronousTestCase):
    """What finally becomes of a claim."""

    def test_delivered(self) -> None:
        """Nothing to decide."""
        given = outcome(Kind.DELIVERED)
        self.assertIs(given, conclude(given, FAR, NOW, RETRY, PLAIN))

    def test_deferred(self) -> None:
        """Due by the ladder of its attempts."""
        self.assertEqual(NOW + 1_200_000, concluded(Kind.DEFERRED, attempts=2).due)

    def test_agent_knows_better(self) -> None:
        """retry_after and due are kept; a wish of nothing waits a second."""
        self.assertEqual(NOW + 60_000, concluded(Kind.DEFERRED, retry_after=60.0).due)
        self.assertEqual(NOW + 77, concluded(Kind.DEFERRED, due=NOW + 77).due)
        self.assertEqual(NOW + UNTRIED, concluded(Kind.DEFERRED, retry_after=0.0).due)

    def test_last_attempt_at_expiry(self) -> None:
        """Never due after its end."""
        self.assertEqual(NOW + 5, concluded(Kind.DEFERRED, expires=NOW + 5).due)

    def test_expired(self) -> None:
        """Deferred once more at its end: failed, with the last reply in the reason and its code kept."""
        end = concluded(Kind.DEFERRED, expires=NOW)
        self.assertEqual((Kind.FAILED, NOW + GATHER, 450, "4.2.1"), (end.kind, end.due, end.reply.code, end.reply.enhanced))
        self.assertEqual("message has expired; the last attempt said: mailbox busy", end.reply.text)

    def test_failed(self) -> None:
        """Siblings gather for two seconds."""
        self.assertEqual(NOW + GATHER, concluded(Kind.FAILED).due)

    def test_confirmed(self) -> None:
        """The report of a success gathers its siblings as that of a failure does, and never expires."""
        for expires in (FAR, NOW - 1):
            end = concluded(Kind.CONFIRMED, expires=expires)
            self.assertEqual((Kind.CONFIRMED, NOW + GATHER), (end.kind, end.due))

    def test_given_back(self) -> None:
        """Not offered again at once, not expired, the kind stays."""
        end = concluded(Kind.GIVEN_BACK, expires=NOW)
        self.assertEqual((Kind.GIVEN_BACK, NOW + UNTRIED), (end.kind, end.due))

    def test_given_back_until_its_turn(self) -> None:
        """The agent said when: then, and not a moment earlier; a wish of nothing does not spin."""
        self.assertTrue(NOW + 60_000 < concluded(Kind.GIVEN_BACK, retry_after=60.0).due < NOW + 60_010)
        self.assertEqual(NOW + TURN, concluded(Kind.GIVEN_BACK, retry_after=0.0).due)

    def test_bounce_is_owed_for_ever(self) -> None:
        """A bounce neither expires nor fails: it is tried again."""
        for kind in (Kind.DEFERRED, Kind.FAILED, Kind.CONFIRMED):
            end = concluded(kind, expires=NOW - 10**9, dest=BOUNCE)
            self.assertEqual((Kind.DEFERRED, NOW + 300_000), (end.kind, end.due))

    def test_everything_else_is_kept(self) -> None:
        """Facts, scope and times reach the log."""
        given = outcome(Kind.DEFERRED, facts={"relay": "x"}, connect=1.5, transfer=2.5)
        end = conclude(given, FAR, NOW, RETRY, PLAIN)
        self.assertEqual((given.claim, given.facts, 1.5, 2.5), (end.claim, end.facts, end.connect, end.transfer))


class GivenUpTests(SynchronousTestCase):
    """What is not tried any more."""

    def test_the_reason_stays(self) -> None:
        """The last reply, word for word, and who said it; else that it was never tried; odd words do no harm."""
        for said, code in (("450 4.2.1 busy", 450), (None, 451), ("odd", 451), ("450", 450), ("\u0664\u0665\u0660 x", 451)):
            claim = Claim(2, 1, "smtp:a/b", 0, NOW, 3, "u@example.org", last_reply=said, last_host="mx.test")
            end = given_up(claim)
            self.assertEqual((Kind.FAILED, code, "mx.test"), (end.kind, end.reply.code, end.host))
            self.assertTrue(str(end.reply).endswith(said or NEVER_TRIED), str(end.reply))
