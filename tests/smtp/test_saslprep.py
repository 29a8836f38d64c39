"""SASLprep: the examples of RFC 4013, and another implementation."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from scramp.utils import saslprep as theirs
from twisted.trial.unittest import SynchronousTestCase

from mta.smtp.saslprep import saslprep


class PrepareTests(SynchronousTestCase):
    """`saslprep`."""

    def test_examples(self) -> None:
        """RFC 4013 3."""
        for text, prepared in (
            ("I\u00adX", "IX"),
            ("user", "user"),
            ("USER", "USER"),
            ("\u00aa", "a"),
            ("\u2168", "IX"),
            ("", ""),
        ):
            self.assertEqual(saslprep(text), prepared)
        for text in ("\u0007", "\u0627\u0031"):
            self.assertRaises(ValueError, saslprep, text)

    def test_more(self) -> None:
        """Blanks of other kinds become one, controls and private characters have no place, directions are not mixed."""
        self.assertEqual(saslprep("a\u00a0b\u3000c"), "a b c")
        self.assertEqual(saslprep("\u0627\u0031\u0628"), "\u06271\u0628")
        for text in ("a\x7f", "\ue000", "\ud800", "\u200e", "\u0627a\u0628", "\ufffd", "\U000e0001"):
            self.assertRaises(ValueError, saslprep, text)

    @settings(deadline=None, max_examples=200)
    @given(st.text(max_size=8))
    def test_as_others_do(self, text: str) -> None:
        """What both prepare they prepare alike.  (Characters newer than Unicode 3.2 pass here and not there.)"""
        try:
            wanted = theirs(text)
        except Exception:
            return
        self.assertEqual(saslprep(text), wanted)
