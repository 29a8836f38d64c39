"""Postfix with us as its smarthost: a login by each mechanism of its Cyrus SASL, on ports 25, 587 and 465.

It never uses BDAT as a client.  Its Cyrus SASL knows SCRAM-SHA-256-PLUS, but Postfix gives it no channel to bind to.
"""

from __future__ import annotations

import re
import smtplib
from typing import ClassVar

from tests.peers.case import send
from tests.peers.clients_case import ClientCase, attachment, greeting
from tests.peers.peers import Server, message, start_postfix, wait_for
from tests.peers.site import ACCOUNT, ADDRESS, PASSWORD, Mailbox

MECHANISMS = ("PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256")
_OWN = re.compile(rb"Received: from .*\r\n(?:[ \t].*\r\n)*")  # Postfix's line
_STATUS = re.compile(r" to=<([^>]*)>.* status=(\w+) \((.*)\)")


class PostfixTests(ClientCase):
    """What it has taken by smtplib arrives with us unchanged."""

    needs: ClassVar[tuple[str, ...]] = ("postfix",)

    def postfix(self, port: int, mechanism: str = "", password: str = PASSWORD, **extra: str) -> Server:
        """With all its mail for a port of ours.  mechanism: that it may use, "": any."""
        folder = self.folder / f"hop{port}{mechanism}"
        folder.mkdir()
        (folder / "ca.pem").write_bytes(self.site.ca.read_bytes())
        (folder / "logins").write_text(f"[localhost]:{port} {ACCOUNT}:{password}\n")
        settings = {
            "relayhost": f"[localhost]:{port}",
            "smtp_tls_security_level": "secure",
            "smtp_tls_secure_cert_match": "localhost",
            "smtp_tls_CAfile": str(folder / "ca.pem"),
            "smtp_tls_wrappermode": "yes" if port == self.site.implicit else "no",
            "smtp_sasl_auth_enable": "yes" if port != self.site.mta.port else "no",
            "smtp_sasl_password_maps": f"texthash:{folder}/logins",
            "smtp_sasl_security_options": "noanonymous",
            "smtp_sasl_mechanism_filter": mechanism.lower(),
        }
        server = start_postfix(folder, relay_to=port, extra={**settings, **extra})
        self.addCleanup(server.stop)
        return server

    def status(self, hop: Server, count: int = 1) -> dict[str, tuple[str, str]]:
        """What it says of its recipients, once it says something of so many."""
        path = hop.directory / "maillog"
        wait_for(lambda: len(_STATUS.findall(path.read_text())) >= count, "Postfix to have tried")
        return {to: (status, why) for to, status, why in _STATUS.findall(path.read_text())}

    def check_arrived(self, box: Mailbox, data: bytes, received: str) -> None:
        """Below our line Postfix's own, and below that what it was given."""
        ours, rest = box.wait()
        self.assertRegex(ours, received)
        own = _OWN.match(rest)
        assert own is not None, rest[:400]
        self.assertEqual(data, rest[own.end() :])

    def test_clear(self) -> None:
        """Port 25 without TLS."""
        box = self.mailbox()
        hop = self.postfix(self.site.mta.port, smtp_tls_security_level="none")
        send(hop.port, message(), box.address)
        self.check_arrived(box, message(), r" from peer\.test \(\S+\) by mta\.test with ESMTP id ")

    def test_many_and_one_refused(self) -> None:
        """Port 25 with STARTTLS: fifty recipients, pipelined; one is unknown, and is alone in the bounce."""
        boxes = [self.mailbox() for _ in range(49)]
        hop = self.postfix(self.site.mta.port)
        send(hop.port, message(), *(box.address for box in boxes), "nobody@local.test")
        for box in boxes:
            self.check_arrived(box, message(), " with ESMTPS id ")
        status = self.status(hop, 50)
        self.assertEqual({box.address for box in boxes}, {to for to, (what, _) in status.items() if what == "sent"})
        self.assertEqual("bounced", status["nobody@local.test"][0])
        self.assertIn("550 5.1.1", status["nobody@local.test"][1])
        self.assertEqual(["49"], [entry.fields["nrcpt"] for entry in self.seen("accepted")])

    def check_login(self, port: int, mechanism: str) -> None:
        box = self.mailbox()
        hop = self.postfix(port, mechanism)
        send(hop.port, message(), box.address, sender=ADDRESS)
        self.check_arrived(box, message(), " with ESMTPSA id ")
        hop.stop()

    def test_logins(self) -> None:
        """Port 587: each mechanism of its Cyrus SASL."""
        for mechanism in MECHANISMS:
            self.check_login(self.site.submission, mechanism)
        said = [[entry.fields[word] for word in ("mechanism", "result", "account")] for entry in self.seen("auth")]
        self.assertEqual([[mechanism, "ok", ACCOUNT] for mechanism in MECHANISMS], said)

    def test_own_choice(self) -> None:
        """Port 465: of all that we offer it takes the strongest that it can."""
        self.check_login(self.site.implicit, "")
        [said] = self.seen("auth")
        self.assertEqual(("SCRAM-SHA-256", "ok"), (said.fields["mechanism"], said.fields["result"]))

    def test_wrong_password(self) -> None:
        """535: the mail waits with Postfix, to be tried again."""
        for mechanism in ("PLAIN", "SCRAM-SHA-256"):
            hop = self.postfix(self.site.submission, mechanism, "wrong")
            send(hop.port, message(), self.mailbox().address, sender=ADDRESS)
            [(status, why)] = self.status(hop).values()
            self.assertEqual("deferred", status)
            self.assertIn("535 5.7.8", why)
            hop.stop()
        self.assertEqual([], self.seen("accepted"))

    def test_not_owned(self) -> None:
        """553: bounced by Postfix at once."""
        hop = self.postfix(self.site.submission)
        send(hop.port, message(), self.mailbox().address, sender="bob@local.test")
        status = self.status(hop)
        self.assertEqual(["bounced"], [what for what, _ in status.values()])
        self.assertIn("553 5.7.1", str(status))
        self.assertEqual([], self.seen("accepted"))

    def test_large(self) -> None:
        """An attachment of 5 MiB."""
        box, data = self.mailbox(), attachment(5 << 20)
        hop = self.postfix(self.site.submission)
        send(hop.port, data, box.address, sender=ADDRESS)
        self.check_arrived(box, data, " with ESMTPSA id ")

    def test_smtputf8(self) -> None:
        """RFC 6531: addresses and headers in UTF-8 are passed on as they are."""
        box = self.mailbox("grün")
        hop = self.postfix(self.site.mta.port)
        text = greeting(box.address)
        with smtplib.SMTP("127.0.0.1", hop.port, "client.test", timeout=60) as client:
            self.assertEqual({}, client.send_message(text))
        self.check_arrived(box, text.as_bytes(), " with UTF8SMTPS id ")
