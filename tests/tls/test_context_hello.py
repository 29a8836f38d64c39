"""Client hellos of old and of odd clients, byte for byte (S16)."""

from __future__ import annotations

from mta.tls.context import ServerTls
from tests.tls.contexts import ContextCase
from tests.tls.hello import SSL2_HELLO, SSL3, TLS10, TLS11, TLS12, answer, client_hello, messages

PROTOCOL_VERSION = b"\x02\x46"  # fatal, alert 70


class OldVersionsTests(ContextCase):
    """What a server of TLS 1.2 and 1.3 says to them."""

    def setUp(self) -> None:
        super().setUp()
        self.tls = ServerTls.load(self.settings)

    def said(self, hello: bytes) -> bytes:
        return answer(self.tls.prepare().connection, hello)

    def test_s16_refused(self) -> None:
        """S16: SSL 2.0, SSL 3.0, TLS 1.0 and TLS 1.1 end the handshake with a fatal alert, not with a server hello."""
        self.assertNotEqual(self.said(SSL2_HELLO)[:1], b"\x16")
        for version in (SSL3, TLS10, TLS11):
            said = self.said(client_hello(version=version, record=version))
            self.assertEqual((said[:1], said[5:]), (b"\x15", PROTOCOL_VERSION), version)

    def test_s16_record_version(self) -> None:
        """S16: a hello of TLS 1.2 is taken in a record of any version, for that says nothing (RFC 5246 E.1)."""
        for record in (SSL3, TLS10, TLS11, TLS12):
            hello = dict(messages(self.said(client_hello(version=TLS12, record=record))))[2]
            self.assertEqual(hello[:2], TLS12, record)

    def test_s15_no_tls_at_all(self) -> None:
        """S15, S45: a command or noise instead of a hello is answered by no byte of SMTP."""
        for noise in (b"QUIT\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\0" * 20, b"\x16\x03\x01\xff\xff" + b"x" * 40):
            self.assertIn(self.said(noise)[:1], (b"", b"\x15"), noise)

    def test_cut_off_anywhere(self) -> None:
        """A hello that ends at any byte is waited for, without an answer and without an error."""
        whole = client_hello()
        for end in range(1, len(whole), 7):
            self.assertEqual(self.said(whole[:end]), b"", end)
