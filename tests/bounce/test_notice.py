"""What people read."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mta.bounce.notice import Occasion
from mta.bounce.status_part import Action, Fate
from mta.envelope import Flag
from tests.bounce.common import CREATED, claim, report, text_of


class NoticeTests(SynchronousTestCase):
    """What happened, whose fault it probably is, what to do next."""

    def test_a_person_can_read_what_happened_and_what_to_do(self) -> None:
        """Recipient, reply, advice, queue id."""
        text = text_of(report(claim(), claim("full@example.net", "552 5.2.2 over quota")))
        for words in (
            "<bob@example.net>:",
            "550 5.1.1 no such user",
            "check the address",
            "<full@example.net>:",
            "mailbox is full",
            "QUEUEID",
            "no further attempt",
            "Its header is attached.",
        ):
            self.assertIn(words, text)

    def test_expired_is_said(self) -> None:
        """A recipient with a transient last reply was given up for its age."""
        self.assertIn("until its time was over", text_of(report(claim(reply="451 4.4.1 connection timed out"))))

    def test_c48_tls_is_named(self) -> None:
        """C48: mail that expired because TLS always failed: the report says so, that it was not sent in clear, and what to do."""
        reply = "451 4.7.5 message has expired; the last attempt said: mx.example.net[192.0.2.1]: TLS is required, but STARTTLS"
        text = text_of(report(claim(reply=reply)))
        for words in ("TLS is required", "encrypted by TLS", "not sent in clear text", "tell the recipient another way"):
            self.assertIn(words, text)
        for status in ("550 5.7.10", "550 5.7.30", "451 4.7.4"):
            self.assertIn("encrypted by TLS", text_of(report(claim(reply=f"{status} no"))))

    def test_advice_by_detail_then_subject(self) -> None:
        """5.1.10 is not 5.1.1, and what nobody has foreseen has its subject's advice, or the postmaster."""
        for reply, words in (
            ("556 5.1.10 null MX", "takes no mail at all"),
            ("550 5.1.99 x", "check the address"),
            ("554 5.4.6 loop", "in circles"),
            ("451 4.4.99 x", "could not be reached"),
            ("553 5.6.7 x", "beyond ASCII"),
            ("535 5.7.8 x", "tell him"),
            ("550 5.7.1 x", "refuses this message"),
            ("550 5.5.0 x", "ask your postmaster"),
            ("nonsense", "ask your postmaster"),
        ):
            self.assertIn(words, text_of(report(claim(reply=reply))), reply)

    def test_delay(self) -> None:
        """Only a warning; until when it is tried; nothing is to be done."""
        text = text_of(report(occasion=Occasion.DELAY, fates=(Fate(claim(reply="451 4.4.1 down"), Action.DELAYED),)))
        for words in ("only a warning", "need not send your message again", "tried until Sat, 26 Sep 2026", "Nothing is lost"):
            self.assertIn(words, text)
        self.assertNotIn("I am sorry", text)

    def test_out_of_time(self) -> None:
        """Its time is over: when that was, and what the trouble is; also where the next server would have needed longer."""
        by = CREATED + 60_000
        text = text_of(report(claim(reply="450 4.2.2 full"), flags=int(Flag.BY_RETURN), deliver_by=by))
        for words in ("You wanted it delivered by Mon, 21 Sep 2026", "It was tried until its time was over.", "mailbox is full"):
            self.assertIn(words, text)
        self.assertNotIn("You wanted", text_of(report(claim(), flags=int(Flag.BY_RETURN), deliver_by=by)))
        self.assertIn("give it more time", text_of(report(claim(reply="550 5.4.7 too late"))))
        late = Fate(claim(reply="451 4.4.1 down"), Action.DELAYED, True)
        text = text_of(report(occasion=Occasion.DELAY, fates=(late,), deliver_by=by))
        self.assertRegex(text, "You wanted it delivered by Mon, 21 Sep 2026 [0-9:]+ .0000. Nothing is lost")

    def test_success(self) -> None:
        """Delivered is not read, relayed is not delivered."""
        for action, words in (
            (Action.DELIVERED, "delivered to the recipient's mailbox"),
            (Action.RELAYED, "Unless that reports deliveries"),
            (Action.EXPANDED, "the addresses behind this one"),
        ):
            text = text_of(report(occasion=Occasion.SUCCESS, fates=(Fate(claim(reply="250 2.0.0 ok"), action),)))
            self.assertIn(words, text)
            self.assertNotIn("sorry", text)

    def test_postmaster(self) -> None:
        """Why he gets it, and who else knows."""
        copy = text_of(report(occasion=Occasion.COPY, to="postmaster@example.org"))
        self.assertIn("For the postmaster: a message of <alice@example.org>", copy)
        self.assertIn("Its sender has been told", copy)
        self.assertIn("Nobody else is told", text_of(report(occasion=Occasion.DOUBLE, to="postmaster@example.org", sender="")))
