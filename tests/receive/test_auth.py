"""Who may log in: the portal, the password file, and that nobody learns anything from a refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
from twisted.cred.checkers import FilePasswordDB
from twisted.cred.error import LoginDenied, UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, eventAsText
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mta.config.settings import Auth
from mta.interfaces import IAccount
from mta.receive.auth import Account, Accounts, Login, PasswordFile, mechanism_of
from mta.smtp.sasl import CramCredentials, PlainCredentials, cram_digest
from mta.status import MailError

CHALLENGE = b"<1@mx.example.org>"


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


class AccountsCase(SynchronousTestCase):
    """Accounts out of a file with two users."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.path.write_text("# ours\nuser:secret\n\njörg:pass:with:colons \r\n", "utf-8")
        accounts = Accounts.of(Auth(passwords=self.path), None)
        assert accounts is not None
        self.accounts = accounts

    def name(self, given: Any, accounts: Accounts | None = None) -> str:
        """As whom these credentials log in."""
        login: Login = self.successResultOf((accounts or self.accounts).login(given))
        return login.name

    def refusal(self, given: Any, accounts: Accounts | None = None) -> MailError:
        """Why they do not."""
        error: MailError = self.failureResultOf((accounts or self.accounts).login(given), MailError).value
        return error


class PasswordsTests(AccountsCase):
    """`[auth] passwords`."""

    def test_right(self) -> None:
        """By password and by proof, with colons, blanks and letters beyond ASCII; authzid empty or the user itself."""
        for given in (plain("user", "secret"), plain("user", "secret", "user"), cram("user", "secret")):
            self.assertEqual(self.name(given), "user")
        for given in (plain("jörg", "pass:with:colons ", mechanism="LOGIN"), cram("jörg", "pass:with:colons ")):
            self.assertEqual(self.name(given), "jörg")

    def test_wrong(self) -> None:
        """Wrong password, unknown user, another's authzid, nearly right ones: 535 5.7.8, always the same text."""
        wrong = (
            plain("user", "Secret"),
            plain("user", ""),
            plain("user", "secret "),
            plain("User", "secret"),
            plain("nobody", "secret"),
            plain("nobody", "nobody's"),
            plain("# ours", ""),
            plain("user", "secret", "jörg"),
            plain("jörg", "secret"),
            cram("user", "wrong"),
            cram("nobody", "nobody's"),
        )
        replies = {str(self.refusal(given).reply) for given in wrong}
        self.assertEqual(replies, {"535 5.7.8 Authentication credentials invalid"})

    def test_equal_work(self) -> None:
        """An unknown user costs the same comparison as a known one: one, with a password."""
        compared: list[bytes] = []

        @attrs.frozen
        class Counting:
            username: bytes

            def checkPassword(self, password: bytes) -> bool:
                compared.append(password)
                return True

        checker = PasswordFile.read(self.path)
        self.assertEqual(self.successResultOf(checker.requestAvatarId(Counting(b"user"))), b"user")
        self.failureResultOf(checker.requestAvatarId(Counting(b"nobody")), UnauthorizedLogin)
        self.assertEqual((len(compared), compared[0], bool(compared[1])), (2, b"secret", True))

    def test_mistakes(self) -> None:
        """A bad file is a MailError with path and line, and with nothing of what stands there."""
        for text, word in (("user:a\nnonsense", "line 2"), (":x", "line 1"), ("user:", "line 1"), ("u:xyzzy\nu:b", "line 2")):
            self.path.write_text(text)
            error = self.assertRaises(MailError, PasswordFile.read, self.path)
            self.assertIn(f"{self.path}, {word}", error.reason)
            self.assertNotIn("nonsense", error.reason)
            self.assertNotIn("xyzzy", error.reason)
        self.path.write_bytes(b"user:\xff\n")
        self.assertIn("not UTF-8", self.assertRaises(MailError, PasswordFile.read, self.path).reason)
        self.path.unlink()
        self.assertIn("No such file", self.assertRaises(MailError, PasswordFile.read, self.path).reason)

    def test_nobody(self) -> None:
        """Neither a file nor a portal: there are no accounts; an empty file: nobody gets in."""
        self.assertIsNone(Accounts.of(Auth(), None))
        self.path.write_text("")
        accounts = Accounts.of(Auth(passwords=self.path), None)
        self.assertEqual(self.refusal(plain("user", "secret"), accounts).reply.code, 535)


