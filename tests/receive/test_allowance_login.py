"""Guessing of passwords over many connections is slowed, then refused; nobody is locked out by a stranger.  Accounts have rates."""

from __future__ import annotations

from typing import Any

from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred

from mta.config.settings import Access, Limits, Seconds
from mta.receive.access import client_address
from mta.receive.auth.passwords import PasswordFile
from mta.receive.limits.connections import client_key
from mta.receive.limits.table import What, Who, login_key
from mta.receive.session import Session
from mta.status import permanent
from tests.receive.auth.case import Realm
from tests.receive.door import BODY, STRANGER, TRUSTED, FakePolicy
from tests.receive.test_session_auth import AuthCase, plain

WRONG = plain("user", "wrong")
RIGHT = plain("user", "secret")
HOME = "198.51.100.77"
OFF = Seconds(0.0)


class GuessingTests(AuthCase):
    """Who tries out passwords."""

    def limited(self, **limits: Any) -> None:
        """Begin anew."""
        self.begin_with_auth(limits=Limits(**limits))

    def guess(self, command: bytes = WRONG, address: str = STRANGER) -> str:
        """One login in a connection of its own, waited for; the code."""
        session, wire = self.hello(address)
        self.say(session, command)
        self.clock.pump([1.0] * 6)
        code = wire.value().decode()[:3]
        wire.lose()
        return code

    def test_over_many_connections(self) -> None:
        """5 an hour: the sixth guess is 421, right or wrong, in whatever connection; the user at home logs in as ever."""
        self.limited(login_failure_rate=("5/hour",), tarpit=OFF)
        self.assertEqual([self.guess() for _ in range(8)], ["535"] * 5 + ["421"] * 3)
        self.assertEqual(self.guess(RIGHT), "421")
        self.assertEqual(self.guess(RIGHT, HOME), "235")
        self.clock.advance(720)
        self.assertEqual([self.guess(RIGHT), self.guess()], ["235", "535"])
        [line] = [fields for fields in self.log.named("rejected") if fields.get("limit")]
        self.assertEqual((line["limit"], line["stage"], line["client"]), ("login_failure_rate", "auth", STRANGER))
        self.assertNotIn("secret", repr(self.log.events))

    def test_many_names(self) -> None:
        """The count of the client is of all names together, and holds for a right login there too; elsewhere nothing is wrong."""
        self.limited(auth_failure_rate=("5/hour",), tarpit=OFF)
        self.assertEqual([self.guess(plain(f"name{number}", "x")) for number in range(7)], ["535"] * 5 + ["421"] * 2)
        self.assertEqual((self.guess(RIGHT), self.guess(RIGHT, HOME)), ("421", "235"))

    def test_case_is_no_way_around(self) -> None:
        """USER is user."""
        self.limited(login_failure_rate=("2/hour",), tarpit=OFF)
        self.assertEqual([self.guess(plain(name, "x")) for name in ("user", "USER", " user ")], ["535", "535", "421"])

    def test_all_at_once(self) -> None:
        """Guesses that wait for the checker count already: 20 connections at once are no way around the limit of 5."""
        answer = self.waiting(Realm())
        self.common.counts.obey(Limits(login_failure_rate=("5/hour",)))
        sessions = [self.hello()[0] for _ in range(20)]
        for session in sessions:
            self.say(session, WRONG)
        self.assertEqual([session.transport.value()[:3] for session in sessions], [b""] * 5 + [b"421"] * 15)
        answer.callback(b"user")

    def test_gone_before_the_answer(self) -> None:
        """Who goes before the answer has guessed all the same."""

        class Checker:
            credentialInterfaces = PasswordFile.credentialInterfaces

            def requestAvatarId(self, credentials: object) -> Deferred[bytes]:
                return Deferred()

        portal = Portal(Realm(), [Checker()])  # type: ignore[list-item]
        self.begin_with_auth(portal=portal, limits=Limits(login_failure_rate=("2/hour",)))
        self.assertEqual([self.guess() for _ in range(3)], ["", "", "421"])

    def test_our_own_trouble(self) -> None:
        """A portal that fails (454) costs nobody anything; nor does a login that is right, however often."""
        answer = self.waiting(Realm())
        self.common.counts.obey(Limits(login_failure_rate=("2/hour",)))
        session, wire = self.hello()
        self.say(session, WRONG)
        answer.errback(RuntimeError("down"))
        self.assertEqual(wire.value()[:3], b"454")
        self.assertEqual(self.common.counts.owed(*self.failures()), 0)
        self.limited(login_failure_rate=("2/hour",))
        self.assertEqual([self.guess(RIGHT) for _ in range(10)], ["235"] * 10)

    def failures(self) -> tuple[Any, ...]:
        """What `owed` is asked for the user at the stranger's."""
        return What.AUTH_FAILURE, Who(client_key(client_address(STRANGER)), login=login_key("user")), self.clock.seconds()

    def test_refused_by_a_rule(self) -> None:
        """A login that the policy refuses counts once, and leaves the next one alone."""
        policy = FakePolicy()
        self.begin_with_auth(policy=policy, limits=Limits(login_failure_rate=("9/hour",)))
        policy.answers["auth"] = permanent("5.7.1", "no")
        session, _ = self.hello()
        self.assertEqual(self.codes(session, RIGHT + RIGHT), ["535"] * 2)
        self.assertEqual(self.common.counts.owed(*self.failures()), 2)
        del policy.answers["auth"]
        self.assertEqual(self.codes(session, RIGHT), ["235"])
        self.assertEqual(self.common.counts.owed(*self.failures()), 2)

    def test_slower_and_slower(self) -> None:
        """Guesses at one login from many addresses make each further one wait, up to the most; nobody is refused."""
        self.limited(tarpit=Seconds(2.0), tarpit_errors=3)
        delays = []
        for number in range(10):
            session, wire = self.hello(f"198.51.100.{number}")
            self.say(session, WRONG)
            before = self.clock.seconds()
            while not wire.value():
                self.clock.advance(0.25)
            delays.append(self.clock.seconds() - before)
            self.assertEqual(wire.value()[:3], b"535")
        self.assertEqual([round(delay, 1) for delay in delays], [0.0] * 4 + [0.5, 1.0, 1.5, 2.0, 2.0, 2.0])
        session, wire = self.hello(HOME)
        self.assertEqual(self.codes(session, plain("other", "x")), ["535"])
        self.say(session, RIGHT)
        self.assertEqual(wire.value(), b"")
        self.clock.advance(2.0)
        self.assertEqual(wire.value()[:3], b"235")

    def test_gone_while_slowed(self) -> None:
        """A guesser that goes while it waits has nothing looked at, and leaves no timer."""
        self.limited(tarpit=Seconds(9.0), tarpit_errors=1)
        self.assertEqual([self.guess() for _ in range(3)], ["535", "535", "535"])
        session, wire = self.hello()
        self.say(session, RIGHT)
        wire.lose()
        self.assertEqual((session.account, self.clock.getDelayedCalls()), ("", []))

    def test_relay_from(self) -> None:
        """A web mail in relay_from has all its users behind one address: it is neither counted nor slowed."""
        self.limited(auth_failure_rate=("2/hour",), login_failure_rate=("1/hour",), tarpit_errors=1)
        self.assertEqual([self.guess(address=TRUSTED) for _ in range(9)] + [self.guess(RIGHT, TRUSTED)], ["535"] * 9 + ["235"])


