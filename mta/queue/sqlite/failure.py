"""What an error of the database means: refuse one operation, or stop the process.

A full disk refuses (452 4.3.1) and the service stays up.  A constraint or a value that cannot be stored refuses (451).
Any other error of input or output ends the process: after a failed fsync nobody knows what is on the disk, and asking
again would be answered "yes" from memory (the fsyncgate lesson); the restart reads the disk.
"""

from __future__ import annotations

import errno

import apsw

from mta.status import MailError, transient

__all__ = ["is_fatal", "is_full", "refusal"]

HARMLESS = (apsw.ConstraintError, apsw.MismatchError, apsw.TooBigError, apsw.BusyError)
SYNC_ERRORS = (apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_DIR_FSYNC)


def is_full(error: BaseException, system_error: int = 0) -> bool:
    """No room left, and nothing else is wrong.  system_error: errno of the failed call, where the database has it."""
    if isinstance(error, apsw.FullError):
        return True
    full = system_error in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, apsw.IOError) and full and getattr(error, "extendedresult", 0) not in SYNC_ERRORS


def is_fatal(error: BaseException, system_error: int = 0) -> bool:
    """The file or the disk cannot be trusted, or the program not."""
    if is_full(error, system_error) or isinstance(
        error, apsw.ConstraintError | apsw.MismatchError | apsw.TooBigError | apsw.BusyError
    ):
        return False
    return isinstance(error, apsw.Error | MemoryError) or not isinstance(error, Exception)


def refusal(error: BaseException, system_error: int = 0) -> MailError:
    """What the caller of a refused operation is told."""
    if isinstance(error, MailError):
        return error
    if is_full(error, system_error):
        return transient("4.3.1", "insufficient system storage", code=452, reason=str(error))
    return transient("4.3.0", "cannot store the message now", reason=f"{type(error).__name__}: {error}")
