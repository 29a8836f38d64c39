"""Clients in TLS: swaks, openssl s_client, Postfix with and without its TLS proxy, Sendmail (Exim: test_exim_client.py)."""

from __future__ import annotations

import subprocess

from tests.peers.case import LOCAL, PeerTestCase, send
from tests.peers.more_servers import start_sendmail
from tests.peers.peers import arrived, message, require, start_postfix, swaks, wait_for
from tests.peers.server import MtaProcess

MESSAGES = 10
TO = "user@local.test"


class TlsClientTests(PeerTestCase):
    """S46: what they send arrives unchanged, and Received has ESMTPS and the cipher."""

    def begin(self) -> MtaProcess:
        """Our server, which offers STARTTLS."""
        self.tls = self.certificate()
        return self.mta(LOCAL, tls=self.tls)

    def check_received(self, mta: MtaProcess, helo: str, count: int = 1) -> None:
        """The mail is in the Maildir, and our Received line on top of it says how it came."""
        wait_for(lambda: len(self.stored(mta)) >= count, f"{count} messages")
        self.assertEqual(count, len(self.stored(mta)))
        for path in self.stored(mta):
            head = path.read_bytes().partition(b"\n\n")[0]
            ours = head[head.index(b"Received: ") :].split(b"\nReceived: ")[0]
            how = rb"Received: from %b \(\[127\.0\.0\.1\]\)\s+\(TLSv1\.[23] with cipher [A-Z0-9_-]+ \((128|256) bits\)\)\s+by mta\.test with ESMTPS id "
            self.assertRegex(ours, how % helo.replace(".", r"\.").encode())

    def test_swaks(self) -> None:
        """S46: swaks --tls (Net::SSLeay), in TLS 1.3 and 1.2."""
        require("swaks")
        mta = self.begin()
        for version in ("tlsv1_3", "tlsv1_2"):
            swaks(mta.port, "--tls", "--tls-protocol", version, "--body", "hello", to=TO)
        self.check_received(mta, "client.test", 2)
        self.assertEqual({"TLSv1.3", "TLSv1.2"}, {entry.fields["tls_version"] for entry in mta.wait_for_event("accepted", 2)})

    def test_openssl(self) -> None:
        """S46: openssl s_client -starttls smtp, the certificate verified; the dialogue typed line by line."""
        require("openssl")
        mta = self.begin()
        (self.folder / "ca.pem").write_bytes(self.authority.certificate_pem)
        command = [
            "timeout",
            "30",
            "openssl",
            "s_client",
            "-starttls",
            "smtp",
            "-connect",
            f"127.0.0.1:{mta.port}",
            "-crlf",
            "-quiet",
        ]
        command += ["-CAfile", f"{self.folder}/ca.pem", "-verify_return_error", "-verify_hostname", "localhost"]
        lines = ("EHLO typed.test", "MAIL FROM:<from@a.test>", f"RCPT TO:<{TO}>", "DATA", "Subject: typed\n\nhello\n.", "QUIT")
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1
        ) as client:
            assert client.stdin is not None and client.stdout is not None
            self.addCleanup(client.kill)
            codes = []
            for line in lines:
                client.stdin.write(f"{line}\n")
                while (reply := client.stdout.readline())[3:4] == "-":
                    pass
                codes.append(reply[:3])
        self.assertEqual(["250", "250", "250", "354", "250", "221"], codes)
        self.check_received(mta, "typed.test")

    def postfix(self, reuse: str) -> list[dict[str, str]]:
        """Ten messages from Postfix, which must use TLS; gives our lines of the connections."""
        require("postfix")
        mta = self.begin()
        hop = self.kept(
            start_postfix(
                self.sub("client"),
                relay_to=mta.port,
                extra={
                    "smtp_tls_security_level": "encrypt",
                    "smtp_tls_connection_reuse": reuse,
                    "smtp_connection_cache_destinations": "static:all",
                    "default_destination_concurrency_limit": "1",
                },
            )
        )
        for number in range(MESSAGES):
            send(hop.port, message(number), TO)
        self.check_received(mta, "peer.test", MESSAGES)
        self.assertEqual({message(number) for number in range(MESSAGES)}, {arrived(path) for path in self.stored(mta)})
        log = (hop.directory / "maillog").read_text()
        self.assertNotIn("status=deferred", log)
        mta.stop()
        seen = [entry.fields for entry in mta.log("disconnect")]
        self.assertEqual({"1"}, {connection["starttls"] for connection in seen})
        print(f"\n{self.id().split('.')[-1]}: {len(seen)} connections, messages on each: {[one['messages'] for one in seen]}")
        return seen

    def test_postfix_with_reuse(self) -> None:
        """S46: Postfix keeps TLS up in its tlsproxy and sends several messages in one session of ours."""
        self.assertLess(len(self.postfix("yes")), MESSAGES / 2)

    def test_postfix_without_reuse(self) -> None:
        """S46: without it Postfix ends every TLS session with its mail."""
        self.assertEqual(["1"] * MESSAGES, [connection["messages"] for connection in self.postfix("no")])

    def test_sendmail(self) -> None:
        """S46: Sendmail with us as its smarthost."""
        require("sendmail")
        mta = self.begin()
        hop = self.kept(start_sendmail(self.sub("client"), self.tls, relay_to=mta.port))
        send(hop.port, message(1), TO)
        self.check_received(mta, "peer.test")
        self.assertEqual([message(1)], [arrived(path) for path in self.stored(mta)])
