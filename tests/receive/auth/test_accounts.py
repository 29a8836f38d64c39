"""Who may log in: the portal, certificates, proofs, and that nobody learns anything from a refusal."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.cred.checkers import FilePasswordDB
from twisted.cred.error import LoginDenied
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import capturedLogs, eventAsText
from zope.interface import implementer

from mta.config.settings import Auth, Listen
from mta.interfaces import IAccount, IScramVerifiers
from mta.receive.auth.accounts import Account, Accounts, Login
from mta.receive.auth.dovecot import Dovecot
from mta.receive.auth.passwords import PasswordFile
from mta.receive.auth.peer import Peer
from mta.receive.auth.senders import Senders
from mta.receive.auth.workers import Busy
from mta.smtp.credentials import BearerCredentials, ExternalCredentials, JudgedCredentials, VerifierWanted
from mta.status import MailError
from mta.testing.pki import Authority
from tests.receive.auth.case import AccountsCase, Realm, Tokens, cram, plain
from tests.receive.auth.strange import strange


class PortalTests(AccountsCase):
    """An embedder's portal."""

    def portal(self, realm: Realm, checker: Any = None) -> Accounts:
        """Accounts behind a portal with this realm and the checker, else that of the file."""
        return Accounts(Portal(realm, [checker or self.file()]))

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
        accounts = self.of(Auth(passwords=Path("/nowhere")), Portal(realm, [self.file()]))
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
        self.assertTrue(all("in requestAvatar" in text or "accounts.py" in text for text in told[1:]), "where it was is known")
        self.assertIn("the portal failed: RuntimeError", told[0])
        self.assertNotIn("secret", "".join(told))

    def test_logout_fails(self) -> None:
        """A logout that breaks is our log's matter only."""
        Login("user", lambda: 1 / 0).leave()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_nothing_shows_a_password(self) -> None:
        """Neither credentials nor accounts tell it when they are printed."""
        for thing in (plain("user", "xyzzy"), self.accounts, self.file()):
            self.assertNotIn("xyzzy", repr(thing))
            self.assertNotIn("secret", repr(thing))


CLIENTS = Authority.create()


