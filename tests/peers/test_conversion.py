"""Servers that lack extensions, played by Postfix: what we send them is what their users can read."""

from __future__ import annotations

import smtplib
from email import message_from_bytes
from pathlib import Path

from tests.peers.case import PeerTestCase, send
from tests.peers.peers import Server, require, start_postfix, wait_for
from tests.peers.server import MtaProcess, relay_to

TEXT = "Grüße\r\n.\r\n..punkt \r\n".encode("latin-1") * 3
PARTS = (
    b"X-Start: 1\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    b"--x\r\nContent-Type: text/plain; charset=latin1\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    + TEXT
    + b"\r\n--x\r\nContent-Type: application/x-odd\r\n\r\n\xff\xfe\xfd\r\n--x--\r\n"
)


class ConversionTests(PeerTestCase):
    """To Postfix without the extensions that our message wants."""

    def hop(self, discard: str) -> tuple[Server, MtaProcess]:
        require("postfix")
        hop = self.kept(start_postfix(self.sub("hop"), extra={"smtpd_discard_ehlo_keywords": discard}))
        return hop, self.mta(relay_to(hop.port))

    def stored(self, hop: Server) -> Path:
        wait_for(lambda: len(hop.stored()) == 1, "the message")
        return hop.stored()[0]

    def test_eight_bits(self) -> None:
        """RFC 6152 3: seven bits arrive, and the same parts; the log says so."""
        hop, mta = self.hop("8bitmime, chunking, smtputf8")
        send(mta.port, PARTS)
        mta.wait_for_event("delivered")
        data = self.stored(hop).read_bytes()
        self.assertTrue(data.isascii())
        text, odd = message_from_bytes(data).get_payload()
        self.assertEqual(TEXT.replace(b"\r\n", b"\n"), text.get_payload(decode=True))
        self.assertEqual(b"\xff\xfe\xfd", odd.get_payload(decode=True))
        mta.stop()
        self.assertEqual(["8bit"], [entry.fields["converted"] for entry in mta.log("delivered")])

    def test_binary(self) -> None:
        """RFC 3030 3: Postfix takes chunks, and no binary ones: its users have the octets all the same."""
        hop, mta = self.hop("")
        octets = bytes(range(256)) * 300 + b"\r\n.\r\n\n.\n"
        image = b"Content-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        data = b"X-Start: 1\r\nMIME-Version: 1.0\r\n" + image + octets
        with smtplib.SMTP("127.0.0.1", mta.port, local_hostname="client.test", timeout=60) as client:
            client.ehlo()
            self.assertTrue(client.has_extn("binarymime"))
            self.assertEqual(250, client.mail("from@client.test", ["BODY=BINARYMIME"])[0])
            self.assertEqual(250, client.rcpt("user@sink.test")[0])
            client.send(b"BDAT %d LAST\r\n%b" % (len(data), data))
            self.assertEqual(250, client.getreply()[0])
        mta.wait_for_event("delivered")
        self.assertEqual(octets, message_from_bytes(self.stored(hop).read_bytes()).get_payload(decode=True))

    def test_octets_stay(self) -> None:
        """A server with 8BITMIME gets what came."""
        hop, mta = self.hop("chunking")
        send(mta.port, PARTS)
        mta.wait_for_event("delivered")
        data = self.stored(hop).read_bytes().replace(b"\n", b"\r\n")
        self.assertIn(PARTS, data)

    def test_signed(self) -> None:
        """A signature that conversion would break: the message goes back."""
        _, mta = self.hop("8bitmime")
        send(mta.port, b"DKIM-Signature: v=1\r\n" + PARTS)
        mta.wait_for_event("bounced")
        mta.stop()
        self.assertEqual(["5.6.3"], [entry.fields["dsn"] for entry in mta.log("bounced")])

    def test_addresses(self) -> None:
        """RFC 6531 3.6: SMTPUTF8 was said, and is not needed but for a domain."""
        hop, mta = self.hop("smtputf8")
        with smtplib.SMTP("127.0.0.1", mta.port, local_hostname="client.test", timeout=60) as client:
            client.ehlo()
            client.sendmail("from@ä.test", ["user@sink.test"], b"X-Start: 1\r\n\r\nx\r\n", ["SMTPUTF8"])
        mta.wait_for_event("delivered")
        self.assertIn(b"from@xn--4ca.test", self.stored(hop).read_bytes())
