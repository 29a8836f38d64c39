"""`mta.control.merge`: several queues as one."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.control.merge import merged_dest, merged_page, merged_report, merged_summary
from mta.queue.ids import id_text, parse_id


def dest(name: str, total: int = 0, **other: Any) -> dict[str, Any]:
    known = {"dest": name, "suspended": False, "blocked_until": 0, "why": None, "fails": 0, "first_fail": None}
    counts = {"total": total, "waiting": total, "due": 1, "held": 2, "taken": 3, "oldest": 50, "ages": [total, 0, 0, 1]}
    return {**known, **counts, **other}


class PageTests(SynchronousTestCase):
    """`merged_page`."""

    @settings(deadline=None, max_examples=200)
    @given(st.lists(st.sets(st.integers(1, 300), max_size=40), max_size=4), st.integers(1, 9), st.integers(1, 9))
    def test_everything_once_in_order(self, queues: list[set[int]], size: int, limit: int) -> None:
        """However the queues page: each id is shown once, and none behind a later one."""
        shown, after = list[int](), 0
        for _ in range(1000):
            pages = []
            for queue in queues:
                left = sorted(id for id in queue if id > after)
                page = left[:size]
                pages.append(([{"recipient": id_text(id)} for id in page], page[-1] if len(left) > size else 0))
            rows, after = merged_page(pages, limit)
            self.assertTrue(len(rows) <= limit)
            shown += [parse_id(row["recipient"]) for row in rows]
            if not after:
                break
        self.assertEqual(sorted(set[int]().union(*queues)), shown)

    def test_no_queue(self) -> None:
        """Nothing, and that was all."""
        self.assertEqual(([], 0), merged_page([], 5))


class SummaryTests(SynchronousTestCase):
    """`merged_summary` and `merged_dest`."""

    def test_added_up(self) -> None:
        """Counts are added, the oldest is the oldest, what is remembered is the worst."""
        one = {"destinations": [dest("a", 4, oldest=9, fails=3, first_fail=7), dest("b", 3)], "suspended": ["c"]}
        two = {"destinations": [dest("a", 2, oldest=5, first_fail=2, why="x")], "suspended": ["b"]}
        found = merged_summary([one, two], 5)
        first, second = found["destinations"]
        self.assertEqual(
            ("a", 6, 6, 2, 4, 6, 5), tuple(first[k] for k in ("dest", "total", "waiting", "due", "held", "taken", "oldest"))
        )
        self.assertEqual(([6, 0, 0, 2], 3, 2, "x"), (first["ages"], first["fails"], first["first_fail"], first["why"]))
        self.assertEqual("b", second["dest"])
        self.assertEqual(["c"], found["suspended"])

    def test_limit(self) -> None:
        """The largest; a suspended one beyond is named."""
        found = merged_summary([{"destinations": [dest("a", 1, suspended=True), dest("b", 9)], "suspended": []}], 1)
        self.assertEqual((["b"], ["a"]), ([each["dest"] for each in found["destinations"]], found["suspended"]))

    def test_nobody_remembers(self) -> None:
        """A plain destination stays plain."""
        known = {key: dest("a")[key] for key in ("dest", "suspended", "blocked_until", "why", "fails", "first_fail")}
        self.assertEqual(known, merged_dest([known, known]))


class ReportTests(SynchronousTestCase):
    """`merged_report`."""

    def test_added(self) -> None:
        """Numbers and what was left out."""
        one = {"messages": 1, "recipients": 2, "files": 3, "refused": [["X", "why"]], "refused_count": 1}
        two = {"messages": 10, "recipients": 20, "files": 30, "refused": [], "refused_count": 0}
        wanted = {"messages": 11, "recipients": 22, "files": 33, "refused": [["X", "why"]], "refused_count": 1}
        self.assertEqual(wanted, merged_report([one, two]))
