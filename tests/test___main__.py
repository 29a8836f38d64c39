"""`python -m mta`."""

from __future__ import annotations

import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from mta.compiled import version


class ModuleTests(SynchronousTestCase):
    """The command as a module."""

    def test_as_a_module(self) -> None:
        """`python -m mta` is the same command, and installs no reactor on the way."""
        script = "import sys, mta.cli.main; sys.exit('twisted.internet.reactor' in sys.modules)"
        self.assertEqual(0, subprocess.run([sys.executable, "-c", script], check=False).returncode)
        done = subprocess.run([sys.executable, "-m", "mta", "--version"], capture_output=True, text=True, check=False)
        self.assertEqual((0, f"mta, version {version()}\n"), (done.returncode, done.stdout))
