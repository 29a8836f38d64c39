"""What the sessions of one service have in common, and what of it goes on when the settings change."""

from __future__ import annotations

from pathlib import Path

import attrs
from twisted.cred.portal import Portal
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mta.config.settings import Auth, Limits, Retry, Seconds, Tls
from mta.receive.auth.accounts import Accounts
from mta.receive.common import Common
from mta.receive.limits.table import What, Who
from mta.status import MailError
from mta.tls.context import ServerTls
from tests.receive.door import SETTINGS, FakeAccept, FakeLog, FakeRouter

LIMITS = Limits(connections=3, connections_per_client=2, tls_sessions_per_minute=9)


def common(portal: Portal | None = None, **changes: object) -> Common:
    """Made of the usual settings but for some."""
    settings = attrs.evolve(SETTINGS, **changes)  # type: ignore[arg-type]
    return Common.of(settings, FakeAccept(), FakeRouter(), FakeLog(), Clock(), portal=portal, random=lambda size: b"\xab" * size)


def _limits(made: Common) -> tuple[int, int, int, float]:
    """In all, of a client, kept; and how many new TLS sessions a client may have in a minute."""
    connections, who = made.connections, Who(b"somebody")
    sessions = next(n for n in range(1000) if made.counts.over(What.HANDSHAKE, who, 0.0, n + 1))
    return connections.limit, connections.per_client, connections.reserve, sessions


class CommonTests(SynchronousTestCase):
    """`Common`."""

    def test_limits(self) -> None:
        """Every limit arrives where it is counted."""
        made = common(limits=LIMITS, tls=Tls(handshakes_at_once=5), retry=Retry(queue_lifetime=Seconds(60.0)))
        self.assertEqual(_limits(made), (3, 2, 1, 9))
        self.assertEqual((made.slots.free, made.lifetime), (5, 60_000))

    def test_without_tls(self) -> None:
        """Nobody has given a context: nothing is offered."""
        made = common()
        self.assertFalse(made.tls.offered)
        self.assertFalse(made.roster.open)
        self.assertIsNone(made.accounts)

    def test_renewed(self) -> None:
        """Settings, router, TLS and rules are new; what is counted is the same, under the old limits until `limit` is called."""
        old, router, tls = common(), FakeRouter(), ServerTls()
        settings = attrs.evolve(
            SETTINGS,
            limits=LIMITS,
            tls=Tls(handshakes_at_once=7),
            local_domains=("new.example",),
            retry=Retry(queue_lifetime=Seconds(60.0)),
        )
        new = old.renewed(settings, router, tls)
        self.assertEqual((new.settings, new.router, new.tls), (settings, router, tls))
        self.assertEqual((new.lifetime, "new.example" in new.access.domains), (60_000, True))
        for name in ("connections", "counts", "notices", "slots", "roster", "accept", "log", "clock"):
            self.assertIs(getattr(new, name), getattr(old, name))
        self.assertEqual(old.connections.limit, SETTINGS.limits.connections)
        new.limit()
        self.assertEqual(_limits(old), (3, 2, 1, 9))
        self.assertEqual(old.slots.free, 7)

    def test_passwords(self) -> None:
        """The file is read when it is made and when it is renewed; a bad one is a MailError and changes nothing."""
        path = Path(self.mktemp())
        path.write_text("user:secret\n")
        made = common(auth=Auth(passwords=path))
        self.assertIsInstance(made.accounts, Accounts)
        path.write_text("nonsense\n")
        self.assertRaises(MailError, made.renewed, made.settings, FakeRouter(), ServerTls())
        path.write_text("")
        self.assertIsNot(made.renewed(made.settings, FakeRouter(), ServerTls()).accounts, made.accounts)

    def test_challenge(self) -> None:
        """RFC 2195 2: in angle brackets, with randomness, time and a name of ours."""
        self.assertEqual(common().challenge(), b"<" + b"ab" * 16 + b".0@mx.example.org>")
        self.assertTrue(common(auth=Auth(cram_realm="realm.example")).challenge().endswith(b"@realm.example>"))
