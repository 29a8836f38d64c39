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
from mta.receive.trace import HeaderScan, protocol, received
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

    def test_client_name(self) -> None:
        """The client's name stands before its address, and can end no comment."""
        self.assertIn(b"from client.example (mx.client.example [192.0.2.1])\r\n", line(client_name="mx.client.example"))
        self.assertIn(b"(a?by?b [192.0.2.1])\r\n", line(client_name="a)by(b"))

    def test_tls(self) -> None:
        """Version, cipher and bits stand in a comment."""
        value = line(tls=Achieved("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256), with_protocol="ESMTPS")
        self.assertIn(b"\r\n\t(TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256 bits))\r\n\tby ", value)

    def test_priority(self) -> None:
        """RFC 6710: behind all else, where there is one."""
        self.assertIn(b"\r\n\tfor <user@example.org>\r\n\tpriority -3;\r\n\tWed", line(priority=-3))
        self.assertNotIn(b"priority", line(priority=0))

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
        self.assertEqual(protocol(True, False, False, authenticated=True), "ESMTPA")
        self.assertEqual(protocol(True, False, True, authenticated=True), "ESMTPSA")
        self.assertEqual(protocol(True, True, True, authenticated=True), "UTF8SMTPSA")


MESSAGE = (
    b"Received: from a\r\n\tby b\r\nSubject: received: no\r\nRECEIVED: from c\r\nX-Received: no\r\n"
    b"Received-SPF: pass\r\nTLS-Required: No\r\nreceived: from d\r\n\r\nReceived: in the body\r\n"
)
FOLDED = (
    b"Subject: x\r\nTLS-REQUIRED:" + b" " * 20 + b"\r\n" + b"\t" * 20 + b"nO" + b" " * 20 + b"\r\nTo: a@b.example\r\n\r\nbody\r\n"
)
NOT_SAID = FOLDED.replace(b"nO", b"nO way")
LAST = b"Subject: x\r\nTLS-Required: no\r\n\r\nbody\r\n"
HEADER_ONLY = b"Subject: x\r\nTLS-Required: NO\r\n"


def scan(message: bytes, cuts: list[int]) -> tuple[int, bool]:
    """What is found in a message that comes in pieces."""
    header = HeaderScan()
    edges = [0, *sorted(min(cut, len(message)) for cut in cuts), len(message)]
    for begin, end in pairwise(edges):
        header.feed(message[begin:end])
    return header.hops, header.tls_required_no


LINES = (b"a: b\r\n", b"c : d\r\n", b" fold\r\n", b"\tfold\r\n", b"\r\n", b"\r", b"\n", b"x", b"\xe4", b":")


def size_of(message: bytes) -> int:
    """Of its header: line by line."""
    at = 0
    while at < len(message):
        line, crlf, _ = message[at:].partition(b"\r\n")
        name = re.match(rb"[!-9;-~]*", line)
        assert name is not None
        rest = line[name.end() :] + crlf
        if line[:1] not in (b" ", b"\t") and rest and not (name[0] and re.match(rb"[ \t]{0,2}(?::|\Z)", rest)):
            return at
        at += len(line + crlf)
    return len(message)


class HeaderScanTests(SynchronousTestCase):
    """`HeaderScan`."""

    def test_hops(self) -> None:
        """Received lines of the header, in any case of letters, and none of the body."""
        self.assertEqual(scan(MESSAGE, [])[0], 3)
        self.assertEqual(scan(b"\r\nReceived: body\r\n", [])[0], 0)
        self.assertEqual(scan(b"", []), (0, False))

    @settings(deadline=None, max_examples=200)
    @given(st.sampled_from([MESSAGE, FOLDED, NOT_SAID, LAST, HEADER_ONLY]), st.lists(st.integers(0, 200), max_size=8))
    def test_pieces(self, message: bytes, cuts: list[int]) -> None:
        """However the message is cut, what is found is the same."""
        self.assertEqual(scan(message, cuts), scan(message, []))
        self.assertEqual(scan(message, list(range(len(message)))), scan(message, []))

    @settings(deadline=None, max_examples=200)
    @given(st.lists(st.sampled_from(LINES), max_size=12), st.lists(st.integers(0, 60), max_size=5))
    def test_size(self, lines: list[bytes], cuts: list[int]) -> None:
        """All that stands before the empty line, or a line that is no field, however it comes."""
        message = b"".join(lines)
        for places in (cuts, range(len(message))):
            ends = sorted({0, *(place for place in places if place < len(message)), len(message)})
            header = HeaderScan()
            for start, stop in pairwise(ends):
                header.feed(message[start:stop])
            self.assertEqual(header.size, size_of(message))

    def test_sizes(self) -> None:
        """What ends a header, and what does not."""
        for line in (
            b"\r\n",
            b"no field\r\n",
            b"word\r\n",
            b"From bob Mon Jan 1\r\n",
            b": x\r\n",
            b"J\xf6rg: x\r\n",
            b"x" * 90 + b" y\r\n",
        ):
            for before in (b"", b"To: a\r\n b\r\n"):
                header = HeaderScan()
                header.feed(before + line + b"Received: in the body\r\n" * 3)
                self.assertEqual((header.size, header.hops), (len(before), 0), line)
        for line in (b"a:\r\n", b"a : b\r\n", b"a\t :b\r\n", b" fold\r\n", b"!#$: x\r\n", b"x" * 300 + b": y\r\n"):
            header = HeaderScan()
            header.feed(b"To: a\r\n" + line + b"\r\nbody")
            self.assertEqual(header.size, 7 + len(line), line)

    def test_headless(self) -> None:
        """A message that begins with a blank, which may come alone; an empty piece decides nothing."""
        for pieces, headless in (
            ([b" x\r\n"], True),
            ([b"", b"\t", b"x: y\r\n"], True),
            ([b"x", b" y\r\n"], False),
            ([b"\r\n", b" x"], False),
            ([b"\r", b"\n", b" x"], False),
            ([], False),
        ):
            header = HeaderScan()
            for piece in pieces:
                header.feed(piece)
            self.assertEqual(header.headless, headless, pieces)

    def test_tls_required_no(self) -> None:
        """RFC 8689 5: said in a header, in any letters, folded, as its last line, in a header without a body."""
        for message in (MESSAGE, FOLDED, LAST, HEADER_ONLY, b"TLS-Required:No\r\n\r\n"):
            self.assertTrue(scan(message, [])[1], message)

    def test_not_said(self) -> None:
        """Another value, another name, a folded rest of the value, a blank before the colon, a line of the body: nothing was said."""
        for line in (
            b"TLS-Required: Yes",
            b"TLS-Required: No way",
            b"TLS-Required: No\r\n way",
            b"TLS-Required: None",
            b"TLS-Required:",
            b"X-TLS-Required: No",
            b"TLS-Required : No",
            b"TLS-Required-By: No",
            b"Subject: x\r\n TLS-Required: No",
            b"Subject: x\r\n\r\nTLS-Required: No",
        ):
            for ending in (b"\r\n", b"\r\nTo: a@b.example\r\n\r\nbody\r\n"):
                self.assertFalse(scan(line + ending, [])[1], line)
                self.assertFalse(scan(line + ending, list(range(99)))[1], line)

    def test_bounded(self) -> None:
        """A header without end keeps nothing but its last few bytes."""
        header = HeaderScan()
        for _ in range(100):
            header.feed(b"X" * 10_000)
        self.assertLess(len(header._tail), 100)
