"""AUTH on a connection in clear: who is logged in may relay, and is logged; a portal that fails opens nothing.  TLS is in test_security.py."""

from __future__ import annotations

from base64 import b64decode, b64encode
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, capturedLogs

from mta.config.settings import Access, Auth, Limits
from mta.receive.auth.passwords import PasswordFile
from mta.receive.session import Session
from mta.smtp.credentials import cram_digest
from tests.receive.auth.case import Realm
from tests.receive.door import BODY, STRANGER, DoorCase, FakePolicy

ABROAD = b"MAIL FROM:<user@example.org>\r\nRCPT TO:<friend@elsewhere.example>\r\n"
DENIED = "550 5.7.1 Relaying denied"


def plain(user: str, password: str, authzid: str = "") -> bytes:
    """The command."""
    return b"AUTH PLAIN " + b64encode(f"{authzid}\0{user}\0{password}".encode()) + b"\r\n"


class AuthCase(DoorCase):
    """A port that takes logins in clear."""

    def setUp(self) -> None:
        super().setUp()
        self.path = Path(self.mktemp())
        self.path.write_text("user:secret\n")
        self.begin_with_auth()

    def begin_with_auth(self, mail_requires: str = "none", **more: Any) -> None:
        """Passwords of the file, unless a portal is given."""
        listen = {"auth_clear": ("CRAM-MD5", "PLAIN"), "auth_tls": ("PLAIN", "LOGIN"), "mail_requires": mail_requires}
        self.begin(listen=listen, auth=Auth(passwords=self.path), **more)

    def logged_in(self) -> Session:
        """A stranger who has proved to be user."""
        session, _ = self.hello()
        self.assertEqual(self.codes(session, plain("user", "secret")), ["235"])
        return session

    def waiting(self, realm: Realm) -> Deferred[bytes]:
        """Begin anew, with a portal whose checker answers when this has fired."""
        answer: Deferred[bytes] = Deferred()

        class Checker:
            credentialInterfaces = PasswordFile.credentialInterfaces

            def requestAvatarId(self, credentials: object) -> Deferred[bytes]:
                return answer

        self.begin_with_auth(portal=Portal(realm, [Checker()]))  # type: ignore[list-item]
        return answer


