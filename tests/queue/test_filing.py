"""Where a new message is filed."""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from mta.envelope import BOUNCE, BodyRef, Flag, NewMessage, NewRecipient, Refusal, Route
from mta.queue.filing import filed
from mta.status import MailError, Reply

NO = Reply(550, "5.1.2", "no such domain")
WAY = Route("default", "smtp", "example.org")


def message(*recipients: NewRecipient, lane_key: str = "example.com") -> NewMessage:
    body = BodyRef(1, b"x")
    return NewMessage(7, "s@example.com", recipients, body, b"P: x\r\n", 1, 2, "cli", "ann", 5, "env", "{}", lane_key)


class FilingTests(SynchronousTestCase):
    """dest, lane and due of each recipient; nothing else changes."""

    def test_routed(self) -> None:
        """The route's destination, due now; what was given is kept."""
        given = NewRecipient("u@example.org", "rfc822;u", 3)
        (to,) = filed(message(given), lambda _: WAY, 99).recipients
        self.assertEqual(
            ("u@example.org", "rfc822;u", 3, WAY.dest, 99, None), (to.address, to.orcpt, to.notify, to.dest, to.due, to.refused)
        )

    def test_refused(self) -> None:
        """Accepted is accepted: a bounce is owed, with the reason."""
        (to,) = filed(message(NewRecipient("u@x")), lambda _: Refusal(NO), 99).recipients
        self.assertEqual((BOUNCE, NO), (to.dest, to.refused))

    def test_refused_for_now(self) -> None:
        """A doubt is no reason for a bounce: nothing is filed, whoever asked comes again."""
        later = Reply(451, "4.3.0", "Mailboxes cannot be looked up now")
        ways = {"u@x": WAY, "v@y": Refusal(later)}
        error = self.assertRaises(MailError, filed, message(NewRecipient("u@x"), NewRecipient("v@y")), ways.__getitem__, 99)
        self.assertEqual(later, error.reply)

    def test_lanes(self) -> None:
        """The same key the same lane, different keys spread over all 64; odd keys do no harm."""
        lanes = [
            filed(message(NewRecipient("u@x"), lane_key=f"k{n}.example"), lambda _: WAY, 9).recipients[0].lane
            for n in range(2000)
        ]
        self.assertEqual(set(range(64)), set(lanes))
        both = filed(message(NewRecipient("a@x"), NewRecipient("b@y"), lane_key="\udcff€"), lambda _: WAY, 9).recipients
        self.assertEqual(both[0].lane, both[1].lane)

    def test_lifetime(self) -> None:
        """The longest of its destinations holds; a shorter one is not the message's, and 0 is what the message says."""
        given = message(NewRecipient("u@x"), NewRecipient("v@y"))
        ways = {"u@x": WAY, "v@y": Route("default", "smtp", "y")}
        for lives, expires in (({"y": 5.0}, 5001), ({"y": 0.0005}, 2), ({}, 2)):
            known = {f"smtp:default/{hop}": seconds for hop, seconds in lives.items()}
            made = filed(given, ways.__getitem__, 99, lambda dest, known=known: known.get(dest, 0.0))
            self.assertEqual(expires, made.expires)

    def test_release(self) -> None:
        """Due then and not before, and kept for as long as always from then on; what cannot be routed is told at once."""
        given = attrs.evolve(message(NewRecipient("u@x")), expires=1000, release=5099)
        made = filed(given, lambda _: WAY, 99)
        self.assertEqual((5099, 6000), (made.recipients[0].due, made.expires))
        self.assertEqual((99, 1000), (filed(attrs.evolve(given, release=98), lambda _: WAY, 99).recipients[0].due, given.expires))
        self.assertEqual(99, filed(given, lambda _: Refusal(NO), 99).recipients[0].due)

    def test_returned_in_time(self) -> None:
        """BY with R: it ends at its time, if not before; with N it goes on."""
        given = attrs.evolve(message(NewRecipient("u@x")), expires=1000, deliver_by=500)
        ends = [filed(attrs.evolve(given, flags=flags), lambda _: WAY, 99).expires for flags in (Flag.BY_RETURN, 0)]
        self.assertEqual([500, 1000], ends)

    def test_priority(self) -> None:
        """Another priority is another lane: urgent mail does not wait behind the rest of its sender's."""
        given = message(NewRecipient("u@x"))
        lanes = {filed(attrs.evolve(given, priority=n), lambda _: WAY, 99).recipients[0].lane for n in range(-9, 10)}
        self.assertTrue(len(lanes) > 10)

    def test_the_rest_is_kept(self) -> None:
        """Every other field of the message."""
        given = message(NewRecipient("u@x"))
        made = filed(given, lambda _: WAY, 99)
        for field in (
            "id",
            "sender",
            "body",
            "prefix",
            "created",
            "expires",
            "source",
            "account",
            "flags",
            "envid",
            "trace",
            "lane_key",
            "hold",
            "release",
            "priority",
            "deliver_by",
        ):
            self.assertEqual(getattr(given, field), getattr(made, field), field)
