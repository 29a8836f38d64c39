"""A secret that outlasts restarts: `auth.secret` in the data directory, made of random octets when it is first wanted.

What is made up for users who do not exist (stand_in.py) rests on it, and must be the same tomorrow: a salt that changes when
the server restarts is nobody's.  All processes of one data directory have the same one: the file is written whole beside its
name and linked to it, and whoever comes second takes the first one's.  An administrator may put the same octets on several
servers that share their users.  Where it cannot be kept a secret of this process serves, which is logged once.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from twisted.logger import Logger

from mta.durable import sync_directory

__all__ = ["LastingSecret"]

NAME: Final = "auth.secret"
_SIZE: Final = 32  # octets; a file with fewer is none

_bugs = Logger()


class LastingSecret:
    """Called, it gives the secret.  Nothing is read or written before.  random: that many unforeseeable octets."""

    __slots__ = ("_octets", "_path", "_random")

    def __init__(self, data_dir: Path, random: Callable[[int], bytes]) -> None:
        self._path = data_dir / NAME
        self._random = random
        self._octets = b""

    def __call__(self) -> bytes:
        if not self._octets:
            try:
                self._octets = self._read() or self._write()
            except (OSError, ValueError) as error:
                reason = (isinstance(error, OSError) and error.strerror) or str(error)
                _bugs.error(
                    "unknown users will be told from others after a restart: {path}: {reason}", path=self._path, reason=reason
                )
                self._octets = self._random(_SIZE)
        return self._octets

    def _read(self) -> bytes:
        """Nothing where there is no file.  OSError, or ValueError for a file that holds no secret."""
        try:
            octets = self._path.read_bytes()
        except FileNotFoundError:
            return b""
        if len(octets) < _SIZE:
            raise ValueError(f"fewer than {_SIZE} octets are no secret; without the file another one is made")
        return octets

    def _write(self) -> bytes:
        """Durable under its name, or not there at all: it is never seen half written."""
        temporary = self._path.with_name(f"{NAME}.{self._random(8).hex()}")
        octets = self._random(_SIZE)
        try:
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(octets)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(temporary, self._path)
            except FileExistsError:
                return self._read()
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()
        sync_directory(self._path.parent)
        return octets