class LoginTests(AuthCase):
    """What a login is good for."""

    def test_priority(self) -> None:
        """RFC 6710: offered before the login, granted behind it; a stranger's is lowered and his mail taken."""
        for login, said, priority in ((b"", "250 2.3.6", 0), (plain("user", "secret"), "250 2.1.0", 7)):
            session, _ = self.hello()
            self.say(session, login)
            mail = b"MAIL FROM:<user@example.org> MT-PRIORITY=7\r\nRCPT TO:<user@example.org>\r\nDATA\r\n"
            self.assertEqual(said, self.say(session, mail)[0][:9])
            self.codes(session, BODY + b".\r\n")
            self.assertEqual(priority, self.accept.accepted.pop().priority)
            self.assertEqual(priority or None, self.log.named("accepted")[-1]["priority"])

    def test_relay(self) -> None:
        """A stranger may not relay; logged in it may, the message has its account, and the Received line says ESMTPA (RFC 3848)."""
        session, _ = self.hello()
        self.assertEqual(self.say(session, ABROAD)[1], DENIED)
        self.say(session, b"RSET\r\n")
        self.assertEqual(self.say(session, plain("user", "secret")), ["235 2.7.0 Authentication successful"])
        self.assertEqual(self.codes(session, ABROAD + b"DATA\r\n"), ["250", "250", "354"])
        self.codes(session, BODY + b".\r\n")
        [message] = self.accept.accepted
        self.assertEqual((message.account, message.lane_key), ("user", "account:user"))
        self.assertIn(b" with ESMTPA id ", message.prefix)
        self.assertEqual(self.log.named("accepted")[0]["account"], "user")
        self.assertEqual(self.log.named("auth"), [
            {"client": STRANGER, "mechanism": "PLAIN", "user": "user", "account": "user", "result": "ok", "tls_version": None}
        ])  # fmt: skip

    def test_without_login(self) -> None:
        """Mail without a login has no account, and none is logged."""
        session, _ = self.hello()
        self.envelope(session)
        self.codes(session, BODY + b".\r\n")
        self.assertIsNone(self.accept.accepted[0].account)
        self.assertIsNone(self.log.named("accepted")[0]["account"])

    def test_cram_md5(self) -> None:
        """The challenge is another each time; the right proof is taken, and one of an earlier challenge is not."""
        proofs = []
        for expected in ("235", "535"):
            session, _ = self.hello()
            [line] = self.say(session, b"AUTH CRAM-MD5\r\n")
            challenge = b64decode(line.removeprefix("334 "))
            self.assertRegex(challenge, rb"\A<[0-9a-f]{32}\.1795000000@mx\.example\.org>\Z")
            proofs.append(b64encode(b"user " + cram_digest("secret", challenge)) + b"\r\n")
            self.assertEqual(self.codes(session, proofs[0]), [expected])
        self.assertNotEqual(*[line["result"] for line in self.log.named("auth")])

    def test_refused(self) -> None:
        """Wrong password, unknown user, another's authzid: 535, logged with the user and never with a password; the mail goes on."""
        session, _ = self.hello()
        for command in (plain("user", "wrong-xyzzy"), plain("nobody", "secret-xyzzy"), plain("user", "secret", "root")):
            self.assertEqual(self.say(session, command), ["535 5.7.8 Authentication credentials invalid"])
        self.assertEqual(self.say(session, ABROAD)[1], DENIED)
        lines = self.log.named("auth")
        self.assertEqual([line["result"] for line in lines], ["refused"] * 3)
        self.assertEqual([line["user"] for line in lines], ["user", "nobody", "user"])
        self.assertNotIn("xyzzy", repr(self.log.events))

    def test_machine_refusals_are_logged(self) -> None:
        """S20, A39: a mechanism that is offered in TLS only is 538 in clear, and logged."""
        session, _ = self.hello()
        self.assertEqual(self.say(session, b"AUTH LOGIN\r\n")[0][:3], "538")
        self.assertEqual(self.log.named("rejected")[0]["stage"], "auth")

    def test_failures_are_limited(self) -> None:
        """S14: behind [limits] auth_failures the next AUTH ends the connection with 421, whatever it says."""
        self.begin_with_auth(limits=Limits(auth_failures=2))
        session, wire = self.hello()
        for _ in range(2):
            self.assertEqual(self.codes(session, plain("user", "wrong")), ["535"])
        self.assertEqual(self.codes(session, plain("user", "secret")), ["421"])
        self.assertTrue(wire.disconnecting)
        wire.lose()
        self.assertEqual(self.log.named("disconnect")[0]["auth_failures"], 2)

    def test_s21_mail_requires_auth(self) -> None:
        """S21, A40: with mail_requires = "auth" MAIL is 530 before the login and taken behind it; NOOP and QUIT always are."""
        self.begin_with_auth(mail_requires="auth")
        session, _ = self.hello()
        self.assertEqual(self.say(session, b"MAIL FROM:<>\r\n")[0][:9], "530 5.7.0")
        self.assertEqual(self.codes(session, b"NOOP\r\n"), ["250"])
        self.assertEqual(self.codes(session, plain("user", "secret")), ["235"])
        self.assertEqual(self.codes(session, b"MAIL FROM:<>\r\n"), ["250"])

    def test_policy_knows(self) -> None:
        """An embedder's policy is told the account."""
        policy = FakePolicy()
        self.begin_with_auth(policy=policy)
        session, _ = self.hello()
        self.assertEqual(policy.facts["helo"]["account"], "")
        self.say(session, plain("user", "secret"))
        self.say(session, b"MAIL FROM:<>\r\n")
        self.assertEqual(policy.facts["mail"]["account"], "user")

    def test_new_hello(self) -> None:
        """A second EHLO changes nothing about who the client is (RFC 4954 4)."""
        session = self.logged_in()
        self.say(session, b"EHLO again.example\r\n")
        self.assertEqual(self.codes(session, ABROAD), ["250", "250"])


