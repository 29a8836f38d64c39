"""`mta passwd`: what it prints, and what it does to a file."""

from __future__ import annotations

import fcntl
import os
import stat
import threading
from pathlib import Path
from unittest import mock

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from mta.cli.main import main
from mta.cli.passwd import _put
from mta.smtp.secret import SCHEMES, secret_in

QUICK = "scram-sha-256"


class PasswdTests(SynchronousTestCase):
    """The command."""

    def run_it(self, *arguments: str, said: str = "geheim:1\n") -> Result:
        """As somebody types it, the password by a pipe."""
        return CliRunner().invoke(main, ["passwd", *arguments], input=said)

    def test_printed(self) -> None:
        """One line, for each scheme one that the server reads; argon2 where none is named."""
        for scheme in SCHEMES:
            result = self.run_it("jörg", "-s", scheme)
            self.assertEqual((result.exit_code, result.output.count("\n")), (0, 1), result.output)
            user, _, secret = result.output.rstrip("\n").partition(":")
            self.assertEqual((user, secret_in(secret).matches(b"geheim:1")), ("jörg", True))
        self.assertTrue(self.run_it("tim").output.startswith("tim:$argon2id$"))

    def test_asked_twice(self) -> None:
        """At a terminal the password is asked for, again until both are the same, and never shown."""
        with mock.patch("mta.cli.passwd._is_asked", return_value=True):
            result = self.run_it("tim", "-s", "plain", said="one\ntwo\nxyzzy\nxyzzy\n")
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertEqual(result.stdout, "tim:{PLAIN}xyzzy\n")
        self.assertNotIn("xyzzy", result.stderr)

    def test_file(self) -> None:
        """A new user comes at the end, a known one keeps his place; comments and the others stay; mode 600; nothing else is left."""
        folder = Path(self.mktemp())
        folder.mkdir()
        file = folder / "users"
        self.assertEqual(self.run_it("ann", "-s", QUICK, "--file", str(file)).exit_code, 0)
        self.assertEqual(stat.S_IMODE(file.stat().st_mode), 0o600)
        ann = file.read_text()
        for before, users in (
            (f"# staff\n\n{ann}bo:x\n", ["# staff", "", "ann", "bo", ""]),
            ("bo:x", ["bo", "ann", ""]),
            ("\n", ["", "ann", ""]),
        ):
            file.write_text(before)
            file.chmod(0o644)
            result = self.run_it("ann", "-s", QUICK, "-f", str(file))
            self.assertEqual((result.exit_code, result.output), (0, ""))
            lines = file.read_text().split("\n")
            self.assertEqual([line.partition(":")[0] for line in lines], users)
            [line] = [line for line in lines if line.startswith("ann:")]
            self.assertTrue(secret_in(line.partition(":")[2]).matches(b"geheim:1"))
            self.assertNotIn(line, before)
            self.assertEqual((stat.S_IMODE(file.stat().st_mode), list(folder.iterdir())), (0o600, [file]))

    def test_two_at_once(self) -> None:
        """Who comes while another one writes waits for him, and undoes nothing."""
        folder = Path(self.mktemp())
        folder.mkdir()
        file = folder / "users"
        file.write_text("bo:x\n")
        read, gate = mock.Mock(wraps=Path.read_text), threading.Event()
        other = threading.Thread(target=lambda: (gate.set(), _put(file, "ann", "ann:y")))
        handle = os.open(folder, os.O_RDONLY)
        with mock.patch.object(Path, "read_text", lambda *arguments: read(*arguments)):
            fcntl.flock(handle, fcntl.LOCK_EX)
            other.start()
            gate.wait(5)
            other.join(0.1)
            self.assertEqual((other.is_alive(), read.call_count), (True, 0))
            file.write_text("bo:x\ncy:z\n")
            os.close(handle)
            other.join(5)
        self.assertEqual(file.read_text(), "bo:x\ncy:z\nann:y\n")

    def test_mistakes(self) -> None:
        """A name or a password that cannot be one, a file that cannot be written: status 1, one line, and nothing is changed."""
        folder = Path(self.mktemp())
        folder.mkdir()
        file = folder / "users"
        file.write_bytes(b"\xff\n")
        for arguments, said in (
            (("a:b",), "p\n"), (("#a",), "p\n"), (("a\nb",), "p\n"), (("",), "p\n"), (("ann",), "\n"), (("ann",), ""), (("ann",), "a\0b\n"),
            (("ann", "-s", "bcrypt"), "x" * 73 + "\n"), (("ann", "-s", "plain", "-f", str(file)), "p\n"),
            (("ann", "-s", "plain", "-f", str(folder / "no/users")), "p\n"),
        ):  # fmt: skip
            result = self.run_it(*arguments, said=said)
            self.assertEqual((result.exit_code, result.stdout), (1, ""), arguments)
            self.assertIn("Error", result.stderr)
        self.assertEqual((file.read_bytes(), list(folder.iterdir())), (b"\xff\n", [file]))
        self.assertEqual(self.run_it("ann", "-s", "md5").exit_code, 2)

    def test_full_disk(self) -> None:
        """What cannot be written leaves the old file, and nothing beside it."""
        folder = Path(self.mktemp())
        folder.mkdir()
        file = folder / "users"
        file.write_text("bo:x\n")
        with mock.patch("mta.cli.passwd.os.fsync", side_effect=OSError(28, "No space left on device")):
            result = self.run_it("ann", "-s", QUICK, "-f", str(file))
        self.assertEqual((result.exit_code, file.read_text(), list(folder.iterdir())), (1, "bo:x\n", [file]))
        self.assertIn("space left on device", result.stderr)
