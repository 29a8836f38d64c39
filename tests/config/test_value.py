"""Single values: what is read, what is refused and with which words, and that what is written reads back."""

from __future__ import annotations

import math
import tomllib
from datetime import date, datetime
from ipaddress import ip_network
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.config import value
from mta.config.mistake import Wanted


class ValueTests(SynchronousTestCase):
    """Each reader by its table of right and wrong."""

    def refused(self, reader: object, given: object) -> str:
        with self.assertRaises(Wanted) as caught:
            reader(given)
        return str(caught.exception)

    def test_nothing_is_coerced(self) -> None:
        """A string is no number, a number is no truth, a truth is no number."""
        self.assertEqual("a whole number is wanted, not '25'", self.refused(value.read_whole, "25"))
        self.assertEqual("a whole number is wanted, not true", self.refused(value.read_whole, True))
        self.assertEqual("a whole number is wanted, not 2.0", self.refused(value.read_whole, 2.0))
        self.assertEqual("true or false is wanted, not 'no'", self.refused(value.read_boolean, "no"))
        self.assertEqual("true or false is wanted, not 1", self.refused(value.read_boolean, 1))
        self.assertEqual("a string is wanted, not 5", self.refused(value.read_text, 5))
        self.assertEqual("a string without NUL is wanted", self.refused(value.read_text, "a\0b"))

    def test_durations(self) -> None:
        """Numbers of seconds, or a number with its unit."""
        for given_, seconds in (
            (90, 90), (0.5, 0.5), (0, 0), ("0", 0), ("90s", 90), ("5m", 300), ("2h", 7200), ("5d", 432000), ("1.5h", 5400), ("5 m", 300),
        ):  # fmt: skip
            self.assertEqual(seconds, value.read_duration(given_))
        for wrong in ("", "5x", "-5s", "m", "1e3s", "５s", -1, math.inf, math.nan, True, [5]):
            self.assertIn("a duration is wanted", self.refused(value.read_duration, wrong))
        self.assertEqual("a duration wants its unit: did you mean '90s'?", self.refused(value.read_duration, "90"))

    def test_dates(self) -> None:
        """A day of the calendar, in one form."""
        for right in ("2027-01-01", date(2027, 1, 1)):
            self.assertEqual("2027-01-01", value.read_date(right))
        self.assertEqual("", value.read_date(""))
        for wrong in ("2027-1-1", "20270101", "2027-02-29", " 2027-01-01", "٢٠٢٧-01-01", 2027, True, datetime(2027, 1, 1), None):
            self.assertIn("a date is wanted (2027-01-01), not ", self.refused(value.read_date, wrong))

    def test_sizes(self) -> None:
        """Bytes, or a number of KiB, MiB, GiB; the decimal units are not guessed at."""
        for given_, size in ((0, 0), (1000, 1000), ("512KiB", 524288), ("50MiB", 52428800), ("1 GiB", 1 << 30)):
            self.assertEqual(size, value.read_size(given_))
        self.assertEqual("a size is wanted, not '50MB'; did you mean '50MiB'?", self.refused(value.read_size, "50MB"))
        self.assertEqual("a size is wanted, not '10k'; did you mean '10KiB'?", self.refused(value.read_size, "10k"))
        for wrong in (-1, True, 1.5, "", "MiB", "50 M B"):
            self.assertIn('a size is wanted ("50MiB" or a number of bytes)', self.refused(value.read_size, wrong))

    def test_networks(self) -> None:
        """CIDR or a single address; bits behind the prefix are a slip, and the network that was meant is named."""
        self.assertEqual(ip_network("10.0.0.0/8"), value.read_network("10.0.0.0/8"))
        self.assertEqual(ip_network("::1/128"), value.read_network("::1"))
        text = self.refused(value.read_network, "10.1.0.0/8")
        self.assertEqual("'10.1.0.0/8' has bits behind its prefix; did you mean '10.0.0.0/8'?", text)
        for wrong in ("localhost", "", 10, "10.0.0.0/33"):
            self.assertIn("a network or an address is wanted", self.refused(value.read_network, wrong))

    def test_clients(self) -> None:
        """A network, or the name of a list."""
        self.assertEqual(ip_network("10.0.0.0/8"), value.read_client("10.0.0.0/8"))
        self.assertEqual("+ours", value.read_client("+ours"))
        for wrong in ("ours", "!+ours", 10):
            self.assertIn("a network or an address is wanted", self.refused(value.read_client, wrong))

    def test_paths(self) -> None:
        """Relative ones start at the directory; links are not followed, for they may be swapped later."""
        self.assertEqual(Path("/etc/var/x"), value.read_path("../var/x", Path("/etc/mta")))
        self.assertEqual(Path("/a/b"), value.read_path("/a/b", Path("/etc/mta")))
        self.assertEqual("a path is wanted, not ''", self.refused(lambda text: value.read_path(text, Path("/")), ""))

    @settings(deadline=None, max_examples=200)
    @given(st.floats(min_value=0, max_value=1e9) | st.integers(min_value=0, max_value=10**9))
    def test_durations_read_back(self, seconds: float) -> None:
        """read(write(x)) == x, exactly."""
        text = value.duration_text(float(seconds))
        self.assertEqual(float(seconds), value.read_duration(tomllib.loads(f"k = {text}")["k"]))

    @settings(deadline=None, max_examples=200)
    @given(st.integers(min_value=0, max_value=2**40))
    def test_sizes_read_back(self, size: int) -> None:
        """read(write(x)) == x."""
        self.assertEqual(size, value.read_size(tomllib.loads(f"k = {value.size_text(size)}")["k"]))
