"""Endpoint strings: what Twisted will take and we can use."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mta.config.endpoint import endpoint_fault


class EndpointTests(SynchronousTestCase):
    """`endpoint_fault`."""

    def test_right(self) -> None:
        """Built-in kinds and kinds of plugins."""
        for text in (
            "tcp:25", "tcp:0:interface=127.0.0.1", "tcp:port=25:backlog=100", "tcp:25:interface=\\:\\:1", "tcp:interface=1.2.3.4:port=25",
            "tcp6:25", "unix:/run/mta.sock", "unix:/run/mta.sock:mode=660", "unix:/a\\:b", "systemd:domain=INET:index=0",
        ):  # fmt: skip
            self.assertIsNone(endpoint_fault(text), text)

    def test_wrong(self) -> None:
        """Each with the words that lead to the right one."""
        for text, fault in (
            ("25", "an endpoint is wanted; did you mean 'tcp:25'?"),
            ("tcp", "a port from 0 to 65535 is wanted, not ''"),
            ("tcp:smtp", "a port from 0 to 65535 is wanted, not 'smtp'"),
            ("tcp:70000", "a port from 0 to 65535 is wanted, not '70000'"),
            ("tcp:25:interface=::1", "'' is out of place; a colon within an address is written '\\:'"),
            ("tcp:25:127.0.0.1", "'127.0.0.1' is out of place; a colon within an address is written '\\:'"),
            ("tcp:25:interface=lo", "interface: an address is wanted, not 'lo'"),
            ("tcp:25:interfce=127.0.0.1", "tcp: has no option 'interfce'; did you mean 'interface'?"),
            ("tcp:25:backlog=x", "backlog: a whole number is wanted, not 'x'"),
            ("unix:", "the path of a socket is wanted, as in 'unix:/run/mta.sock'"),
            ("ssl:465", 'ssl: cannot be used here; did you mean "tcp:..." with tls = "implicit"?'),
            ("tls:465", 'tls: cannot be used here; did you mean "tcp:..." with tls = "implicit"?'),
            ("stdio:", "stdio: cannot be used here; it is one connection, not a port"),
            ("haproxy:tcp:25", 'haproxy: cannot be used here; did you mean "tcp:..." with proxy_from?'),
        ):
            self.assertEqual(fault, endpoint_fault(text), text)

    def test_unknown_kind(self) -> None:
        """The kinds that Twisted knows are named, and the nearest."""
        fault = str(endpoint_fault("tpc:25"))
        self.assertTrue(fault.startswith("'tpc:25' is no server endpoint ("), fault)
        self.assertTrue(fault.endswith("; did you mean 'tcp'?"), fault)
