"""The table of limits: complete, true to the settings and to the manual, and it loses nobody's mail."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
from twisted.trial.unittest import SynchronousTestCase

from mta.config.settings import Limits
from mta.receive.limits.table import RATED, SAID_BY_MACHINE, TABLE, Scope, Who, login_key
from mta.smtp import wording

MANUAL = Path(__file__).parents[3] / "docs" / "operators.md"
OF_A_MESSAGE = {"message_size", "recipients_per_message", "received_hops", "header_size"}
NO_ROWS = {"reserve_for", "tarpit_errors"}  # each says more about another key


class TableTests(SynchronousTestCase):
    """`TABLE`."""

    def test_every_key_has_its_row(self) -> None:
        """A30, A31: every key of [limits] but those of a single message is a row, and every row a key."""
        keys = {field.name for field in attrs.fields(Limits)}
        self.assertEqual({row.key for row in TABLE}, keys - OF_A_MESSAGE - NO_ROWS)

    def test_rated(self) -> None:
        """The rows that are rates are those whose setting is one; nobody else counts beyond a connection."""
        rates = {key for key in attrs.asdict(Limits(), recurse=False) if key.endswith("_rate")} | {
            "login_messages",
            "login_recipients",
        }
        self.assertEqual({row.key for row in RATED}, rates | {"tls_sessions_per_minute"})
        self.assertTrue(all(row.scope in (Scope.CLIENT, Scope.LOGIN, Scope.LOGIN_AT_CLIENT) for row in RATED))

    def test_nobody_loses_mail(self) -> None:
        """Every reply is 4yz with an enhanced code that says so: whoever is over a limit may come again."""
        for row in TABLE:
            if row.reply is not None:
                self.assertTrue(400 <= row.reply.code < 500 and row.reply.enhanced.startswith("4."), row.key)

    def test_whole_clients_are_exempt(self) -> None:
        """Everything that is counted of a client is not counted of one in relay_from."""
        for row in TABLE:
            if row.scope in (Scope.CLIENT, Scope.LOGIN_AT_CLIENT):
                self.assertTrue(row.exempt, row.key)

    def test_said_by_the_machine(self) -> None:
        """Each reply of the receiver-SMTP that a limit makes it say names that limit."""
        self.assertEqual(SAID_BY_MACHINE[wording.TOO_MANY_ERRORS].key, "errors")
        self.assertEqual(SAID_BY_MACHINE[wording.TOO_MANY_IN_ALL].key, "recipients_per_connection")
        self.assertEqual(len(SAID_BY_MACHINE), 5)

    def test_manual(self) -> None:
        """docs/operators.md has these rows, each with its scope, its reply and who is exempt."""
        text = MANUAL.read_text("utf-8").partition("\n## Limits\n")[2].partition("\n## ")[0]
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"(?m)^\| .*\|$", text)]
        said = {(cells[0], cells[1].strip("`")): cells for cells in cells}
        for row in TABLE:
            _, key, _, default, reply, exempt = said[row.scope.value, row.key]
            given = getattr(Limits(), row.key)
            self.assertEqual(exempt, "exempt" if row.exempt else "in `reserve_for`" if row.key == "reserve" else "the same", key)
            self.assertTrue(reply.startswith(f"{row.reply.code} {row.reply.enhanced}" if row.reply else "slower"), key)
            if isinstance(given, tuple):
                self.assertEqual(default, ", ".join(f"`{rate}`" for rate in given) or "none", key)
            else:
                self.assertEqual(float(default.strip("`s") or 0), float(given), key)


class KeyTests(SynchronousTestCase):
    """Under which everybody is counted."""

    def test_login_key(self) -> None:
        """Short, whatever a stranger calls himself; the same however it is written; none of no name."""
        self.assertEqual(len(login_key("x" * 100_000)), 16)
        self.assertEqual(login_key("User@Example.org "), login_key("user@example.org"))
        self.assertNotEqual(login_key("user"), login_key("user2"))
        self.assertEqual(login_key(""), b"")
        self.assertEqual(len(login_key("\udcff")), 16)

    def test_scopes(self) -> None:
        """A login at a client is neither that login elsewhere nor that client with another login."""
        keys = {Who(client, login=login).key(Scope.LOGIN_AT_CLIENT) for client in (b"aaaa", b"bbbb") for login in (b"x", b"y")}
        self.assertEqual(len(keys), 4)
        self.assertEqual(Who(b"aaaa").key(Scope.LOGIN_AT_CLIENT), b"")
        self.assertEqual(Who(b"", login=b"x").key(Scope.LOGIN_AT_CLIENT), b"")
        self.assertEqual((Who(b"aaaa", login=b"x").key(Scope.CLIENT), Who(b"a", login=b"x").key(Scope.LOGIN)), (b"aaaa", b"x"))
