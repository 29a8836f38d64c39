"""DANE with a real DNS (nsd behind a validating unbound), a real mail server (Postfix) and our whole service."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.peers.mx_case import MxCase
from tests.peers.peers import wait_for
from tests.peers.wire import postfix_wire

ZONE = "@ IN MX 10 mx\nmx IN A 127.0.0.1\n"
NO_MATCH = "3 1 1 " + "00" * 32
SETTINGS = """\
[tls_client]
level = "dane"

[[tls_policy]]
match = ["off.test"]
dane = "off"

[[tls_policy]]
match = ["expired.test"]
dane = "off"
until = "2026-01-01"

[[tls_policy]]
match = ["only.test"]
level = "dane-only"
"""
# domain -> (zone, what its TLSA record says, "" for none)
DOMAINS = {
    "good.test": ("signed", "{key}"),
    "ta.test": ("signed", "{authority}"),
    "wrong.test": ("signed", NO_MATCH),
    "stranger.test": ("signed", "2 0 1 " + "00" * 32),
    "plain.test": ("signed", ""),
    "only.test": ("signed", ""),
    "bogus.test": ("bogus", "{key}"),
    "insecure.test": ("insecure", NO_MATCH),
    "off.test": ("signed", NO_MATCH),
    "expired.test": ("signed", NO_MATCH),
    "forged.test": ("signed", ""),  # its TLSA records are a zone of their own, with bad signatures
    "silent.test": ("signed", ""),  # and here with a server that never answers
}


def digest(data: bytes) -> str:
    return sha256(data).hexdigest()


class DaneTests(MxCase):
    """P10 to P14, P16, P17, P23: level "dane"."""

    def tlsa(self, tls: tuple[Path, Path]) -> dict[str, str]:
        """What records say of the certificate: its key, its authority."""
        leaf, authority = x509.load_pem_x509_certificates(tls[0].read_bytes())
        key = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return {"key": f"3 1 1 {digest(key)}", "authority": f"2 0 1 {digest(authority.public_bytes(Encoding.DER))}"}

    def begin_with(self, names: tuple[str, ...], *, expired: bool = False) -> None:
        """All the domains, and a mail server whose certificate is for these names."""
        tls = self.authority.issue(*names, expired=expired).write(self.sub("tls"))
        tls[1].chmod(0o644)
        self.serve(DOMAINS, tls)
        owner = f"_{self.hop.port}._tcp.mx"
        says = self.tlsa(tls)
        zones = {
            domain: (kind, ZONE + (f"{owner} IN TLSA {record.format(**says)}\n" if record else ""))
            for domain, (kind, record) in DOMAINS.items()
        }
        zones["_tcp.mx.forged.test"] = ("bogus", f"_{self.hop.port} IN TLSA {says['key']}\n")
        zones["_tcp.mx.silent.test"] = ("silent", "")
        self.begin(zones, SETTINGS, probe="good.test", bogus="bogus.test")

    def test_every_zone(self) -> None:
        """P10, P11, P12, P13, P14, P16, P17, P23: one message to each domain; what is delivered, what waits, and why."""
        self.begin_with(("mx.ta.test",))
        seen = self.outcomes(DOMAINS)
        self.ours.stop()
        self.assertEqual([], self.ours.log("dane_off", "bounced"))
        # P10: DANE-EE: the name in the certificate, mx.ta.test, is no matter.  P12: DANE-TA: it is.
        for domain in ("good.test", "ta.test"):
            self.check(seen[domain], "delivered", level="dane", origin="dane", verified="verified", tls="new")
        # P11, P12: deferred, and never in clear text
        for domain in ("wrong.test", "stranger.test", "expired.test"):
            self.check(seen[domain], "deferred", dsn="4.7.5", level="dane", tls="none")
        # P16: insecure address, securely no record, P17 switched off: as may
        for domain in ("insecure.test", "plain.test", "off.test"):
            self.check(seen[domain], "delivered", level="may", tls="new")
        # P13: forged answers, for all of the domain or for its TLSA records alone; P14: none at all; P23: no record
        for domain in ("forged.test", "silent.test", "only.test"):
            self.check(seen[domain], "deferred", dsn="4.7.5")
        self.check(seen["bogus.test"], "deferred")
        for domain in ("forged.test", "silent.test"):
            self.assertIn("TLSA lookup error", seen[domain].fields["reply"])
        self.check_arrived(5)
        faults = {entry.fields["class"] for entry in self.ours.log("tls-fault")}
        self.assertEqual({"T7", "policy"}, faults)
        self.check_questions()
        self.check_wire()

    def check_questions(self) -> None:
        """P16: servers of insecure zones are not asked for TLSA records, where DANE is off nobody is."""
        asked = {name.split("._tcp.", 1)[1] for name, kind in self.dns.asked() if kind == "TLSA"}
        self.assertLessEqual({"mx.good.test", "mx.wrong.test", "mx.forged.test", "mx.silent.test", "mx.expired.test"}, asked)
        self.assertEqual(set(), {"mx.insecure.test", "mx.bogus.test", "mx.off.test"} & asked)

    def check_wire(self) -> None:
        """The mail server has seen no mail in clear text, and nobody at all for forged.test, silent.test and only.test."""
        wait_for(lambda: len(postfix_wire(self.hop)) >= 8, "five connections with mail, three that were left inside TLS")
        seen = postfix_wire(self.hop)
        self.assertEqual((8, 5), (len(seen), sum(connection["mail"] for connection in seen)))
        self.assertEqual({1}, {connection["starttls"] for connection in seen})

    def test_expired_leaf(self) -> None:
        """P10, P12: an expired certificate is good for DANE-EE, and is not for DANE-TA."""
        self.begin_with(("mx.ta.test",), expired=True)
        seen = self.outcomes(["good.test", "ta.test"])
        self.check(seen["good.test"], "delivered", verified="verified")
        self.check(seen["ta.test"], "deferred", dsn="4.7.5")
