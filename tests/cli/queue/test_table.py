"""The tables of `mta queue`: what each cell says at a given time, in what width, and that no stranger's byte moves the cursor."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mta.cli.queue.table import age, cells, plain, rows_table, size, summary_table, text_of
from tests.cli.queue.facts import DAY, DEST, HOUR, ID, MINUTE, NOW, row


class WordsTests(SynchronousTestCase):
    """Ages, sizes, texts."""

    def test_age(self) -> None:
        """The largest unit, rounded down; what is not yet is 0."""
        for ms, text in ((0, "0s"), (-5, "0s"), (999, "0s"), (59_999, "59s"), (MINUTE, "1m"), (HOUR, "1h"), (5 * DAY, "5d")):
            self.assertEqual(text, age(ms))

    def test_size(self) -> None:
        """Bytes, KiB, MiB."""
        for count, text in ((0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (4000, "4 KiB"), (5 << 19, "2.5 MiB")):
            self.assertEqual(text, size(count))

    def test_plain(self) -> None:
        """Escape sequences, line ends and direction marks are gone, letters stay."""
        self.assertEqual("?[2Jä?b?c", plain("\x1b[2Jä\nb\u202ec"))


class RowsTests(SynchronousTestCase):
    """Recipients."""

    def test_cells(self) -> None:
        """Each column of a row that waits."""
        self.assertEqual(
            [ID, "3h", "12 KiB", "ann@example.com", "bob@example.org", "smtp:_mx/example.org", "waiting", "in 5m", "3"],
            cells(row(), NOW)[:-1],
        )

    def test_last_reply(self) -> None:
        """The last column."""
        self.assertEqual("450 4.2.1 mailbox busy", cells(row(), NOW)[-1])

    def test_next_try(self) -> None:
        """Due, on its way, held."""
        for changed, text in (({"due": NOW}, "due"), ({"state": "taken"}, "now"), ({"state": "held"}, "-")):
            self.assertEqual(text, cells(row(**changed), NOW)[7])

    def test_what_is_missing(self) -> None:
        """The null sender, and nobody has replied yet."""
        said = cells(row(**{"from": "", "last_reply": None}), NOW)
        self.assertEqual(("<>", ""), (said[3], said[9]))

    def test_long_reply_is_cut(self) -> None:
        """The beginning tells why."""
        self.assertEqual("x" * 59 + "…", cells(row(last_reply="x" * 61), NOW)[9])
        self.assertEqual("x" * 60, cells(row(last_reply="x" * 60), NOW)[9])

    def test_without_a_terminal(self) -> None:
        """One line for each recipient, however long; no escape sequences, no spaces at the ends."""
        long = "a" * 200 + "@example.org"
        head, first, second = text_of(rows_table([row(to=long), row(to="[red]x[/red]@example.org")], NOW)).splitlines()
        self.assertEqual(["id", "age", "size", "from", "to"], head.split()[:5])
        self.assertIn(f" {long} ", first)
        self.assertIn(" [red]x[/red]@example.org ", second)  # markup is text
        self.assertNotIn("\x1b", head + first + second)
        self.assertEqual((head.rstrip(), first.rstrip()), (head, first))

    def test_in_a_terminal(self) -> None:
        """No line is wider than it, ids stay whole, colours are there."""
        lines = text_of(rows_table([row(to="b" * 80)], NOW), 100).splitlines()
        self.assertEqual([True, True], [len(line) <= 100 for line in lines])
        self.assertEqual([ID, "3h", "12", "KiB"], lines[1].split()[:4])
        self.assertIn(" waiting in 5m 3 ", " ".join(lines[1].split()))  # these are whole, the others share what is left
        self.assertEqual(4, lines[1].count("…"))
        self.assertIn("\x1b[", text_of(rows_table([row(state="held")], NOW), 100, True))

    def test_marks(self) -> None:
        """What happened to each, in front."""
        lines = text_of(rows_table([row(), row()], NOW, ["new", "gone"])).splitlines()
        self.assertEqual(["what", "new", "gone"], [line.split()[0] for line in lines])


class SummaryTests(SynchronousTestCase):
    """Destinations."""

    def lines(self, *found: dict[str, Any], suspended: tuple[str, ...] = ()) -> list[list[str]]:
        text = text_of(summary_table({"destinations": [{**DEST, **each} for each in found], "suspended": suspended}, NOW))
        return [line.split() for line in text.splitlines()]

    def test_columns(self) -> None:
        """Total, due, held, and the ages; one destination has no total line."""
        head, line = self.lines({})
        self.assertEqual(["destination", "total", "due", "held", "<5m", "<1h", "<1d", "older", "state"], head)
        self.assertEqual(["smtp:_mx/example.org", "10", "4", "2", "1", "2", "3", "4"], line)

    def test_total(self) -> None:
        """Of all that are listed."""
        _, total, *_ = self.lines({}, {"total": 5, "ages": [5, 0, 0, 0]})
        self.assertEqual(["TOTAL", "15", "8", "4", "6", "2", "3", "4"], total)

    def test_states(self) -> None:
        """Blocked for how long and why; suspended; a block that has ended is none."""
        _, line = self.lines({"blocked_until": NOW + 2 * MINUTE, "why": "450 4.4.1\nno answer"})
        self.assertEqual("blocked for 2m, 450 4.4.1?no answer", " ".join(line[8:]))
        _, line = self.lines({"suspended": True, "why": "moving"})
        self.assertEqual("suspended, moving", " ".join(line[8:]))
        _, line = self.lines({"blocked_until": NOW, "why": "450"})
        self.assertEqual([], line[8:])

    def test_in_a_terminal(self) -> None:
        """One line for each, no wider than it; numbers stay whole."""
        long = {**DEST, "dest": "smtp:_mx/" + "d" * 60, "blocked_until": NOW + MINUTE, "why": "421 4.4.1 " + "no answer " * 9}
        _, line = text_of(summary_table({"destinations": [long], "suspended": []}, NOW), 80).splitlines()
        self.assertLessEqual(len(line), 80)
        self.assertIn("     10      4      2      1      2      3      4  blocked", line)

    def test_suspended_without_mail(self) -> None:
        """They are not forgotten."""
        _, _, line = self.lines({}, suspended=("smtp:_mx/quiet.example",))
        self.assertEqual(["smtp:_mx/quiet.example", *["0"] * 7, "suspended"], line)
