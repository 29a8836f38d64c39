"""docs/smtp-states.md against the machine: every command in every state."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mta.smtp.order import ALLOWED, State
from tests.matrix import COMMANDS, PAGE, PLACES, WAYS, cell, render, talk_in


class MatrixTests(SynchronousTestCase):
    """The page is made by `python -m tests.matrix`."""

    maxDiff = None

    def test_the_page_does_not_lie(self) -> None:
        """What stands in the page is what the machine does."""
        self.assertEqual(PAGE.read_text("utf-8"), render(), "python -m tests.matrix writes the page anew")

    def test_all_commands_in_all_states(self) -> None:
        """Every verb of the table is in the matrix, and every state but those in which nothing is heard; each is reached."""
        verbs = {command.split()[0] for command in COMMANDS}
        self.assertLessEqual(frozenset().union(*ALLOWED.values()), verbs)
        self.assertEqual({*State} - {State.TLS, State.ENDED}, {*WAYS})
        everywhere = next(iter(PLACES.values()))
        self.assertEqual([], [state for state in WAYS if talk_in(everywhere, state) is None])

    def test_one_reply(self) -> None:
        """Nothing is left without its reply but what lies in a body, and garbage is always an error."""
        for place in PLACES.values():
            for state in WAYS:
                if state in (State.SILENT, State.BODY) or talk_in(place, state) is None:
                    continue
                for command in COMMANDS:
                    found = cell(place, state, command)
                    self.assertRegex(found, r"^[2-5][0-9]{2}( |$)", (state, command))
                    if command in (b"XYZZY", b"GET / HTTP/1.1", b"BDAT x", b"NOOP\n"):
                        self.assertEqual("5", found[0], (state, command))
