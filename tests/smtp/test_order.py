"""The table of the receiver's order: complete, and with a reply for everything else."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mta.smtp import wording
from mta.smtp.order import ALLOWED, REQUIREMENTS, State, gate, is_foreign, misplaced
from mta.status import Reply

TALKING = (State.CONNECTED, State.READY, State.MAIL, State.RCPT, State.CHUNKS, State.DEAD)


class OrderTests(SynchronousTestCase):
    def test_every_state_is_there(self):
        """No state was forgotten, and where nothing may be said nothing is."""
        self.assertEqual(set(State), set(ALLOWED))
        for state in set(State) - set(TALKING):
            self.assertEqual(frozenset(), ALLOWED[state])

    def test_always(self):
        """RFC 5321 4.1.4: these at any time; S11: also when TLS has just begun."""
        for state in TALKING:
            self.assertLessEqual({b"NOOP", b"HELP", b"RSET", b"QUIT", b"EHLO", b"HELO"}, ALLOWED[state])

    def test_transaction(self):
        """RFC 5321 3.3: MAIL, RCPT, DATA in that order."""
        self.assertEqual([State.READY], [state for state in TALKING if b"MAIL" in ALLOWED[state]])
        self.assertEqual([State.MAIL, State.RCPT], [state for state in TALKING if b"RCPT" in ALLOWED[state]])
        self.assertEqual([State.MAIL, State.RCPT], [state for state in TALKING if b"DATA" in ALLOWED[state]])
        self.assertEqual([State.MAIL, State.RCPT, State.CHUNKS], [state for state in TALKING if b"BDAT" in ALLOWED[state]])

    def test_misplaced(self):
        """503 for every word we speak where it may not come; the text says what is missing."""
        words = frozenset().union(*ALLOWED.values())
        for state in TALKING:
            for verb in words - ALLOWED[state]:
                self.assertEqual((verb, 503), ((found := misplaced(state, verb))[0], found[1].code))
        self.assertEqual(wording.HELLO_FIRST, misplaced(State.CONNECTED, b"MAIL")[1])
        self.assertEqual(wording.MAIL_FIRST, misplaced(State.READY, b"RCPT")[1])
        self.assertEqual(wording.MAIL_GIVEN, misplaced(State.RCPT, b"MAIL")[1])
        self.assertEqual(wording.BDAT_BEGUN, misplaced(State.CHUNKS, b"DATA")[1])
        self.assertEqual(wording.RSET_FIRST, misplaced(State.DEAD, b"BDAT")[1])

    def test_not_spoken(self):
        """502 for words of SMTP that we do not speak, 503 before EHLO (S11); 500 for no word at all."""
        self.assertEqual((b"AUTH", wording.HELLO_FIRST), misplaced(State.CONNECTED, b"AUTH"))
        self.assertEqual((b"EXPN", wording.NOT_IMPLEMENTED), misplaced(State.RCPT, b"EXPN"))
        self.assertEqual((b"", wording.UNKNOWN), misplaced(State.READY, b"XYZZY"))

    def test_foreign(self):
        """S48, X17: HTTP and others, header lines; but nothing that is a mistake in SMTP."""
        for text in (
            b"GET / HTTP/1.1",
            b"post /x",
            b"CONNECT a:25 HTTP/1.1",
            b"USER x",
            b"Host: a.test",
            b"Content-Length: 5",
            b"GET",
        ):
            self.assertTrue(is_foreign(text), text)
        for text in (b"XYZZY", b"MAILFROM <a@b>", b"GETTING", b"", b"foo bar: x", b":", b"HELLO a"):
            self.assertFalse(is_foreign(text), text)


class GateTests(SynchronousTestCase):
    def test_what_must_come_first(self):
        """S21, A40: each value of mail_requires, in clear and in TLS, known and not."""
        tls, auth, either = wording.STARTTLS_FIRST, wording.AUTH_FIRST, wording.STARTTLS_OR_AUTH_FIRST
        for requirement, replies in {
            "none": (None, None, None, None),
            "tls": (tls, tls, None, None),
            "auth": (auth, None, auth, None),
            "tls-or-auth": (either, None, None, None),
            "tls+auth": (tls, tls, auth, None),
        }.items():
            cases = [(in_tls, known) for in_tls in (False, True) for known in (False, True)]
            gates = [gate(requirement, in_tls, known) for in_tls, known in cases]
            self.assertEqual(list(replies), [found and found.reply for found in gates], requirement)
            self.assertIn(requirement, REQUIREMENTS)
        self.assertEqual(5, len(REQUIREMENTS))

    def test_what_is_free(self):
        """RFC 3207 4 and RFC 4954 6: never the way out, nor the way in."""
        harmless = {b"EHLO", b"HELO", b"NOOP", b"RSET", b"HELP", b"QUIT", b"STARTTLS", b"XCLIENT", b"XFORWARD"}
        self.assertEqual(harmless, gate("tls", False, False).free)
        for requirement in ("auth", "tls-or-auth"):
            self.assertEqual(harmless | {b"AUTH"}, gate(requirement, False, False).free)
        self.assertEqual(harmless | {b"AUTH"}, gate("tls+auth", True, False).free)

    def test_nothing_is_served(self):
        """S23: QUIT alone, whatever else is required or reached."""
        no = Reply(554, "5.7.1", "No")
        for requirement in REQUIREMENTS:
            self.assertEqual((no, {b"QUIT"}), ((found := gate(requirement, True, True, no)).reply, found.free))
