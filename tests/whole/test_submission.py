"""Mail from a mail program to a mailbox: smtplib at the ports 587 and 465 of a whole server, and what the mailbox gets."""

from __future__ import annotations

import smtplib
import ssl
from email.utils import parsedate_to_datetime
from time import time

from twisted.internet.threads import deferToThread

from tests.whole.world import Running, World

PORTS = """
[auth]
passwords = "passwords"
senders = "bound"
sender_map = "senders"

[[listen]]
endpoint = "tcp:0:interface=127.0.0.1"
submission = true

[[listen]]
endpoint = "tcp:0:interface=127.0.0.1"
tls = "implicit"
submission = true
check_from = true
"""
BARE = "To: you@b.test\r\nBcc: secret@b.test,\r\n more@b.test\r\nSubject: bare\r\n\r\nhello\r\n"


class SubmissionTests(World):
    """One server, one account, ann."""

    async def begin(self) -> Running:
        """The server with both kinds of submission ports."""
        folder = self.folder / "b.test"
        folder.mkdir()
        for name, text in (("passwords", "ann:secret\n"), ("senders", "ann: list@b.test\n")):
            (folder / name).write_text(text)
            (folder / name).chmod(0o600)
        return await self.serve("b.test", self.certificate() + PORTS)

    def program(self, server: Running, implicit: bool) -> smtplib.SMTP:
        """A mail program that has logged in; it knows our authority."""
        trust = ssl.create_default_context(cadata=self.authority.certificate_pem.decode())
        port = int(server.mta.receive.ports[2 if implicit else 1].getHost().port)
        if implicit:
            client: smtplib.SMTP = smtplib.SMTP_SSL("localhost", port, timeout=20, context=trust)
        else:
            client = smtplib.SMTP("localhost", port, timeout=20)
            client.starttls(context=trust)
        client.login("ann", "secret")
        return client

    async def test_to_the_mailbox(self) -> None:
        """The mailbox gets Date, From and Message-ID, no Bcc, and a trace that says ESMTPSA; by STARTTLS and by TLS alone."""
        server = await self.begin()
        for implicit in (False, True):

            def send(implicit: bool = implicit) -> None:
                with self.program(server, implicit) as client:
                    client.sendmail("ann@b.test", ["you@b.test"], BARE)

            await deferToThread(send)
        await self.happened(server, "delivered", 2)
        mails = server.mails()
        self.assertEqual(len(mails), 2)
        for mail in mails:
            self.assertEqual((mail["Subject"], mail["From"], mail["Bcc"]), ("bare", "<ann@b.test>", None))
            self.assertIn("with ESMTPSA id", mail["Received"])
            self.assertLess(abs(parsedate_to_datetime(mail["Date"]).timestamp() - time()), 60)
        self.assertEqual(len({mail["Message-ID"] for mail in mails}), 2)
        self.assertEqual([fields["account"] for fields in server.events.of("accepted")], ["ann", "ann"])

    async def test_not_hers(self) -> None:
        """Another's address is refused in MAIL, and where From is looked at, there too; what the map gives is hers."""
        server = await self.begin()

        def send() -> list[int]:
            codes = []
            with self.program(server, implicit=True) as client:
                for sender, author in (
                    ("bob@b.test", "ann@b.test"),
                    ("ann@b.test", "bob@b.test"),
                    ("list@b.test", "list@b.test"),
                ):
                    try:
                        client.sendmail(sender, ["you@b.test"], f"From: {author}\r\n\r\nhello\r\n")
                        codes.append(250)
                    except smtplib.SMTPResponseException as error:
                        codes.append(error.smtp_code)
            return codes

        self.assertEqual(await deferToThread(send), [553, 550, 250])

    async def test_later(self) -> None:
        """FUTURERELEASE: the mail is taken, waits in the queue, and is delivered when its time has come, not before."""
        server = await self.begin()

        def send() -> float:
            with self.program(server, implicit=False) as client:
                client.ehlo()
                self.assertTrue(client.has_extn("FUTURERELEASE"))
                client.sendmail("ann@b.test", ["you@b.test"], BARE, mail_options=["HOLDFOR=2"])
                return time()

        sent = await deferToThread(send)
        self.assertEqual((server.events.count("accepted"), server.events.count("delivered"), server.mails()), (1, 0, []))
        await self.happened(server, "delivered")
        self.assertGreater(time() - sent, 1.5)
        self.assertEqual(server.texts(), [b"hello\n"])
