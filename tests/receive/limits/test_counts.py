"""The rates of clients and logins together: all rows of a thing or none, exemptions, reloads."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.config.settings import Limits
from mta.receive.limits import table
from mta.receive.limits.counts import Counts
from mta.receive.limits.table import What, Who

NOW = 1_795_000_000.0
NOBODY = Limits(
    connection_rate=(), rejected_rate=(), auth_failure_rate=(), login_failure_rate=(), login_messages=(), login_recipients=(),
    tls_sessions_per_minute=0,
)  # fmt: skip
STRANGER = Who(b"aaaa")
USER = Who(b"aaaa", login=b"user")


class CountsTests(SynchronousTestCase):
    """`Counts`."""

    def test_s09_handshakes(self) -> None:
        """S09: three a minute, the fourth is 454 4.7.0; after a third of a minute there may be one more; others are not concerned."""
        counts = Counts(Limits(tls_sessions_per_minute=3))
        for _ in range(3):
            self.assertIsNone(counts.take(What.HANDSHAKE, STRANGER, NOW))
        over = counts.take(What.HANDSHAKE, STRANGER, NOW)
        assert over is not None and over.reply is not None
        self.assertEqual((over.key, over.reply.code, over.reply.enhanced), ("tls_sessions_per_minute", 454, "4.7.0"))
        self.assertIsNone(counts.take(What.HANDSHAKE, Who(b"bbbb"), NOW))
        self.assertIsNone(counts.take(What.HANDSHAKE, STRANGER, NOW + 20))
        self.assertIsNotNone(counts.take(What.HANDSHAKE, STRANGER, NOW + 20))

    def test_no_limit(self) -> None:
        """0, "" and nothing at all: nothing is counted."""
        counts = Counts(NOBODY)
        for what in What:
            for _ in range(5):
                self.assertIsNone(counts.take(what, USER, NOW, 10**6))
        self.assertEqual(len(counts), 0)

    def test_exempt(self) -> None:
        """Clients in relay_from, and those without an address, are not counted; the login of such a client is."""
        counts = Counts(Limits(connection_rate=("1/min",), message_rate=("1/min",), login_messages=("2/hour",)))
        for who in (Who(b"aaaa", exempt=True), Who(b"")):
            for _ in range(3):
                self.assertIsNone(counts.take(What.CONNECTION, who, NOW))
                self.assertIsNone(counts.take(What.MESSAGE, who, NOW))
        self.assertEqual(len(counts), 0)
        user = Who(b"aaaa", exempt=True, login=b"user")
        self.assertEqual([counts.take(What.MESSAGE, user, NOW) for _ in range(3)], [None, None, table.LOGIN_MESSAGES])

    def test_all_rows_or_none(self) -> None:
        """A message that one row has no room for is counted in none: the other rows have what they had."""
        counts = Counts(Limits(recipient_rate=("10/min",), login_recipients=("5/hour", "100/day")))
        self.assertIsNone(counts.take(What.RECIPIENT, USER, NOW, 5))
        self.assertIs(counts.take(What.RECIPIENT, USER, NOW, 1), table.LOGIN_RECIPIENTS)
        self.assertIsNone(counts.take(What.RECIPIENT, STRANGER, NOW, 5))
        self.assertIs(counts.over(What.RECIPIENT, STRANGER, NOW), table.RECIPIENT_RATE)

    def test_hour_and_day(self) -> None:
        """Two rates of one row both hold: 5 at once, and not 12 in a day however slowly."""
        counts = Counts(Limits(login_recipients=("5/hour", "10/day")))
        elsewhere, taken = Who(b"", login=b"user"), 0
        for hour in range(4):
            for _ in range(10):
                taken += counts.take(What.RECIPIENT, elsewhere, NOW + 3600 * hour) is None
        self.assertEqual(taken, 11)

    def test_wherever_the_login_is(self) -> None:
        """An account has one allowance from all its addresses, and from those without one."""
        counts = Counts(Limits(login_messages=("2/hour",)))
        self.assertIsNone(counts.take(What.MESSAGE, Who(b"aaaa", login=b"user"), NOW))
        self.assertIsNone(counts.take(What.MESSAGE, Who(b"", login=b"user"), NOW))
        self.assertIs(counts.take(What.MESSAGE, Who(b"bbbb", login=b"user"), NOW), table.LOGIN_MESSAGES)
        self.assertIsNone(counts.take(What.MESSAGE, Who(b"bbbb", login=b"other"), NOW))

    def test_strangers_lock_nobody_out(self) -> None:
        """10,000 wrong passwords for a login from 500 addresses: each address is refused; the user's own has room, only slower."""
        counts = Counts(Limits())
        refused = 0
        for number in range(500):
            guess = Who(number.to_bytes(4), login=b"user")
            refused += sum(counts.take(What.AUTH_FAILURE, guess, NOW) is table.LOGIN_FAILURE_RATE for _ in range(25))
        self.assertEqual(refused, 500 * 5)
        self.assertIsNone(counts.over(What.AUTH_FAILURE, Who(b"home", login=b"user"), NOW))
        self.assertEqual(counts.owed(What.AUTH_FAILURE, Who(b"home", login=b"user"), NOW), 20)
        self.assertEqual(counts.owed(What.AUTH_FAILURE, Who(b"home", login=b"other"), NOW), 0)

    def test_names_are_no_way_around(self) -> None:
        """A hundred names from one address: the hundred and first is refused by the count of the client."""
        counts = Counts(Limits())
        results = [counts.take(What.AUTH_FAILURE, Who(b"aaaa", login=b"%d" % number), NOW) for number in range(102)]
        self.assertEqual(results, [None] * 100 + [table.AUTH_FAILURE_RATE] * 2)
        self.assertIsNone(counts.take(What.AUTH_FAILURE, Who(b"aaaa", login=b"late"), NOW + 36.0))

    def test_given_back(self) -> None:
        """A login that was right counts for nothing."""
        counts = Counts(Limits())
        for _ in range(50):
            self.assertIsNone(counts.take(What.AUTH_FAILURE, USER, NOW))
            counts.count(What.AUTH_FAILURE, USER, NOW, -1)
        self.assertEqual(counts.owed(What.AUTH_FAILURE, USER, NOW), 0)

    def test_reload(self) -> None:
        """What was counted goes on to count under another rate; a row that had none begins; one that has none any more ends."""
        counts = Counts(Limits(message_rate=("3/hour",)))
        for _ in range(3):
            counts.take(What.MESSAGE, STRANGER, NOW)
        counts.obey(Limits(message_rate=("4/hour",), recipient_rate=("1/hour",)))
        self.assertIs(counts.over(What.MESSAGE, STRANGER, NOW, 2), table.MESSAGE_RATE)
        self.assertIsNone(counts.take(What.RECIPIENT, STRANGER, NOW))
        self.assertIs(counts.over(What.RECIPIENT, STRANGER, NOW), table.RECIPIENT_RATE)
        counts.obey(Limits())
        self.assertIsNone(counts.over(What.MESSAGE, STRANGER, NOW, 1000))

    @settings(deadline=None, max_examples=100)
    @given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(1, 4), st.integers(0, 900)), max_size=60))
    def test_never_over_any(self, steps: list[tuple[int, int, int, int]]) -> None:
        """Of any mix of clients and logins: no client and no login ever has more than its rate allows."""
        counts = Counts(Limits(recipient_rate=("6/hour",), login_recipients=("4/hour",)))
        now, had = NOW, {}
        for client, login, number, pause in steps:
            now += pause
            who = Who(bytes([client + 1]), login=b"l%d" % login if login else b"")
            before = counts.over(What.RECIPIENT, who, now, number)
            self.assertIs(counts.take(What.RECIPIENT, who, now, number), before)
            if before is None:
                for key, most in ((who.client, 6), (who.login, 4)):
                    had.setdefault((key, most), []).extend([now] * number)
        for (key, most), times in had.items():
            for first in range(len(times) if key else 0):
                for last in range(first, len(times)):
                    self.assertLessEqual(last - first + 1, most + (times[last] - times[first]) * most / 3600 + 0.01)
