"""The table of metrics (docs/operators.md, "Metrics", has it too), and how the numbers of several workers become one (pure).

Rooms count in plain integers and tell them as `Measure`s when somebody asks (`IMeasured`); nothing here is called before.  A
page is what servers have said, by the name of the worker: "" for the process that answers.  Prometheus gets each worker's
numbers with the label `worker`: a worker that was started again begins at 0, which `rate()` understands of one series and
of no sum.  For people `merged` makes one of them all.  Labels have values out of tables of ours, and the names of listeners:
never what a peer has said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import attrs

from mta.envelope import Measure
from mta.queue.tally import DELAYS

__all__ = ["METRICS", "Metric", "Page", "Series", "decoded", "listed", "merged", "series"]

Page = Mapping[str, Sequence[Measure]]
Series = tuple[str, dict[str, str], float | tuple[float, ...]]
Total = Callable[[Iterable[float]], float]


@attrs.frozen(slots=True)
class Metric:
    """One row.  total: how the numbers of workers become one, `sum`, `max` or `min`; None: the supervisor alone knows it.

    bounds: the upper ends of a histogram's buckets; behind them is one without an end.
    """

    kind: str  # counter | gauge | histogram
    help: str
    labels: tuple[str, ...] = ()
    total: Total | None = sum
    bounds: tuple[float, ...] = ()


def _counter(help: str, *labels: str) -> Metric:
    return Metric("counter", help, labels)


def _gauge(help: str, *labels: str, total: Total | None = sum) -> Metric:
    return Metric("gauge", help, labels, total)


METRICS: Final[Mapping[str, Metric]] = {
    # the server
    "mta_start_time_seconds": _gauge("When the server was started, in seconds since the epoch", total=max),
    "mta_generation": _gauge("Generation of the configuration: 1 at the start, one more with each reload", total=None),
    "mta_reloads_total": Metric("counter", "Reloads, by how they ended: done, refused", ("result",), None),
    "mta_last_reload_successful": _gauge("1, or 0 while the last reload was refused and the old settings hold", total=None),
    "mta_log_lost_lines_total": _counter("Lines of the log that could not be written and were dropped"),
    "mta_log_errors_total": _counter("Writes to the log that have failed"),
    # what comes in
    "mta_connections_total": _counter("Connections from clients", "listener"),
    "mta_connections_open": _gauge("Connections from clients that are open", "listener"),
    "mta_rejected_total": _counter("Commands, recipients and messages refused, by stage and by kind of reply", "stage", "reply"),
    "mta_limited_total": _counter("Times that a client has met a limit, by the key of [limits]", "limit"),
    "mta_logins_total": _counter("Logins tried, by mechanism and result: ok, refused, failed", "mechanism", "result"),
    "mta_accepted_messages_total": _counter("Messages accepted: they are in the queue"),
    "mta_accepted_recipients_total": _counter("Recipients of these messages"),
    "mta_accepted_bytes_total": _counter("Bytes of their bodies"),
    # TLS
    "mta_tls_handshakes_total": _counter("TLS handshakes, by side (in, out) and result: full, resumed, failed", "side", "result"),
    "mta_tls_handshakes_waiting": _gauge("Clients that wait for a TLS handshake"),
    "mta_tls_certificate_expiry_time_seconds": _gauge("When the default certificate expires, seconds since the epoch", total=min),
    # the queue
    "mta_queue_recipients": _gauge("Recipients in the queue file, by state: waiting, taken, held", "state"),
    "mta_queue_active": _gauge("Recipients in memory"),
    "mta_queue_active_limit": _gauge("Recipients that may be in memory"),
    "mta_queue_ready": _gauge("Recipients in memory that wait for their turn"),
    "mta_queue_running": _gauge("Transactions that run"),
    "mta_queue_destinations": _gauge("Destinations in memory, by state: open, probed, blocked, suspended, asleep", "state"),
    "mta_queue_pressure": _gauge("0 idle ... 1 full: above 0.8 new mail is slowed down, above 1 refused", total=max),
    "mta_queue_commits_total": _counter("Commits of the queue file"),
    "mta_queue_operations_total": _counter("Operations that were asked of the queue file and are done"),
    "mta_queue_commit_seconds_total": _counter("Time that commits have taken, synchronisation of the disk included"),
    "mta_queue_log_bytes": _gauge("Size of the write-ahead log in use"),
    # what goes out
    "mta_deliveries_total": _counter("Attempts by recipient, agent and outcome", "agent", "outcome"),
    "mta_expired_total": _counter("Recipients whose time was over while they waited"),
    "mta_delivery_delay_seconds": Metric("histogram", "From the message's begin to its delivery", bounds=DELAYS),
    "mta_relay_connections_opened_total": _counter("Connections to mail servers that were begun"),
    "mta_relay_connections_reused_total": _counter("Deliveries on a connection that was kept"),
    "mta_relay_connections_open": _gauge("Connections to mail servers that there are, by state: busy, idle", "state"),
    "mta_relay_handover_total": _counter("What became of connections behind a delivery: keep, clear, quit", "verdict"),
    "mta_relay_faults_total": _counter("Attempts at a mail server that came to nothing, by class", "class"),
    # names
    "mta_dns_questions_total": _counter("Questions of ours to the DNS"),
    "mta_dns_cache_hits_total": _counter("Of these, answered from memory"),
    "mta_dns_queries_total": _counter("Queries sent to name servers"),
    "mta_dns_failures_total": _counter("Lookups that have failed: no answer, SERVFAIL and the like"),
    "mta_dns_cached": _gauge("Answers in memory"),
    # the process
    "process_cpu_seconds_total": _counter("CPU time of the process"),
    "process_resident_memory_bytes": _gauge("Memory of the process"),
    "process_open_fds": _gauge("Files and sockets that the process has open"),
    "process_max_fds": _gauge("Files and sockets that it may have open", total=min),
    # the supervisor
    "mta_workers": _gauge("Workers that there should be", total=None),
    "mta_worker_up": _gauge("1 for a worker that has answered this very question, else 0", "worker", total=None),
    "mta_worker_restarts_total": Metric("counter", "Ends of a worker that nobody had asked for", ("worker",), None),
}


def series(page: Page) -> list[Series]:
    """What the page has, in the order of the table: name, labels and number; what only the supervisor knows from nobody else."""
    found: dict[str, list[Series]] = {name: [] for name in METRICS}
    for worker, measures in page.items():
        for name, values, number in measures:
            metric = METRICS[name]
            if not worker or metric.total is not None:
                labels = dict(zip(metric.labels, values, strict=True))
                found[name].append((name, {**labels, "worker": worker} if worker else labels, number))
    return [each for several in found.values() for each in several]


def merged(page: Page) -> dict[str, list[Measure]]:
    """The page as if one server had said it all."""
    found: dict[tuple[str, tuple[str, ...]], list[float | tuple[float, ...]]] = {}
    for worker, measures in page.items():
        for name, labels, number in measures:
            if not worker or METRICS[name].total is not None:
                found.setdefault((name, labels), []).append(number)
    return {"": [(name, labels, _total(METRICS[name], numbers)) for (name, labels), numbers in found.items()]}


def _total(metric: Metric, numbers: Sequence[float | tuple[float, ...]]) -> float | tuple[float, ...]:
    if metric.kind == "histogram":
        return tuple(map(sum, zip(*(number for number in numbers if isinstance(number, tuple)), strict=True)))
    total = metric.total or max
    return total(number for number in numbers if not isinstance(number, tuple))


def listed(measures: Iterable[Measure]) -> list[list[object]]:
    """Plain JSON values: what goes through the control socket and up from a worker."""
    return [[name, list(labels), list(number) if isinstance(number, tuple) else number] for name, labels, number in measures]


def decoded(said: Iterable[Sequence[object]]) -> list[Measure]:
    """Measures out of what `listed` has made of them.  ValueError for anything else, and for what is not in the table."""
    try:
        return [_measure(*each) for each in said]
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"not what metrics look like: {error}") from error


def _measure(name: object, labels: object, number: object) -> Measure:
    if not isinstance(name, str) or not isinstance(labels, list | tuple):
        raise TypeError(f"{name!r:.60}")
    metric = METRICS[name]
    if len(labels) != len(metric.labels):
        raise TypeError(f"labels of {name}")
    given = number if isinstance(number, list | tuple) else [number]
    numbers = tuple(each for each in given if isinstance(each, int | float))
    if len(numbers) != len(given) or len(numbers) != (len(metric.bounds) + 2 if metric.bounds else 1):
        raise TypeError(f"numbers of {name}")
    return name, tuple(map(str, labels)), numbers if metric.bounds else numbers[0]
