"""Options and counters: values."""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from mta.config.settings import Limits, Tls
from mta.smtp.options import Counters, ReceiverOptions


class OptionsTests(SynchronousTestCase):
    def test_defaults_are_those_of_the_configuration(self):
        """An embedder who gives a host name only gets what mta.toml gives."""
        options = ReceiverOptions("mx.test")
        self.assertEqual(Limits().message_size, options.max_size)
        self.assertEqual(Limits().recipients_per_message, options.max_recipients)
        self.assertEqual(Limits().errors, options.max_errors)
        self.assertEqual(Tls().starttls_needs_ehlo, options.starttls_needs_ehlo)
        self.assertEqual(Tls().starttls_in_transaction, options.starttls_in_transaction)
        self.assertFalse(options.starttls)

    def test_frozen_and_not(self):
        """Options are shared between connections, counters belong to one."""
        self.assertRaises(attrs.exceptions.FrozenInstanceError, setattr, ReceiverOptions("mx.test"), "max_size", 1)
        counters = Counters()
        counters.errors += 1
        self.assertEqual((1, 0), (counters.errors, Counters().errors))
