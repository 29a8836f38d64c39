"""What a run leaves behind: results that another run adds to, tables between the marks of the manual and nowhere else."""

from __future__ import annotations

from pathlib import Path

import attrs
from twisted.trial.unittest import SynchronousTestCase

from bench import book
from bench.book import Result
from bench.scenario import FAMILIES, SCENARIOS

RELAY = FAMILIES["relay"]
ABOUT = {"machine": "2 cores", "Postfix, told here": ""}
SERVERS = {"mta 1": "as it comes"}


def result(scenario: str, ours: float, theirs: float = 500.0) -> Result:
    """Two rounds of two servers."""
    rounds = {
        "mta": [{"peak": 60.0}, {"rate": ours - 100, "cpu": 0.5}, {"rate": ours + 100, "cpu": 0.5}],
        "Postfix": [{"peak": 90.0}, {"rate": theirs, "cpu": 2.0}, {"rate": theirs, "cpu": 2.0}],
    }
    return Result(scenario, rounds, ABOUT, SERVERS)


class BookTests(SynchronousTestCase):
    """A folder with a manual in it."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.page = self.folder / "performance.md"

    def test_a_result_is_read_as_it_was_written(self) -> None:
        """Over one that was there before."""
        for rate in (1000.0, 2000.0):
            book.save(result("relay-20", rate), self.folder)
        self.assertEqual(book.read(self.folder), {"relay-20": result("relay-20", 2000.0)})
        self.assertEqual([path.name for path in (self.folder / "bench").iterdir()], ["contest-relay-20.json"])

    def test_the_table_has_a_row_for_each_server_in_each_scenario(self) -> None:
        """In the order of the scenarios; medians, the spread of the first figure, blanks for what was not measured."""
        lines = book.table(RELAY, {"relay-20": result("relay-20", 2000), "relay-1": result("relay-1", 300)})
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        self.assertEqual(cells[0][:4], ["", "server", "messages/s", "least to most"])
        self.assertEqual([row[:4] for row in cells[2:]], [
            ["1 session", "mta", "300", "200 to 400"],
            ["1 session", "Postfix", "500", "500 to 500"],
            ["20 sessions", "mta", "2,000", "1,900 to 2,100"],
            ["20 sessions", "Postfix", "500", "500 to 500"],
        ])  # fmt: skip
        self.assertEqual({len(row) for row in cells}, {8})

    def test_the_goals_are_named_and_settings_said_once(self) -> None:
        """Reached, not reached and not measured."""
        notes = book.notes(RELAY, {"relay-20": result("relay-20", 2000), "relay-1": result("relay-1", 300)})
        goals = [note for note in notes if note.startswith("- Goal, 20 sessions")]
        self.assertEqual(len(goals), 3)
        self.assertIn(": 4, reached.", goals[0])
        self.assertIn("not measured", goals[1])
        self.assertEqual(notes[3:], ["- machine: 2 cores"])

    def test_prose_around_the_marks_stays(self) -> None:
        """And a second run replaces the first."""
        self.page.write_text("# Speed\n\nBefore.\n\n<!-- bench:relay -->\nold\n<!-- bench:relay end -->\n\nBehind.\n")
        for rate in (1000, 2000):
            book.save(result("relay-20", rate), self.folder)
            book.published(self.folder)
        text = self.page.read_text()
        self.assertTrue(text.startswith("# Speed\n\nBefore.\n\n<!-- bench:relay -->\n"))
        self.assertIn("<!-- bench:relay end -->\n\nBehind.\n\n## Settings of the servers\n", text)
        self.assertEqual(text.count("- mta 1: as it comes\n"), 1)
        self.assertIn("| 2,000 ", text)
        self.assertNotIn("old", text)
        self.assertNotIn("| 1,000 ", text)
        self.assertTrue((self.folder / "bench/contest-relay.png").read_bytes().startswith(b"\x89PNG"))

    def test_a_family_without_marks_comes_at_the_end(self) -> None:
        """Once; families without a result are not spoken of; a manual that is not there is begun."""
        book.save(result("accept", 1000), self.folder)
        book.published(self.folder)
        once = self.page.read_text()
        self.assertEqual(once.count(f"## {FAMILIES['accept'].title}"), 1)
        self.assertNotIn(RELAY.title, once)
        book.published(self.folder)
        self.assertEqual(self.page.read_text(), once)

    def test_a_mark_that_is_not_closed_is_an_error(self) -> None:
        """The rest of the manual would be gone."""
        self.assertRaises(ValueError, book.between, "<!-- bench:relay -->\nand all of the rest", "relay", "Relaying", ["line"])


class ScenarioTests(SynchronousTestCase):
    """The table of scenarios itself."""

    def test_names_are_unique_and_families_known(self) -> None:
        """Results go by name, tables by family, goals by servers that take part and figures that are shown."""
        self.assertEqual(len({scenario.name for scenario in SCENARIOS}), len(SCENARIOS))
        for scenario in SCENARIOS:
            family = FAMILIES[scenario.family]
            self.assertIn(family.drawn, family.columns)
            for goal in scenario.goals:
                self.assertIn(goal.figure, family.columns)
                self.assertIn(goal.server, scenario.rig.servers)
                self.assertTrue(not goal.other or goal.other in scenario.rig.servers)

    def test_a_scaled_scenario_still_has_a_message_for_each_session(self) -> None:
        """However small the factor; everything else stays."""
        for scenario in SCENARIOS:
            small = scenario.scaled(0.0001)
            self.assertGreaterEqual(small.messages, small.sessions)
            self.assertEqual(attrs.evolve(small, messages=scenario.messages), scenario)
