"""The sheet of one message: what is said of it, of its recipients and its header."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mta.cli.queue.sheet import header_lines, sheet
from tests.cli.queue.facts import ID, MESSAGE, MINUTE, NOW, row


class SheetTests(SynchronousTestCase):
    """`sheet`."""

    def said(self, *rows: dict[str, Any], **changed: Any) -> list[tuple[str, str]]:
        return list(sheet({**MESSAGE, **changed}, rows, NOW))

    def test_message_and_recipient(self) -> None:
        """A plain message with one recipient that was tried."""
        self.assertEqual(
            [
                ("id", ID),
                ("from", "ann@example.com"),
                ("begun", "2027-01-15 05:00:00Z (3h ago), expires in 2d"),
                ("size", "12 KiB; 1 of 2 recipients left"),
                ("source", "smtp"),
                ("to", "bob@example.org"),
                ("  where", "waiting at smtp:_mx/example.org"),
                ("  next try", "2027-01-15 08:05:00Z (in 5m)"),
                ("  attempts", "3, the last 2027-01-15 07:40:00Z (20m ago)"),
                ("  last reply", "450 4.2.1 mailbox busy"),
            ],
            self.said(row()),
        )

    def test_what_else_there_may_be(self) -> None:
        """Null sender, login, flags, envelope id, trace; too old."""
        more = {"account": "ann", "flags": ["SMTPUTF8"], "envid": "e\n1", "trace": "{}", "from": "", "expires": NOW}
        said = dict(self.said(**more))
        self.assertEqual(("<>", "smtp, account ann", "SMTPUTF8"), (said["from"], said["source"], said["flags"]))
        self.assertEqual(("e?1", "{}"), (said["envid"], said["trace"]))
        self.assertTrue(said["begun"].endswith(", expired"))

    def test_terms(self) -> None:
        """How urgent it is; by when it is wanted, and what then."""
        said = dict(self.said(priority=3, deliver_by=NOW + 5 * MINUTE, flags=["BY_RETURN", "BY_TRACE"]))
        self.assertEqual(
            ("+3", "2027-01-15 08:05:00Z (in 5m), else it goes back; traced"), (said["priority"], said["deliver by"])
        )
        self.assertEqual(
            "2027-01-15 07:55:00Z (5m ago), else its sender is told", dict(self.said(deliver_by=NOW - 5 * MINUTE))["deliver by"]
        )

    def test_recipients_of_all_kinds(self) -> None:
        """Due; held and never tried; failed, with where it was going."""
        self.assertEqual("2027-01-15 07:59:00Z (due)", dict(self.said(row(due=NOW - MINUTE)))["  next try"])
        held = dict(self.said(row(state="held", attempts=0, last_try=None, last_reply=None)))
        self.assertEqual(("held at smtp:_mx/example.org", "0"), (held["  where"], held["  attempts"]))
        self.assertEqual(set(), {"  next try", "  last reply"} & set(held))
        failed = dict(self.said(row(dest="bounce:", failed_dest="smtp:_mx/example.org")))
        self.assertEqual("smtp:_mx/example.org", failed["  failed at"])


class HeaderTests(SynchronousTestCase):
    """`header_lines`."""

    def test_lines(self) -> None:
        """Tabs are spaces, escapes are gone, and where it was cut is said."""
        message = {**MESSAGE, "header": "A: 1\n\tfolded\x1b[0m\nB: 2", "header_cut": True}
        self.assertEqual(["A: 1", " folded?[0m", "B: 2", "(cut here: the header is longer)"], list(header_lines(message)))
