"""Files and names that outlast a power cut: the file or folder itself is synced, whatever comes of it."""

from __future__ import annotations

import os
from pathlib import Path
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from mta.durable import sync_directory, sync_file


class SyncTests(SynchronousTestCase):
    """`sync_directory` and `sync_file`."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def test_the_folder(self) -> None:
        """Its own descriptor is synced, and closed behind it."""
        synced: list[tuple[int, int]] = []
        descriptors: list[int] = []

        def fsync(descriptor: int) -> None:
            descriptors.append(descriptor)
            found = os.fstat(descriptor)
            synced.append((found.st_dev, found.st_ino))

        with patch("os.fsync", fsync):
            sync_directory(self.folder)
        wanted = self.folder.stat()
        self.assertEqual([(wanted.st_dev, wanted.st_ino)], synced)
        self.assertRaises(OSError, os.fstat, descriptors[0])

    def test_a_file(self) -> None:
        """It is synced by itself, and closed behind it."""
        (path := self.folder / "file").touch()
        synced: list[tuple[int, int]] = []
        with patch("os.fsync", lambda descriptor: synced.append((descriptor, os.fstat(descriptor).st_ino))):
            sync_file(path)
        self.assertEqual([path.stat().st_ino], [inode for _, inode in synced])
        self.assertRaises(OSError, os.fstat, synced[0][0])

    def test_trouble(self) -> None:
        """What the disk says is told, and nothing stays open; what is no folder is not synced."""
        descriptors: list[int] = []

        def fsync(descriptor: int) -> None:
            descriptors.append(descriptor)
            raise OSError(5, "Input/output error")

        with patch("os.fsync", fsync):
            self.assertRaises(OSError, sync_directory, self.folder)
        self.assertRaises(OSError, os.fstat, descriptors[0])
        (self.folder / "file").touch()
        self.assertRaises(NotADirectoryError, sync_directory, self.folder / "file")
