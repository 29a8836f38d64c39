"""The verdict by the two lists, and the reuse key with its sixteen fields (H04, H06, H28, H36, H37, H42)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mta.config.settings import Handover
from mta.hostlist import HostLists
from mta.interfaces import IHandover
from mta.relay.handover import HandoverPolicy, ReuseKey, Verdict, allowed
from mta.tls.policy import Achieved, Level, Parameters, Required

TLS = Achieved("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256)
BASE: dict[str, Any] = {"route": "r", "source": "", "hello": "me", "flags": 0, "certificate": ""}
KEY = ReuseKey(
    "r", "smtp", "192.0.2.1", 25, "", "me.example", "mx.example.org", "mx.example.org", Level.MAY, "", "", "", "", "", 0, ""
)


def required(**changes: object) -> Required:
    return attrs.evolve(Required(Level.MAY, "mx.example.org", "192.0.2.1", 25, "example.org"), **changes)


class VerdictTests(SynchronousTestCase):
    """`HandoverPolicy`."""

    def verdict(self, achieved: Achieved = TLS, **lists: tuple[str, ...]) -> tuple[Verdict, str]:
        policy = HandoverPolicy(Handover(**lists))
        verifyObject(IHandover, policy)
        return policy.verdict(required(), achieved)

    def test_default_keeps(self) -> None:
        """Without any setting TLS is kept for everybody."""
        self.assertEqual(self.verdict(), (Verdict.KEEP, "hosts_pass_tls"))

    def test_the_veto_wins(self) -> None:
        """H06: a host in both lists gets QUIT."""
        lists = {"hosts_pass_tls": ("mx.example.org",), "hosts_nopass_tls": ("*.example.org",)}
        self.assertEqual(self.verdict(**lists), (Verdict.QUIT, "hosts_nopass_tls"))

    def test_in_no_list(self) -> None:
        """Who is not named is not kept."""
        self.assertEqual(self.verdict(hosts_pass_tls=()), (Verdict.QUIT, "not-in-hosts_pass_tls"))

    def test_by_address(self) -> None:
        """H04: the peer's IP address counts as its MX name does."""
        self.assertEqual(self.verdict(hosts_nopass_tls=("192.0.2.0/24",))[0], Verdict.QUIT)
        self.assertEqual(self.verdict(hosts_pass_tls=("192.0.2.1",))[0], Verdict.KEEP)

    def test_clear_text_is_kept_whatever_the_lists_say(self) -> None:
        """The lists speak of TLS only (tls.md, decision 8)."""
        self.assertEqual(self.verdict(Achieved(), hosts_pass_tls=(), hosts_nopass_tls=("*",))[0], Verdict.KEEP)

    def test_bad_list(self) -> None:
        """A bad item ends the start."""
        self.assertRaises(ValueError, HandoverPolicy, Handover(hosts_nopass_tls=("+x",)))

    def test_hosts_that_want_tls_down(self) -> None:
        """`hosts_clear_tls` comes before `hosts_pass_tls` and behind the veto."""
        lists = {"hosts_clear_tls": ("mx.example.org",)}
        self.assertEqual(self.verdict(**lists), (Verdict.CLEAR, "hosts_clear_tls"))
        self.assertEqual(self.verdict(hosts_nopass_tls=("*",), **lists), (Verdict.QUIT, "hosts_nopass_tls"))
        self.assertEqual(self.verdict(Achieved(), **lists), (Verdict.KEEP, "clear-text"))

    def test_lists_that_lean_on_others(self) -> None:
        """A named list decides as if its items stood there."""
        policy = HandoverPolicy(Handover(hosts_nopass_tls=("+slow",)), HostLists({"slow": ("mx.example.org",)}))
        self.assertEqual(policy.verdict(required(), TLS), (Verdict.QUIT, "hosts_nopass_tls"))

    def test_presets(self) -> None:
        """H05 A23: each preset is its lists; "never" speaks of clear text too."""
        for preset, in_tls, in_clear in (
            ("keep", Verdict.KEEP, Verdict.KEEP),
            ("exim2002", Verdict.CLEAR, Verdict.KEEP),
            ("exim2002-rset", Verdict.CLEAR, Verdict.KEEP),
            ("nopass-default", Verdict.QUIT, Verdict.KEEP),
            ("pass-unset", Verdict.QUIT, Verdict.KEEP),
            ("never", Verdict.QUIT, Verdict.QUIT),
        ):
            policy = HandoverPolicy(Handover(preset=preset))
            found = policy.verdict(required(), TLS)[0], policy.verdict(required(), Achieved())[0]
            self.assertEqual(found, (in_tls, in_clear), preset)

    def test_what_is_written_wins_over_the_preset(self) -> None:
        """H05 A16 A21 A22: both options can be used with any preset."""
        for preset, lists, wanted in (
            ("pass-unset", {"hosts_pass_tls": ("mx.example.org",)}, Verdict.KEEP),
            ("nopass-default", {"hosts_nopass_tls": ("other.example",)}, Verdict.KEEP),
            ("keep", {"hosts_nopass_tls": ("*",)}, Verdict.QUIT),
            ("exim2002-rset", {"hosts_clear_tls": ("other.example",)}, Verdict.KEEP),
        ):
            self.assertEqual(self.verdict(preset=preset, **lists)[0], wanted, preset)


