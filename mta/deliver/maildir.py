"""One message into one Maildir (https://cr.yp.to/proto/maildir.html), so that neither a crash nor a repeat harms it.

Blocking file work, run in a thread by service.py.  Order of durable acts: write tmp/NAME, fsync it, link it to new/, fsync
new/; only then the recipient is delivered.  NAME comes from the delivery's id alone: a repeat after a crash finds its
own leftover in tmp/ and replaces it, or finds the message in new/ or cur/ and leaves it (queue law: never twice where it
can be known).  The name ends in `,S=SIZE` (Maildir++: the size of the file).  Lines end in LF inside, as every reader of
a Maildir on Unix expects; CRLF is turned into LF piece by piece and nothing else is changed.
Failures are OSError; `explain` turns them into the MailError for the queue.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import Final

from mta.durable import sync_directory
from mta.status import MailError, Scope, transient

__all__ = ["Letter", "Maildir", "base_name", "explain", "loops", "trace_lines"]

FOLDERS: Final = ("tmp", "new", "cur")
NO_LINKS: Final = (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS)  # link(2) on file systems that cannot

_CONTROL = re.compile("[\x00-\x1f\x7f]")
_DELIVERED_TO = re.compile(rb"^delivered-to:[ \t]*([^\r\n]*?)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)


def base_name(created: int, delivery: int, hostname: str) -> str:
    """The name of a delivery without its size: the same at every attempt.  created: ms since the epoch."""
    host = hostname.replace("/", "\\057").replace(":", "\\072")
    return f"{created // 1000}.Q{delivery}.{host}"


def trace_lines(sender: str, recipient: str) -> bytes:
    """What final delivery puts on top: Return-Path (RFC 5321 4.4) and Delivered-To (RFC 9228, the loop check)."""
    lines = f"Return-Path: <{_CONTROL.sub(' ', sender)}>\nDelivered-To: {_CONTROL.sub(' ', recipient)}\n"
    return lines.encode("utf-8", "replace")


def loops(head: bytes, recipient: str) -> bool:
    """Was this message delivered to the recipient before, as its headers say?"""
    headers = head.partition(b"\r\n\r\n")[0]
    wanted = recipient.casefold()
    return any(found.decode("utf-8", "replace").casefold() == wanted for found in _DELIVERED_TO.findall(headers))


class Maildir:
    """A Maildir by its path.  Its folders, and the directory itself, are made where they are missing."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def prepare(self) -> None:
        """Make what is missing, durably."""
        for folder in FOLDERS:
            _make_directory(self.path / folder)

    def find(self, base: str) -> bool:
        """Is that delivery here already, new or seen?  Reads both folders: only for deliveries that may be repeats."""
        for folder in ("new", "cur"):
            with os.scandir(self.path / folder) as entries:
                if any(entry.name.startswith(base + ",") for entry in entries):
                    sync_directory(self.path / folder)  # the crash may have come before the first attempt's own
                    (self.path / "tmp" / base).unlink(missing_ok=True)
                    return True
        return False

    def begin(self, base: str) -> Letter:
        """Open tmp/ for a delivery; what an attempt that crashed has left there under this name is removed."""
        temporary = self.path / "tmp" / base
        temporary.unlink(missing_ok=True)
        return Letter(self.path, base, os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


class Letter:
    """A message on its way into a Maildir.  After `store` or `abort` it is over."""

    __slots__ = ("_base", "_cr", "_fd", "_path", "size")

    def __init__(self, path: Path, base: str, fd: int) -> None:
        self._path = path
        self._base = base
        self._fd = fd
        self._cr = b""  # a CR at the end of the last piece: its LF may come with the next
        self.size = 0

    def write(self, data: bytes) -> None:
        """Take a piece, its CRLF turned into LF."""
        data = self._cr + data
        self._cr = b"\r" if data.endswith(b"\r") else b""
        self._write(data[: len(data) - len(self._cr)].replace(b"\r\n", b"\n"))

    def store(self) -> bool:
        """Make it durable and visible.  False: this very delivery was there already."""
        self._write(self._cr)
        os.fsync(self._fd)
        self._close()
        temporary = self._path / "tmp" / self._base
        final = self._path / "new" / f"{self._base},S={self.size}"
        fresh = _publish(temporary, final)
        sync_directory(final.parent)
        temporary.unlink(missing_ok=True)
        return fresh

    def abort(self) -> None:
        """Leave nothing behind, as far as the disk lets us; a rest in tmp/ is removed by the next attempt."""
        try:
            self._close()
            (self._path / "tmp" / self._base).unlink(missing_ok=True)
        except OSError:
            pass

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            written = os.write(self._fd, view)
            self.size += written
            view = view[written:]

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def explain(error: OSError) -> MailError:
    """Every trouble with a mailbox's file system may pass: the mail waits.  The reason is for the log."""
    reason = f"{error.strerror or error} ({error.filename})" if error.filename else str(error.strerror or error)
    if error.errno == errno.ENOSPC:
        return transient("4.3.1", "disk full", code=452, scope=Scope.SITE, reason=reason)
    if error.errno == errno.EDQUOT:
        return transient("4.2.2", "mailbox full", code=452, scope=Scope.RECIPIENT, reason=reason)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return transient("4.2.1", "mailbox is not writable", code=450, scope=Scope.RECIPIENT, reason=reason)
    return transient("4.3.0", "mailbox is not usable", scope=Scope.RECIPIENT, reason=reason)


def _publish(temporary: Path, final: Path) -> bool:
    """Give the file its name in new/ without ever replacing another.  False: it is there."""
    try:
        os.link(temporary, final)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        temporary.rename(final)  # the name is this delivery's own: what it could replace is the same message
    return True


def _make_directory(path: Path) -> None:
    """mkdir -p, each new entry made durable in its parent."""
    if path.is_dir():
        return
    _make_directory(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)
    sync_directory(path.parent)
