"""MTA-STS with a real HTTPS server under a private authority, a real DNS and a real mail server, and our whole service.

The policies are served on port 443 of 127.0.0.43, an address of the loopback that nobody else uses.
"""

from __future__ import annotations

import ssl
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from tests.peers.mx_case import MxCase
from tests.peers.peers import wait_for
from tests.peers.wire import postfix_wire

ADDRESS = "127.0.0.43"
ZONE = f"@ IN MX 10 mx\nmx IN A 127.0.0.1\nmta-sts IN A {ADDRESS}\n"
RECORD = '_mta-sts IN TXT "v=STSv1; id={number};"\n'
POLICY = "version: STSv1\r\nmode: {mode}\r\nmx: {mx}\r\nmax_age: 86400\r\n"
# domain -> (its records besides those of ZONE, its policy or the status of the answer)
DOMAINS = {
    "good.test": (RECORD, POLICY.format(mode="enforce", mx="*.good.test")),
    "stranger.test": (RECORD, POLICY.format(mode="enforce", mx="mx.stranger.test")),  # the certificate is not for this host
    "elsewhere.test": (RECORD, POLICY.format(mode="enforce", mx="mx.example.test")),
    "testing.test": (RECORD, POLICY.format(mode="testing", mx="mx.example.test")),
    "none.test": (RECORD, "version: STSv1\r\nmode: none\r\nmax_age: 86400\r\n"),
    "moved.test": (RECORD, "301"),
    "missing.test": (RECORD, "404"),
    "broken.test": (RECORD, "version: STSv1\r\nmode: enforce\r\nmax_age: 86400\r\n"),
    "forged.test": (RECORD, POLICY.format(mode="enforce", mx="mx.example.test")),  # its web server has another's certificate
    "two.test": (RECORD + RECORD, POLICY.format(mode="enforce", mx="mx.example.test")),
    "unheard.test": ("", POLICY.format(mode="enforce", mx="mx.example.test")),
}


class _Answers(BaseHTTPRequestHandler):
    """The policy of the domain that is asked, at the well-known place only."""

    asked: list[tuple[str, str]]

    def do_GET(self) -> None:
        domain = self.headers["Host"].removeprefix("mta-sts.")
        self.asked.append((domain, self.path))
        text = DOMAINS[domain][1] if self.path == "/.well-known/mta-sts.txt" else "404"
        if text.isdigit():
            self.send_response(int(text))
            self.send_header("Location", f"https://mta-sts.good.test{self.path}")
            text = ""
        else:
            self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Be quiet."""


class StsTests(MxCase):
    """P30 to P36 against real servers."""

    def setUp(self) -> None:
        super().setUp()
        (self.folder / "ca.pem").write_bytes(self.authority.certificate_pem)
        names = [f"mta-sts.{domain}" for domain in DOMAINS if domain != "forged.test"]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.authority.issue(*names).write(self.sub("web")))
        self.answers = type("Answers", (_Answers,), {"asked": []})
        self.web = ThreadingHTTPServer((ADDRESS, 443), self.answers)
        self.web.socket = context.wrap_socket(self.web.socket, server_side=True)
        thread = Thread(target=self.web.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(self.web.server_close)
        self.addCleanup(self.web.shutdown)
        self.serve(DOMAINS, self.certificate("mx.good.test"))
        zones = {domain: ("insecure", ZONE + self.records(domain)) for domain in DOMAINS}
        self.begin(zones, f'[tls_client]\ntrust = ["{self.folder}/ca.pem"]\n')

    def records(self, domain: str) -> str:
        text = DOMAINS[domain][0]
        return "".join(line.format(number=number) + "\n" for number, line in enumerate(text.splitlines(), 1))

    def test_every_policy(self) -> None:
        """P30 to P36: one message to each domain: what is delivered, what waits, and why."""
        seen = self.outcomes(DOMAINS)
        self.ours.stop()
        self.check(seen["good.test"], "delivered", level="sts", origin="sts", verified="verified", tls="new")  # P30
        self.check(seen["stranger.test"], "deferred", dsn="4.7.5", level="sts")  # P30: never in clear text
        self.check(seen["elsewhere.test"], "deferred", dsn="4.7.5")  # P33: no MX host is in the policy
        at_may = set(DOMAINS) - {"good.test", "stranger.test", "elsewhere.test"}
        for domain in at_may:  # P31 testing, P32 none, P34 redirect and 404 and no policy, P35 certificate, P36 two records
            self.check(seen[domain], "delivered", level="may", tls="new")
        faults = {entry.fields["domain"]: entry.fields["result"] for entry in self.ours.log("sts-fault")}
        wanted = {
            "moved.test": "sts-policy-fetch-error",
            "missing.test": "sts-policy-fetch-error",
            "broken.test": "sts-policy-invalid",
            "forged.test": "sts-webpki-invalid",
        }
        self.assertEqual(wanted, faults)
        policies = {entry.fields["domain"]: entry.fields["mode"] for entry in self.ours.log("sts-policy")}
        enforced = dict.fromkeys(("good.test", "stranger.test", "elsewhere.test"), "enforce")
        self.assertEqual({**enforced, "testing.test": "testing", "none.test": "none"}, policies)
        asked = sorted(domain for domain, path in self.answers.asked if path == "/.well-known/mta-sts.txt")
        self.assertEqual(sorted(set(DOMAINS) - {"forged.test", "two.test", "unheard.test"}), asked)
        self.check_arrived(1 + len(at_may))
        wait_for(lambda: len(postfix_wire(self.hop)) == 2 + len(at_may), "one connection more, left inside TLS")
        self.assertEqual({1}, {connection["starttls"] for connection in postfix_wire(self.hop)})

    def test_kept_over_a_restart(self) -> None:
        """P33: a policy that was fetched once rules after a restart too, though its web server has gone."""
        self.assertEqual("deferred", self.outcomes(["elsewhere.test"])["elsewhere.test"].event)
        self.web.shutdown()
        self.web.server_close()
        self.ours.stop()
        self.ours.restart()
        before = self.ours.count("deferred")
        self.outcomes(["good.test", "elsewhere.test"])
        wait_for(lambda: self.ours.count("deferred") > before, "the second message to elsewhere.test")
        seen = [entry for entry in self.ours.log("delivered") if entry.fields["to"].endswith("@elsewhere.test")]
        self.assertEqual([], seen)
        (good,) = self.ours.wait_for_event("delivered")
        self.check(good, "delivered", level="may")  # never met before: the first contact is what MTA-STS cannot protect
