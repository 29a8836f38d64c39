"""`mta.ports`: endpoints become ports, or a reason why not (`tests/receive/test_service.py` has more of it)."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.protocol import Factory
from twisted.trial.unittest import TestCase

from mta.ports import address_of, listen_on
from mta.status import MailError


class Place:
    """A port without a number."""

    def getHost(self) -> Any:
        return "somewhere"


class PortsTests(TestCase):
    """`listen_on` and `address_of`."""

    async def test_listens(self) -> None:
        """At once; `tcp:0` has got a number, and room for a burst of clients to wait."""
        opening = listen_on(reactor, "tcp:0:interface=127.0.0.1", Factory())
        port: Any = self.successResultOf(opening)
        host, number = address_of(port)
        self.assertEqual(("127.0.0.1", 1024), (host, port.backlog))
        self.assertTrue(number)
        await port.stopListening()

    async def test_own_backlog(self) -> None:
        """What the operator writes holds."""
        port: Any = await listen_on(reactor, "tcp:0:interface=127.0.0.1:backlog=7", Factory())
        self.assertEqual(7, port.backlog)
        await port.stopListening()

    async def test_refused(self) -> None:
        """Endpoint and reason."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            endpoint = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
            with self.assertRaises(MailError) as raised:
                await listen_on(reactor, endpoint, Factory())
        self.assertEqual(f"cannot listen on {endpoint}: Address already in use", raised.exception.reason)

    def test_no_number(self) -> None:
        """Where there are no port numbers."""
        self.assertEqual(("somewhere", 0), address_of(Place()))
