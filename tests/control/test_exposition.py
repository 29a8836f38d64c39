"""`mta.control.exposition`: what Prometheus reads, read back by its own parser."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families as families
from prometheus_client.registry import REGISTRY
from twisted.trial.unittest import SynchronousTestCase

from mta.control.exposition import written
from mta.control.metrics import METRICS
from mta.envelope import Measure

DELAY = "mta_delivery_delay_seconds"
BOUNDS = METRICS[DELAY].bounds
OWN: list[Measure] = [
    ("mta_connections_total", ("mx",), 3),
    ("mta_connections_open", ('a "b" \\ \n',), 1),
    ("mta_generation", (), 2),
]


def samples(text: str, parse: Any = families) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value for family in parse(text) for sample in family.samples
    }


class ExpositionTests(SynchronousTestCase):
    """`written`."""

    def test_text(self) -> None:
        """Names, labels however odd, numbers; help and type from the table."""
        text, kind = written({"": OWN})
        self.assertTrue(kind.startswith("text/plain; version=0.0.4"), kind)
        wanted = {
            ("mta_connections_total", (("listener", "mx"),)): 3.0,
            ("mta_connections_open", (("listener", 'a "b" \\ \n'),)): 1.0,
            ("mta_generation", ()): 2.0,
        }
        self.assertEqual(wanted, samples(text.decode()))
        self.assertIn("# TYPE mta_connections_total counter\n", text.decode())
        self.assertIn(f"# HELP mta_generation {METRICS['mta_generation'].help}\n", text.decode())

    def test_what_nobody_can_mean(self) -> None:
        """An answer is there for everybody."""
        for accept in ("application/openmetrics-text; version=abc", "text/plain; version=x.1", "text/plain;=;,;version=", "\0"):
            text, kind = written({"": OWN}, accept)
            self.assertEqual((written({"": OWN})[0], True), (text, kind.startswith("text/plain; version=0.0.4")), accept)

    def test_openmetrics(self) -> None:
        """Who asks for it gets it."""
        text, kind = written({"": OWN}, "application/openmetrics-text; version=1.0.0,text/plain;q=0.5")
        self.assertTrue(kind.startswith("application/openmetrics-text"), kind)
        self.assertTrue(text.endswith(b"# EOF\n"))
        self.assertEqual(3.0, samples(text.decode(), open_families)["mta_connections_total", (("listener", "mx"),)])

    def test_histogram(self) -> None:
        """Each bucket holds all that lies below its end."""
        buckets = [1, 0, 2, *[0] * (len(BOUNDS) - 3), 4]
        found = samples(written({"": [(DELAY, (), (*buckets, 12.5))]})[0].decode())
        self.assertEqual([1, 1, 3], [found[f"{DELAY}_bucket", (("le", f"{bound}"),)] for bound in BOUNDS[:3]])
        self.assertEqual(7, found[f"{DELAY}_bucket", (("le", "+Inf"),)])
        self.assertEqual((7, 12.5), (found[f"{DELAY}_count", ()], found[f"{DELAY}_sum", ()]))

    def test_workers(self) -> None:
        """Each has series of its own, so that one that begins anew is seen as that; one family has them all."""
        page = {"": [("mta_workers", (), 2)], **{str(number): OWN for number in range(2)}}
        text = written(page)[0].decode()
        found = samples(text)
        self.assertEqual(3.0, found["mta_connections_total", (("listener", "mx"), ("worker", "1"))])
        self.assertEqual(1, text.count("# TYPE mta_connections_total "))
        self.assertNotIn("mta_generation", text)

    def test_nothing_is_registered(self) -> None:
        """The library's own registry knows nothing of us, and two pages nothing of each other."""
        written({"": OWN})
        self.assertEqual([], [family.name for family in REGISTRY.collect() if family.name.startswith("mta_")])
        self.assertEqual({}, samples(written({"": []})[0].decode()))

    def test_not_at_the_start(self) -> None:
        """Neither the library nor a web server is imported by a server that was not asked for metrics."""
        code = "import sys, mta.service; print([m for m in sys.modules if m in ('prometheus_client', 'twisted.web.server')])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
        self.assertEqual("[]\n", done.stdout)
