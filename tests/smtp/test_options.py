"""Options and counters: values."""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from mta.config.settings import Limits, Listen, Tls
from mta.smtp.options import Counters, ReceiverOptions


class OptionsTests(SynchronousTestCase):
    def test_defaults_are_those_of_the_configuration(self):
        """An embedder who gives a host name only gets what mta.toml gives."""
        options = ReceiverOptions("mx.test")
        self.assertEqual(Limits().message_size, options.max_size)
        self.assertEqual(Limits().recipients_per_message, options.max_recipients)
        self.assertEqual(Limits().errors, options.max_errors)
        self.assertEqual(Limits().auth_failures, options.max_auth_failures)
        self.assertEqual(Limits().transactions_per_connection, options.max_transactions)
        self.assertEqual(Limits().recipients_per_connection, options.max_recipients_total)
        self.assertEqual(Limits().commands_per_connection, options.max_commands)
        self.assertEqual(Listen("tcp:25").mail_requires, options.mail_requires)
        self.assertEqual(Listen("tcp:25").auth_clear, options.auth)
        self.assertEqual(Listen("tcp:25").vrfy, options.vrfy)
        self.assertEqual(frozenset(Listen("tcp:25").withhold), options.withhold)
        self.assertEqual(Tls().starttls_needs_ehlo, options.starttls_needs_ehlo)
        self.assertEqual(Tls().starttls_in_transaction, options.starttls_in_transaction)
        self.assertFalse(options.starttls)

    def test_contradictions(self):
        """A mistake of the embedder is said when it is made, not at the first client."""
        for changes in (
            {"mail_requires": "ssl"},
            {"auth": ("PLAIN", "SCRAM-SHA-1")},
            {"auth_elsewhere": ("plain",)},
            {"auth": ("CRAM-MD5",)},
            {"vrfy": "on"},
            {"withhold": frozenset({"chunking"})},
            {"future_release": 60},
        ):
            self.assertRaises(ValueError, ReceiverOptions, "mx.test", **changes)
        ReceiverOptions("mx.test", auth=("CRAM-MD5",), challenge=lambda: b"<1@x>")

    def test_lines(self):
        """RFC 4954 4: where a token may come with its command there is room for it, elsewhere a line is as long as RFC 5321 has it."""
        for auth, longest in (((), 2048), (("PLAIN", "LOGIN"), 2048), (("PLAIN", "XOAUTH2"), 12_288), (("OAUTHBEARER",), 12_288)):
            self.assertEqual(longest, ReceiverOptions("mx.test", auth=auth).max_line)
        plain = ReceiverOptions("mx.test", auth=("PLAIN",))
        self.assertEqual(12_288, attrs.evolve(plain, auth=("OAUTHBEARER",)).max_line)

    def test_frozen_and_not(self):
        """Options are shared between connections, counters belong to one."""
        self.assertRaises(attrs.exceptions.FrozenInstanceError, setattr, ReceiverOptions("mx.test"), "max_size", 1)
        counters = Counters()
        counters.errors += 1
        self.assertEqual((1, 0), (counters.errors, Counters().errors))
