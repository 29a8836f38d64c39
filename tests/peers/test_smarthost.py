"""The case for which hand-over was asked: much mail to one smarthost that wants AUTH and TLS, with the default configuration.

Numbers of connections, handshakes and logins are those that the smarthost itself has counted.
"""

from __future__ import annotations

import smtplib
from collections import Counter
from collections.abc import Callable

from tests.peers.case import PeerTestCase
from tests.peers.more_servers import sasl_user, start_sendmail
from tests.peers.peers import Server, message, require, smtp_source, start_exim, start_postfix, wait_for
from tests.peers.server import MtaProcess
from tests.peers.wire import exim_wire, postfix_wire, sendmail_wire

USER = ("relay", "correct horse")
AUTH_AND_TLS = {
    "smtpd_sasl_auth_enable": "yes",
    "smtpd_sasl_type": "cyrus",
    "smtpd_sasl_path": "smtpd",
    "smtpd_sasl_local_domain": "peer.test",
    "smtpd_tls_auth_only": "yes",
    "smtpd_recipient_restrictions": "permit_sasl_authenticated, reject",
    "smtpd_relay_restrictions": "permit_sasl_authenticated, reject",
}
ROUTE = """\
[tls_client]
trust = ["{folder}/ca.pem"]

[[route]]
match = ["*"]
relay = "[127.0.0.1]:{port}"
tls = "{level}"
auth = {{ user = "{user}", password_file = "{folder}/password" }}

{more}
"""


class SmarthostTests(PeerTestCase):
    """A17, H01, H02."""

    def setUp(self) -> None:
        super().setUp()
        (self.folder / "ca.pem").write_bytes(self.authority.certificate_pem)
        (self.folder / "password").write_text(USER[1] + "\n")
        (self.folder / "password").chmod(0o600)

    def postfix(self) -> Server:
        directory = self.sub("hop")
        sasl_user(directory, *USER, service="postfix/sasl/smtpd")
        return self.kept(start_postfix(directory, tls=self.certificate(), extra=AUTH_AND_TLS))

    def smarthost(self, hop: Server, *, level: str = "verify", more: str = "") -> MtaProcess:
        """Our server, with all mail for the smarthost."""
        return self.mta(ROUTE.format(folder=self.folder, port=hop.port, level=level, user=USER[0], more=more))

    def one_by_one(self, mta: MtaProcess, count: int) -> None:
        """Each message is sent when the one before has been delivered: one at a time is on its way."""
        with smtplib.SMTP("127.0.0.1", mta.port, local_hostname="client.test", timeout=60) as client:
            client.ehlo()
            for number in range(count):
                client.sendmail("from@a.test", ["user@sink.test"], message(number), ["BODY=8BITMIME"])
                wait_for(lambda done=number: mta.count("delivered") > done, f"message {number}", every=0.002)

    def check(self, mta: MtaProcess, hop: Server, wire: Callable[[Server], list[Counter[str]]], count: int) -> None:
        """One connection, one handshake, one login, all the mail; says what was seen."""
        mta.stop()
        delivered = mta.log("delivered")
        self.assertEqual(count, len(delivered))
        self.assertEqual([], mta.log("deferred", "bounced", "tls-fault"))
        self.assertEqual({"new": 1, "kept": count - 1}, Counter(entry.fields["tls"] for entry in delivered))
        self.assertEqual(str(count), delivered[-1].fields["conn_use"])
        wait_for(lambda: wire(hop), "the smarthost to have seen the end of the connection")
        wait_for(lambda: len(hop.stored()) >= count, "the smarthost to store all")
        self.assertEqual(count, len(hop.stored()))
        (seen,) = wire(hop)
        print(f"\n{self.id().split('.')[-1]}: one connection, {dict(seen)}")
        self.assertEqual((1, 1, count), (seen["starttls"], seen["auth"], seen["mail"]))

    def test_500_messages_to_postfix(self) -> None:
        """A17, H01, H02: 500 messages to Postfix with AUTH and TLS, nothing configured: 1 connection, 1 handshake, 1 AUTH."""
        hop = self.postfix()
        mta = self.smarthost(hop)
        self.one_by_one(mta, 500)
        self.check(mta, hop, postfix_wire, 500)

    def test_500_messages_to_exim(self) -> None:
        """A17, H02: the same to Exim (GnuTLS), which takes no more than 10 commands that are no mail between two mails."""
        hop = self.kept(start_exim(self.sub("hop"), tls=self.certificate(), user=USER))
        mta = self.smarthost(hop)
        self.one_by_one(mta, 500)
        self.check(mta, hop, exim_wire, 500)
        self.assertNotIn("too many nonmail", (hop.directory / "log/mainlog").read_text())

    def test_500_messages_to_sendmail(self) -> None:
        """A17, H02: the same to Sendmail."""
        require("sendmail")
        hop = self.kept(start_sendmail(self.sub("hop"), self.certificate(), user=USER))
        mta = self.smarthost(hop)
        self.one_by_one(mta, 500)
        self.check(mta, hop, sendmail_wire, 500)

    def test_all_at_once_to_postfix(self) -> None:
        """H01: 500 messages from 20 clients at once: a login and a handshake for each connection, not for each message."""
        require("smtp-source")
        hop = self.postfix()
        mta = self.smarthost(hop)
        smtp_source(mta.port, "-s", "20", "-m", "500")
        delivered = mta.wait_for_event("delivered", 500)
        mta.stop()
        new = sum(entry.fields["tls"] == "new" for entry in delivered)
        wait_for(lambda: len(postfix_wire(hop)) == new, "the ends of the connections")
        wire = sum(postfix_wire(hop), Counter())
        print(f"\n{self.id().split('.')[-1]}: {new} connections, {dict(wire)}")
        self.assertEqual((new, new, 500), (wire["starttls"], wire["auth"], wire["mail"]))
        self.assertLessEqual(new, 40)  # never more than 20 at a time

    def test_all_at_once_one_connection_at_a_time(self) -> None:
        """H01: with `per_destination = 1` 120 messages that came all at once go over one connection too."""
        require("smtp-source")
        hop = self.postfix()
        mta = self.smarthost(hop, more="[concurrency]\nper_destination = 1\ninitial = 1\n")
        smtp_source(mta.port, "-s", "20", "-m", "120")
        mta.wait_for_event("delivered", 120)
        self.check(mta, hop, postfix_wire, 120)
