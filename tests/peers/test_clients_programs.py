"""Clients of the command line: swaks, msmtp, s-nail, curl."""

from __future__ import annotations

from tests.peers.client_programs import gsasl, of_curl, of_msmtp, of_s_nail, of_swaks
from tests.peers.clients_case import ClientCase, EveryClient, greeting
from tests.peers.site import ACCOUNT, MECHANISMS


class SwaksTests(EveryClient, ClientCase):
    """The tester's."""

    needs = ("swaks",)
    client = staticmethod(of_swaks)

    def test_pipelined(self) -> None:
        """A login, and MAIL, three times RCPT and DATA sent at once."""
        boxes = [self.mailbox() for _ in range(3)]
        order = self.submission(*boxes, mechanism="CRAM-MD5")
        answer = of_swaks(order, "--pipeline")
        self.assertTrue(answer.sent, answer.said)
        self.assertEqual([order.data] * 3, [box.wait()[1] for box in boxes])
        sent = [line[4:8] for line in answer.said.splitlines() if line[:4] == " ~> "]
        self.assertEqual(["MAIL", *["RCPT"] * 3, "DATA"], sent[sent.index("MAIL") :][:5])
        self.assertIn("\n ~> DATA\n<~  250 ", answer.said)


class MsmtpTests(EveryClient, ClientCase):
    """GnuTLS and GNU SASL."""

    needs = ("msmtp",)
    client = staticmethod(of_msmtp)
    mechanisms = ("PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256", "EXTERNAL")
    goes_on = False

    def test_many(self) -> None:
        """A hundred recipients, pipelined."""
        boxes = [self.mailbox() for _ in range(100)]
        order = self.submission(*boxes, mechanism="SCRAM-SHA-256")
        answer = of_msmtp(order)
        self.assertTrue(answer.sent, answer.said)
        self.assertEqual([order.data] * 100, [box.wait()[1] for box in boxes])
        self.assertIn(f"RCPT TO:<{boxes[0].address}>\r\n--> RCPT TO:<{boxes[1].address}>\r\n", answer.said)


class SNailTests(EveryClient, ClientCase):
    """A mail program: it composes what it sends."""

    needs = ("s-nail",)
    client = staticmethod(of_s_nail)
    mechanisms = ("PLAIN", "LOGIN", "CRAM-MD5", "EXTERNAL")
    protocol = "SMTP"  # it says HELO when it does not log in
    goes_on = False

    def test_eight_bit(self) -> None:
        """Text in UTF-8 that it has no reason to encode."""
        box = self.mailbox()
        data = b"\r\n\r\n" + "Grüße\r\n.\r\nFrom here\r\n".encode()
        self.check_sent(self.order(box, data=data), box, received=" with SMTP id ")
        self.assertIn(data, box.wait()[1])


class CurlTests(EveryClient, ClientCase):
    """libcurl."""

    needs = ("curl",)
    client = staticmethod(of_curl)
    mechanisms = ("PLAIN", "LOGIN", "CRAM-MD5", "EXTERNAL")

    def test_smtputf8(self) -> None:
        """RFC 6531: addresses in UTF-8."""
        box = self.mailbox("grün")
        order = self.order(box, sender="jörg@a.test", tls="starttls", data=greeting(box.address).as_bytes())
        self.check_sent(order, box, received=" with UTF8SMTPS id ")


class GsaslTests(ClientCase):
    """GNU SASL only logs in; of all of them it alone binds the login to TLS."""

    needs = ("gsasl",)

    def test_logins(self) -> None:
        """Each mechanism that we have, SCRAM-SHA-256-PLUS with tls-exporter (RFC 9266); it believes the server's proof."""
        for mechanism in MECHANISMS:
            answer = gsasl(self.submission(mechanism=mechanism))
            self.assertTrue(answer.sent, answer.said)
            self.assertIn("235 2.7.0", answer.said)
            self.assertIn("server trusted", answer.said)
        said = [[entry.fields[word] for word in ("mechanism", "result", "account")] for entry in self.seen("auth")]
        self.assertEqual([[mechanism, "ok", ACCOUNT] for mechanism in MECHANISMS], said)

    def test_wrong_password(self) -> None:
        """535, whichever it is."""
        for mechanism in MECHANISMS[:-1]:
            answer = gsasl(self.submission(mechanism=mechanism, password="wrong"))
            self.assertFalse(answer.sent, answer.said)
            self.assertIn("535 5.7.8", answer.said)

    def test_stripped(self) -> None:
        """RFC 5802 6: a client that can bind, and says that it was offered nothing to bind to, has been lied to: 535."""
        answer = gsasl(self.submission(mechanism="SCRAM-SHA-256"), binding=True)
        self.assertFalse(answer.sent, answer.said)
