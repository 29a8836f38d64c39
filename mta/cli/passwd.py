"""`mta passwd`: the line of a user for `[auth] passwords`.

The password is asked for, twice, or is the first line of standard input where that is no terminal.  The line is printed, or
put into a file: the user's old line is replaced, everything else stays as it is, and the new file takes the old one's place
in one step, with mode 600 and the old one's owner.  The running server takes it up by itself.
"""

from __future__ import annotations

import fcntl
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import rich_click as click

from mta.smtp.grammar import CONTROL
from mta.smtp.secret import SCHEMES, hashed

__all__ = ["passwd"]


@click.command("passwd")
@click.argument("user")
@click.option("-s", "--scheme", type=click.Choice(SCHEMES), default=SCHEMES[0], show_default=True, help="How it is stored.")
@click.option("-f", "--file", type=click.Path(path_type=Path, dir_okay=False), help="Put the line into this file.")
def passwd(user: str, scheme: str, file: Path | None) -> None:
    """Ask for the password of USER, and print the line for [auth] passwords."""
    if not user or ":" in user or user.startswith("#") or CONTROL.search(user):
        raise click.ClickException("a user's name has no colon and no control character, and does not begin with '#'")
    try:
        line = f"{user}:{hashed(_password(), scheme, os.urandom)}"
        if file is None:
            click.echo(line)
        else:
            _put(file, user, line)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{error.filename or file}: {error.strerror}") from error


def _password() -> str:
    """ValueError for one that could never be given."""
    if _is_asked():
        password: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if not password or "\0" in password or "\n" in password or "\r" in password:
        raise ValueError("a password is wanted, on one line")
    return password


def _is_asked() -> bool:
    """Is somebody there?"""
    return sys.stdin.isatty()


def _put(file: Path, user: str, line: str) -> None:
    """One at a time, or one would undo what another does: the folder is locked, for the file becomes another one."""
    folder = os.open(file.resolve().parent, os.O_RDONLY)
    try:
        with suppress(OSError):  # there are file systems without such locks (NFS)
            fcntl.flock(folder, fcntl.LOCK_EX)
        _put_alone(file, user, line)
    finally:
        os.close(folder)


def _put_alone(file: Path, user: str, line: str) -> None:
    try:
        old, owner = file.read_text("utf-8"), file.stat()
    except FileNotFoundError:
        old, owner = "", None
    except UnicodeDecodeError:
        raise ValueError(f"{file}: not UTF-8") from None
    lines = old.split("\n") if old else [""]
    places = [number for number, text in enumerate(lines) if text.partition(":")[0] == user]
    if places:
        lines[places[0]] = line
    else:
        lines.insert(len(lines) - (not lines[-1]), line)
    _replace(file, "\n".join(lines if not lines[-1] else [*lines, ""]), owner)


def _replace(file: Path, text: str, owner: os.stat_result | None) -> None:
    target = file.resolve()  # a link stays one
    handle, fresh = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)  # mode 600
    try:
        with open(handle, "w", encoding="utf-8", newline="\n") as new:
            new.write(text)
            new.flush()
            if owner is not None and (owner.st_uid, owner.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(new.fileno(), owner.st_uid, owner.st_gid)
            os.fsync(new.fileno())
        Path(fresh).replace(target)
    except BaseException:
        Path(fresh).unlink(missing_ok=True)
        raise
