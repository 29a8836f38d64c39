"""nodemailer, of JavaScript programs: the newest version for the node that Debian 12 has (install.sh)."""

from __future__ import annotations

import base64
import email
import email.policy

from tests.peers.client_programs import nodemailer, of_nodemailer
from tests.peers.clients_case import ClientCase, EveryClient


class NodemailerTests(EveryClient, ClientCase):
    """With its SMTP transport."""

    needs = ("node", "nodemailer")
    client = staticmethod(of_nodemailer)

    def test_composed(self) -> None:
        """A message of its own making: UTF-8 from head to foot, two bodies and an attachment of all octets."""
        box, content = self.mailbox("grün"), bytes(range(256)) * 40
        mail = {
            "from": "Jörg <jörg@a.test>",
            "to": box.address,
            "subject": "Grüße " * 20,
            "text": "Grüße\r\n.\r\n..\r\nFrom here\r\n",
            "html": "<p>Grüße</p>",
            "attachments": [{"filename": "ü.bin", "content": base64.b64encode(content).decode(), "encoding": "base64"}],
        }
        answer = nodemailer(self.order(box, sender="jörg@a.test", tls="starttls"), mail)
        self.assertTrue(answer.sent, answer.said)
        ours, data = box.wait()
        self.assertRegex(ours, "with UTF8SMTPS id ")
        self.assertEqual(answer.data, data)
        parsed = email.message_from_bytes(data, policy=email.policy.default)
        [attached] = parsed.iter_attachments()
        self.assertEqual(("ü.bin", content), (attached.get_filename(), attached.get_content()))

    def test_all_refused(self) -> None:
        """When the only recipients are refused it hears 550 for each, and sends no message of nothing."""
        self.check_refused(self.order("nobody@local.test", "nothing@local.test"), "550")
        self.assertEqual(["rcpt"] * 2, [entry.fields["stage"] for entry in self.seen("rejected")])

    def test_requiretls(self) -> None:
        """RFC 8689: REQUIRETLS in MAIL."""
        box = self.mailbox()
        mail = {"raw": base64.b64encode(b"Subject: x\r\n\r\nx\r\n").decode()}
        answer = nodemailer(self.order(box, tls="starttls"), {**mail, "requireTLSExtensionEnabled": True})
        self.assertTrue(answer.sent, answer.said)
        self.assertEqual(answer.data, box.wait()[1])
