"""The lock of a queue file."""

from __future__ import annotations

import os
from pathlib import Path
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from mta.queue.sqlite.lock import is_owned, own, owned
from mta.status import MailError


class LockTests(SynchronousTestCase):
    """One owner at a time."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.path, self.spool = self.folder / "queue" / "0.db", self.folder / "spool"

    def test_q30_one_at_a_time(self) -> None:
        """The second is refused and says why; asking is no owning; the end of the first lets the next one in."""
        self.assertFalse(is_owned(self.path))
        with owned(self.path, self.spool):
            self.assertTrue(is_owned(self.path))
            self.assertIn("in use by another process", str(self.assertRaises(MailError, own, self.path, self.spool)))
        self.assertFalse(is_owned(self.path))
        os.close(own(self.path, self.spool))

    def test_folders_of_others(self) -> None:
        """Made by another worker between our look and our making: they are as good as ours."""
        with owned(self.path, self.spool), patch.object(Path, "is_dir", side_effect=[False, True] * 2):
            os.close(own(self.path.with_name("1.db"), self.spool))

    def test_folders(self) -> None:
        """Are made, for us only; a data directory that cannot be written is a MailError; descriptors are closed."""
        before = len(os.listdir("/proc/self/fd"))
        with owned(self.path, self.spool):
            self.assertEqual([0o700] * 2, [folder.stat().st_mode & 0o777 for folder in (self.path.parent, self.spool)])
        blocked = self.folder / "file"
        blocked.touch()
        with self.assertRaises(MailError), owned(blocked / "queue" / "0.db", blocked / "spool"):
            self.fail("owned")
        self.assertEqual(before, len(os.listdir("/proc/self/fd")))
