"""`mta.workers.shares`: what is divided among workers, key by key."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from mta.config.settings import Concurrency, DestinationEntry, Dsn, Limits, Queue, Service, Settings, SiteEntry
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
        """Each number is its third, rounded up; 0, no limit, stays; what is whole stays."""
        for table, keys in DIVIDED.items():
            for key in keys:
                for number, wanted in ((0, 0), (1, 1), (3, 1), (4, 2), (200, 67)):
                    given = attrs.evolve(SETTINGS, **{table: attrs.evolve(getattr(SETTINGS, table), **{key: number})})
                    self.assertEqual(wanted, getattr(getattr(share(given, 3), table), key), (table, key, number))

    def test_rates_with_a_burst(self) -> None:
        """Of clients and logins: the span stays, the number is divided; all rates of a list, no rate stays none."""
        for table, keys in RATED.items():
            for key in keys:
                rates = ("10/min", "7/s", "1/hour", "5000/d", "")
                given = attrs.evolve(SETTINGS, **{table: attrs.evolve(getattr(SETTINGS, table), **{key: rates})})
                self.assertEqual(("4/min", "3/s", "1/h", "1667/d", ""), getattr(getattr(share(given, 3), table), key))

    def test_destinations_and_sites(self) -> None:
        """Transactions and connections at once are divided, and rates exactly: a provider's "1/s" is not three times that."""
        entries: dict[str, Any] = {
            "destination": (DestinationEntry(("a.org",), concurrency=4, recipients=9, rate="1/s"), DestinationEntry(("b.org",))),
            "site": (SiteEntry(("*.c.org",), connections=1, rate="100000/s"), SiteEntry(("d.org",), connections=7)),
        }
        got = share(attrs.evolve(SETTINGS, **entries), 3)
        first, second = got.destination
        self.assertEqual((2, 9, 3000.0, ""), (first.concurrency, first.recipients, parse_rate(first.rate).interval, second.rate))
        self.assertEqual((1, 3, "33334/s"), (got.site[0].connections, got.site[1].connections, got.site[0].rate))

    def test_nothing_else(self) -> None:
        """A worker is a server that is alone, and all tables without limits are as they were written."""
        got = share(SETTINGS, 3)
        self.assertEqual(Service(1), got.service)
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
                got = share(given, workers).concurrency
                self.assertTrue(1 <= got.initial <= got.per_destination <= got.total)

    def test_together_no_less(self) -> None:
        """All shares are at least the whole, and at most one more each."""
        for workers in range(1, 65):
            got = share(attrs.evolve(SETTINGS, limits=Limits(connections=1000), queue=Queue(active_limit=7)), workers)
            for part, of in (
                (got.limits.connections, 1000),
                (got.queue.active_limit, 7),
                (got.dsn.per_sender_hour, Dsn().per_sender_hour),
            ):
                self.assertTrue(of <= part * workers < of + workers)

    def test_the_manual_names_them(self) -> None:
        """docs/operators.md, "Workers": the table of what is divided has every key."""
        section = MANUAL.read_text().partition("\n## Workers")[2].partition("\n## ")[0]
        named = set(re.findall(r"`([a-z]+\.[a-z_]+)`", section.partition("| divided |")[2].partition("\n\n")[0]))
        keys = {f"{table}.{key}" for tables in (DIVIDED, RATED) for table, keys in tables.items() for key in keys}
        self.assertEqual(keys | {"destination.concurrency", "destination.rate", "site.connections", "site.rate"}, named)
