"""What TLS a delivery is owed and has: the levels, the log's words, and `judge` over every combination (P01 to P05)."""

from __future__ import annotations

from itertools import product

import attrs
from twisted.trial.unittest import SynchronousTestCase

from mta.dns.answer import Tlsa
from mta.tls.policy import LEVELS, Achieved, Level, Parameters, Required, judge

CLEAR = Achieved()
ANONYMOUS = Achieved("TLSv1.2", "ADH-AES256-SHA", 256)
UNTRUSTED = Achieved("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256, "self-signed certificate", True, (b"leaf",))
OTHER_NAME = Achieved("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256, "", False, (b"leaf",))
VERIFIED = Achieved("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256, "", True, (b"leaf",))
OTHER_LEAF = attrs.evolve(VERIFIED, match_error="none of the fingerprints")
PINNED = attrs.evolve(UNTRUSTED, names_ok=False)  # neither chain nor names count where the leaf itself is known
ALL = (CLEAR, ANONYMOUS, UNTRUSTED, OTHER_NAME, VERIFIED, OTHER_LEAF, PINNED)

MATCHED = {UNTRUSTED, OTHER_NAME, VERIFIED, PINNED}
BY_NAME = {VERIFIED, OTHER_LEAF}
SATISFIED = {
    Level.NONE: set(ALL),
    Level.MAY: set(ALL),
    Level.ENCRYPT: set(ALL) - {CLEAR},
    Level.FINGERPRINT: MATCHED,
    Level.VERIFY: BY_NAME,
    Level.SECURE: BY_NAME,
    Level.STS: BY_NAME,
    Level.DANE: MATCHED,
    Level.DANE_ONLY: MATCHED,
}


def required(level: Level) -> Required:
    """A demand that has all that any level compares with."""
    return Required(
        level,
        "mx.example.org",
        "192.0.2.1",
        25,
        "example.org",
        ("mx.example.org",),
        parameters=Parameters(fingerprints=("ab" * 32,)),
        tlsa=(Tlsa(3, 1, 1, b"digest"),),
    )


class JudgeTests(SynchronousTestCase):
    """`judge`: "" when satisfied."""

    def test_every_level_over_every_connection(self) -> None:
        """P01 P02 P03 P04 P05: none and may take anything, encrypt any TLS, the others what they were made for."""
        self.assertEqual(set(Level), set(SATISFIED))
        for level, achieved in product(Level, ALL):
            reason = judge(required(level), achieved)
            self.assertEqual(not reason, achieved in SATISFIED[level], (level, achieved, reason))

    def test_reasons_say_what_is_wrong(self) -> None:
        """Each refusal names its own cause."""
        verify = required(Level.VERIFY)
        self.assertIn("clear text", judge(verify, CLEAR))
        self.assertIn("no certificate", judge(verify, ANONYMOUS))
        self.assertIn("self-signed certificate", judge(verify, UNTRUSTED))
        self.assertIn("mx.example.org", judge(verify, OTHER_NAME))
        self.assertEqual("none of the fingerprints", judge(required(Level.FINGERPRINT), OTHER_LEAF))

    def test_nothing_to_compare_with_is_no_match(self) -> None:
        """P03 P23: without records or pins the level is not met, whatever the connection says of itself."""
        for level in (Level.DANE, Level.DANE_ONLY):
            self.assertEqual("no usable TLSA record", judge(attrs.evolve(required(level), tlsa=()), VERIFIED))
        pins = attrs.evolve(required(Level.FINGERPRINT), parameters=Parameters())
        self.assertEqual("no fingerprint is known", judge(pins, VERIFIED))
        self.assertIn("no name to look for", judge(attrs.evolve(required(Level.SECURE), names=()), OTHER_NAME))


class WordsTests(SynchronousTestCase):
    """Levels and the log."""

    def test_words_for_the_log(self) -> None:
        """C56: what is logged of a certificate."""
        words = ["none", "anonymous", "untrusted", "trusted", "verified", "verified", "untrusted"]
        self.assertEqual([achieved.verified for achieved in ALL], words)

    def test_levels(self) -> None:
        """All but none and may are mandatory; of these all but encrypt look at the certificate."""
        self.assertEqual([level for level in Level if not level.is_mandatory], [Level.NONE, Level.MAY])
        self.assertEqual([level for level in Level if not level.verifies], [Level.NONE, Level.MAY, Level.ENCRYPT])
        self.assertEqual(LEVELS, tuple(level.value for level in Level))

    def test_clear_text(self) -> None:
        """C49: a demand beyond the level forbids it too."""
        self.assertTrue(required(Level.MAY).may_go_clear)
        self.assertFalse(attrs.evolve(required(Level.MAY), never_clear=True).may_go_clear)
        self.assertFalse(required(Level.ENCRYPT).may_go_clear)
