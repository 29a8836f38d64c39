"""`mta.control.metrics`: the table, and pages of several workers."""

from __future__ import annotations

import json
import re
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.control.metrics import METRICS, decoded, listed, merged, series
from mta.envelope import Measure

MANUAL = Path(__file__).parents[2] / "docs" / "operators.md"
KINDS = {"counter", "gauge", "histogram"}
RULES = {sum: "sum", max: "largest", min: "smallest", None: "supervisor"}

numbers = st.one_of(st.integers(0, 1 << 53), st.floats(0, 1e15))


@st.composite
def measures(draw: st.DrawFn) -> Measure:
    """Any that the table has."""
    name = draw(st.sampled_from(sorted(METRICS)))
    metric = METRICS[name]
    labels = tuple(draw(st.text(max_size=5)) for _ in metric.labels)
    if not metric.bounds:
        return name, labels, draw(numbers)
    size = len(metric.bounds) + 2
    return name, labels, tuple(draw(st.lists(numbers, min_size=size, max_size=size)))


class TableTests(SynchronousTestCase):
    """`METRICS`."""

    def test_names(self) -> None:
        """As Prometheus wants them: a counter ends in _total, nothing else does, and nobody calls a label of his `worker`."""
        for name, metric in METRICS.items():
            self.assertTrue(re.fullmatch(r"(mta|process)_[a-z_]+[a-z]", name), name)
            self.assertIn(metric.kind, KINDS, name)
            self.assertEqual(metric.kind == "counter", name.endswith("_total"), name)
            self.assertEqual(metric.kind == "histogram", bool(metric.bounds), name)
            self.assertEqual(sorted(metric.bounds), list(metric.bounds), name)
            self.assertTrue("worker" not in metric.labels or metric.total is None, name)

    def test_families(self) -> None:
        """No two are one without the ending: OpenMetrics knows a counter without its _total."""
        self.assertEqual(len(METRICS), len({name.removesuffix("_total") for name in METRICS}))

    def test_counters_are_added(self) -> None:
        """A counter of which there are several has no other sum; what only the supervisor knows is never added."""
        for name, metric in METRICS.items():
            self.assertTrue(metric.kind == "gauge" or metric.total in (sum, None), name)

    def test_manual(self) -> None:
        """docs/operators.md has these rows: name, kind, labels, and how workers become one."""
        text = MANUAL.read_text("utf-8").partition("\n## Metrics\n")[2].partition("\n## ")[0]
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"(?m)^\| `.*\|$", text)]
        rows = [row for row in rows if len(row) == 5]  # others are in the table of alarms
        told = {row[0].strip("`"): (row[1], tuple(re.findall(r"`([a-z]+)`", row[2])), row[3]) for row in rows}
        known = {name: (each.kind, each.labels, RULES[each.total]) for name, each in METRICS.items()}  # type: ignore[index]
        self.assertEqual(known, told)


class PageTests(SynchronousTestCase):
    """`merged`, `series`, `listed`, `decoded`."""

    def test_merged(self) -> None:
        """Counters and most gauges are added, by label; of pressure the most, of an end the first."""
        page = {
            "0": [
                ("mta_connections_open", ("mx",), 2),
                ("mta_connections_open", ("out",), 1),
                ("mta_queue_pressure", (), 0.2),
                ("mta_tls_certificate_expiry_time_seconds", (), 70.0),
            ],
            "1": [
                ("mta_connections_open", ("mx",), 3),
                ("mta_queue_pressure", (), 0.9),
                ("mta_tls_certificate_expiry_time_seconds", (), 60.0),
            ],
        }
        wanted = [
            ("mta_connections_open", ("mx",), 5),
            ("mta_connections_open", ("out",), 1),
            ("mta_queue_pressure", (), 0.9),
            ("mta_tls_certificate_expiry_time_seconds", (), 60.0),
        ]
        self.assertEqual({"": wanted}, merged(page))

    def test_merged_histogram(self) -> None:
        """Bucket by bucket, and the sums."""
        size = len(METRICS["mta_delivery_delay_seconds"].bounds)
        one, two = (1, *[0] * size, 0.5), (2, *[0] * (size - 1), 4, 7.5)
        page: dict[str, list[Measure]] = {"0": [("mta_delivery_delay_seconds", (), one)]}
        page["1"] = [("mta_delivery_delay_seconds", (), two)]
        self.assertEqual({"": [("mta_delivery_delay_seconds", (), (3, *[0] * (size - 1), 4, 8.0))]}, merged(page))

    def test_the_supervisor_alone(self) -> None:
        """What it knows of the whole counts, what a worker thinks of it does not."""
        page = {"": [("mta_generation", (), 7)], "0": [("mta_generation", (), 1)], "1": [("mta_generation", (), 3)]}
        self.assertEqual({"": [("mta_generation", (), 7)]}, merged(page))
        self.assertEqual([("mta_generation", {}, 7)], series(page))

    def test_series(self) -> None:
        """In the order of the table, whoever said it; of a worker with its name."""
        page: dict[str, list[Measure]] = {"": [("mta_workers", (), 2)], "1": [("mta_connections_open", ("mx",), 3)]}
        wanted = [("mta_connections_open", {"listener": "mx", "worker": "1"}, 3), ("mta_workers", {}, 2)]
        self.assertEqual(wanted, series(page))

    @settings(deadline=None, max_examples=100)
    @given(st.lists(measures(), max_size=5))
    def test_there_and_back(self, given: list[Measure]) -> None:
        """Through JSON, as the control socket and the channels of workers have it."""
        self.assertEqual(given, decoded(json.loads(json.dumps(listed(given)))))

    @settings(deadline=None, max_examples=100)
    @given(st.lists(measures(), min_size=1, max_size=8))
    def test_one_is_all(self, given: list[Measure]) -> None:
        """One worker's page is its own sum, where each series is there once."""
        once = {(name, labels): number for name, labels, number in given if METRICS[name].total is not None}
        told = {(name, labels): number for name, labels, number in merged({"0": _measures(once)})[""]}
        self.assertEqual(once, told)

    def test_what_is_no_page(self) -> None:
        """A worker that is another program, or confused: ValueError, never another error."""
        connections = "mta_connections_open"
        for said in (
            5,
            [5],
            [[connections]],
            [["mta_unknown", [], 1]],
            [[connections, ["mx"], "1"]],
            [[connections, [], 1]],
            [[connections, "m", 1]],
            [[connections, ["mx"], [1, 2]]],
            [["mta_delivery_delay_seconds", [], [1]]],
            [[[], [], 1]],
        ):
            self.assertRaises(ValueError, decoded, said)


def _measures(once: dict[tuple[str, tuple[str, ...]], float | tuple[float, ...]]) -> list[Measure]:
    return [(name, labels, number) for (name, labels), number in once.items()]
