"""What every conversation is made of: the gate before the commands, the limits of the connection, the end."""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from mta.smtp import wording
from mta.smtp.event import Auth, MailFrom, Refused
from mta.smtp.order import REQUIREMENTS
from mta.smtp.server import Counters
from mta.status import Reply
from tests.smtp.talk import OPTIONS, WITH_AUTH, Talk

PLAIN = b"AUTH PLAIN AHRpbQB0YW4=\r\n"
NO = Reply(535, "5.7.8", "No")


def into_tls(talk: Talk, options) -> Talk:
    """The fresh machine behind STARTTLS, with EHLO said."""
    assert talk.codes(b"STARTTLS\r\n") == [220]
    fresh = Talk(options, in_tls=True, counters=talk.counters, greet=False)
    fresh.say(b"EHLO c.test\r\n")
    return fresh


class LimitTests(SynchronousTestCase):
    def check(self, command: bytes, yes: int, limit: int, reply: Reply, answers=None, **changes) -> None:
        """All but one of the limit used up in clear, the last in TLS; the next is refused, just as without TLS."""
        options = attrs.evolve(WITH_AUTH, max_errors=99, **changes)
        for tls in (False, True):
            talk = Talk(options)
            talk.answers = {kind: [given] * 99 for kind, given in (answers or {}).items()}
            talk.say(b"EHLO c.test\r\n")
            self.assertEqual([yes] * (limit - 1), [talk.codes(command)[-1] for _ in range(limit - 1)])
            if tls:
                given, talk = talk.answers, into_tls(talk, options)
                talk.answers = given
            self.assertEqual(yes, talk.codes(command)[-1])
            self.assertEqual(reply.code, talk.codes(command)[-1], command)
            refused = [event for event in talk.events if type(event) is Refused]
            self.assertEqual([reply], [event.reply for event in refused])
            self.assertEqual(reply.code == 421, talk.machine.ended)

    def test_transactions(self):
        """S14, A29: three, the fourth is 421."""
        command = b"RSET\r\nMAIL FROM:<>\r\n"
        self.check(command, 250, 3, wording.TOO_MANY_TRANSACTIONS, max_transactions=3)

    def test_recipients(self):
        """S14: ten in all: the eleventh waits for another connection, with 452 in the mail and 421 at the next (RFC 5321 4.5.3.1.10)."""
        command = b"RSET\r\nMAIL FROM:<>\r\nRCPT TO:<b@mx.test>\r\n"
        self.check(command, 250, 10, wording.TOO_MANY_IN_ALL, max_recipients_total=10)
        talk = Talk(attrs.evolve(OPTIONS, max_recipients_total=2)).begin(2)
        self.assertEqual([452, 452, 354], talk.codes(b"RCPT TO:<c@mx.test>\r\n" * 2) + talk.codes(b"DATA\r\n"))
        self.assertEqual([250], talk.codes(b"x\r\n.\r\n"))
        self.assertEqual([421], talk.codes(b"MAIL FROM:<>\r\n"))

    def test_auth_failures(self):
        """S14: five wrong passwords, then 421 before the sixth is looked at."""
        self.check(PLAIN, 535, 5, wording.TOO_MANY_LOGINS, {Auth: NO}, max_auth_failures=5)

    def test_commands(self):
        """S14: every command counts, good or bad, in clear and in TLS."""
        options = attrs.evolve(WITH_AUTH, max_commands=6)
        talk = Talk(options)
        talk.codes(b"EHLO c.test\r\n")
        talk.codes(b"NOOP\r\nX\r\n")
        fresh = into_tls(talk, options)
        self.assertEqual([250, 421], fresh.codes(b"NOOP\r\nNOOP\r\nNOOP\r\n"))
        self.assertEqual((7, True), (fresh.counters.commands, fresh.machine.ended))

    def test_no_limit(self):
        """0 is none."""
        options = attrs.evolve(
            WITH_AUTH, max_auth_failures=0, max_transactions=0, max_recipients_total=0, max_commands=0, max_errors=10**6
        )
        counters = Counters(commands=10**6, errors=0, transactions=10**6, recipients=10**6, auth_failures=10**6)
        talk = Talk(options, counters=counters)
        talk.say(b"EHLO c.test\r\n")
        self.assertEqual([235, 250, 250], talk.codes(PLAIN + b"MAIL FROM:<>\r\nRCPT TO:<b@mx.test>\r\n"))

    def test_a_refused_login_of_the_machine_is_no_failure(self):
        """What cannot be read is an error of the client, not a guess at a password."""
        talk = Talk(WITH_AUTH)
        talk.say(b"EHLO c.test\r\n")
        self.assertEqual([501, 504], talk.codes(b"AUTH PLAIN ?\r\nAUTH X\r\n"))
        self.assertEqual((0, 2), (talk.counters.auth_failures, talk.counters.errors))


class GateTests(SynchronousTestCase):
    def test_each_requirement(self):
        """S21: MAIL in clear, in TLS, and after AUTH in each; what is refused reaches no session."""
        expected = {
            "none": [250, 250, 250, 250],
            "tls": [530, 530, 250, 250],
            "auth": [530, 250, 530, 250],
            "tls-or-auth": [530, 250, 250, 250],
            "tls+auth": [530, 530, 530, 250],
        }
        self.assertEqual(set(REQUIREMENTS), set(expected))
        for requirement, codes in expected.items():
            found = []
            for in_tls in (False, True):
                for known in (False, True):
                    talk = Talk(attrs.evolve(WITH_AUTH, mail_requires=requirement), in_tls=in_tls, greet=not in_tls)
                    talk.say(b"EHLO c.test\r\n")
                    talk.say(PLAIN if known else b"NOOP\r\n")
                    found += talk.codes(b"MAIL FROM:<>\r\n")
                    self.assertEqual(found[-1] == 250, any(type(event) is MailFrom for event in talk.events))
            self.assertEqual(codes, found, requirement)

    def test_always_free(self):
        """S21: EHLO, HELO, NOOP, RSET, HELP and QUIT are never refused by it."""
        for requirement in REQUIREMENTS:
            talk = Talk(attrs.evolve(WITH_AUTH, mail_requires=requirement))
            codes = [
                talk.codes(line + b"\r\n")[0] for line in (b"EHLO c.test", b"HELO c.test", b"NOOP", b"RSET", b"HELP", b"QUIT")
            ]
            self.assertEqual([250, 250, 250, 250, 214, 221], codes)

    def test_it_costs_errors(self):
        """A client that knocks on and on is sent away."""
        talk = Talk(attrs.evolve(OPTIONS, refuse_all=Reply(554, "5.7.1", "No"), max_errors=3), in_tls=True, greet=False)
        self.assertEqual([554, 554, 554, 421], talk.codes(b"MAIL FROM:<>\r\n" * 9))
        self.assertEqual(4, talk.counters.errors)


class ImplicitTlsTests(SynchronousTestCase):
    def test_greeting_and_offers(self):
        """C1.11: greeted, secure from the first byte, and a STARTTLS that is offered by mistake is not there."""
        talk = Talk(attrs.evolve(WITH_AUTH, requiretls=True, mail_requires="tls"), implicit=True)
        self.assertEqual(b"220 mx.test ESMTP\r\n", talk.greeting)
        offered = talk.say(b"EHLO c.test\r\n")
        self.assertIn(b"REQUIRETLS", offered)
        self.assertNotIn(b"STARTTLS", offered)
        self.assertEqual([502, 250], talk.codes(b"STARTTLS\r\nMAIL FROM:<> REQUIRETLS\r\n"))
