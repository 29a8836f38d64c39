"""The secret that outlasts restarts: made once, whole or not at all, and never in the way of a login."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

from twisted.logger import capturedLogs, eventAsText
from twisted.trial.unittest import SynchronousTestCase

from mta.receive.auth.lasting import NAME, LastingSecret


class LastingTests(SynchronousTestCase):
    """One data directory."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.path = self.folder / NAME
        self.made = 0

    def secret(self) -> LastingSecret:
        """As a process that starts has it."""
        return LastingSecret(self.folder, self.random)

    def random(self, size: int) -> bytes:
        """Each time another one."""
        self.made += 1
        return bytes([self.made]) * size

    def test_made_when_wanted(self) -> None:
        """Not before; 32 octets, for the service alone; nothing else is left."""
        secret = self.secret()
        self.assertEqual(list(self.folder.iterdir()), [])
        octets = secret()
        self.assertEqual((len(octets), self.path.read_bytes(), self.path.stat().st_mode & 0o777), (32, octets, 0o600))
        self.assertEqual(list(self.folder.iterdir()), [self.path])
        self.path.unlink()
        self.assertEqual(secret(), octets, "read once")

    def test_after_a_restart(self) -> None:
        """The same, at every process; one that was put there is taken as it is."""
        octets = self.secret()()
        self.assertEqual([self.secret()(), self.secret()()], [octets, octets])
        self.path.write_bytes(b"x" * 40)
        self.assertEqual(self.secret()(), b"x" * 40)

    def test_two_at_once(self) -> None:
        """Who comes second takes the first one's."""
        real, first = os.link, b"f" * 32

        def link(source: Path, target: Path) -> None:
            self.path.write_bytes(first)
            real(source, target)

        with mock.patch("mta.receive.auth.lasting.os.link", link):
            self.assertEqual(self.secret()(), first)
        self.assertEqual(list(self.folder.iterdir()), [self.path])

    def test_cannot_be_kept(self) -> None:
        """No folder, no room, a file that holds none or cannot be read: one of this process, always the same; told once."""
        self.path.write_bytes(b"short")
        self.assert_told("fewer than 32 octets")
        self.assertEqual(self.path.read_bytes(), b"short")
        self.path.unlink()
        with mock.patch("mta.receive.auth.lasting.os.fsync", side_effect=OSError(28, "No space left on device")):
            self.assert_told("No space left on device")
        self.assertEqual(list(self.folder.iterdir()), [])
        self.path.mkdir()
        self.assert_told("Is a directory")
        self.folder = self.folder / "nowhere"
        self.assert_told("No such file")

    def assert_told(self, why: str) -> None:
        """There is a secret, and one line says that it is no lasting one."""
        secret = self.secret()
        with capturedLogs() as events:
            octets = secret()
            self.assertEqual((secret(), len(octets)), (octets, 32))
        [told] = [eventAsText(event) for event in events]
        self.assertIn(why, told)
        self.assertNotIn(octets.hex(), told)