class AccountTests(AuthCase):
    """What one login may send."""

    def send(self, session: Session, recipients: int) -> list[str]:
        """A message; the codes from RCPT on."""
        rcpt = b"".join(b"RCPT TO:<u%d@elsewhere.example>\r\n" % number for number in range(recipients))
        codes = self.codes(session, b"MAIL FROM:<user@example.org>\r\n" + rcpt + b"DATA\r\n")
        return codes[1:] + (self.codes(session, BODY + b".\r\n") if codes[-1] == "354" else [])

    def test_recipients(self) -> None:
        """Hour and day, from wherever the account is used; over it 452 4.7.1, and the client keeps its mail."""
        self.begin_with_auth(limits=Limits(login_recipients=("4/hour", "6/day")))
        session = self.logged_in()
        self.assertEqual(self.send(session, 3), ["250"] * 3 + ["354", "250"])
        elsewhere, _ = self.hello(HOME)
        self.assertEqual(self.codes(elsewhere, RIGHT), ["235"])
        self.assertEqual(self.send(elsewhere, 3), ["250", "452", "452", "354", "250"])
        self.clock.advance(7200)
        self.assertEqual(self.send(self.logged_in(), 4), ["250", "250", "452", "452", "354", "250"])
        stranger, _ = self.hello()
        self.assertEqual(self.codes(stranger, b"MAIL FROM:<>\r\nRCPT TO:<user@example.org>\r\n"), ["250", "250"])

    def test_gone_before_it_is_stored(self) -> None:
        """A client that goes, login and all, while the disk is awaited has used nothing of its account."""
        self.begin_with_auth(limits=Limits(login_messages=("1/hour",)))
        session = self.logged_in()
        self.envelope(session)
        [sink] = self.accept.sinks
        sink.finishing = finishing = Deferred()
        self.codes(session, BODY + b".\r\n")
        session.transport.lose()
        finishing.callback(sink.body())
        self.assertEqual(self.accept.accepted, [])
        self.assertEqual(self.send(self.logged_in(), 1)[-1], "250")

    def test_messages(self) -> None:
        """2 an hour: the third MAIL is 450 4.7.1, from relay_from too; the log names account and limit."""
        self.begin_with_auth(limits=Limits(login_messages=("2/hour",)), access=Access(relay_from=()))
        session = self.logged_in()
        for _ in range(2):
            self.assertEqual(self.send(session, 1)[-1], "250")
        self.assertEqual(self.say(session, b"MAIL FROM:<user@example.org>\r\n")[0][:9], "450 4.7.1")
        self.begin_with_auth(limits=Limits(login_messages=("1/hour",)))
        session, _ = self.hello(TRUSTED)
        self.codes(session, RIGHT)
        self.assertEqual(self.send(session, 1)[-1], "250")
        self.assertEqual(self.codes(session, b"MAIL FROM:<user@example.org>\r\n"), ["450"])
        line = self.log.named("rejected")[0]
        self.assertEqual((line["limit"], line["account"]), ("login_messages", "user"))
