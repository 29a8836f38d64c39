"""`[auth] passwords`: lines "user:secret" (secret.py), as a checker for a `twisted.cred` portal.

In UTF-8; the first colon divides; empty lines and those that begin with "#" are nothing.  The file is read at the start and
whenever it has changed; a change that cannot be read leaves things as they were, and is logged.  Who asks must not learn
who exists: an unknown user is judged by the secret of somebody else, and SCRAM shows him a salt that was made up; which of
them is stand_in.py's to say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernameHashedPassword, IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from zope.interface import implementer

from mta.interfaces import IProvenLogin, IScramVerifiers
from mta.receive.auth.remembered import Remembered
from mta.receive.auth.stand_in import StandIns
from mta.smtp.credentials import Verifier
from mta.smtp.scram import verifier_of
from mta.smtp.secret import Secret, secret_in
from mta.status import MailError, misconfigured

__all__ = ["PasswordFile", "users_in"]

_bugs = Logger()


@attrs.frozen(slots=True)
class _Users:
    """What the file says.  stamp: of the file."""

    secrets: Mapping[bytes, Secret]
    stamp: tuple[int, ...]
    stand_ins: StandIns = attrs.field(repr=False)


@implementer(ICredentialsChecker, IScramVerifiers)
class PasswordFile:
    """See the module.

    run: does a thing that takes long elsewhere, and gives a Deferred (Workers.run).  now: seconds, any clock.
    key: secret octets.  lifetime: seconds that a right password is remembered.  lasting: gives secret octets, after a restart
    the same ones; without it what unknown users are shown is another thing then.
    """

    credentialInterfaces = (IUsernamePassword, IUsernameHashedPassword, IProvenLogin)

    def __init__(
        self,
        path: Path,
        run: Callable[[Callable[[], Any]], Deferred[Any]],
        now: Callable[[], float],
        key: bytes,
        lifetime: float,
        lasting: Callable[[], bytes] | None = None,
    ) -> None:
        """MailError with file and line, never with what the line says."""
        self._path = path
        self._run = run
        self._now = now
        self._lasting = lasting or (lambda: key)
        self._remembered = Remembered(key, lifetime)
        self._users = self._read()
        self._refused: tuple[int, ...] | None = None  # the stamp of a change in which something is wrong
        self._told: tuple[object, ...] = ()  # the last change that was not taken up, and why

    # ---- what a portal asks

    def requestAvatarId(self, credentials: Any) -> Deferred[bytes | tuple[()]]:
        """The user's name; UnauthorizedLogin."""
        self.look()
        if IProvenLogin.providedBy(credentials):
            return succeed(credentials.username)
        user: bytes = credentials.username
        stand_in = self._users.stand_ins.secret(user)  # for those who exist too: the same work
        secret = self._users.secrets.get(user)
        judge = secret or stand_in
        if IUsernameHashedPassword.providedBy(credentials):
            plain = judge.plain or b"nobody's"
            proof: Any = credentials
            right = proof.checkPassword(plain) and judge.plain is not None
            return self._judged(right, user, secret)
        password: bytes = credentials.password
        if not judge.is_slow:
            return self._judged(judge.matches(password), user, secret)
        if self._is_right(secret, user, password):
            return succeed(user)
        answer = self._run(lambda: self._is_right(secret, user, password) or judge.matches(password))
        return answer.addCallback(self._taken, user, password, secret)

    def _is_right(self, secret: Secret | None, user: bytes, password: bytes) -> bool:
        """Known without work.  Asked again in the thread: of many who come at once with the same one the first does the work."""
        return secret is not None and self._remembered.knows(user, password, self._now())

    def _judged(self, right: bool, user: bytes, secret: Secret | None) -> Deferred[bytes | tuple[()]]:
        return succeed(user) if right and secret is not None else fail(UnauthorizedLogin())

    def _taken(self, right: bool, user: bytes, password: bytes, secret: Secret | None) -> bytes:
        if not right or secret is None:
            raise UnauthorizedLogin
        if self._users.secrets.get(user) is secret:  # else it was changed meanwhile
            self._remembered.put(user, password, self._now())
        return user

    # ---- what SCRAM asks

    def verifier(self, username: bytes) -> Deferred[Verifier]:
        """See IScramVerifiers: there is one for everybody.  A plain password gets its own each time, at the usual cost."""
        self.look()
        stand_ins = self._users.stand_ins
        stand_in = stand_ins.secret(username)
        secret = self._users.secrets.get(username)
        shape = stand_ins.shape(username, secret or stand_in)
        made_up = stand_ins.verifier(username, shape)
        if shape.is_made:
            plain = None if secret is None else secret.plain
            answer = self._run(lambda: verifier_of((plain or b"nobody's").decode(), made_up.salt, shape.iterations))
            return answer if plain is not None else answer.addCallback(lambda _: made_up)
        return succeed(made_up if secret is None or secret.verifier is None else secret.verifier)

    # ---- the file

    def look(self) -> None:
        """Take up what has changed in the file."""
        stamp = _stamp(self._path)
        if stamp in (self._users.stamp, self._refused):
            return
        try:
            self._users = self._read()
        except MailError as error:
            # What the system refuses it may give next time, with the same stamp: too many files were open.
            self._refused = None if isinstance(error.__cause__, OSError) else stamp
            told, self._told = self._told, (stamp, error.reason)
            if told != self._told:
                _bugs.error("the passwords stay as they were: {reason}", reason=error.reason)
        else:
            self._refused, self._told = None, ()
            self._remembered.forget()

    def _read(self) -> _Users:
        stamp = _stamp(self._path)  # before the reading: a change amid it is seen next time
        try:
            text = self._path.read_text("utf-8")
        except OSError as error:
            raise _mistake(f"{self._path}: {error.strerror}") from error
        except UnicodeDecodeError:
            raise _mistake(f"{self._path}: not UTF-8") from None
        try:
            secrets = users_in(text)
        except ValueError as error:
            raise _mistake(f"{self._path}, {error}") from None
        return _Users(secrets, stamp, StandIns(secrets.values(), self._lasting))


def users_in(text: str) -> dict[bytes, Secret]:
    """The secrets by user.  ValueError with the number of the line, never with what it says."""
    secrets: dict[bytes, Secret] = {}
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r")
        if not line or line.startswith("#"):
            continue
        user, _, secret = line.partition(":")
        if not user or not secret:
            raise ValueError(f"line {number}: user:password is wanted")
        if user.encode() in secrets:
            raise ValueError(f"line {number}: this user is there already")
        try:
            secrets[user.encode()] = secret_in(secret)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    return secrets


def _stamp(path: Path) -> tuple[int, ...]:
    """Another one where the file, or who may read it, is another (so ctime: mtime can be put back); () where there is none."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


def _mistake(reason: str) -> MailError:
    return misconfigured(f"[auth] passwords: {reason}")