class AllowedTests(SynchronousTestCase):
    """`allowed`: who may be handed on in clear text."""

    def test_only_what_loses_nothing_goes_in_clear(self) -> None:
        """H14: CLEAR becomes QUIT above level may, after AUTH, with a client certificate, with REQUIRETLS or stored evidence."""
        self.assertEqual(allowed(Verdict.CLEAR, "x", required(), TLS), (Verdict.CLEAR, "x"))
        certificate = Parameters(certificate=Path("/etc/mta/cert.pem"))
        for demanded, achieved, why in (
            (required(level=Level.ENCRYPT), TLS, "no-clear-level"),
            (required(level=Level.DANE), TLS, "no-clear-level"),
            (required(never_clear=True), TLS, "no-clear-level"),
            (required(sasl="user"), TLS, "no-clear-auth"),
            (required(), attrs.evolve(TLS, authenticated="user"), "no-clear-auth"),
            (required(parameters=certificate), TLS, "no-clear-client-certificate"),
            (required(), attrs.evolve(TLS, client_certificate="ab"), "no-clear-client-certificate"),
            (required(requiretls=True), TLS, "no-clear-requiretls"),
            (required(), Achieved(), "no-clear-in-clear"),
        ):
            self.assertEqual(allowed(Verdict.CLEAR, "x", demanded, achieved), (Verdict.QUIT, why))

    def test_other_verdicts_stand(self) -> None:
        """KEEP and QUIT are carried out as given."""
        for verdict in (Verdict.KEEP, Verdict.QUIT):
            self.assertEqual(allowed(verdict, "x", required(level=Level.VERIFY), TLS), (verdict, "x"))


class KeyTests(SynchronousTestCase):
    """`ReuseKey`."""

    def test_sixteen_fields_each_of_which_counts(self) -> None:
        """H28 H36 H37: a key that differs in any one field is another key."""
        fields = attrs.fields(ReuseKey)
        self.assertEqual(len(fields), 16)
        for field in fields:
            value = getattr(KEY, field.name)
            other = Level.ENCRYPT if isinstance(value, Level) else value + 1 if isinstance(value, int) else value + "x"
            self.assertNotEqual(attrs.evolve(KEY, **{field.name: other}), KEY, field.name)
            self.assertNotIn(attrs.evolve(KEY, **{field.name: other}), {KEY: 1}, field.name)
        self.assertEqual(attrs.evolve(KEY), KEY)

    def test_equal_hashes_are_not_equal_keys(self) -> None:
        """H42: -1 and -2 have the same hash in Python; the fields decide."""
        one, two = attrs.evolve(KEY, flags=-1), attrs.evolve(KEY, flags=-2)
        self.assertEqual(hash(one), hash(two))
        self.assertNotEqual(one, two)
        self.assertEqual({one: 1}.get(two), None)

    def test_next_hop_counts_only_where_it_is_checked(self) -> None:
        """H29: two domains with one MX share at none, may, encrypt, and never where the certificate is checked."""
        for level in Level:
            keys = {ReuseKey.of(required(level=level, next_hop=domain), **BASE) for domain in ("a.example", "b.example")}
            self.assertEqual(len(keys), 2 if level.verifies else 1, level)

    def test_of_takes_every_fact(self) -> None:
        """H28: what deliveries can differ in today reaches the key."""
        plain = ReuseKey.of(required(), **BASE)
        for changed in ({"route": "s"}, {"source": "192.0.2.9"}, {"hello": "you"}, {"flags": 4}, {"certificate": "ab"}):
            self.assertNotEqual(ReuseKey.of(required(), **{**BASE, **changed}), plain)
        for changed in (
            {"address": "192.0.2.2"},
            {"port": 26},
            {"host": "mx2.example.org"},
            {"level": Level.NONE},
            {"sni": "other.example"},
            {"parameters": Parameters(ciphers="AES128-SHA")},
            {"parameters": Parameters(certificate=Path("/c"))},
            {"evidence": "sts:20261122:enforce"},
            {"sasl": "PLAIN user 1234"},
            {"never_clear": True},
        ):
            self.assertNotEqual(ReuseKey.of(required(**changed), **BASE), plain)

    def test_the_certificate_is_known_by_its_fingerprint(self) -> None:
        """H28: not by its path; what a connection shows in truth stands in its key, whatever the file held before."""
        named = required(parameters=Parameters(certificate=Path("/c")))
        key = ReuseKey.of(named, **{**BASE, "certificate": "ab"})
        self.assertEqual(key.client_certificate, "ab")
        self.assertIs(key.showing("ab"), key)
        self.assertEqual(key.showing("cd"), ReuseKey.of(named, **{**BASE, "certificate": "cd"}))
