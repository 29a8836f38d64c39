"""The Received header line: its form, and that nothing a client says can get out of its place; the count of hops."""

from __future__ import annotations

import re
from email import message_from_bytes
from email.utils import parsedate_to_datetime
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.receive.access import client_address
from mta.receive.trace import HopCounter, protocol, received
from mta.tls.policy import Achieved

NOW = 1_795_000_000.0


def line(**changes: object) -> bytes:
    """A header line with some things changed."""
    values = {
        "helo": "client.example",
        "client": client_address("192.0.2.1"),
        "hostname": "mx.example.org",
        "with_protocol": "ESMTP",
        "name": "Q1",
        "recipient": "user@example.org",
        "seconds": NOW,
        "tls": Achieved(),
    }
    return received(**{**values, **changes})  # type: ignore[arg-type]


class ReceivedTests(SynchronousTestCase):
    """`received`."""

    def test_plain(self) -> None:
        """The whole line, folded, in the order of RFC 5321 4.4."""
        self.assertEqual(
            line(),
            b"Received: from client.example ([192.0.2.1])\r\n"
            b"\tby mx.example.org with ESMTP id Q1\r\n"
            b"\tfor <user@example.org>;\r\n"
            b"\tWed, 18 Nov 2026 11:06:40 +0000\r\n",
        )

    def test_tls(self) -> None:
        """Version, cipher and bits stand in a comment."""
        value = line(tls=Achieved("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256), with_protocol="ESMTPS")
        self.assertIn(b"\r\n\t(TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256 bits))\r\n\tby ", value)

    def test_several_recipients(self) -> None:
        """Without `for`, so that nobody learns of a blind copy."""
        self.assertNotIn(b" for ", line(recipient=""))
        self.assertNotIn(b"user@", line(recipient=""))

    def test_addresses(self) -> None:
        """IPv6 as an address literal, mapped IPv4 as IPv4, a UNIX socket as local."""
        self.assertIn(b"([IPv6:2001:db8::1])", line(client=client_address("2001:db8::1")))
        self.assertIn(b"([192.0.2.9])", line(client=client_address("::ffff:192.0.2.9")))
        self.assertIn(b"(local)", line(client=None))

    def test_date(self) -> None:
        """The date is the time given, in UTC."""
        value = message_from_bytes(line() + b"\r\n")["Received"]
        self.assertEqual(parsedate_to_datetime(value.rpartition(";")[2].strip()).timestamp(), NOW)

    def test_utf8(self) -> None:
        """An address of more than ASCII stands as UTF-8 (RFC 6531)."""
        self.assertIn("for <jörg@bücher.example>".encode(), line(recipient="jörg@bücher.example"))

    @settings(deadline=None, max_examples=200)
    @given(st.text(max_size=400))
    def test_injection(self, helo: str) -> None:
        """Whatever the EHLO name, it stays one word: no new line, no comment, no second `by` or `for`."""
        value = line(helo=helo)
        lines = value.split(b"\r\n")
        self.assertEqual(len(lines), 5)
        self.assertTrue(re.fullmatch(rb"Received: from [A-Za-z0-9.:_?\[\]-]{1,255} \(\[192\.0\.2\.1\]\)", lines[0]))
        self.assertEqual(lines[1:], line().split(b"\r\n")[1:])
        self.assertLess(max(map(len, lines)), 998)

    def test_protocol(self) -> None:
        """The keywords of RFC 3848 and RFC 6531."""
        self.assertEqual(protocol(False, False, False), "SMTP")
        self.assertEqual(protocol(True, False, False), "ESMTP")
        self.assertEqual(protocol(True, False, True), "ESMTPS")
        self.assertEqual(protocol(True, True, False), "UTF8SMTP")
        self.assertEqual(protocol(True, True, True), "UTF8SMTPS")
        self.assertEqual(protocol(False, False, True), "SMTP")


MESSAGE = (
    b"Received: from a\r\n\tby b\r\nSubject: received: no\r\nRECEIVED: from c\r\nX-Received: no\r\n"
    b"Received-SPF: pass\r\nreceived: from d\r\n\r\nReceived: in the body\r\n"
)


class HopCounterTests(SynchronousTestCase):
    """`HopCounter`."""

    def count(self, *pieces: bytes) -> int:
        """The hops of a message in pieces."""
        counter = HopCounter()
        for piece in pieces:
            counter.feed(piece)
        return counter.hops

    def test_header_only(self) -> None:
        """Lines of that name in the header, in any case of letters, and none of the body."""
        self.assertEqual(self.count(MESSAGE), 3)
        self.assertEqual(self.count(b"\r\nReceived: body\r\n"), 0)
        self.assertEqual(self.count(b""), 0)

    @settings(deadline=None, max_examples=200)
    @given(st.lists(st.integers(0, len(MESSAGE)), max_size=8))
    def test_pieces(self, cuts: list[int]) -> None:
        """However the message is cut, the count is the same."""
        edges = [0, *sorted(cuts), len(MESSAGE)]
        self.assertEqual(self.count(*(MESSAGE[a:b] for a, b in pairwise(edges))), 3)

    def test_bounded(self) -> None:
        """A header without end keeps nothing but its last few bytes."""
        counter = HopCounter()
        for _ in range(100):
            counter.feed(b"X" * 10_000)
        self.assertLess(len(counter._tail), 16)
