"""Files in a Maildir: what is durable when, and what a repeat finds."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.deliver import maildir as module
from mta.deliver.maildir import Letter, Maildir, base_name, explain, loops, trace_lines


def files(path: Path) -> list[str]:
    return sorted(str(entry.relative_to(path)) for entry in path.rglob("*") if entry.is_file())


class MaildirTests(SynchronousTestCase):
    """One letter at a time."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()).absolute()
        self.maildir = Maildir(str(self.path))
        self.maildir.prepare()

    def test_file_in_new_with_its_size(self) -> None:
        """tmp/ is empty, new/ has one private file whose name tells its size (Maildir++)."""
        letter = self.maildir.begin("1.Q2.host")
        letter.write(b"a: b\r\n\r\nhello\r\n")
        self.assertTrue(letter.store())
        self.assertEqual(["new/1.Q2.host,S=12"], files(self.path))
        final = self.path / "new/1.Q2.host,S=12"
        self.assertEqual(b"a: b\n\nhello\n", final.read_bytes())
        self.assertEqual(0o600, stat.S_IMODE(final.stat().st_mode))

    def test_order_of_durable_acts(self) -> None:
        """fsync of the file, then its name in new/, then fsync of new/; only then the name in tmp/ goes."""
        acts: list[tuple[str, str]] = []

        def spied(name: str, path_of) -> None:
            real = getattr(os, name)

            def act(*args, **more):
                acts.append((name, path_of(*args)))
                return real(*args, **more)

            self.patch(module.os, name, act)

        def name_of(fd: int) -> str:
            return os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), self.path)

        spied("fsync", name_of)
        spied("link", lambda source, target: os.path.relpath(target, self.path))
        real_unlink = Path.unlink
        self.patch(Path, "unlink", lambda path, **more: (acts.append(("unlink", path.name)), real_unlink(path, **more))[1])
        letter = self.maildir.begin("1.Q2.host")
        letter.write(b"x\r\n")
        letter.store()
        expected = [
            ("unlink", "1.Q2.host"),
            ("fsync", "tmp/1.Q2.host"),
            ("link", "new/1.Q2.host,S=2"),
            ("fsync", "new"),
            ("unlink", "1.Q2.host"),
        ]
        self.assertEqual(expected, acts)

    def test_a_new_maildir_is_durable_itself(self) -> None:
        """Each directory that is made is synced into its parent."""
        synced: list[str] = []
        real = os.fsync
        self.patch(module.os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), real(fd))[1])
        target = self.path / "deep" / "user"
        Maildir(str(target)).prepare()
        self.assertEqual([str(p) for p in (self.path, self.path / "deep", target, target, target)], synced)
        self.assertEqual(0o700, stat.S_IMODE(target.stat().st_mode))

    def test_crash_before_the_link(self) -> None:
        """What is left in tmp/ is replaced by the repeat, not added to."""
        self.maildir.begin("1.Q2.host").write(b"half")
        letter = self.maildir.begin("1.Q2.host")
        letter.write(b"whole\r\n")
        letter.store()
        self.assertEqual(["new/1.Q2.host,S=6"], files(self.path))
        self.assertEqual(b"whole\n", (self.path / "new/1.Q2.host,S=6").read_bytes())

    def test_crash_between_link_and_settle(self) -> None:
        """A repeat that does not look finds the name taken: no second copy, nothing in tmp/."""
        for fresh in (True, False, False):
            letter = self.maildir.begin("1.Q2.host")
            letter.write(b"whole\r\n")
            self.assertEqual(fresh, letter.store())
        self.assertEqual(["new/1.Q2.host,S=6"], files(self.path))

    def test_find_sees_what_was_read_already(self) -> None:
        """A reader moves new/NAME to cur/NAME:2,FLAGS; it is still this delivery.  A neighbour's name is not."""
        letter = self.maildir.begin("1.Q2.host")
        letter.write(b"whole\r\n")
        letter.store()
        self.assertTrue(self.maildir.find("1.Q2.host"))
        (self.path / "new/1.Q2.host,S=6").rename(self.path / "cur/1.Q2.host,S=6:2,S")
        self.assertTrue(self.maildir.find("1.Q2.host"))
        self.assertFalse(self.maildir.find("1.Q2.hos"))
        self.assertFalse(self.maildir.find("1.Q3.host"))

    def test_find_tidies_and_syncs(self) -> None:
        """The crash may have come between link and fsync: the repeat does what was left undone."""
        os.link(self.maildir.begin("1.Q2.host")._path / "tmp/1.Q2.host", self.path / "new/1.Q2.host,S=0")
        synced: list[str] = []
        real = os.fsync
        self.patch(module.os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), real(fd))[1])
        self.assertTrue(self.maildir.find("1.Q2.host"))
        self.assertEqual([str(self.path / "new")], synced)
        self.assertEqual(["new/1.Q2.host,S=0"], files(self.path))

    def test_file_system_without_links(self) -> None:
        """Where link(2) is refused the file is renamed."""

        def refused(*args) -> None:
            raise OSError(errno.EPERM, "no links here")

        self.patch(module.os, "link", refused)
        letter = self.maildir.begin("1.Q2.host")
        letter.write(b"x\r\n")
        self.assertTrue(letter.store())
        self.assertEqual(["new/1.Q2.host,S=2"], files(self.path))

    def test_abort_leaves_nothing(self) -> None:
        """Twice is harmless."""
        letter = self.maildir.begin("1.Q2.host")
        letter.write(b"x\r\n")
        letter.abort()
        letter.abort()
        self.assertEqual([], files(self.path))

    def test_short_writes(self) -> None:
        """write(2) may take less than it was given (a disk that is nearly full): the rest follows."""
        real = os.write
        self.patch(module.os, "write", lambda fd, data: real(fd, bytes(data)[:3]))
        letter = self.maildir.begin("1.Q2.host")
        letter.write(b"0123456789\r\n")
        letter.store()
        self.assertEqual(b"0123456789\n", (self.path / "new/1.Q2.host,S=11").read_bytes())

    @settings(deadline=None, max_examples=100)
    @given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b"\r\n.\r\n", b""]), max_size=12))
    def test_line_ends_in_any_pieces(self, pieces) -> None:
        """CRLF becomes LF wherever the pieces are cut; no other byte changes."""
        letter = self.maildir.begin("1.Q2.host")
        for piece in pieces:
            letter.write(piece)
        letter.store()
        (found,) = (self.path / "new").iterdir()
        data = found.read_bytes()
        found.unlink()
        self.assertEqual(b"".join(pieces).replace(b"\r\n", b"\n"), data)
        self.assertEqual(f"1.Q2.host,S={len(data)}", found.name)


