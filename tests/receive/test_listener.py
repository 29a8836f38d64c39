"""What the clients of a port are shown: chosen from the [[listen]] entry, the client and TLS."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import attrs
from twisted.cred.portal import Portal
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mta.config.settings import Limits, Listen, Size, Tls
from mta.receive.access import client_address
from mta.receive.common import Common
from mta.receive.listener import Listener
from mta.smtp.sasl import TLS_ONLY
from mta.status import MailError
from mta.testing.pki import Authority
from mta.tls.context import ServerTls
from tests.receive.door import SETTINGS, FakeAccept, FakeLog, FakeRouter

AUTHORITY = Authority.create()
CLIENT = client_address("203.0.113.9")
LIMITS = Limits(
    message_size=Size(1000),
    recipients_per_message=7,
    errors=4,
    auth_failures=5,
    transactions_per_connection=6,
    recipients_per_connection=8,
    commands_per_connection=9,
)


class ListenerTests(SynchronousTestCase):
    """`Listener`."""

    def listener(self, with_tls: bool = True, portal: object = None, tls: str = "starttls", **entry: Any) -> Listener:
        """Of a server that has a certificate, or not."""
        settings = attrs.evolve(SETTINGS, limits=LIMITS, tls=Tls(starttls_needs_ehlo=False, starttls_in_transaction="refuse"))
        if with_tls:
            directory = Path(self.mktemp())
            directory.mkdir()
            certificate, key = AUTHORITY.issue("mx.example.org").write(directory)
            settings = attrs.evolve(settings, tls=attrs.evolve(settings.tls, certificate=certificate, key=key))
        made = ServerTls.load(settings.tls)
        common = Common.of(settings, FakeAccept(), FakeRouter(), FakeLog(), Clock(), tls=made, portal=portal)  # type: ignore[arg-type]
        return Listener.of(common, Listen("tcp:25", tls=tls, **entry))

    def test_settings_reach_the_machine(self) -> None:
        """Every setting of the receiver-SMTP arrives in its options, in clear and in TLS."""
        listener = self.listener(mail_requires="tls-or-auth", vrfy="local", withhold=("DSN", "CHUNKING"))
        for options in (listener.in_clear(CLIENT, False), listener.in_tls(False)):
            self.assertEqual((options.hostname, options.max_size, options.max_recipients), ("mx.example.org", 1000, 7))
            self.assertEqual((options.max_errors, options.max_auth_failures, options.max_transactions), (4, 5, 6))
            self.assertEqual((options.max_recipients_total, options.max_commands), (8, 9))
            self.assertEqual((options.starttls_needs_ehlo, options.starttls_in_transaction), (False, "refuse"))
            self.assertEqual((options.mail_requires, options.refuse_all), ("tls-or-auth", None))
            self.assertEqual(options.challenge, listener.common.challenge)
            self.assertEqual((options.vrfy, options.withhold), ("local", {"DSN", "CHUNKING"}))
            self.assertTrue(options.binarymime)
            self.assertFalse(options.mt_priority or options.future_release)
            self.assertEqual(options.deliver_by, 60)

    def test_priority(self) -> None:
        """RFC 6710: for those whose mail we relay: in relay_from, and where one may log in, once that is done; not for strangers."""
        listener, submission = self.listener(), self.listener(portal=Portal(None), submission=True)  # type: ignore[arg-type]
        self.assertTrue(listener.in_clear(CLIENT, True).mt_priority and listener.in_tls(True).mt_priority)
        self.assertTrue(submission.in_clear(CLIENT, False).mt_priority and submission.in_tls(False).mt_priority)
        self.assertFalse(listener.in_clear(CLIENT, False).mt_priority or listener.in_tls(False).mt_priority)
        logins = self.listener(portal=Portal(None), auth_tls=("PLAIN",))  # type: ignore[arg-type]
        self.assertEqual((False, True), (logins.in_clear(CLIENT, False).mt_priority, logins.in_tls(False).mt_priority))
        self.assertTrue(logins.in_tls(False).priority_by_login and submission.in_tls(False).priority_by_login)
        self.assertFalse(logins.in_tls(True).priority_by_login)
        in_clear = self.listener(portal=Portal(None), auth_clear=("CRAM-MD5",))  # type: ignore[arg-type]
        self.assertEqual((True, False), (in_clear.in_clear(CLIENT, False).mt_priority, in_clear.in_tls(False).mt_priority))

    def test_exempt(self) -> None:
        """Clients in relay_from have no limits of transactions, recipients and commands; errors and logins are limited for all."""
        listener = self.listener()
        for options in (listener.in_clear(CLIENT, True), listener.in_tls(True)):
            self.assertEqual((options.max_transactions, options.max_recipients_total, options.max_commands), (0, 0, 0))
            self.assertEqual((options.max_errors, options.max_auth_failures), (4, 5))

    def test_s06_starttls(self) -> None:
        """S06, S30a: offered by a starttls port that has a certificate, but not to clients in avoid_tls_for."""
        networks = (IPv4Network("203.0.113.0/24"), IPv6Network("2001:db8::/32"))
        self.assertTrue(self.listener().in_clear(CLIENT, False).starttls)
        self.assertFalse(self.listener(with_tls=False).in_clear(CLIENT, False).starttls)
        self.assertFalse(self.listener(tls="none").in_clear(CLIENT, False).starttls)
        self.assertFalse(self.listener(tls="implicit").in_clear(CLIENT, False).starttls)
        avoiding = self.listener(avoid_tls_for=networks)
        for address, offered in (("203.0.113.77", False), ("2001:db8::9", False), ("203.0.114.1", True), ("local", True)):
            self.assertEqual(avoiding.in_clear(client_address(address), False).starttls, offered, address)

    def test_s20_auth(self) -> None:
        """S20: the mechanisms differ in clear and in TLS, and it is known in clear what TLS would bring; REQUIRETLS is in TLS only."""
        listener = self.listener(portal=Portal(None), auth_clear=("CRAM-MD5",), auth_tls=("PLAIN", "CRAM-MD5"))  # type: ignore[arg-type]
        clear, in_tls = listener.in_clear(CLIENT, False), listener.in_tls(False)
        self.assertEqual((clear.auth, clear.auth_elsewhere, clear.requiretls), (("CRAM-MD5",), ("PLAIN",), False))
        self.assertEqual((in_tls.auth, in_tls.auth_elsewhere, in_tls.requiretls), (("PLAIN", "CRAM-MD5"), (), True))

    def test_s23_distrust(self) -> None:
        """S23: a client whose certificate is worth nothing is told so, 554 5.7.1, whatever it asks."""
        reply = self.listener().in_tls(False, "self-signed certificate").refuse_all
        assert reply is not None
        self.assertEqual((reply.code, reply.enhanced), (554, "5.7.1"))
        self.assertIn("self-signed certificate", reply.text)

    def test_mistakes(self) -> None:
        """AUTH that nobody can check, and implicit TLS without a certificate, are MailErrors with the endpoint."""
        for entry in ({"auth_tls": ("PLAIN",)}, {"auth_clear": ("CRAM-MD5",)}):
            self.assertIn("tcp:25: AUTH needs", self.assertRaises(MailError, self.listener, **entry).reason)
        for mechanism in TLS_ONLY:
            clear = {"portal": Portal(None), "auth_clear": (mechanism,)}  # type: ignore[arg-type]
            self.assertIn(f"{mechanism} is for TLS", self.assertRaises(MailError, self.listener, **clear).reason)
        error = self.assertRaises(MailError, self.listener, with_tls=False, tls="implicit")
        self.assertIn("tcp:25: ", error.reason)
