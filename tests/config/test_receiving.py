"""What the receiving side does when nothing is said."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mta.config.receiving import Access, Auth, Limits, Listen


class DefaultTests(SynchronousTestCase):
    """The defaults are safe: nobody gets more than he was given."""

    def test_a_port(self) -> None:
        """It offers STARTTLS and no login, and asks nobody for more."""
        listen = Listen("tcp:25")
        self.assertEqual(("starttls", (), (), "none"), (listen.tls, listen.auth_clear, listen.auth_tls, listen.mail_requires))

    def test_nobody_relays(self) -> None:
        """But this machine."""
        self.assertTrue(all(network.is_loopback for network in Access().relay_from))
        self.assertEqual(((), None), (Access().relay_domains, Auth().passwords))

    def test_everything_is_bounded(self) -> None:
        """Connections, their number for one client, errors and failed logins."""
        limits = Limits()
        self.assertTrue(0 < limits.connections_per_client < limits.connections)
        self.assertTrue(0 < limits.reserve < limits.connections and 0 < limits.rejected_per_connection)
        self.assertTrue(
            limits.connection_rate and limits.rejected_rate and limits.auth_failure_rate and limits.login_failure_rate
        )
        self.assertTrue(limits.errors > 0 and limits.auth_failures > 0 and limits.message_size > 0)