class NamesTests(SynchronousTestCase):
    """Names, trace lines, loops, errors."""

    def test_the_same_delivery_has_the_same_name(self) -> None:
        """And another has another; host names cannot leave the folder or end the name."""
        self.assertEqual("1790000000.Q65.mx", base_name(1_790_000_000_123, 65, "mx"))
        self.assertNotEqual(base_name(1000, 65, "mx"), base_name(1000, 66, "mx"))
        self.assertEqual("1.Q1.a\\057b\\072c", base_name(1000, 1, "a/b:c"))

    def test_trace_lines(self) -> None:
        """Return-Path keeps its brackets when it is null; nothing in an address starts a line."""
        self.assertEqual(b"Return-Path: <>\nDelivered-To: bob@x\n", trace_lines("", "bob@x"))
        self.assertEqual("Return-Path: <ü@x>\nDelivered-To: b  c\n".encode(), trace_lines("ü@x", "b\r\nc"))

    def test_loops(self) -> None:
        """Delivered-To of this very address, in the headers and not in the body, in any case."""
        self.assertTrue(loops(b"A: b\r\nDelivered-To:  Bob@Example.NET \r\n\r\n", "bob@example.net"))
        self.assertTrue(loops("delivered-to: ÜX@x\r\n\r\n".encode(), "üx@x"))
        self.assertFalse(loops(b"Delivered-To: eve@example.net\r\n\r\n", "bob@example.net"))
        self.assertFalse(loops(b"A: b\r\n\r\nDelivered-To: bob@example.net\r\n", "bob@example.net"))
        self.assertFalse(loops(b"X-Delivered-To: bob@example.net\r\n\r\n", "bob@example.net"))

    def test_every_disk_trouble_is_transient(self) -> None:
        """Mail is never bounced because of our own disk; the status says which trouble it was."""
        for number, enhanced in (
            (errno.ENOSPC, "4.3.1"),
            (errno.EDQUOT, "4.2.2"),
            (errno.EACCES, "4.2.1"),
            (errno.EROFS, "4.2.1"),
            (errno.EIO, "4.3.0"),
            (errno.ENOTDIR, "4.3.0"),
        ):
            error = explain(OSError(number, os.strerror(number), "/some/file"))
            self.assertEqual((enhanced, 4), (error.reply.enhanced, error.reply.code // 100))
            self.assertIn("/some/file", error.reason)
            self.assertNotIn("/some/file", str(error.reply))

    def test_a_letter_closes_its_file_when_the_disk_fails(self) -> None:
        """abort after a failed fsync closes the descriptor and removes the file."""
        path = Path(self.mktemp()).absolute()
        maildir = Maildir(str(path))
        maildir.prepare()
        letter: Letter = maildir.begin("1.Q2.host")
        before = set(os.listdir("/proc/self/fd"))

        def broken(fd: int) -> None:
            raise OSError(errno.EIO, "broken disk")

        self.patch(module.os, "fsync", broken)
        self.assertRaises(OSError, letter.store)
        letter.abort()
        self.assertEqual(len(before) - 1, len(os.listdir("/proc/self/fd")))
        self.assertEqual([], files(path))
