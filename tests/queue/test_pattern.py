"""Patterns of addresses: what SQLite makes of them is what a shell would."""

from __future__ import annotations

from fnmatch import fnmatchcase

import apsw
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.queue.pattern import as_glob, folded


class PatternTests(SynchronousTestCase):
    """as_glob and folded."""

    def test_as_glob(self) -> None:
        """Case is folded, `!` negates, an open bracket is a bracket, a bracket right at the beginning of a set belongs to it."""
        for pattern, expected in (
            ("*@Example.ORG", "*@example.org"),
            ("[!a-c]?", "[^a-c]?"),
            ("[^a]", "[^a]"),
            ("a[b", "a[[]b"),
            ("[", "[[]"),
            ("[]", "[[]]"),
            ("[]a]", "[]a]"),
            ("[!]a]x", "[^]a]x"),
            ("[!]", "[[]!]"),
            ("", ""),
        ):
            self.assertEqual(expected, as_glob(pattern), pattern)

    def test_only_ascii_is_folded(self) -> None:
        """As SQLite's lower() does it."""
        self.assertEqual("abzÄé", folded("ABZÄé"))
        self.assertEqual([("abzÄé",)], list(apsw.Connection(":memory:").execute("SELECT lower('ABZÄé')")))

    @settings(deadline=None, max_examples=200)
    @given(st.text("ab-[]!?*A", max_size=8), st.text("ab-[]!AB", max_size=6))
    def test_as_a_shell(self, pattern: str, text: str) -> None:
        """The same answer as fnmatch's, for every pattern without ranges (which it writes in its own way)."""
        if "-" in pattern:
            pattern = pattern.replace("-", "")
        expected = fnmatchcase(folded(text), folded(pattern))
        self.assertEqual(expected, apsw.strglob(as_glob(pattern), folded(text)) == 0)

    @settings(deadline=None, max_examples=100)
    @given(st.text(st.characters(exclude_characters="*?[\0", exclude_categories=["Cs"])))
    def test_a_plain_address_means_itself(self, address: str) -> None:
        """No letter but the three is special."""
        self.assertEqual(0, apsw.strglob(as_glob(address), folded(address)))
