"""What TLS a delivery is owed and has: the levels, the log's words, and `judge` over every combination (P01, P05)."""

from __future__ import annotations

from itertools import product

from twisted.trial.unittest import SynchronousTestCase

from mta.tls.policy import LEVELS, NOT_BUILT, Achieved, Level, Required, judge

CLEAR = Achieved()
ANONYMOUS = Achieved("TLSv1.2", "ADH-AES256-SHA", 256)
UNTRUSTED = Achieved("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256, "self-signed certificate", True, (b"leaf",))
OTHER_NAME = Achieved("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256, "", False, (b"leaf",))
VERIFIED = Achieved("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256, "", True, (b"leaf",))
ALL = (CLEAR, ANONYMOUS, UNTRUSTED, OTHER_NAME, VERIFIED)


def required(level: Level) -> Required:
    return Required(level, "mx.example.org", "192.0.2.1", 25, "example.org", ("mx.example.org",))


class JudgeTests(SynchronousTestCase):
    """`judge`: "" when satisfied."""

    def test_every_level_over_every_connection(self) -> None:
        """P01 P05: none and may take anything, encrypt any TLS, verify only a good chain with the right name."""
        satisfied = {
            Level.NONE: set(ALL),
            Level.MAY: set(ALL),
            Level.ENCRYPT: set(ALL) - {CLEAR},
            Level.VERIFY: {VERIFIED},
        }
        for level, achieved in product(Level, ALL):
            reason = judge(required(level), achieved)
            self.assertEqual(not reason, achieved in satisfied[level], (level, achieved, reason))

    def test_reasons_say_what_is_wrong(self) -> None:
        """Each refusal names its own cause."""
        verify = required(Level.VERIFY)
        self.assertIn("clear text", judge(verify, CLEAR))
        self.assertIn("no certificate", judge(verify, ANONYMOUS))
        self.assertIn("self-signed certificate", judge(verify, UNTRUSTED))
        self.assertIn("mx.example.org", judge(verify, OTHER_NAME))


class WordsTests(SynchronousTestCase):
    """Levels and the log."""

    def test_words_for_the_log(self) -> None:
        """C56: what is logged of a certificate."""
        self.assertEqual([a.verified for a in ALL], ["none", "anonymous", "untrusted", "trusted", "verified"])

    def test_levels(self) -> None:
        """Only encrypt and verify are mandatory, only verify looks at the certificate; no level is both built and not."""
        self.assertEqual([level for level in Level if level.is_mandatory], [Level.ENCRYPT, Level.VERIFY])
        self.assertEqual([level for level in Level if level.verifies], [Level.VERIFY])
        self.assertFalse(set(LEVELS) & set(NOT_BUILT))
