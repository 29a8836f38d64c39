"""Who stands in front of us: HAProxy with the PROXY protocol, swaks with XCLIENT, Postfix with XFORWARD."""

from __future__ import annotations

import smtplib
import ssl
import time
from pathlib import Path

from tests.peers.case import PeerTestCase
from tests.peers.peers import (
    Server,
    arrived,
    message,
    require,
    smtp_source,
    start_haproxy,
    start_postfix,
    swaks,
    wait_for,
)
from tests.peers.server import MtaProcess
from tests.ports import free_port

CLIENT = "127.0.0.7"  # the loopback has them all
TO = "user@local.test"
BEHIND = """\
[[listen]]
endpoint = "tcp:{port}:interface=127.0.0.1"
tls = "{tls}"
proxy_from = ["127.0.0.1"]

[access]
relay_from = ["127.0.0.1"]

[[route]]
match = "local"
deliver = "maildir:mail"

"""


class HaproxyTests(PeerTestCase):
    """Our port behind HAProxy: the client's address gets through, whatever the header looks like."""

    def behind(self, tls: str = "none") -> tuple[MtaProcess, int]:
        """Our server, and its port for the proxy."""
        require("haproxy")
        port = free_port()
        self.tls: tuple[Path, Path] | None = self.certificate() if tls != "none" else None
        return self.mta(BEHIND.format(port=port, tls=tls), self.tls), port

    def haproxy(self, to: int, **words: str) -> Server:
        """In front of that port."""
        return self.kept(start_haproxy(self.sub("haproxy"), to, **words))

    def context(self) -> ssl.SSLContext:
        """Trusts our certificate, and nothing else."""
        return ssl.create_default_context(cadata=self.authority.certificate_pem.decode())

    def tls_client(self, proxy: Server) -> smtplib.SMTP_SSL:
        """TLS from the first byte."""
        return smtplib.SMTP_SSL(
            "localhost", proxy.port, "client.test", timeout=60, source_address=(CLIENT, 0), context=self.context()
        )

    def deliver(self, client: smtplib.SMTP) -> None:
        """One message by smtplib."""
        client.sendmail("from@a.test", [TO], message(1), ["BODY=8BITMIME"])

    def check(self, mta: MtaProcess, **fields: str) -> bytes:
        """The message is there, from CLIENT, by a proxy; its header."""
        [accepted] = mta.wait_for_event("accepted")
        self.assertEqual((CLIENT, "127.0.0.1"), (accepted.fields["client"], accepted.fields["proxy"]))
        connect = next(entry for entry in mta.log("connect") if entry.fields["client"] == CLIENT)
        self.assertEqual(fields, {name: connect.fields.get(name) for name in fields})
        wait_for(lambda: self.stored(mta), "the message")
        [path] = self.stored(mta)
        self.assertEqual(message(1), arrived(path))
        return path.read_bytes()

    def test_send_proxy(self) -> None:
        """Version 1: Received and the log have the client, who may not relay as the proxy's own address might."""
        mta, port = self.behind()
        proxy = self.haproxy(port)
        with smtplib.SMTP("127.0.0.1", proxy.port, "client.test", 60, (CLIENT, 0)) as client:
            client.ehlo()
            self.deliver(client)
            with self.assertRaises(smtplib.SMTPRecipientsRefused):
                client.sendmail("from@a.test", ["user@far.test"], message(2))
        self.assertIn(f"Received: from client.test ([{CLIENT}])".encode(), self.check(mta))

    def test_send_proxy_v2(self) -> None:
        """Version 2 with checksum and further TLVs, and STARTTLS through it."""
        mta, port = self.behind("starttls")
        proxy = self.haproxy(port, server="send-proxy-v2 proxy-v2-options crc32c,unique-id,authority")
        with smtplib.SMTP("localhost", proxy.port, "client.test", 60, (CLIENT, 0)) as client:
            client.starttls(context=self.context())
            self.deliver(client)
        self.assertIn(b"with ESMTPS", self.check(mta))

    def test_implicit(self) -> None:
        """TLS from the first byte behind the header: HAProxy sends both at once."""
        mta, port = self.behind("implicit")
        proxy = self.haproxy(port, server="send-proxy-v2")
        for _ in range(2):
            with self.tls_client(proxy) as client:
                client.noop()
        with self.tls_client(proxy) as client:
            self.deliver(client)
        self.assertIn(b"with ESMTPS", self.check(mta))

    def test_tls_ended_by_the_proxy(self) -> None:
        """What HAProxy says of its own TLS is in the log, and in nothing else: to us the mail came in clear."""
        mta, port = self.behind()
        certificate, key = self.certificate("localhost")
        both = self.sub("pem") / "both.pem"
        both.write_bytes(certificate.read_bytes() + key.read_bytes())
        proxy = self.haproxy(port, bind=f"ssl crt {both}", server="send-proxy-v2-ssl")
        with self.tls_client(proxy) as client:
            self.deliver(client)
        self.assertIn(b"with ESMTP id", self.check(mta, proxy_tls="TLSv1.3"))

    def test_health_checks(self) -> None:
        """HAProxy's own checks (LOCAL) are served: it finds us up, and nothing is logged as refused."""
        mta, port = self.behind()
        self.haproxy(port, server="send-proxy-v2 check inter 200ms rise 1 fall 1")
        wait_for(lambda: sum(entry.fields["why"] == "quit" for entry in mta.log("disconnect")) >= 3, "three checks to their end")
        self.assertEqual({"127.0.0.1"}, {entry.fields["client"] for entry in mta.log("connect")})
        self.assertEqual([], mta.log("rejected"))
        self.assertNotIn("is DOWN", (self.folder / "haproxy/output").read_text())

    def test_no_header(self) -> None:
        """A HAProxy that was not told to send one: its clients get nothing at all, and soon the end."""
        mta, port = self.behind()
        proxy = self.haproxy(port, server="")
        begin = time.monotonic()
        with self.assertRaises(smtplib.SMTPServerDisconnected):
            smtplib.SMTP("127.0.0.1", proxy.port, "client.test", 30)
        self.assertLess(time.monotonic() - begin, 15)
        wait_for(
            lambda: "no PROXY header in time" in [entry.fields["why"] for entry in mta.log("rejected")], "the line of its end"
        )

    def test_many(self) -> None:
        """300 messages over 20 sessions of smtp-source."""
        require("smtp-source")
        mta, port = self.behind()
        proxy = self.haproxy(port, server="send-proxy-v2")
        smtp_source(proxy.port, "-s", "20", "-m", "300", to=TO)
        mta.wait_for_event("delivered", 300)
        self.assertEqual(300, len(self.stored(mta)))


