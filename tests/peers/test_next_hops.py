"""Real next hops: Postfix and Exim with and without STARTTLS, and smtp-sink."""

from __future__ import annotations

from mta.testing.logs import Entry
from tests.peers.case import PeerTestCase, send
from tests.peers.peers import Server, arrived, message, require, smtp_sink, start_exim, start_postfix, wait_for
from tests.peers.server import MtaProcess, relay_to


class NextHopTests(PeerTestCase):
    """Three messages, one after the other, to each kind of next hop."""

    def relayed(self, hop: Server, *, tls: str = "may", more: str = "") -> list[Entry]:
        """Send three messages, each when the one before has been delivered; check them at the hop; give the log lines."""
        mta = self.mta(more + relay_to(hop.port, tls=tls))
        for number in (1, 2, 3):
            send(mta.port, message(number))
            mta.wait_for_event("delivered", number)
        wait_for(lambda: len(hop.stored()) == 3, "three messages")
        self.assertEqual({message(n) for n in (1, 2, 3)}, {arrived(path) for path in hop.stored()})
        mta.stop()
        return mta.log("delivered")

    def check_kept(self, delivered: list[Entry]) -> None:
        """One handshake, three messages; the line says which TLS and the how-manieth use of the connection."""
        self.assertEqual(["new", "kept", "kept"], [entry.fields["tls"] for entry in delivered])
        self.assertEqual(["1", "2", "3"], [entry.fields["conn_use"] for entry in delivered])
        self.assertEqual({"TLSv1.3"}, {entry.fields["tls_version"] for entry in delivered})

    def test_postfix_over_tls(self) -> None:
        """The second and third message go over the TLS connection of the first."""
        require("postfix")
        self.check_kept(self.relayed(self.kept(start_postfix(self.sub("hop"), tls=self.certificate()))))

    def test_exim_over_tls(self) -> None:
        """The same with GnuTLS on the other side."""
        require("exim")
        self.check_kept(self.relayed(self.kept(start_exim(self.sub("hop"), tls=self.certificate()))))

    def test_postfix_in_clear(self) -> None:
        """No STARTTLS offered: level may goes in clear, and the connection is used again too."""
        require("postfix")
        delivered = self.relayed(self.kept(start_postfix(self.sub("hop"))))
        self.assertEqual(["none"] * 3, [entry.fields["tls"] for entry in delivered])

    def test_exim_in_clear(self) -> None:
        """The same with Exim."""
        require("exim")
        delivered = self.relayed(self.kept(start_exim(self.sub("hop"))))
        self.assertEqual(["none"] * 3, [entry.fields["tls"] for entry in delivered])

    def test_smtp_sink(self) -> None:
        """And with smtp-sink, which writes down what it was sent."""
        require("smtp-sink")
        hop = self.kept(smtp_sink(self.sub("hop"), store=True))
        mta = self.mta(relay_to(hop.port))
        send(mta.port, message(1))
        mta.wait_for_event("delivered")
        wait_for(hop.stored, "the message")
        self.assertEqual(message(1) + b"\r\n", arrived(hop.stored()[0]))  # smtp-sink ends its files with an empty line

    def test_lock_step_to_a_server_of_the_last_century(self) -> None:
        """smtp-sink without ESMTP: HELO, no pipelining, no extension at all."""
        require("smtp-sink")
        hop = self.kept(smtp_sink(self.sub("hop"), "-e", store=True))
        mta = self.mta(relay_to(hop.port))
        send(mta.port, b"X-Start: 1\r\n\r\nplain\r\n", "a@sink.test", "b@sink.test")
        mta.wait_for_event("delivered", 2)
        wait_for(hop.stored, "the message")
        self.assertEqual([b"X-Start: 1\r\n\r\nplain\r\n\r\n"], [arrived(path) for path in hop.stored()])

    def test_verify(self) -> None:
        """Level verify: delivered when the authority is trusted, and the log says that the name was verified."""
        require("postfix")
        (self.folder / "ca.pem").write_bytes(self.authority.certificate_pem)
        hop = self.kept(start_postfix(self.sub("hop"), tls=self.certificate()))
        trust = f'[tls_client]\ntrust = ["{self.folder}/ca.pem"]\n\n'
        delivered = self.relayed(hop, tls="verify", more=trust)
        self.check_kept(delivered)
        self.assertEqual({"verify"}, {entry.fields["level"] for entry in delivered})

    def check_deferred(self, mta: MtaProcess, hop: Server) -> Entry:
        """One message: kept, not delivered, not bounced."""
        send(mta.port, message(1))
        (deferred,) = mta.wait_for_event("deferred")
        self.assertEqual([], mta.log("delivered", "bounced"))
        self.assertEqual([], hop.stored())
        self.assertEqual("4", deferred.fields["dsn"][0])
        return deferred

    def test_verify_of_a_stranger(self) -> None:
        """Level verify and an authority nobody trusts: the mail waits."""
        require("postfix")
        hop = self.kept(start_postfix(self.sub("hop"), tls=self.certificate()))
        self.check_deferred(self.mta(relay_to(hop.port, tls="verify")), hop)

    def test_encrypt_without_starttls(self) -> None:
        """Level encrypt and a server without STARTTLS: the mail waits."""
        require("exim")
        hop = self.kept(start_exim(self.sub("hop")))
        self.check_deferred(self.mta(relay_to(hop.port, tls="encrypt")), hop)

    def test_bounce(self) -> None:
        """A refused recipient comes back to its sender as a report that names it; the other recipient has its mail."""
        require("postfix")
        hop = self.kept(start_postfix(self.sub("hop"), tls=self.certificate()))
        mta = self.mta(f'[[route]]\nmatch = "local"\ndeliver = "maildir:mail"\n\n{relay_to(hop.port)}')
        send(mta.port, message(1), "user@sink.test", "user@refused.test", sender="from@local.test")
        wait_for(lambda: self.stored(mta), "the report")
        report = self.stored(mta)[0].read_bytes()
        self.assertTrue(report.startswith(b"Return-Path: <>\n"))
        for words in (b"Final-Recipient: rfc822; user@refused.test\n", b"Action: failed\n", b"Status: 5.", b"X-Start: 1\n"):
            self.assertIn(words, report)
        self.assertNotIn(b"user@sink.test\n\nAction", report)
        wait_for(hop.stored, "the other recipient's message")
        mta.stop()
