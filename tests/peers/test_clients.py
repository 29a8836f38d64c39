"""Real clients send to us: swaks, Python's smtplib, Postfix's smtp-source."""

from __future__ import annotations

import smtplib
import ssl
import subprocess

from tests.peers.case import PeerTestCase, send
from tests.peers.peers import arrived, message, require, smtp_sink, smtp_source, swaks, wait_for
from tests.peers.server import relay_to


class ClientTests(PeerTestCase):
    """What they send is in our Maildir, or at the next hop, unchanged and once."""

    def test_swaks(self) -> None:
        """The plain dialogue, command by command and pipelined."""
        require("swaks")
        mta = self.mta()
        for options in ((), ("--pipeline",)):
            dialogue = swaks(mta.port, "--body", "hello from swaks", *options, to="user@local.test")
            self.assertIn("250", dialogue)
        wait_for(lambda: len(self.stored(mta)) == 2, "two messages")
        for path in self.stored(mta):
            self.assertIn(b"hello from swaks", path.read_bytes())
            self.assertTrue(
                path.read_bytes().startswith(
                    b"Return-Path: <from@a.test>\nDelivered-To: user@local.test\nReceived: from client.test"
                )
            )

    def test_swaks_starttls(self) -> None:
        """STARTTLS with swaks (Net::SSLeay); the log line of the message says so, and so does Received."""
        require("swaks")
        mta = self.mta(tls=self.certificate())
        dialogue = swaks(mta.port, "--tls", to="user@local.test")
        self.assertIn("TLS started with cipher TLSv1.3", dialogue)
        (accepted,) = mta.wait_for_event("accepted")
        self.assertEqual("TLSv1.3", accepted.fields["tls_version"])
        wait_for(lambda: self.stored(mta), "the message")
        self.assertIn(b"with ESMTPS", self.stored(mta)[0].read_bytes())

    def test_swaks_is_refused_relaying_nowhere(self) -> None:
        """An unknown local recipient gets its reply at RCPT and nothing is queued."""
        require("swaks")
        mta = self.mta('[[route]]\nmatch = "local"\ndeliver = "maildir:mail/{user}"\n\n')
        dialogue = self.refused(mta.port, "nobody@local.test")
        self.assertIn("550 5.1.1", dialogue)
        self.assertEqual(0, mta.count("accepted"))

    def refused(self, port: int, to: str) -> str:
        error = self.assertRaises(subprocess.CalledProcessError, swaks, port, to=to)
        return error.stdout

    def test_smtplib(self) -> None:
        """A message full of traps, in clear and over STARTTLS with the certificate verified: byte-identical."""
        mta = self.mta(tls=self.certificate())
        send(mta.port, message(1), "user@local.test")
        context = ssl.create_default_context(cadata=self.authority.certificate_pem.decode())
        with smtplib.SMTP("localhost", mta.port, local_hostname="client.test", timeout=60) as client:
            client.starttls(context=context)
            client.sendmail("from@a.test", ["user@local.test"], message(2), ["BODY=8BITMIME"])
        wait_for(lambda: len(self.stored(mta)) == 2, "two messages")
        self.assertEqual({message(1), message(2)}, {arrived(path) for path in self.stored(mta)})

    def test_smtplib_large(self) -> None:
        """A message above the inline limit of the queue goes through its spool file unchanged."""
        mta = self.mta()
        data = message(1, lines=80_000)
        self.assertGreater(len(data), 500_000)
        send(mta.port, data, "user@local.test", "other@local.test")
        wait_for(lambda: len(self.stored(mta)) == 2, "two copies")
        self.assertEqual({data}, {arrived(path) for path in self.stored(mta)})

    def test_smtp_source_to_maildir(self) -> None:
        """300 numbered recipients over 20 sessions: each in the Maildir exactly once."""
        require("smtp-source")
        mta = self.mta()
        smtp_source(mta.port, "-N", "-s", "20", "-m", "300", "-l", "4096", to="user@local.test")
        mta.wait_for_event("delivered", 300)
        to = [path.read_bytes().split(b"\n", 2)[1] for path in self.stored(mta)]
        self.assertEqual({b"Delivered-To: %duser@local.test" % n for n in range(1, 301)}, set(to))
        self.assertEqual(300, len(to))
        mta.stop()

    def test_smtp_source_to_smtp_sink(self) -> None:
        """The same, relayed; several recipients in a transaction."""
        require("smtp-source", "smtp-sink")
        sink = self.kept(smtp_sink(self.sub("sink"), store=True))
        mta = self.mta(relay_to(sink.port))
        smtp_source(mta.port, "-d", "-s", "10", "-m", "100", "-r", "3", "-l", "1000")
        mta.wait_for_event("delivered", 300)
        text = b"".join(path.read_bytes() for path in sink.stored())
        self.assertEqual([100, 100, 100], [text.count(b"X-Rcpt-Args: <%suser@sink.test>" % n) for n in (b"", b"2", b"3")])
        mta.stop()
