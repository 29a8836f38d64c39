"""TLS that is taken down again: both ends in memory, at every split of the bytes, with what lies behind close_notify."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from mta.testing.pki import Authority
from mta.tls.unwrap import TlsBroken, UnwrappableTls

ISSUED = Authority.create().issue("mx.example.org")
LEAF, *_ = x509.load_pem_x509_certificates(ISSUED.certificate_pem)
KEY = load_pem_private_key(ISSUED.key_pem, None)


def server(version: int) -> SSL.Connection:
    """The peer's end."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_max_proto_version(version)
    context.use_certificate(LEAF)
    context.use_privatekey(KEY)
    connection = SSL.Connection(context, None)
    connection.set_accept_state()
    return connection


def said(connection: SSL.Connection) -> bytes:
    """What the peer's end has for the network."""
    try:
        return connection.bio_read(1 << 20)
    except SSL.WantReadError:
        return b""


def connected(version: int = SSL.TLS1_3_VERSION, step: int = 1 << 20) -> tuple[UnwrappableTls, SSL.Connection]:
    """Both ends after the handshake; the client gets the server's bytes in pieces of `step`."""
    theirs = server(version)
    ours = UnwrappableTls(SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None))
    for _ in range(4):
        if out := ours.data_to_send():
            theirs.bio_write(out)
        try:
            theirs.do_handshake()
        except SSL.WantReadError:
            pass
        data = said(theirs)
        for at in range(0, len(data), step):
            assert ours.receive(data[at : at + step]) == b""
    assert ours.established
    return ours, theirs


class UnwrapTests(SynchronousTestCase):
    """`UnwrappableTls`."""

    def test_up_and_down_in_each_version(self) -> None:
        """H08: handshake, talk, close_notify from both, and the clear text behind it is ours, whole or byte by byte."""
        for version in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
            for step in (1, 1 << 20):
                ours, theirs = connected(version, step)
                ours.send(b"EHLO me\r\n")
                theirs.bio_write(ours.data_to_send())
                self.assertEqual(theirs.recv(100), b"EHLO me\r\n")
                theirs.send(b"250 you\r\n")
                answer = said(theirs)
                self.assertEqual(
                    b"".join(ours.receive(answer[at : at + step]) for at in range(0, len(answer), step)), b"250 you\r\n"
                )
                ours.shut()
                theirs.bio_write(ours.data_to_send())
                self.assertRaises(SSL.ZeroReturnError, theirs.recv, 100)
                theirs.shutdown()
                end = said(theirs) + b"220 in clear\r\n"
                self.assertEqual(b"".join(ours.receive(end[at : at + step]) for at in range(0, len(end), step)), b"")
                self.assertTrue(ours.closed)
                self.assertEqual(ours.rest, b"220 in clear\r\n")

    def test_large_amounts(self) -> None:
        """More than one record either way."""
        ours, theirs = connected()
        ours.send(b"x" * 100_000)
        theirs.bio_write(ours.data_to_send())
        got = b""
        while len(got) < 100_000:
            got += theirs.recv(65536)
        sent = 0
        while sent < 50_000:
            sent += theirs.send(b"y" * (50_000 - sent))
        self.assertEqual(ours.receive(said(theirs)), b"y" * 50_000)

    def test_the_peer_closes_first(self) -> None:
        """A close_notify that nobody asked for is seen, and what the peer said before it is not lost."""
        ours, theirs = connected()
        theirs.send(b"421 bye\r\n")
        theirs.shutdown()
        self.assertEqual(ours.receive(said(theirs)), b"421 bye\r\n")
        self.assertTrue(ours.closed)

    def test_clear_text_inside_tls(self) -> None:
        """C54 X09: SMTP in clear where a record is due ends it, at its first byte; so does a record that was tampered with."""
        ours, _ = connected()
        self.assertRaises(TlsBroken, ours.receive, b"5")
        ours, theirs = connected()
        theirs.send(b"250 fine\r\n")
        record = bytearray(said(theirs))
        record[-1] ^= 1
        self.assertRaises(TlsBroken, ours.receive, bytes(record))
        ours, _ = connected()
        self.assertRaises(TlsBroken, ours.receive, b"\x17\x03\x03\xff\xff")

    def test_a_handshake_that_fails(self) -> None:
        """An alert in place of the server's hello is an error with OpenSSL's words."""
        ours = UnwrappableTls(SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None))
        error = self.assertRaises(TlsBroken, ours.receive, b"\x15\x03\x03\x00\x02\x02\x28")
        self.assertIn("handshake failure", str(error))

    @settings(deadline=None, max_examples=100)
    @given(st.binary(max_size=200), st.booleans())
    def test_any_bytes(self, data: bytes, established: bool) -> None:
        """Whatever comes, at the handshake or later: plain text, or the one error."""
        ours = connected()[0] if established else UnwrappableTls(SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None))
        try:
            self.assertEqual(ours.receive(data), b"")
        except TlsBroken:
            pass

    def test_late(self) -> None:
        """H15: records that come when nobody waits for them any more are not what is said in clear, whole or byte by byte."""
        for version in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
            for step in (1, 7, 1 << 20):
                for words, closes in ((b"", True), (b"250 old\r\n", True), (b"250 old\r\n", False), (b"", False)):
                    ours, theirs = connected(version)
                    ours.shut()
                    if words:
                        theirs.send(words)
                    if closes:
                        theirs.shutdown()
                    late = said(theirs)
                    half = len(late) // 2
                    self.assertEqual(b"", ours.receive(late[:half]))  # the time is over amid a record
                    late = late[half:] + b"250 in clear\r\n"
                    clear = [ours.receive_late(late[at : at + step]) for at in range(0, len(late), step)]
                    self.assertEqual((b"250 in clear\r\n", closes), (b"".join(clear), ours.closed))

    def test_late_and_broken(self) -> None:
        """One that is none of the session's is the error, and a byte that begins none is clear text at once."""
        ours, theirs = connected()
        theirs.send(b"250 fine\r\n")
        record = bytearray(said(theirs))
        record[-1] ^= 1
        self.assertRaises(TlsBroken, ours.receive_late, bytes(record))
        ours, _ = connected()
        self.assertEqual(b"2", ours.receive_late(b"2"))
        self.assertRaises(TlsBroken, connected()[0].receive_late, b"\x17\x42")
