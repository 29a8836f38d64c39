"""Mail to the MX of domains of our own: zones in a real DNS, one Postfix with STARTTLS for all of them, our whole server.

A test tells the zones, sends one message to each domain and looks what became of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from mta.testing.logs import Entry
from tests.peers.case import PeerTestCase, send
from tests.peers.dnssec import Dns
from tests.peers.peers import Server, message, require, start_postfix, wait_for
from tests.peers.server import MtaProcess

SETTINGS = """\
[dns]
servers = ["127.0.0.1:{dns}"]
trusted = true
dnssec_probe = "{probe}"
dnssec_bogus_probe = "{bogus}"
timeout = "1s"
attempts = 1

[relay]
port = {port}

{more}
"""


class MxCase(PeerTestCase):
    """hop: the mail server of all domains; dns: the zones; ours: our server."""

    hop: Server
    dns: Dns
    ours: MtaProcess

    def setUp(self) -> None:
        super().setUp()
        require("nsd", "unbound", "ldns-signzone", "postfix")

    def serve(self, domains: Iterable[str], tls: tuple[Path, Path]) -> None:
        """Start the mail server of these domains."""
        extra = {"virtual_mailbox_domains": ", ".join(domains), "smtpd_tls_loglevel": "1"}
        self.hop = self.kept(start_postfix(self.sub("hop"), tls=tls, extra=extra))

    def begin(self, zones: Mapping[str, tuple[str, str]], more: str, probe: str = "", bogus: str = "") -> None:
        """Start the DNS and ours.  more: tables of its configuration.

        probe, bogus: a name that is signed, and one whose signatures are broken; "" when there is none.
        """
        self.dns = Dns(self.sub("dns"), zones)
        self.addCleanup(self.dns.stop)
        settings = SETTINGS.format(dns=self.dns.port, probe=probe, bogus=bogus, port=self.hop.port, more=more)
        self.ours = self.mta(settings)

    def outcomes(self, domains: Iterable[str]) -> dict[str, Entry]:
        """Send a message to each; the line of what became of its first attempt, by domain."""
        domains = list(domains)
        for number, domain in enumerate(domains):
            send(self.ours.port, message(number), f"user@{domain}")
        events = ("delivered", "deferred", "bounced")
        wait_for(lambda: sum(map(self.ours.count, events)) >= len(domains), "an outcome for each message")
        return {entry.fields["to"].partition("@")[2]: entry for entry in self.ours.log(*events)}

    def check_arrived(self, count: int) -> None:
        """That many have come to the mail server."""
        wait_for(lambda: len(self.hop.stored()) >= count, f"{count} messages")
        self.assertEqual(count, len(self.hop.stored()))

    def check(self, seen: Entry, event: str, **fields: str) -> None:
        """This became of it."""
        self.assertEqual((event, fields), (seen.event, {key: seen.fields.get(key) for key in fields}), seen)