class XclientTests(PeerTestCase):
    """Clients that say for whom they speak."""

    def test_swaks(self) -> None:
        """swaks: EHLO, XCLIENT with every attribute, 220, EHLO, the mail."""
        require("swaks")
        mta = self.mta('[access]\nxclient_from = ["127.0.0.1"]\n\n[[route]]\nmatch = "local"\ndeliver = "maildir:mail"\n')
        words = {"addr": "192.0.2.9", "port": "4711", "name": "c.test", "proto": "ESMTP", "helo": "h.test", "login": "u@c.test"}
        options = [word for name, value in words.items() for word in (f"--xclient-{name}", value)]
        dialogue = swaks(mta.port, *options, "--xclient-destaddr", "192.0.2.1", "--xclient-destport", "25", to=TO)
        self.assertEqual(2, dialogue.count("220 mta.test ESMTP"))
        [accepted] = mta.wait_for_event("accepted")
        self.assertEqual(
            ("192.0.2.9", "127.0.0.1", "u@c.test"), tuple(accepted.fields[name] for name in ("client", "proxy", "account"))
        )
        wait_for(lambda: self.stored(mta), "the message")
        self.assertIn(b"Received: from client.test (c.test [192.0.2.9])", self.stored(mta)[0].read_bytes())


class XforwardTests(PeerTestCase):
    """Postfix in front of us, as the first half of a content filter."""

    def test_postfix(self) -> None:
        """Postfix's smtp tells us whom it had the mail from: our log names both, for each message its own."""
        require("postfix")
        mta = self.mta('[access]\nxforward_from = ["127.0.0.1"]\n\n[[route]]\nmatch = "local"\ndeliver = "maildir:mail"\n')
        hop = self.kept(start_postfix(self.sub("hop"), relay_to=mta.port, extra={"smtp_send_xforward_command": "yes"}))
        for number, address in enumerate(("127.0.0.7", "127.0.0.8")):
            with smtplib.SMTP("127.0.0.1", hop.port, f"c{number}.test", 60, (address, 0)) as client:
                client.sendmail("from@a.test", [TO], message(number))
        accepted = sorted(
            (entry.fields["client"], entry.fields["orig_client"], entry.fields["orig_helo"])
            for entry in mta.wait_for_event("accepted", 2)
        )
        self.assertEqual([("127.0.0.1", "127.0.0.7", "c0.test"), ("127.0.0.1", "127.0.0.8", "c1.test")], accepted)
