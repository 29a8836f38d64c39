"""TLS sessions that are resumed, with real servers and clients: Postfix, Exim, Sendmail, openssl s_client."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

from mta.testing.logs import Entry
from tests.peers.case import LOCAL, PeerTestCase, send
from tests.peers.more_servers import start_sendmail
from tests.peers.peers import Server, message, require, start_exim, start_postfix, wait_for
from tests.peers.server import MtaProcess, relay_to
from tests.peers.wire import exim_wire

QUIT = '\n[handover]\nhosts_nopass_tls = ["*"]\n'
CLEAR = '\n[handover]\nhosts_clear_tls = ["*"]\nidle_limit = "30s"\nshutdown_wait = "1s"\n'
VERSIONS = ("-tls1_2", "-tls1_3")
TO = "user@local.test"


class NextHopTests(PeerTestCase):
    """As a client: three messages, one after the other."""

    def relayed(
        self, hop: Server, handover: str = QUIT, tls: str = "verify", waits: Callable[[int], None] = lambda number: None
    ) -> list[Entry]:
        """Our lines of them.  waits: behind each."""
        (self.folder / "ca.pem").write_bytes(self.authority.certificate_pem)
        mta = self.mta(f'[tls_client]\ntrust = ["{self.folder}/ca.pem"]\n{handover}\n{relay_to(hop.port, tls=tls)}')
        for number in (1, 2, 3):
            send(mta.port, message(number))
            mta.wait_for_event("delivered", number)
            waits(number)
        mta.stop()
        self.assertEqual([], mta.log("tls-fault", "deferred"))
        return mta.log("delivered")

    def check(self, delivered: list[Entry]) -> None:
        """Three connections, two of which go on with the session before; the certificate counts for all."""
        self.assertEqual(["new"] * 3, [entry.fields["tls"] for entry in delivered])
        self.assertEqual([None, "yes", "yes"], [entry.fields.get("tls_resumed") for entry in delivered])
        self.assertEqual({"verified"}, {entry.fields["verified"] for entry in delivered})

    def test_postfix(self) -> None:
        """Postfix, which gives no second ticket to who comes with one."""
        require("postfix")
        self.check(self.relayed(self.kept(start_postfix(self.sub("hop"), tls=self.certificate()))))

    def test_exim(self) -> None:
        """Exim with GnuTLS, told to give tickets; unasked it gives none."""
        require("exim")
        more = "tls_resumption_hosts = *\n"
        self.check(self.relayed(self.kept(start_exim(self.sub("hop"), tls=self.certificate(), more=more))))

    def test_exim_clear(self) -> None:
        """And where TLS is taken down behind each message: on the same TCP connection it starts again with its own session."""
        require("exim")
        hop = self.kept(start_exim(self.sub("hop"), tls=self.certificate(), more="tls_resumption_hosts = *\n"))

        def in_clear(number: int) -> None:
            wait_for(lambda: sum(seen["ehlo"] for seen in exim_wire(hop)) == 2 * number + 1, "EHLO in clear text")
            time.sleep(0.3)  # RSET follows, which Exim does not note

        delivered = self.relayed(hop, CLEAR, "may", in_clear)
        told = [(entry.fields["tls"], entry.fields.get("tls_resumed")) for entry in delivered]
        self.assertEqual([("new", None), ("restarted", "yes"), ("restarted", "yes")], told)

    def test_sendmail(self) -> None:
        """Sendmail with OpenSSL."""
        require("sendmail")
        self.check(self.relayed(self.kept(start_sendmail(self.sub("hop"), self.certificate()))))


class ClientTests(PeerTestCase):
    """As a server."""

    def s_client(self, mta: MtaProcess, *options: str) -> str:
        """One connection of openssl s_client, up to the answer to QUIT; what it says of it."""
        command = ["timeout", "30", "openssl", "s_client", "-starttls", "smtp", "-connect", f"127.0.0.1:{mta.port}", "-crlf"]
        command.append("-ign_eof")  # nor does it take a line with Q for its own command
        with subprocess.Popen(
            [*command, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as client:
            said, _ = client.communicate(b"EHLO typed.test\nQUIT\n")
        return said.decode()

    def resumed(self, mta: MtaProcess, version: str, first: str = "localhost", then: str = "localhost") -> bool:
        """Is the session of a connection gone on with on the next, which asks for another name or the same?"""
        session = self.folder / f"session{version}"
        session.unlink(missing_ok=True)
        self.assertIn("\nNew, ", self.s_client(mta, version, "-servername", first, "-sess_out", str(session)))
        if not session.exists():  # in TLS 1.2 there is nothing to come back with
            return False
        said = self.s_client(mta, version, "-servername", then, "-sess_in", str(session))
        self.assertIn("\nReused, " if "\nReused, " in said else "\nNew, ", said)
        return "\nReused, " in said

    def test_openssl(self) -> None:
        """In both versions; our line of the connection says so."""
        require("openssl")
        mta = self.mta(LOCAL, tls=self.certificate())
        self.assertEqual([True, True], [self.resumed(mta, version) for version in VERSIONS])
        mta.stop()
        self.assertEqual([None, "yes"] * 2, [entry.fields.get("tls_resumed") for entry in mta.log("disconnect")])

    def test_x18_several_names(self) -> None:
        """X18: with certificates of several names nothing is."""
        require("openssl")
        certificate, key = self.certificate("other.test")
        sni = f'[[tls.sni]]\nnames = ["other.test"]\ncertificate = "{certificate}"\nkey = "{key}"\n\n'
        mta = self.mta(sni + LOCAL, tls=self.certificate())
        for first, then in (("localhost", "localhost"), ("localhost", "other.test"), ("other.test", "localhost")):
            self.assertEqual([False, False], [self.resumed(mta, version, first, then) for version in VERSIONS])

    def test_postfix(self) -> None:
        """Postfix without connection reuse, with its session cache."""
        require("postfix")
        mta = self.mta(LOCAL, tls=self.certificate())
        extra = {
            "smtp_tls_security_level": "encrypt",
            "smtp_tls_session_cache_database": "btree:${data_directory}/smtp_scache",
            "smtp_connection_cache_on_demand": "no",
        }
        hop = self.kept(start_postfix(self.sub("client"), relay_to=mta.port, extra=extra))
        for number in (1, 2, 3):
            send(hop.port, message(number), TO)
            wait_for(lambda: len(self.stored(mta)) >= number, f"message {number}")
        mta.stop()
        self.assertEqual([None, "yes", "yes"], [entry.fields.get("tls_resumed") for entry in mta.log("disconnect")])