class XclientTests(AuthCase):
    """A login that a trusted peer reports (XCLIENT LOGIN)."""

    def test_the_same_login(self) -> None:
        """It is the one that the client would have got itself: the same account, bound to the same addresses."""
        trusted = Access(xclient_from=(IPv4Network("0.0.0.0/0"),))
        listen = {"auth_clear": ("PLAIN",)}
        self.begin(listen=listen, auth=Auth(passwords=self.path, senders="bound"), access=trusted)
        reported, _ = self.hello()
        self.assertEqual(self.codes(reported, b"XCLIENT ADDR=198.51.100.7 LOGIN=user\r\n"), ["220"])
        itself = self.logged_in()
        assert reported.login is not None and itself.login is not None
        self.assertEqual(reported.login.account, itself.login.account)
        for sender, allowed in (("user@example.org", True), ("root@elsewhere.example", False)):
            self.assertEqual(reported.login.may_send(sender), allowed)

    def test_slow_or_failing(self) -> None:
        """The conversation waits for the portal; where it says no, the connection ends."""
        answers: list[Deferred[bytes]] = []

        class Checker:
            credentialInterfaces = PasswordFile.credentialInterfaces

            def requestAvatarId(self, credentials: object) -> Deferred[bytes]:
                answers.append(Deferred())
                return answers[-1]

        trusted = Access(xclient_from=(IPv4Network("0.0.0.0/0"),))
        self.begin(listen={"auth_clear": ("PLAIN",)}, portal=Portal(Realm(), [Checker()]), access=trusted)  # type: ignore[list-item]
        for outcome, code in ((b"user", b"220"), (RuntimeError("no database"), b"421"), (UnauthorizedLogin(), b"554")):
            session, wire = self.hello()
            self.assertEqual(self.say(session, b"XCLIENT LOGIN=user\r\n"), [])
            with capturedLogs():
                answers[-1].callback(outcome) if isinstance(outcome, bytes) else answers[-1].errback(outcome)
            self.assertEqual(wire.value()[:3], code)
            self.assertEqual(session.account, "account-of-user" if code == b"220" else "")
        session, wire = self.hello()
        self.say(session, b"XCLIENT LOGIN=user\r\n")
        wire.lose()
        self.assertTrue(answers[-1].called, "given up")
        session, wire = self.hello()
        self.assertEqual(self.say(session, b"XCLIENT LOGIN=user\r\n") + self.say(session, b"EHLO a.example\r\n"), [])
        answers[-1].callback(b"user")
        self.assertEqual((wire.value()[:3], wire.disconnecting), (b"554", True), "it came before the greeting")


class PortalTests(AuthCase):
    """A portal that takes its time, fails, or is left alone."""

    def test_slow(self) -> None:
        """Nothing is parsed while it thinks; what was sent behind is answered behind it, in order."""
        answer = self.waiting(Realm())
        session, wire = self.hello()
        self.assertEqual(self.say(session, plain("user", "x") + b"NOOP\r\n"), [])
        answer.callback(b"user")
        self.assertEqual([line[:3] for line in wire.value().splitlines()], [b"235", b"250"])
        self.assertEqual(session.account, "account-of-user")

    def test_logout(self) -> None:
        """The avatar is given back, once, when the client goes."""
        realm = Realm()
        answer = self.waiting(realm)
        session, wire = self.hello()
        self.say(session, plain("user", "x"))
        answer.callback(b"user")
        self.assertEqual(realm.logouts, 0)
        wire.lose()
        self.assertEqual((realm.logouts, self.log.named("disconnect")[0]["account"]), (1, "account-of-user"))

    def test_no_answer(self) -> None:
        """A portal that does not answer in time is 454, the connection lives on, and a late answer opens nothing."""
        realm = Realm()
        answer = self.waiting(realm)
        session, wire = self.hello()
        self.say(session, plain("user", "x"))
        self.clock.pump([1.0] * 302)
        self.assertEqual(wire.value()[:9], b"454 4.7.0")
        answer.callback(b"user")
        self.assertEqual((session.account, realm.asked), ("", []))
        self.assertEqual(self.say(session, ABROAD)[1], DENIED)
        [line] = self.log.named("auth")
        self.assertEqual((line["result"], line["why"]), ("failed", "no answer in time"))

    def test_gone(self) -> None:
        """A client that goes while the portal thinks: the question is withdrawn, nobody is logged in."""
        realm = Realm()
        answer = self.waiting(realm)
        session, wire = self.hello()
        self.say(session, plain("user", "x"))
        wire.lose()
        answer.callback(b"user")
        self.assertEqual((session.account, realm.asked, self.log.named("auth")), ("", [], []))

    def test_told_to_go(self) -> None:
        """421 is said while the portal thinks, and then it says yes: the avatar is given back at once."""
        realm = Realm()
        answer = self.waiting(realm)
        session, wire = self.hello()
        self.say(session, plain("user", "x"))
        session.stop()
        answer.callback(b"user")
        self.assertEqual((session.account, realm.logouts), ("", 1))
        self.assertTrue(wire.value().startswith(b"421 4.3.2"))
        self.assertEqual(wire.value().count(b"\r\n"), 1)

    def test_broken(self) -> None:
        """A portal that breaks is 454 4.7.0 and an error in our log; no failure is counted against the client."""
        answer = self.waiting(Realm())
        session, wire = self.hello()
        self.say(session, plain("user", "x"))
        with capturedLogs() as events:
            answer.errback(RuntimeError("secret of the portal"))
        self.assertEqual(wire.value(), b"454 4.7.0 Temporary authentication failure\r\n")
        self.assertEqual(session.counters.auth_failures, 0)
        self.assertNotIn("secret of", repr(self.log.events))
        self.assertEqual([(event["log_level"], event["error"]) for event in events], [(LogLevel.error, "RuntimeError")])
