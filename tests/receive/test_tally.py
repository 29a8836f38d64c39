"""`mta.receive.tally`: what is counted of clients."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mta.receive.limits.table import CONNECTIONS, TABLE, TARPIT
from mta.receive.tally import STAGES, Tally
from mta.status import Reply

NO, LATER = Reply(550, "5.7.1", "no"), Reply(451, "4.3.0", "later")


class TallyTests(SynchronousTestCase):
    """`Tally`."""

    def setUp(self) -> None:
        self.tally = Tally()

    def told(self, name: str, shaking: int = 0, **listeners: int) -> dict[tuple[str, ...], object]:
        """What is not 0."""
        return {labels: number for each, labels, number in self.tally.measures(listeners, shaking) if each == name and number}

    def test_rejected(self) -> None:
        """By stage and by kind; ways to say the same are one, and what a client invents is "other"."""
        for stage in ("rcpt", "rcpt", "data", "bdat", "ehlo", "helo", "xyzzy", "\x00", "session"):
            self.tally.rejected(stage, NO)
        self.tally.rejected("rcpt", LATER)
        wanted = {
            ("rcpt", "5yz"): 2,
            ("data", "5yz"): 2,
            ("helo", "5yz"): 2,
            ("other", "5yz"): 3,
            ("rcpt", "4yz"): 1,
        }
        self.assertEqual(wanted, self.told("mta_rejected_total"))

    def test_nothing_yet(self) -> None:
        """Every stage and every limit is there with 0."""
        found = list(self.tally.measures({}, 0))
        self.assertEqual(2 * len(STAGES), sum(name == "mta_rejected_total" for name, _, _ in found))
        self.assertEqual({limit.key for limit in TABLE}, {labels[0] for name, labels, _ in found if name == "mta_limited_total"})
        self.assertEqual({0}, {number for _, _, number in found})

    def test_limits(self) -> None:
        """A limit is counted by its key, and as a refusal where it refuses."""
        self.tally.limited("connect", CONNECTIONS)
        self.tally.limited("tarpit", TARPIT)
        self.assertEqual({("connections",): 1, ("tarpit",): 1}, self.told("mta_limited_total"))
        self.assertEqual({("connect", "4yz"): 1}, self.told("mta_rejected_total"))

    def test_connections(self) -> None:
        """By listener, also of one that is gone; one that nobody has come to is there."""
        self.tally.connected("mx")
        self.tally.connected("old")
        found = list(self.tally.measures({"mx": 1, "new": 0}, 0))
        self.assertEqual(
            [(("mx",), 1), (("new",), 0), (("old",), 1)],
            [(labels, number) for name, labels, number in found if name == "mta_connections_total"],
        )
        self.assertEqual({("mx",): 1}, self.told("mta_connections_open", mx=1))

    def test_handshakes(self) -> None:
        """Who has not come to the end has failed, unless he is at it still."""
        self.tally.handshakes = 5
        self.tally.completed(False)
        self.tally.completed(True)
        wanted = {("in", "full"): 1, ("in", "resumed"): 1, ("in", "failed"): 2}
        self.assertEqual(wanted, self.told("mta_tls_handshakes_total", shaking=1))

    def test_logins(self) -> None:
        """By mechanism and result."""
        self.tally.logged_in("PLAIN", "ok")
        self.tally.logged_in("PLAIN", "refused")
        self.assertEqual({("PLAIN", "ok"): 1, ("PLAIN", "refused"): 1}, self.told("mta_logins_total"))
