"""`mta.workers.shares`: what is divided among workers, key by key."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from mta.config.settings import Concurrency, DestinationEntry, Limits, Metrics, Queue, Service, Settings, SiteEntry
from mta.rate import parse_rate
from mta.workers.shares import DIVIDED, RATED, share

SETTINGS = Settings(hostname="mx.example.org", data_dir=Path("/d"), service=Service(3))
MANUAL = Path(__file__).parent.parent.parent / "docs" / "operators.md"

WHOLE = {  # of the tables that have limits to divide, what is of one connection, one message or one process
    "concurrency": {"recipients"},
    "handover": {
        "preset",
        "rset_test",
        "shutdown_wait",
        "hosts_pass_tls",
        "hosts_nopass_tls",
        "hosts_clear_tls",
        "reuse_time_limit",
        "reuse_count_limit",
        "idle_limit",
    },
    "queue": {"completions", "accept_deadline", "mode", "spool_above_load", "run_every", "free_space"},
    "dsn": {"delay_warning", "return_size", "postmaster"},
    "limits": {
        "message_size",
        "recipients_per_message",
        "reserve_for",
        "header_size",
        "errors",
        "received_hops",
        "auth_failures",
        "transactions_per_connection",
        "recipients_per_connection",
        "commands_per_connection",
        "rejected_per_connection",
        "bytes_per_connection",
        "tarpit",
        "tarpit_errors",
        "session_time",
    },
}


class ShareTests(SynchronousTestCase):
    """`share`."""

    def test_every_key_is_decided(self) -> None:
        """In a table with limits to divide each key is divided, or is known to be whole: a new one must be decided."""
        for table in DIVIDED.keys() | RATED.keys():
            keys = {field.name for field in attrs.fields(type(getattr(SETTINGS, table)))}
            divided = {*DIVIDED.get(table, ()), *RATED.get(table, ())}
            self.assertEqual(keys, divided | WHOLE[table], table)
            self.assertEqual(set(), divided & WHOLE[table], table)

    def test_numbers(self) -> None:
        """Each has its third, the first ones what is left over; 0, no limit, stays, and nobody has nothing."""
        parts = ((0, [0, 0, 0]), (1, [1, 1, 1]), (3, [1, 1, 1]), (4, [2, 1, 1]), (200, [67, 67, 66]))
        for table, keys in DIVIDED.items():
            for key in keys:
                for number, wanted in parts:
                    given = attrs.evolve(SETTINGS, **{table: attrs.evolve(getattr(SETTINGS, table), **{key: number})})
                    got = [getattr(getattr(share(given, worker, 3), table), key) for worker in range(3)]
                    self.assertEqual(wanted, got, (table, key))

    def test_rates_with_a_burst(self) -> None:
        """Of clients and logins: the span stays, the number is divided; all rates of a list, no rate stays none."""
        for table, keys in RATED.items():
            for key in keys:
                rates = ("10/min", "7/s", "1/hour", "5000/d", "")
                given = attrs.evolve(SETTINGS, **{table: attrs.evolve(getattr(SETTINGS, table), **{key: rates})})
                self.assertEqual(("4/min", "3/s", "1/h", "1667/d", ""), getattr(getattr(share(given, 0, 3), table), key))
                self.assertEqual(("3/min", "2/s", "1/h", "1666/d", ""), getattr(getattr(share(given, 2, 3), table), key))

    def test_destinations_and_sites(self) -> None:
        """Transactions and connections at once are divided, and rates exactly: a provider's "1/s" is not three times that."""
        entries: dict[str, Any] = {
            "destination": (DestinationEntry(("a.org",), concurrency=4, recipients=9, rate="1/s"), DestinationEntry(("b.org",))),
            "site": (SiteEntry(("*.c.org",), connections=1, rate="100000/s"), SiteEntry(("d.org",), connections=7)),
        }
        got = share(attrs.evolve(SETTINGS, **entries), 0, 3)
        first, second = got.destination
        self.assertEqual((2, 9, 3000.0, ""), (first.concurrency, first.recipients, parse_rate(first.rate).interval, second.rate))
        self.assertEqual((1, 3, "33334/s"), (got.site[0].connections, got.site[1].connections, got.site[0].rate))

    def test_nothing_else(self) -> None:
        """A worker is a server that is alone, and all tables without limits are as they were written."""
        got = share(SETTINGS, 0, 3)
        self.assertEqual(Service(1), got.service)
        given = attrs.evolve(SETTINGS, metrics=Metrics("tcp:9925"))
        self.assertEqual(Metrics(), share(given, 0, 3).metrics, "the supervisor answers for all")
        tables = DIVIDED.keys() | RATED.keys() | {"service"}
        for field in attrs.fields(Settings):
            if field.name not in tables:
                self.assertEqual(getattr(SETTINGS, field.name), getattr(got, field.name), field.name)

    def test_order_holds(self) -> None:
        """What the configuration's check wants of the whole holds for a share: initial <= per_destination <= total."""
        for workers in range(1, 65):
            for numbers in ((5, 20, 200), (1, 1, 1), (20, 20, 20), (3, 4, 65)):
                initial, per_destination, total = numbers
                given = attrs.evolve(SETTINGS, concurrency=Concurrency(per_destination, initial, total))
                for number in (0, workers // 2, workers - 1):
                    got = share(given, number, workers).concurrency
                    self.assertTrue(1 <= got.initial <= got.per_destination <= got.total)

    def test_together(self) -> None:
        """All shares are the whole, or 1 for each where that is more: of numbers, of what comes at once, and of even rates."""
        for workers in range(1, 65):
            limits = Limits(connections=1000, message_rate=("100/min",))
            entry = DestinationEntry(("a.org",), rate="100/min")
            given = attrs.evolve(SETTINGS, limits=limits, queue=Queue(active_limit=7), destination=(entry,))
            got = [share(given, number, workers) for number in range(workers)]
            self.assertEqual(1000, sum(each.limits.connections for each in got))
            self.assertEqual(max(7, workers), sum(each.queue.active_limit for each in got))
            self.assertEqual(100, sum(parse_rate(each.limits.message_rate[0]).count for each in got))
            self.assertEqual(144_000, sum(parse_rate(each.destination[0].rate).count for each in got))

    def test_the_manual_names_them(self) -> None:
        """docs/operators.md, "Workers": the table of what is divided has every key."""
        section = MANUAL.read_text().partition("\n## Workers")[2].partition("\n## ")[0]
        named = set(re.findall(r"`([a-z]+\.[a-z_]+)`", section.partition("| divided |")[2].partition("\n\n")[0]))
        keys = {f"{table}.{key}" for tables in (DIVIDED, RATED) for table, keys in tables.items() for key in keys}
        self.assertEqual(keys | {"destination.concurrency", "destination.rate", "site.connections", "site.rate"}, named)
