"""A page of metrics in the text format of Prometheus, or OpenMetrics where that is asked for.

Written by `prometheus-client`, from a registry that lives as long as one answer: nothing in the process is registered
anywhere, so any number of servers in one process know nothing of each other.  This file is imported when somebody asks for
metrics and not before: the start does not wait for the library.  A page of a hundred series takes half a millisecond.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate, groupby
from math import inf
from operator import itemgetter

from prometheus_client import Metric as Family
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import CollectorRegistry

from mta.control.metrics import METRICS, Page, series

__all__ = ["written"]


def written(page: Page, accept: str = "") -> tuple[bytes, str]:
    """The text and its Content-Type.  accept: what the client would like, as in the header of that name."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(page))
    try:
        encode, kind = choose_encoder(accept)
    except (TypeError, ValueError):  # for a version that is none
        encode, kind = choose_encoder("")
    return encode(registry), kind


class _Collector:
    """What the library asks for families."""

    def __init__(self, page: Page) -> None:
        self._page = page

    def collect(self) -> Iterator[Family]:
        """One family for each metric, in the order of the table."""
        for name, several in groupby(series(self._page), itemgetter(0)):
            family = Family(name.removesuffix("_total"), METRICS[name].help, METRICS[name].kind)
            for _, labels, number in several:
                if isinstance(number, tuple):
                    _add_histogram(family, name, labels, number)
                else:
                    family.add_sample(name, labels, number)
            yield family


def _add_histogram(family: Family, name: str, labels: dict[str, str], numbers: tuple[float, ...]) -> None:
    """Buckets are told with all that lies below them."""
    *buckets, total = numbers
    for bound, count in zip((*METRICS[name].bounds, inf), accumulate(buckets), strict=True):
        family.add_sample(f"{name}_bucket", {**labels, "le": "+Inf" if bound == inf else str(bound)}, count)
    family.add_sample(f"{name}_sum", labels, total)
    family.add_sample(f"{name}_count", labels, sum(buckets))
