"""How an attempt tells what it came to: kinds by reply, and the log's words for what a certificate was worth."""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from mta.dns.answer import Tlsa
from mta.envelope import Kind
from mta.relay.outcome import bug, kind_of, settle_all, told_without_tls, verified
from mta.status import MailError, Reply, Scope
from mta.tls.policy import Achieved, Level, Required
from tests.relay.world import job

PLAIN = Required(Level.MAY, "mx.example.org", "192.0.2.1", 25, "example.org")
DANE = attrs.evolve(PLAIN, level=Level.DANE, tlsa=(Tlsa(3, 1, 1, bytes(32)),))
PINNED = attrs.evolve(PLAIN, level=Level.FINGERPRINT)
STRANGER = Achieved("TLSv1.3", "X", 256, "self-signed certificate", False, (b"leaf",))


class OutcomeTests(SynchronousTestCase):
    """The functions of outcome.py."""

    def test_kinds(self) -> None:
        """2yz delivered, 5yz failed, whatever else deferred: mail never bounces by a doubt."""
        for code, kind in ((250, Kind.DELIVERED), (550, Kind.FAILED), (450, Kind.DEFERRED), (354, Kind.DEFERRED)):
            self.assertIs(kind_of(Reply(code, "", "x")), kind)

    def test_owed(self) -> None:
        """RFC 3461 5.2.2: a success of which the sender is to hear from us is confirmed; nothing else changes."""
        for code, kind in ((250, Kind.CONFIRMED), (550, Kind.FAILED), (450, Kind.DEFERRED)):
            self.assertIs(kind_of(Reply(code, "", "x"), 2), kind)

    def test_verified(self) -> None:
        """P10 P19: a TLSA record or pin that matches is "verified", whatever the chain; for an insecure MX "half"; no match is
        told as at any level."""
        self.assertEqual(verified(PLAIN, STRANGER), "untrusted")
        self.assertEqual((verified(DANE, STRANGER), verified(PINNED, STRANGER)), ("verified", "verified"))
        self.assertEqual(verified(attrs.evolve(DANE, half=True), STRANGER), "half")
        for required in (DANE, PINNED):
            self.assertEqual(verified(required, attrs.evolve(STRANGER, match_error="no")), "untrusted")
            self.assertEqual(verified(required, attrs.evolve(STRANGER, chain=())), "anonymous")
        trusted = attrs.evolve(STRANGER, chain_error="", names_ok=True)
        self.assertEqual(verified(PLAIN, trusted), "verified")

    def test_settle_all(self) -> None:
        """One outcome for each recipient, with the error's reply, scope, delay and reason."""
        error = MailError(Reply(451, "4.7.5", "no"), "T6", Scope.SESSION, retry_after=60.0)
        settlement = settle_all(job("a@b.c", "d@e.f"), error, facts={"relay": "x"})
        self.assertEqual(len(settlement.outcomes), 2)
        for outcome in settlement.outcomes:
            self.assertEqual((outcome.kind, outcome.reply, outcome.scope), (Kind.DEFERRED, error.reply, Scope.SESSION))
            self.assertEqual((outcome.retry_after, outcome.facts), (60.0, {"relay": "x", "reason": "T6"}))
        self.assertIs(settle_all(job(), bug(ValueError("x")), Kind.GIVEN_BACK).outcomes[0].kind, Kind.GIVEN_BACK)

    def test_530(self) -> None:
        """A40: 530 in clear text is about TLS and not about the mail: transient; other replies stay as they are."""
        self.assertEqual(told_without_tls(Reply(530, "5.7.0", "TLS first")).enhanced, "4.7.5")
        other = Reply(550, "5.1.1", "who")
        self.assertIs(told_without_tls(other), other)
