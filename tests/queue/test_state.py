"""The numbers that are on disk."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.queue.state import DestState, State, code_of, cut_reply, is_plain, marked
from mta.status import Reply


class StateTests(SynchronousTestCase):
    """Column `state`."""

    def test_numbers(self) -> None:
        """The indexes of the schema speak of these numbers: they never change."""
        self.assertEqual({"WAITING": 0, "TAKEN": 1, "HELD": 2}, {state.name: state.value for state in State})


class ReplyTests(SynchronousTestCase):
    """What is kept of a reply."""

    @settings(deadline=None, max_examples=200)
    @given(st.text(st.characters(), max_size=600))
    def test_q13_any_text(self, text: str) -> None:
        """Whatever the peer said: valid UTF-8, no NUL, one line, at most 400 bytes, and short clean text unchanged."""
        kept = cut_reply(Reply(550, "5.1.1", text))
        self.assertTrue(len(kept.encode("utf-8")) <= 400 and "\0" not in kept and "\n" not in kept)
        self.assertEqual("550 5.1.1 gone", cut_reply(Reply(550, "5.1.1", "gone")))
        self.assertEqual("550 5.1.1 gone", cut_reply("550 5.1.1 gone"))

    def test_code_of(self) -> None:
        """The three digits at the beginning, where there are any."""
        found = [code_of(text) for text in ("550 no", "250", "no", "", "55", "5x0 no", "²50 no")]
        self.assertEqual([550, 250, None, None, None, None, None], found)


class MarkedTests(SynchronousTestCase):
    """The state of a destination."""

    def test_q22_block_counts_and_grows(self) -> None:
        """A second, shorter block does not end the first one earlier."""
        state = marked(marked(DestState("d"), 10, 100, "busy"), 20, 50)
        self.assertEqual(DestState("d", 100, "busy", 2, 10, False, 20), state)
        self.assertFalse(is_plain(state))

    def test_q22_clear_keeps_a_suspension(self) -> None:
        """A success of mail in flight must not undo what the operator said."""
        state = marked(marked(DestState("d"), 10, suspended=True, why="work"), 20, clear=True)
        self.assertEqual((True, "work"), (state.suspended, state.blocked_why))
        self.assertTrue(is_plain(marked(state, 30, suspended=False)))