class PortalTests(AccountsCase):
    """An embedder's portal."""

    def portal(self, realm: Realm, checker: Any = None) -> Accounts:
        """Accounts behind a portal with this realm and the checker, else that of the file."""
        return Accounts(Portal(realm, [checker or PasswordFile.read(self.path)]))

    def checker(self, answer: Any) -> Any:
        """A checker that gives this answer to everything."""

        class Checker:
            credentialInterfaces = PasswordFile.credentialInterfaces

            def requestAvatarId(self, credentials: Any) -> Any:
                if isinstance(answer, Exception):
                    raise answer
                return answer

        return Checker()

    def test_avatar(self) -> None:
        """It goes before the file; the avatar's name is the account's; the login ends with the logout."""
        realm = Realm()
        accounts = Accounts.of(Auth(passwords=Path("/nowhere")), Portal(realm, [PasswordFile.read(self.path)]))
        assert accounts is not None
        login: Login = self.successResultOf(accounts.login(plain("user", "secret")))
        self.assertEqual((login.name, realm.asked, realm.logouts), ("account-of-user", [(b"user", IAccount)], 0))
        login.leave()
        self.assertEqual(realm.logouts, 1)

    def test_checkers_of_twisted(self) -> None:
        """A checker that comes with Twisted takes our credentials, by password and by proof."""
        database = FilePasswordDB(str(self.path))
        for given in (plain("user", "secret"), cram("user", "secret")):
            self.assertEqual(self.name(given, self.portal(Realm(), database)), "account-of-user")
        for given in (plain("user", "wrong"), cram("user", "wrong"), plain("nobody", "secret")):
            self.assertEqual(self.refusal(given, self.portal(Realm(), database)).reply.code, 535)

    def test_slow(self) -> None:
        """The answer may come later; who gives up first hears 454, and nobody is logged in afterwards."""
        waiting: Deferred[bytes] = Deferred()
        realm = Realm()
        login = self.portal(realm, self.checker(waiting)).login(plain("user", "x"))
        self.assertNoResult(login)
        waiting.callback(b"user")
        self.assertEqual(self.successResultOf(login).name, "account-of-user")
        endless: Deferred[bytes] = Deferred()
        login = self.portal(realm, self.checker(endless)).login(plain("user", "x"))
        login.cancel()
        error = self.failureResultOf(login, MailError).value
        self.assertEqual((str(error.reply), error.reason), ("454 4.7.0 Temporary authentication failure", "no answer in time"))
        endless.callback(b"user")
        self.assertEqual(len(realm.asked), 1)

    def test_failing(self) -> None:
        """A portal that breaks, denies for reasons of its own, or answers nonsense is 454; no word of its exception is told or logged."""
        broken = (
            self.portal(Realm(), self.checker(RuntimeError("secret"))),
            self.portal(Realm(), self.checker(LoginDenied("too many"))),
            self.portal(Realm(NotImplementedError())),
            self.portal(Realm(Account(""))),
            self.portal(Realm(Account(7))),  # type: ignore[arg-type]
            self.portal(Realm(None)),
            Accounts(Portal(Realm())),  # it has no checker for such credentials
        )
        with capturedLogs() as events:
            for accounts in broken:
                error = self.refusal(plain("user", "secret"), accounts)
                self.assertEqual(str(error.reply), "454 4.7.0 Temporary authentication failure")
                self.assertNotIn("secret", error.reason)
        told = [eventAsText(event) for event in events]
        self.assertEqual(len(told), len(broken) - 2, "what cred's own errors say needs no traceback")
        self.assertTrue(all("in requestAvatar" in text or "auth.py" in text for text in told[1:]), "where it was is known")
        self.assertIn("the portal failed: RuntimeError", told[0])
        self.assertNotIn("secret", "".join(told))

    def test_logout_fails(self) -> None:
        """A logout that breaks is our log's matter only."""
        Login("user", lambda: 1 / 0).leave()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_nothing_shows_a_password(self) -> None:
        """Neither credentials nor accounts tell it when they are printed."""
        for thing in (plain("user", "xyzzy"), self.accounts, PasswordFile.read(self.path)):
            self.assertNotIn("xyzzy", repr(thing))
            self.assertNotIn("secret", repr(thing))
        self.assertEqual(
            [mechanism_of(given) for given in (plain("u", "p", mechanism="LOGIN"), cram("u", "p"))], ["LOGIN", "CRAM-MD5"]
        )