class ProofTests(AccountsCase):
    """Users whom the mechanism has proved already."""

    def certificate(self, *names: str) -> Peer:
        """A client that has shown one for these names."""
        leaf = x509.load_pem_x509_certificates(CLIENTS.issue(*names).certificate_pem)[0]
        return Peer("192.0.2.1", True, leaf.public_bytes(Encoding.DER))

    def test_scram(self) -> None:
        """What the exchange has judged is believed, and asked of the portal; its reasons are for the log alone."""
        self.assertEqual(self.name(JudgedCredentials("SCRAM-SHA-256", "", "user")), "user")
        self.assertEqual(self.name(JudgedCredentials("SCRAM-SHA-256", "user", "user")), "user")
        for authzid, error in (("", "another channel"), ("root", ""), ("", "wrong user or password")):
            refusal = self.refusal(JudgedCredentials("SCRAM-SHA-256", authzid, "user", error))
            self.assertEqual(str(refusal.reply), "535 5.7.8 Authentication credentials invalid")
            self.assertIn(error, refusal.reason)

    def test_verifiers(self) -> None:
        """The exchange is told a verifier for everybody; a checker that breaks is 454."""
        for user, exists in (("user", True), ("nobody", False)):
            verifier = self.successResultOf(self.accounts.step(VerifierWanted("SCRAM-SHA-256", user)))
            self.assertEqual(verifier.exists, exists)  # type: ignore[union-attr]
        for failure in (Busy(), RuntimeError("secret")):

            @implementer(IScramVerifiers)
            class Checker:
                credentialInterfaces = PasswordFile.credentialInterfaces

                def verifier(self, username: bytes, failure: Exception = failure) -> Any:
                    return fail(failure)

            accounts = self.made(Auth(), Portal(Realm(), [Checker()]))  # type: ignore[list-item]
            with capturedLogs() as events:
                error = self.failureResultOf(accounts.step(VerifierWanted("SCRAM-SHA-256", "user")), MailError).value
            self.assertEqual(error.reply.code, 454)
            self.assertNotIn("secret", "".join(map(eventAsText, events)) + error.reason)

    def test_lacks(self) -> None:
        """What a portal must have for SCRAM, EXTERNAL and tokens is known before it is offered."""
        names = ("PLAIN", "CRAM-MD5", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "EXTERNAL", "OAUTHBEARER", "XOAUTH2")
        self.assertEqual([bool(self.accounts.lacks(name)) for name in names], [False] * 5 + [True] * 2)
        twisted = self.made(Auth(), Portal(Realm(), [FilePasswordDB(str(self.path))]))
        self.assertEqual([bool(twisted.lacks(name)) for name in names], [False, False, *[True] * 5])
        dovecot = self.made(Auth(dovecot="/run/dovecot/auth-client"))
        self.assertEqual([name for name in names if dovecot.lacks(name)], ["SCRAM-SHA-256-PLUS"])
        tokens = self.made(Auth(), Portal(Realm(), [Tokens()]))
        self.assertEqual([name for name in names[2:] if not tokens.lacks(name)], ["OAUTHBEARER", "XOAUTH2"])

    def test_token(self) -> None:
        """A checker is given the token and the name, if there is one, and says who it is; no token is never asked about."""
        checker = Tokens()
        accounts = self.made(Auth(), Portal(Realm(), [checker]))
        for mechanism, user in (("OAUTHBEARER", ""), ("OAUTHBEARER", "jörg"), ("XOAUTH2", "user")):
            self.assertEqual(self.name(BearerCredentials(mechanism, user, "good"), accounts), "account-of-user")
            self.assertEqual(self.refusal(BearerCredentials(mechanism, user, "bad"), accounts).reply.code, 535)
        asked = [(given.mechanism, given.username.decode(), given.token) for given in checker.asked]
        self.assertEqual(
            asked[::2], [("OAUTHBEARER", "", b"good"), ("OAUTHBEARER", "jörg", b"good"), ("XOAUTH2", "user", b"good")]
        )
        self.assertNotIn("good", repr(checker.asked))
        checker.asked.clear()
        error = self.refusal(BearerCredentials("OAUTHBEARER", "user", ""), accounts)
        self.assertEqual((error.reply.code, error.reason, checker.asked), (535, "no token", []))

    def test_external(self) -> None:
        """The address in a verified certificate; who has shown none, or one with none, is nobody."""
        accounts = self.made(Auth(), listen=(Listen("tcp:465", auth_tls=("EXTERNAL",)),))
        tim = self.certificate("tim@a.example")
        for authzid in ("", "tim@a.example"):
            self.assertEqual(self.name(ExternalCredentials(authzid), accounts, tim), "tim@a.example")
        for authzid, peer in (("root", tim), ("", Peer()), ("", self.certificate("host.example"))):
            self.assertEqual(self.refusal(ExternalCredentials(authzid), accounts, peer).reply.code, 535)

    def test_external_unreadable(self) -> None:
        """A certificate that cannot be read is 535 with the reason for the log, not a bug of ours."""
        accounts = self.made(Auth(), listen=(Listen("tcp:465", auth_tls=("EXTERNAL",)),))
        shown, _ = strange(Authority.create())["an extension twice"]
        error = self.refusal(ExternalCredentials(""), accounts, Peer("192.0.2.1", True, shown))
        self.assertEqual((error.reply.code, error.reason), (535, "the certificate cannot be read: DuplicateExtension"))

    def test_external_by_map(self) -> None:
        """The map says who it is; a bad map is a MailError with its line."""
        peer = self.certificate("tim@a.example")
        logins = Path(self.mktemp())
        logins.write_text(f"{sha256(peer.certificate).hexdigest()} jörg\n", "utf-8")
        accounts = self.made(Auth(passwords=self.path, certificates=logins))
        self.assertEqual(self.name(ExternalCredentials(""), accounts, peer), "jörg")
        self.refusal(ExternalCredentials(""), accounts, self.certificate("tim@a.example"))
        logins.write_text("nonsense\n")
        error = self.assertRaises(MailError, self.of, Auth(passwords=self.path, certificates=logins))
        self.assertIn("[auth] certificates: ", error.reason)
        self.assertIn("line 1", error.reason)
        logins.unlink()
        self.assertIn("No such file", self.assertRaises(MailError, self.of, Auth(certificates=logins)).reason)

    def test_known(self) -> None:
        """Whom somebody else has vouched for gets the same account as who logs in."""
        logins = [self.accounts.known("user", "XCLIENT"), self.accounts.login(plain("user", "secret"))]
        first, second = (self.successResultOf(login) for login in logins)
        self.assertEqual((first.name, first.account), (second.name, second.account))
        twisted = self.made(Auth(), Portal(Realm(), [FilePasswordDB(str(self.path))]))
        believed = self.successResultOf(twisted.known("user", "XCLIENT"))
        self.assertEqual((believed.name, believed.account), ("user", None), "a portal that cannot be asked is not")

    def test_settings_change(self) -> None:
        """The connection to Dovecot goes on with the settings to come, unless they name another; then it is to end, and be stopped."""
        told: list[tuple[str, str]] = []
        old = self.made(Auth(dovecot="/run/a"))
        assert old.dovecot is not None
        self.patch(Dovecot, "retire", lambda dovecot: told.append(("retire", dovecot.where)))
        self.patch(Dovecot, "stop", lambda dovecot: told.append(("stop", dovecot.where)) or succeed(None))
        for auth, gone in ((Auth(dovecot="/run/a"), False), (Auth(dovecot="/run/b"), True), (Auth(), True)):
            told.clear()
            new = self.of(auth, before=old)
            self.assertEqual(new is not None and new.dovecot is old.dovecot, not gone)
            self.assertEqual((old.retire(new), told), (gone, [("retire", "/run/a")] * gone))
        told.clear()
        self.successResultOf(old.stop())
        self.successResultOf(self.accounts.stop())
        self.assertFalse(self.accounts.retire(None))
        self.assertEqual(told, [("stop", "/run/a")])

    def test_a_lasting_secret(self) -> None:
        """What is made up is the same at the next start and behind a change of the settings; nothing is written before it is wanted."""
        self.assertEqual([*self.folder.iterdir()], [])

        def salt(accounts: Accounts | None) -> bytes:
            assert accounts is not None
            verifier = self.successResultOf(accounts.step(VerifierWanted("SCRAM-SHA-256", "nobody")))
            return bytes(verifier.salt)

        first = salt(self.accounts)
        self.assertEqual([path.name for path in self.folder.iterdir()], ["auth.secret"])
        self.assertEqual(salt(self.made(Auth(passwords=self.path))), first)
        self.folder.joinpath("auth.secret").unlink()
        self.assertEqual(salt(self.of(Auth(passwords=self.path, cache=1), before=self.accounts)), first)
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_senders(self) -> None:
        """What the settings say of senders arrives at the account; a portal's account may send as anybody."""
        bound = Path(self.mktemp())
        bound.write_text("user: info@a.example\n")
        accounts = self.made(Auth(passwords=self.path, senders="bound", sender_map=bound))
        login = self.successResultOf(accounts.login(plain("user", "secret")))
        for sender, allowed in (("info@a.example", True), ("user@example.org", True), ("x@example.org", False), ("", True)):
            self.assertEqual(login.may_send(sender), allowed, sender)
        self.assertTrue(self.successResultOf(self.accounts.login(plain("user", "secret"))).may_send("x@y.example"))
        self.assertTrue(Login("user", lambda: None).may_send("x@y.example"))
        self.assertFalse(Account("u", Senders(bound=True)).may_send("x@y.example"))
        bound.write_text("nonsense")
        self.assertIn("sender_map", self.assertRaises(MailError, self.of, Auth(passwords=self.path, sender_map=bound)).reason)
