"""What holds for a destination: which entry matches, and what it leaves as usual."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mta.config.settings import Concurrency, DestinationEntry, Retry, Seconds
from mta.envelope import BOUNCE
from mta.queue.scheduler.terms import TermsTable
from mta.rate import Rate


def table(*entries: DestinationEntry) -> TermsTable:
    return TermsTable(Concurrency(), Retry(), entries)


def entry(*match: str, number: int = 1) -> DestinationEntry:
    """One that is known by its concurrency."""
    return DestinationEntry(match, concurrency=number)


class TermsTests(SynchronousTestCase):
    """`TermsTable.of`."""

    def test_usual(self) -> None:
        """Without entries it is one value for all, and no look-up."""
        terms = table()
        self.assertIs(terms.usual, terms.of("smtp:r/a.org"))
        self.assertEqual(
            (5, 20, 50, None, (), 0),
            (
                *[getattr(terms.usual, n) for n in ("initial", "limit", "recipients")],
                terms.usual.rate,
                terms.usual.waits,
                terms.usual.lifetime,
            ),
        )
        self.assertFalse(terms.mortal)

    def test_all_keys(self) -> None:
        """What an entry says holds; the window does not begin above its limit."""
        waits = (Seconds(60.0), Seconds(3600.0))
        given = DestinationEntry(("a.org",), 2, 3, "100/min", waits, Seconds(86400.0))
        terms = table(given).of("smtp:r/a.org")
        self.assertEqual(
            (2, 2, 3, Rate(100, 60), waits, 86400.0),
            (terms.initial, terms.limit, terms.recipients, terms.rate, terms.waits, terms.lifetime),
        )
        self.assertEqual(86400.0, terms.retry.queue_lifetime)
        self.assertTrue(table(given).mortal)

    def test_what_is_left_out(self) -> None:
        """It is the usual."""
        terms = table(DestinationEntry(("a.org",), rate="1/s")).of("smtp:r/a.org")
        self.assertEqual((5, 20, 50, Retry(), ()), (terms.initial, terms.limit, terms.recipients, terms.retry, terms.waits))

    def test_patterns(self) -> None:
        """A domain is itself, "*.domain" what is below it, brackets are a host; cases and scripts do not count."""
        terms = table(
            entry("a.org"),
            entry("*.a.org", number=2),
            entry("[10.0.0.1]:26", "[MX.b.org]", number=3),
            entry("bücher.example", "*.Bücher.example", number=4),
        )
        for next_hop, number in (
            ("a.org", 1), ("x.a.org", 2), ("y.x.a.org", 2), ("xa.org", 20), ("[10.0.0.1]:26", 3), ("[10.0.0.1]", 20),
            ("[mx.b.org]", 3), ("mx.b.org", 20), ("xn--bcher-kva.example", 4), ("mx.xn--bcher-kva.example", 4), ("org", 20),
            ("[x.a.org]", 20),
        ):  # fmt: skip
            self.assertEqual(number, terms.of(f"smtp:r/{next_hop}").limit, next_hop)

    def test_first_wins(self) -> None:
        """In the order of the file, whatever kind the pattern is of."""
        terms = table(entry("*.a.org"), entry("x.a.org", number=2), entry("*", number=3), entry("b.org", number=4))
        self.assertEqual([1, 3, 3], [terms.of(f"smtp:r/{hop}").limit for hop in ("x.a.org", "b.org", "[c.org]:1")])

    def test_routes(self) -> None:
        """By its name, whatever level stands behind it; also where there is no next hop."""
        terms = table(entry("route:bulk"))
        for dest, number in (
            ("smtp:bulk/a.org", 1),
            ("smtp:bulk+verify/a.org", 1),
            ("maildir:bulk/", 1),
            ("smtp:bulk2/a.org", 20),
        ):
            self.assertEqual(number, terms.of(dest).limit, dest)

    def test_what_everything_leaves_out(self) -> None:
        """ "*" is every next hop: mailboxes have none, and a bounce is never held up."""
        terms = table(entry("*"), entry("route:"))
        self.assertEqual([20, 20], [terms.of(dest).limit for dest in ("maildir:here/", BOUNCE)])
