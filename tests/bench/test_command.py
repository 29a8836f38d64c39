"""What the command line makes of the table of scenarios, and the times that the kernel keeps."""

from __future__ import annotations

import contextlib
import io
import os
from argparse import Namespace
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from bench import accounts
from bench.__main__ import chosen, main
from bench.scenario import SCENARIOS


def options(only: str = "", servers: str = "", quick: bool = False, scale: float = 1.0) -> Namespace:
    """As argparse gives them."""
    return Namespace(only=only, servers=servers, quick=quick, scale=scale)


class ChosenTests(SynchronousTestCase):
    """Which scenarios, with whom, how large."""

    def test_all_by_default(self) -> None:
        """As they stand in the table."""
        self.assertEqual(chosen(options()), list(SCENARIOS))

    def test_by_name_and_by_family(self) -> None:
        """In the order of the table, whatever order they are named in."""
        found = [scenario.name for scenario in chosen(options("tls,relay-20"))]
        self.assertEqual(found, ["relay-20", "tls-kept", "tls-new"])

    def test_servers(self) -> None:
        """Those that are wanted and there; a scenario in which nobody takes part is not run."""
        (scenario,) = chosen(options("accept", "mta,aiosmtpd,postfix"), {"aiosmtpd"})
        self.assertEqual(scenario.rig.servers, ("mta", "Postfix"))
        self.assertEqual(chosen(options("tls", "opensmtpd")), [])

    def test_sizes(self) -> None:
        """--scale is times the messages; --quick is small, but still a message for each session."""
        self.assertEqual([scenario.messages for scenario in chosen(options("accept", scale=0.5))], [2500])
        for scenario in chosen(options(quick=True)):
            self.assertLessEqual(scenario.messages, 60)
            self.assertGreaterEqual(scenario.messages, scenario.sessions if scenario.size < 1 << 20 else 1)

    def test_unknown_names(self) -> None:
        """A name that is not there is an error, with those that are: nobody waits an hour for a table without his scenario."""
        for wrong in (options("relay-21"), options(servers="postfx")):
            self.assertIn("known are", str(self.assertRaises(ValueError, chosen, wrong)))
        with contextlib.redirect_stderr(io.StringIO()) as said:
            self.assertRaises(SystemExit, main, ["--only", "relay-21"])
        self.assertIn("relay-21", said.getvalue())

    def test_list(self) -> None:
        """A line for each, and nothing is started."""
        with contextlib.redirect_stdout(io.StringIO()) as said:
            self.assertEqual(main(["--list"]), 0)
        self.assertEqual([line.split()[0] for line in said.getvalue().splitlines()], [scenario.name for scenario in SCENARIOS])


class AccountsTests(SynchronousTestCase):
    """CPU time by control groups."""

    def test_microseconds(self) -> None:
        """As cpu.stat has them."""
        group = Path(self.mktemp())
        group.mkdir()
        (group / "cpu.stat").write_text("usage_usec 1906840\nuser_usec 648758\nsystem_usec 258082\n")
        self.assertEqual(accounts.seconds(group), 1.90684)

    def test_without_control_groups(self) -> None:
        """None where there is no such file system, or nobody may write there."""
        mounts = Path(self.mktemp())
        self.patch(accounts, "MOUNTS", mounts)
        for text in ("tmpfs / tmpfs rw 0 0\n", "cgroup2 /nowhere/at/all cgroup2 rw 0 0\n"):
            mounts.write_text(text)
            with accounts.opened("mta-bench-test", os.getpid()) as group:
                self.assertIsNone(group)
