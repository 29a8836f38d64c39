"""[limits]: rates that are rates, a tarpit that honest clients survive."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

from mta.config.settings import Seconds, Size
from tests.config.common import LEAST, ConfigCase

RATE = 'a rate is wanted ("100/min", "5/s", "1000/h")'


class LimitsTests(ConfigCase):
    """[limits]."""

    def test_all_keys(self) -> None:
        """What an operator writes is what is counted; one rate is an array of it."""
        limits = self.load(
            LEAST + '[limits]\nreserve = 5\nreserve_for = ["192.0.2.0/24", "2001:db8::/32"]\nconnection_rate = "100/s"\n'
            'message_rate = ["10/min", "300/h"]\nrecipient_rate = "5/d"\nrejected_rate = []\nauth_failure_rate = ""\n'
            'login_failure_rate = "9/hour"\nlogin_messages = ["1/s"]\nlogin_recipients = ["3/hour", "4/day"]\n'
            'rejected_per_connection = 7\nbytes_per_connection = "1MiB"\ntarpit = "2s"\ntarpit_errors = 0\n'
        ).limits
        self.assertEqual((5, (IPv4Network("192.0.2.0/24"), IPv6Network("2001:db8::/32"))), (limits.reserve, limits.reserve_for))
        self.assertEqual((("100/s",), ("10/min", "300/h")), (limits.connection_rate, limits.message_rate))
        self.assertEqual((("5/d",), (), ("",)), (limits.recipient_rate, limits.rejected_rate, limits.auth_failure_rate))
        self.assertEqual((("9/hour",), ("1/s",)), (limits.login_failure_rate, limits.login_messages))
        self.assertEqual((("3/hour", "4/day"), 7), (limits.login_recipients, limits.rejected_per_connection))
        self.assertEqual((Size(1 << 20), Seconds(2.0), 0), (limits.bytes_per_connection, limits.tarpit, limits.tarpit_errors))

    def test_nothing_is_no_limit(self) -> None:
        """0 where 0 means something."""
        for key in ("reserve", "rejected_per_connection", "bytes_per_connection", "tarpit", "tarpit_errors"):
            self.assertEqual(0, getattr(self.load(f"{LEAST}[limits]\n{key} = 0\n").limits, key))

    def test_rates(self) -> None:
        """Each key of them, and each rate of a key."""
        self.say(
            '[limits]\nconnection_rate = "many"\nmessage_rate = ["1/s", "0/s"]\nrecipient_rate = "5"\nrejected_rate = "5/week"\n'
            'auth_failure_rate = "-1/s"\nlogin_failure_rate = "1.5/s"\nlogin_messages = "/s"\nlogin_recipients = ["1/h", "x"]\n',
            f"2: limits.connection_rate[0]: {RATE}, not 'many'",
            f"3: limits.message_rate[1]: {RATE}, not '0/s'",
            f"4: limits.recipient_rate[0]: {RATE}, not '5'",
            f"5: limits.rejected_rate[0]: {RATE}, not '5/week'",
            f"6: limits.auth_failure_rate[0]: {RATE}, not '-1/s'",
            f"7: limits.login_failure_rate[0]: {RATE}, not '1.5/s'",
            f"8: limits.login_messages[0]: {RATE}, not '/s'",
            f"9: limits.login_recipients[1]: {RATE}, not 'x'",
        )

    def test_tarpit(self) -> None:
        """A minute is the most; negative numbers are nothing."""
        self.say(
            '[limits]\ntarpit = "2m"\ntarpit_errors = -1\nreserve = -1\n',
            "2: limits.tarpit: at most 60s is wanted: clients that wait for longer give up",
            "3: limits.tarpit_errors: at least 0 is wanted, not -1",
            "4: limits.reserve: at least 0 is wanted, not -1",
        )
