"""The log line of a delivery attempt."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mta.envelope import BOUNCE, Claim, Kind, Message, Outcome
from mta.queue.lines import delivery_line
from mta.status import Reply

MESSAGE = Message(1, "ann@example.com", 10_000, 99_000, 5, 0, 1, b"")


class LineTests(SynchronousTestCase):
    """What it says."""

    def line(self, kind: Kind = Kind.DELIVERED, dest: str = "smtp:a/b", message: Message | None = MESSAGE, **more):
        claim = Claim(2, 1, dest, 0, 0, 0, "bob@example.org", last_reply="550 no")
        outcome = Outcome(claim, kind, Reply(250, "2.0.0", "queued\nas 5"), connect=0.25, transfer=0.5, **more)
        return delivery_line(outcome, message, 11_000, 13_500, 15_000)

    def test_delivered(self) -> None:
        """Who, whence, where, how long, and the reply on one line."""
        event, fields = self.line(facts={"relay": "mx[192.0.2.1]:25", "tls": "new", "conn_use": 2})
        self.assertEqual("delivered", event)
        self.assertEqual(
            {
                "to": "bob@example.org",
                "from": "ann@example.com",
                "relay": "mx[192.0.2.1]:25",
                "delay": 5.0,
                "delays": "1.00/2.50/0.25/0.50",
                "dsn": "2.0.0",
                "status": "delivered",
                "reply": "250 2.0.0 queued as 5",
                "tls": "new",
                "conn_use": 2,
            },
            fields,
        )

    def test_events(self) -> None:
        """Deferred (also what was not tried) with the time of the next attempt, and bounced."""
        event, fields = self.line(Kind.DEFERRED, due=315_000)
        self.assertEqual(("deferred", 300.0, "smtp:a/b"), (event, fields["retry"], fields["relay"]))
        event, fields = self.line(Kind.GIVEN_BACK, due=16_000)
        self.assertEqual(("deferred", "given-back"), (event, fields["status"]))
        self.assertEqual("bounced", self.line(Kind.FAILED)[0])

    def test_confirmed(self) -> None:
        """Delivered is delivered, whether or not the sender is owed a report of it."""
        self.assertEqual(self.line(), self.line(Kind.CONFIRMED, due=17_000))

    def test_bounce(self) -> None:
        """The report of a failed recipient says why it had failed; without a report it was removed, in one line too."""
        event, fields = self.line(dest=BOUNCE, facts={"report": "R1"})
        self.assertEqual(("reported", "550 no", "R1"), (event, fields["why"], fields["report"]))
        event, fields = self.line(dest=BOUNCE, facts={"reason": "double bounce"})
        self.assertEqual(("removed", "550 no", "double bounce"), (event, fields["why"], fields["reason"]))
        self.assertEqual("deferred", self.line(Kind.DEFERRED, dest=BOUNCE, due=1)[0])

    def test_without_message(self) -> None:
        """It could not be read: the line says what is known."""
        self.assertNotIn("delay", self.line(message=None)[1])

    def test_clock_stepped_back(self) -> None:
        """No negative delays."""
        outcome = Outcome(Claim(2, 1, "smtp:a/b", 0, 0, 0, "b@x"), Kind.DELIVERED, Reply(250, "", "ok"))
        fields = delivery_line(outcome, MESSAGE, 9_000, 8_000, 7_000)[1]
        self.assertEqual((0.0, "0.00/0.00/0.00/0.00"), (fields["delay"], fields["delays"]))
