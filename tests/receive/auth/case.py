"""What the tests of logins share: credentials as clients give them, a realm of an embedder, accounts out of a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mta.config.settings import Auth
from mta.interfaces import IAccount, IBearerToken
from mta.receive.auth.accounts import Account, Accounts, Login
from mta.receive.auth.passwords import PasswordFile
from mta.receive.auth.peer import Peer
from mta.receive.auth.workers import Workers
from mta.smtp.credentials import CramCredentials, PlainCredentials, cram_digest
from mta.status import MailError
from tests.receive.door import SETTINGS

CHALLENGE = b"<1@mx.example.org>"
KEY = b"k" * 32


def plain(user: str, password: str, authzid: str = "", mechanism: str = "PLAIN") -> PlainCredentials:
    """What a client says in clear."""
    return PlainCredentials(mechanism, authzid, user, password)


def cram(user: str, password: str) -> CramCredentials:
    """What a client says that does not tell its password."""
    return CramCredentials(user, CHALLENGE, cram_digest(password, CHALLENGE))


@implementer(IRealm)
class Realm:
    """An embedder's: gives what it is told to, and counts the logouts."""

    def __init__(self, avatar: Any = Account("account-of-user")) -> None:
        self.avatar = avatar
        self.asked: list[tuple[object, ...]] = []
        self.logouts = 0

    def requestAvatar(self, avatarId: bytes | tuple[()], mind: object, *interfaces: Any) -> Any:
        """See IRealm."""
        self.asked.append((avatarId, *interfaces))
        if isinstance(self.avatar, Exception):
            raise self.avatar
        return IAccount, self.avatar, self.logout

    def logout(self) -> None:
        """The client has gone."""
        self.logouts += 1


@implementer(ICredentialsChecker)
class Tokens:
    """Knows one token, whoever shows it."""

    credentialInterfaces = (IBearerToken,)

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def requestAvatarId(self, credentials: Any) -> bytes:
        """See ICredentialsChecker."""
        self.asked.append(credentials)
        if credentials.token != b"good":
            raise UnauthorizedLogin
        return b"user"


class AccountsCase(SynchronousTestCase):
    """Accounts out of a file with two users; what would be done in a thread is done at once, and counted in `ran`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.ran: list[object] = []
        self.folder, self.path = Path(self.mktemp()), Path(self.mktemp())
        self.folder.mkdir()
        self.path.write_text("# ours\nuser:secret\n\njörg:pass:with:colons \r\n", "utf-8")
        self.accounts = self.made(Auth(passwords=self.path))

    def run_now(self, do: Callable[[], Any]) -> Deferred[Any]:
        """As Workers.run."""
        self.ran.append(do)
        return execute(do)

    def file(self, lifetime: float = 300.0) -> PasswordFile:
        """The checker of the file."""
        return PasswordFile(self.path, self.run_now, self.clock.seconds, KEY, lifetime)

    def of(self, auth: Auth, portal: Portal | None = None, before: Accounts | None = None, **changes: Any) -> Accounts | None:
        """Accounts of these settings."""
        workers = Workers(self.clock, 1)
        workers.run = self.run_now  # type: ignore[method-assign]
        settings = attrs.evolve(SETTINGS, auth=auth, data_dir=self.folder, **changes)
        return Accounts.of(settings, portal, workers, self.clock, lambda size: b"r" * size, before)

    def made(self, auth: Auth, portal: Portal | None = None, **changes: Any) -> Accounts:
        """The same, and they are there."""
        accounts = self.of(auth, portal, **changes)
        assert accounts is not None
        return accounts

    def name(self, given: Any, accounts: Accounts | None = None, peer: Peer = Peer()) -> str:
        """As whom these credentials log in."""
        login: Login = self.successResultOf((accounts or self.accounts).login(given, peer))
        return login.name

    def refusal(self, given: Any, accounts: Accounts | None = None, peer: Peer = Peer()) -> MailError:
        """Why they do not."""
        error: MailError = self.failureResultOf((accounts or self.accounts).login(given, peer), MailError).value
        return error
