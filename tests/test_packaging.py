"""What is in the wheel, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parent.parent


class WheelTests(SynchronousTestCase):
    """Built as pip builds it."""

    def test_contents(self) -> None:
        """The package, its types, the plugin without any __init__ beside it; no cache of plugins, no tests."""
        folder = Path(self.mktemp()).absolute()
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        (wheel,) = folder.glob("*.whl")
        names = zipfile.ZipFile(wheel).namelist()
        self.assertIn("mta/py.typed", names)
        self.assertIn("mta/service.py", names)
        self.assertEqual(["twisted/plugins/mta_plugin.py"], [name for name in names if name.startswith("twisted/")])
        self.assertEqual([], [name for name in names if name.endswith((".cache", ".pyc")) or name.startswith("tests/")])
        metadata = [name for name in names if name.endswith("entry_points.txt")]
        self.assertEqual(1, len(metadata))
