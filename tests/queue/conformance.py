"""The conformance suite: what every queue engine must do, whatever it is made of (queue.md section 9; qNN is its row).

`class MemoryConformance(QueueConformance, TestCase)` with a `make_engine()` is all an engine's test file needs.
"""

from __future__ import annotations

from tests.queue.conformance_accept import AcceptRows
from tests.queue.conformance_carry import CarryRows
from tests.queue.conformance_claim import ClaimRows
from tests.queue.conformance_delay import DelayRows
from tests.queue.conformance_operator import OperatorRows
from tests.queue.conformance_search import SearchRows
from tests.queue.conformance_settle import SettleRows

__all__ = ["QueueConformance"]


class QueueConformance(AcceptRows, ClaimRows, SettleRows, OperatorRows, SearchRows, DelayRows, CarryRows):
    """All rows; see harness.py for what a subclass supplies."""
