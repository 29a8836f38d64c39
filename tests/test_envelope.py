"""The values that travel."""

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.envelope import Flag, Kind, Message, Outcome, Route, split_dest
from mta.status import Reply


class EnvelopeTests(SynchronousTestCase):
    """What is on disk, and what cannot be changed."""

    @given(st.sampled_from(["smtp", "maildir"]), st.from_regex(r"[a-z0-9-]{1,20}", fullmatch=True), st.text())
    def test_a_destination_tells_its_route(self, agent: str, name: str, next_hop: str) -> None:
        """split_dest is the way back from Route.dest, whatever the next hop."""
        self.assertEqual((agent, name, next_hop), split_dest(Route(name, agent, next_hop).dest))

    def test_the_bounce_destination(self) -> None:
        """ "bounce:" is an agent without route and next hop."""
        self.assertEqual(("bounce", "", ""), split_dest("bounce:"))

    def test_flags_are_on_disk(self) -> None:
        """Their numbers never change (queue.md, decision 15)."""
        self.assertEqual([1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024], [flag.value for flag in Flag])

    def test_return_by(self) -> None:
        """Mode R, where that time ends it: not where its lifetime does before, nor in mode N."""
        for flags, deliver_by, by in ((Flag.BY_RETURN, 9, 9), (Flag.BY_RETURN, 10, 0), (Flag(0), 9, 0), (Flag(0), 0, 0)):
            message = Message(4, "", 1, 9, 0, int(flags), 1, b"", deliver_by=deliver_by)
            self.assertEqual(by, message.return_by)

    def test_values_are_frozen(self) -> None:
        """Nobody edits what travels, not even the facts of an outcome."""
        outcome = Outcome(None, Kind.DELIVERED, Reply(250, "", ""))  # type: ignore[arg-type]
        with self.assertRaises(attrs.exceptions.FrozenInstanceError):
            outcome.kind = Kind.FAILED  # type: ignore[misc]
        with self.assertRaises(TypeError):
            outcome.facts["relay"] = "x"  # type: ignore[index]
