"""`mta.control.vitals`: of this very process."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mta.control import vitals as module
from mta.control.vitals import Vitals


class VitalsTests(SynchronousTestCase):
    """`Vitals`."""

    def told(self) -> dict[str, float]:
        return {name: number for name, _, number in Vitals().measures() if not isinstance(number, tuple)}

    def test_plausible(self) -> None:
        """CPU time grows, memory is some MiB, a file that is opened is counted."""
        before = self.told()
        descriptor = os.open("/dev/null", os.O_RDONLY)
        self.addCleanup(os.close, descriptor)
        sum(range(2_000_000))
        after = self.told()
        self.assertGreater(after["process_cpu_seconds_total"], before["process_cpu_seconds_total"])
        self.assertTrue(1 << 20 < after["process_resident_memory_bytes"] < 1 << 36)
        self.assertEqual(before["process_open_fds"] + 1, after["process_open_fds"])
        self.assertEqual(resource.getrlimit(resource.RLIMIT_NOFILE)[0], after["process_max_fds"])

    def test_without_proc(self) -> None:
        """A system that has none: what it has not is left out."""
        self.patch(module, "PROC", Path("/nonexistent"))
        self.assertEqual({"process_cpu_seconds_total", "process_max_fds"}, set(self.told()))
