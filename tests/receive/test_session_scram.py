"""SCRAM on a connection in clear: whole exchanges, the wrong turns of clients, and what nobody learns from them."""

from __future__ import annotations

from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred
from zope.interface import implementer

from mta.config.settings import Auth
from mta.interfaces import IProvenLogin, IScramVerifiers
from mta.receive.session import Session
from mta.smtp.credentials import Login, Terms
from mta.smtp.scram import ITERATIONS, SCRAM, give_scram, serialise, verifier_of
from tests.receive.auth.case import Realm
from tests.receive.door import DoorCase

STORED = "{SCRAM-SHA-256}" + serialise(verifier_of("secret", b"sixteen of salt!"))
NO = "535 5.7.8 Authentication credentials invalid"


class ScramTests(DoorCase):
    """A port that offers SCRAM-SHA-256 in clear."""

    def setUp(self) -> None:
        super().setUp()
        self.path = Path(self.mktemp())
        self.path.write_text(f"user:{STORED}\nother:{STORED}\n")
        self.offer(auth=Auth(passwords=self.path))

    def offer(self, **more: Any) -> None:
        """Begin anew."""
        self.begin(listen={"auth_clear": (SCRAM,)}, **more)

    def log_in(self, session: Session, user: str, password: str, at_once: bool = True) -> list[str]:
        """What the server says to each message of our own client."""
        client = give_scram(SCRAM, Login(user, password), Terms(b"client"))
        first = b64encode(next(client))
        said = self.say(session, b"AUTH SCRAM-SHA-256 %b\r\n" % first if at_once else b"AUTH SCRAM-SHA-256\r\n")
        if not at_once:
            self.assertEqual(said, ["334 "])
            said = self.say(session, first + b"\r\n")
        heard = list(said)
        while heard[-1].startswith("334 "):
            heard += self.say(session, b64encode(client.send(b64decode(heard[-1][4:]))) + b"\r\n")
        return heard

    def test_right(self) -> None:
        """With the first message in the command or behind it; the account is known, and the log says how."""
        for at_once in (True, False):
            session, _ = self.hello()
            said = self.log_in(session, "user", "secret", at_once)
            self.assertEqual([line[:3] for line in said], ["334", "334", "235"])
            self.assertEqual(session.account, "user")
        [line, _] = self.log.named("auth")
        self.assertEqual((line["mechanism"], line["user"], line["result"]), (SCRAM, "user", "ok"))

    def test_wrong(self) -> None:
        """A wrong password and an unknown user are the same, word for word and step for step; both count."""
        for user in ("user", "nobody"):
            session, _ = self.hello()
            said = self.log_in(session, user, "wrong")
            self.assertEqual(([line[:3] for line in said], said[-1]), (["334", "535"], NO))
            self.assertIn(f",i={ITERATIONS}", b64decode(said[0][4:]).decode())
            self.assertEqual((session.account, session.counters.auth_failures), ("", 1))
        first, second = self.log.named("auth")
        self.assertEqual(first["why"], second["why"])
        self.assertNotIn("wrong\\b", repr(self.log.events))

    def test_stable_salt(self) -> None:
        """An unknown user has the same salt each time, another one than others have."""
        salts: dict[str, set[str]] = {}
        for user in ("nobody", "user", "noone", "nobody", "user"):
            session, _ = self.hello()
            said = self.log_in(session, user, "wrong")
            salts.setdefault(user, set()).add(b64decode(said[0][4:]).decode().split(",s=")[1])
        self.assertEqual([len(seen) for seen in salts.values()], [1, 1, 1])
        self.assertEqual(len(set.union(*salts.values())), 3)

    def test_wrong_turns(self) -> None:
        """Cancelled, no base64, commands in between: 501, and nobody is let in; then it can be begun anew."""
        session, _ = self.hello()
        first = b"AUTH SCRAM-SHA-256 " + b64encode(b"n,,n=user,r=abc") + b"\r\n"
        for lines in (
            (first, b"*\r\n"),
            (first, b"?\r\n"),
            (first, b"QUIT\r\n"),
            (b"AUTH SCRAM-SHA-256 =\r\n",),
            (first, b"\r\n"),
        ):
            said = [self.say(session, line)[0][:3] for line in lines]
            self.assertEqual(said[-1], "501", lines)
        self.assertEqual(self.log_in(session, "user", "secret")[-1][:3], "235")

    def test_nothing_ahead(self) -> None:
        """Law 4: who answers a challenge that it cannot know is no client."""
        session, _ = self.hello()
        said = self.say(session, b"AUTH SCRAM-SHA-256 " + b64encode(b"n,,n=user,r=abc") + b"\r\nNOOP\r\n")
        self.assertEqual(said, ["554 5.5.0 SMTP protocol synchronization"])

    def test_slow_verifiers(self) -> None:
        """An embedder's checker may take its time: the client waits, and who gives up leaves nothing behind; a failure is 454."""
        answers: list[Deferred[Any]] = []
        given_up: list[object] = []

        @implementer(IScramVerifiers)
        class Checker:
            credentialInterfaces = (IProvenLogin,)

            def verifier(self, username: bytes) -> Deferred[Any]:
                answers.append(Deferred(given_up.append))
                return answers[-1]

            def requestAvatarId(self, credentials: Any) -> bytes:
                return credentials.username

        self.offer(portal=Portal(Realm(), [Checker()]))  # type: ignore[list-item]
        first = b"AUTH SCRAM-SHA-256 " + b64encode(b"n,,n=user,r=abc") + b"\r\n"
        session, wire = self.hello()
        self.assertEqual(self.say(session, first), [])
        answers[0].callback(verifier_of("secret", b"salt"))
        self.assertEqual(wire.value()[:4], b"334 ")
        self.say(session, b"*\r\n")
        self.say(session, first)
        wire.clear()
        answers[1].errback(RuntimeError("no database"))
        self.assertEqual(wire.value(), b"454 4.7.0 Temporary authentication failure\r\n")
        self.assertEqual(session.counters.auth_failures, 0)
        self.say(session, first)
        wire.lose()
        self.assertEqual(len(given_up), 1)

    def test_not_to_be_had(self) -> None:
        """A portal that knows no verifiers: the port does not open."""

        class Checker:
            credentialInterfaces = (IProvenLogin,)

        from mta.status import MailError

        with self.assertRaises(MailError) as caught:
            self.offer(portal=Portal(Realm(), [Checker()]))  # type: ignore[list-item]
            self.connect()
        self.assertIn("SCRAM-SHA-256 needs", caught.exception.reason)
