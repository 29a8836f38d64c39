"""Who may log in: a `twisted.cred` portal, the embedder's or one made from `[auth] passwords`.

RFC 4954 (AUTH and its replies), RFC 4616 (PLAIN), RFC 2195 (CRAM-MD5).  Wrong credentials are 535, and nobody learns
whether it was the name or the password: both take the same work and get the same text.  A portal that fails, or does
not answer in time, is 454: never an open door.  A password is in no log line and in no reply.  The avatar asked for is
`mta.interfaces.IAccount`; the checkers are given IUsernamePassword or IUsernameHashedPassword, names and passwords as
UTF-8 octets, as the checkers that come with Twisted want them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from traceback import format_tb
from typing import Any, Final

import attrs
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernameHashedPassword, IUsernamePassword
from twisted.cred.error import LoginFailed, UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import CancelledError, Deferred, fail, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import Interface, implementer

from mta.config.settings import Auth
from mta.interfaces import IAccount
from mta.smtp.sasl import CramCredentials, Credentials, PlainCredentials
from mta.status import MailError, Reply, Scope, transient

__all__ = ["Account", "Accounts", "Login", "PasswordFile", "mechanism_of"]

INVALID: Final = Reply(535, "5.7.8", "Authentication credentials invalid")
FAILED: Final = Reply(454, "4.7.0", "Temporary authentication failure")

_bugs = Logger()


@attrs.frozen(slots=True)
class Login:
    """An account, taken."""

    name: str
    _logout: Callable[[], object]

    def leave(self) -> None:
        """The client has gone, or must prove anew who it is."""
        try:
            self._logout()
        except Exception:
            _bugs.failure("logout of {name} failed", name=self.name)


@attrs.frozen(slots=True, eq=False)
class Accounts:
    """The door behind which the portal stands."""

    _portal: Portal

    @classmethod
    def of(cls, settings: Auth, portal: Portal | None) -> Accounts | None:
        """Of an embedder's portal, else of the password file, None where there is neither.  MailError: the file is wrong."""
        if portal is None and settings.passwords is not None:
            portal = Portal(_Realm(), [PasswordFile.read(settings.passwords)])
        return None if portal is None else cls(portal)

    def login(self, given: Credentials) -> Deferred[Login]:
        """Fires with the login, errbacks with a MailError: 535 (the credentials are wrong) or 454 (we are)."""
        if isinstance(given, PlainCredentials) and given.authzid not in ("", given.user):
            return fail(MailError(INVALID, "to act for another account is not allowed"))
        known = _Password(given) if isinstance(given, PlainCredentials) else _Proof(given)
        answer: Deferred[Any] = maybeDeferred(self._portal.login, known, None, IAccount)
        return answer.addCallback(_taken).addErrback(_refused)


def mechanism_of(given: Credentials) -> str:
    """Its name, for the log."""
    return given.mechanism if isinstance(given, PlainCredentials) else "CRAM-MD5"


def _taken(answer: tuple[Interface, IAccount, Callable[[], object]]) -> Login:
    _, account, logout = answer
    name = account.name
    if not isinstance(name, str) or not name:
        raise TypeError(f"the name of an account is {type(name).__name__}, or empty")
    return Login(name, logout)


def _refused(failure: Failure) -> Login:
    """What a portal says in its exceptions may contain anything; only their names are repeated."""
    error = failure.value
    if isinstance(error, UnauthorizedLogin):
        raise MailError(INVALID, "wrong user or password")
    if isinstance(error, CancelledError):
        raise MailError(FAILED, "no answer in time")
    if not isinstance(error, LoginFailed):  # those are how a portal says no: denied by the realm, no checker for such a proof
        # Without the words of the exception: they may be the statement with the password.
        where = "".join(format_tb(failure.getTracebackObject()))  # type: ignore[no-untyped-call]
        _bugs.error("the portal failed: {error}\n{where}", error=type(error).__name__, where=where)
    raise MailError(FAILED, f"the portal failed: {type(error).__name__}")


# ---- credentials, as twisted.cred knows them


@implementer(IUsernamePassword)
class _Password:
    """PLAIN and LOGIN.  The comparison takes the same time wherever the difference is, and however long the password."""

    __slots__ = ("password", "username")

    def __init__(self, given: PlainCredentials) -> None:
        self.username = given.user.encode()
        self.password = given.password.encode()

    def checkPassword(self, password: bytes) -> bool:
        return compare_digest(sha256(self.password).digest(), sha256(password).digest())


@implementer(IUsernameHashedPassword)
class _Proof:
    """CRAM-MD5."""

    __slots__ = ("_given", "username")

    def __init__(self, given: CramCredentials) -> None:
        self.username = given.user.encode()
        self._given = given

    def checkPassword(self, password: bytes) -> bool:
        return self._given.is_proof_of(password.decode())


# ---- [auth] passwords


@implementer(IAccount)
@attrs.frozen(slots=True)
class Account:
    """Nothing but a name."""

    name: str


@implementer(ICredentialsChecker)
class PasswordFile:
    """Lines "user:password", in UTF-8; the first colon divides.  Empty lines and those that begin with "#" are nothing."""

    credentialInterfaces = (IUsernamePassword, IUsernameHashedPassword)

    def __init__(self, passwords: Mapping[bytes, bytes]) -> None:
        self._passwords = passwords

    @classmethod
    def read(cls, path: Path) -> PasswordFile:
        """Raises MailError with file and line, never with what the line says."""
        passwords: dict[bytes, bytes] = {}
        try:
            text = path.read_text("utf-8")
        except OSError as error:
            raise _mistake(f"{path}: {error.strerror}") from error
        except UnicodeDecodeError:
            raise _mistake(f"{path}: not UTF-8") from None
        for number, line in enumerate(text.split("\n"), 1):
            line = line.removesuffix("\r")
            if not line or line.startswith("#"):
                continue
            user, _, password = line.partition(":")
            if not user or not password:
                raise _mistake(f"{path}, line {number}: user:password is wanted")
            if user.encode() in passwords:
                raise _mistake(f"{path}, line {number}: this user is there already")
            passwords[user.encode()] = password.encode()
        return cls(passwords)

    def requestAvatarId(self, credentials: Any) -> Deferred[bytes | tuple[()]]:
        """The user's name; UnauthorizedLogin.  An unknown user costs the same work as a wrong password."""
        password = self._passwords.get(credentials.username)
        if credentials.checkPassword(b"nobody's" if password is None else password) and password is not None:
            return succeed(credentials.username)
        return fail(UnauthorizedLogin())


@implementer(IRealm)
class _Realm:
    """An account for every user of the file."""

    def requestAvatar(self, avatarId: bytes | tuple[()], mind: object, *interfaces: type[Interface]) -> Any:
        return IAccount, Account(bytes(avatarId).decode()), lambda: None


def _mistake(reason: str) -> MailError:
    return transient("4.3.5", "Local configuration error", scope=Scope.SITE, reason=f"[auth] passwords: {reason}")
