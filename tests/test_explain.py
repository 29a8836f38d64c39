"""`mta explain`: what it finds out, with DNS out of a dictionary and a policy host out of a test."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import apsw
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mta.config.loader import load
from mta.explain import Explanation, read_hints
from mta.hints import HintsFile, MemoryHints
from mta.relay.destination import StrikeMemory
from mta.relay.pool import Pool
from mta.testing.dns import FakeResolver
from mta.tls.mtasts import Result, StsError
from tests.test_hints_file import Events, ThreadedClock

POLICY = b"version: STSv1\nmode: enforce\nmx: mx1.example.test\nmax_age: 604800\n"
ZONE: dict[str, dict[str, list[Any]]] = {
    "example.test": {"MX": [(20, "mx2.example.test"), (10, "mx1.example.test")]},
    "mx1.example.test": {"A": ["192.0.2.1"]},
    "mx2.example.test": {"A": ["192.0.2.2"]},
    "null.test": {"MX": [(0, ".")]},
    "local.test": {"A": ["127.0.0.1"]},
}
STS = {"_mta-sts.example.test": {"TXT": ["v=STSv1; id=7;"]}}
TLSA = {"_25._tcp.mx1.example.test": {"TLSA": [(3, 1, 1, b"\xab" * 32)]}}


class Case(SynchronousTestCase):
    """A configuration in a directory of its own."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).resolve()
        self.directory.mkdir()
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.hints = MemoryHints(self.clock)
        self.resolver = FakeResolver(dict(ZONE), ttl=2_000_000)
        self.policy: bytes | Exception = POLICY

    def explain(self, address: str, text: str = "") -> Any:
        file = self.directory / "mta.toml"
        file.write_text(f'hostname = "mx.here.test"\ndata_dir = "{self.directory}"\n{text}')

        def fetch(domain: str) -> Deferred[bytes]:
            return fail(self.policy) if isinstance(self.policy, Exception) else succeed(self.policy)

        explanation = Explanation(
            load(file), clock=self.clock, resolver=self.resolver, fetch=fetch, hints=self.hints, random=Random(1)
        )
        facts = self.successResultOf(Deferred.fromCoroutine(explanation.of(address)))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        return json.loads(json.dumps(facts))  # plain data, whatever it is about

    def host(self, facts: Any, number: int = 0) -> Any:
        return facts["hosts"][number]


class WayTests(Case):
    """Where the mail goes."""

    def test_mx(self) -> None:
        """The route, the MX with DNSSEC's verdict, hosts in the order to try them, and what is owed by default."""
        facts = self.explain("user@Example.TEST")
        self.assertEqual((facts["outcome"], facts["why"]), ("deliver", ""))
        self.assertEqual(facts["route"], {"name": "_mx", "agent": "smtp", "next_hop": "example.test", "tls": ""})
        hosts = [{"preference": 10, "host": "mx1.example.test"}, {"preference": 20, "host": "mx2.example.test"}]
        self.assertEqual(facts["mx"], {"answer": "NOERROR", "reason": "", "secure": False, "hosts": hosts})
        self.assertEqual(
            [(each["host"], each["address"], each["port"]) for each in facts["hosts"]],
            [("mx1.example.test", "192.0.2.1", 25), ("mx2.example.test", "192.0.2.2", 25)],
        )
        first = self.host(facts)
        self.assertEqual((first["level"], first["origin"], first["may_go_clear"]), ("may", "default", True))
        self.assertEqual(first["handover"], {"verdict": "keep", "why": "hosts_pass_tls"})
        self.assertEqual((facts["limits"]["transactions"], facts["retry"]["first"]), (20, 300))

    def test_secure(self) -> None:
        """DNSSEC's verdicts on MX and addresses, each by itself."""
        self.resolver.secure = ["example.test", "mx2.example.test"]
        trusted = '[dns]\nservers = ["127.0.0.1"]\ntrusted = true\ndnssec_probe = "example.test"\n'
        facts = self.explain("user@example.test", trusted)
        self.assertTrue(facts["mx"]["secure"])
        self.assertEqual([(each["mx_secure"], each["address_secure"]) for each in facts["hosts"]], [(True, False), (True, True)])

    def test_smarthost(self) -> None:
        """A route of the operator's: its level, no MX, no MTA-STS, and AUTH that forbids going clear."""
        password = self.directory / "password"
        password.write_text("secret\n")
        password.chmod(0o600)
        text = f"""
            [[route]]
            match = ["*"]
            relay = "[mx1.example.test]:587"
            tls = "verify"
            auth = {{ user = "us", password_file = "{password}" }}
            [handover]
            hosts_clear_tls = ["*"]
            hosts_pass_tls = []
        """
        facts = self.explain("user@anywhere.test", text)
        self.assertEqual((facts["mx"], facts["mta_sts"], facts["route"]["tls"]), (None, None, "verify"))
        host = self.host(facts)
        self.assertEqual((host["level"], host["origin"], host["port"], host["may_go_clear"]), ("verify", "route", 587, False))
        self.assertEqual(host["handover"]["verdict"], "quit")
        self.assertTrue(host["handover"]["why"].startswith("no-clear-"))
        self.assertNotIn("secret", json.dumps(facts))

    def test_no_way(self) -> None:
        """Null MX and a domain that does not exist bounce; a lookup that fails waits; each says why."""
        self.resolver.fail["broken.test"] = "SERVFAIL"
        for domain, outcome, why in (
            ("null.test", "bounce", "556 5.1.10"),
            ("nowhere.test", "bounce", "550 5.1.2"),
            ("broken.test", "defer", "SERVFAIL"),
        ):
            facts = self.explain(f"user@{domain}")
            self.assertEqual(facts["outcome"], outcome)
            self.assertIn(why, facts["why"])
            self.assertEqual(facts["hosts"], [])

    def test_refused_by_routing(self) -> None:
        """A bad address bounces, a local domain without a route waits: there is no more to say."""
        facts = self.explain("a b@@c")
        self.assertEqual((facts["outcome"], facts["route"]), ("bounce", None))
        self.assertEqual(self.explain("x@here.test", 'local_domains = ["here.test"]')["outcome"], "defer")

    def test_mailbox(self) -> None:
        """Local delivery names the mailbox."""
        text = f"""
            local_domains = ["here.test"]
            [[route]]
            match = ["local"]
            deliver = "maildir:{self.directory}/{{user}}"
        """
        (self.directory / "joe").mkdir()
        facts = self.explain("joe@here.test", text)
        self.assertEqual((facts["outcome"], facts["mailbox"]), ("deliver", f"{self.directory}/joe"))
        self.assertEqual(self.explain("eve@here.test", text)["outcome"], "bounce")


class OwedTests(Case):
    """What TLS is owed, and who demanded it."""

    DANE = '[tls_client]\nlevel = "dane"\n[dns]\nservers = ["127.0.0.1"]\ntrusted = true\ndnssec_probe = "example.test"\n'

    def test_mta_sts(self) -> None:
        """P30: enforce makes the level sts for the host that the policy names, and nothing goes to the other."""
        self.resolver.records = {**ZONE, **STS}
        facts = self.explain("user@example.test")
        policy = {"id": "7", "mode": "enforce", "mx": ["mx1.example.test"], "max_age": 604800}
        self.assertEqual(facts["mta_sts"], {"used": True, "policy": policy, "failure": ""})
        first, second = facts["hosts"]
        self.assertEqual((first["level"], first["origin"], first["refusal"]), ("sts", "sts", ""))
        self.assertIn("7", first["evidence"])
        self.assertIn("mx2.example.test", second["refusal"])
        self.assertEqual((second["handover"], facts["outcome"]), (None, "deliver"))

    def test_nothing_allowed(self) -> None:
        """P33: a policy that names none of the hosts: the mail waits, and the reason is said."""
        self.resolver.records = {**ZONE, **STS}
        self.policy = POLICY.replace(b"mx1", b"other")
        facts = self.explain("user@example.test")
        self.assertEqual(facts["outcome"], "defer")
        self.assertIn("MTA-STS", facts["why"])

    def test_policy_cannot_be_fetched(self) -> None:
        """P34: the failure is said, and the mail goes."""
        self.resolver.records = {**ZONE, **STS}
        self.policy = StsError(Result.WEBPKI, "certificate has expired")
        facts = self.explain("user@example.test")
        self.assertEqual((facts["outcome"], facts["mta_sts"]["policy"]), ("deliver", None))
        self.assertEqual(facts["mta_sts"]["failure"], "sts-webpki-invalid: certificate has expired")

    def test_cached_policy(self) -> None:
        """P33: what the service has cached rules here too when DNS is silent."""
        self.resolver.records = {**ZONE, **STS}
        self.explain("user@example.test")
        self.resolver.records = dict(ZONE)
        self.assertEqual(self.host(self.explain("user@example.test"))["level"], "sts")

    def test_dane(self) -> None:
        """P10: secure TLSA records are shown, and rule; a host without any does as it may."""
        self.resolver.records, self.resolver.secure = {**ZONE, **TLSA}, True
        facts = self.explain("user@example.test", self.DANE)
        self.assertEqual(facts["dane"], {"validates": True, "off": ""})
        first, second = facts["hosts"]
        self.assertEqual(first["tlsa"], {"records": ["3 1 1 " + "ab" * 32], "base_domain": "mx1.example.test", "error": ""})
        self.assertEqual((first["level"], first["origin"], first["may_go_clear"]), ("dane", "dane", False))
        self.assertEqual((second["tlsa"]["records"], second["level"]), ([], "may"))

    def test_dane_lookup_fails(self) -> None:
        """P13, X21: TLSA that cannot be looked up: nothing goes to that host, and the answer says why."""
        self.resolver.secure = True
        for name in ("mx1", "mx2"):
            self.resolver.fail[f"_25._tcp.{name}.example.test"] = "SERVFAIL"
        facts = self.explain("user@example.test", self.DANE)
        self.assertEqual(facts["outcome"], "defer")
        self.assertIn("TLSA", facts["why"])
        self.assertIn("SERVFAIL", self.host(facts)["tlsa"]["error"])

    def test_dane_is_off(self) -> None:
        """P24: wanted, but the resolver does not validate: the reason is said, and no TLSA is asked for."""
        facts = self.explain("user@example.test", self.DANE)
        self.assertFalse(facts["dane"]["validates"])
        self.assertIn("example.test", facts["dane"]["off"])
        self.assertIsNone(self.host(facts)["tlsa"])

    def test_policy_of_the_operator(self) -> None:
        """[[tls_policy]] says who demanded it; level none is a connection in clear."""
        facts = self.explain("user@example.test", '[[tls_policy]]\nmatch = ["example.test"]\nlevel = "none"\n')
        host = self.host(facts)
        self.assertEqual((host["level"], host["origin"]), ("none", "tls_policy"))
        self.assertEqual(host["handover"], {"verdict": "keep", "why": "clear-text"})

    def test_lists(self) -> None:
        """The verdict is that of the lists, named ones too, for each host."""
        text = '[handover]\nhosts_nopass_tls = ["+odd"]\n[[hostlist]]\nname = "odd"\nhosts = ["mx2.example.test"]\n'
        facts = self.explain("user@example.test", text)
        self.assertEqual([each["handover"]["verdict"] for each in facts["hosts"]], ["keep", "quit"])


class MemoryTests(Case):
    """What the service remembers."""

    def test_strikes(self) -> None:
        """A host whose TLS is broken is said to be, until it is tried again; one that is owed TLS gets it all the same."""
        where = "mx1.example.test[192.0.2.1]:25"
        self.hints.put(StrikeMemory.KIND, where, (999_000, 999_990), 2e6)
        self.hints.put(Pool.KIND, where, True, 2e6)
        facts = self.explain("user@example.test")
        self.assertEqual(
            self.host(facts)["memory"], {"strike": 999_000, "failed": 999_990, "tries_tls": False, "keep_suspended": True}
        )
        self.assertEqual(
            self.host(facts, 1)["memory"], {"strike": None, "failed": None, "tries_tls": True, "keep_suspended": False}
        )
        owed = self.explain("user@example.test", '[tls_client]\nlevel = "encrypt"\n')
        self.assertTrue(self.host(owed)["memory"]["tries_tls"])


class ReadHintsTests(SynchronousTestCase):
    """`read_hints`."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()).absolute() / "hints.db"
        self.clock = ThreadedClock()
        self.file = HintsFile(self.path, self.clock, Events())
        self.successResultOf(self.file.start())
        self.file.put("kind", "key", [1, None], 100.0)
        self.file.put("kind", "late", 1, 5.0)

    def beside(self) -> set[str]:
        return {path.name for path in self.path.parent.iterdir()}

    def test_after_a_stop(self) -> None:
        """What the service left is read; nothing is left behind, for who reads may be root."""
        self.successResultOf(self.file.stop())
        before = self.beside()
        hints = read_hints(self.path, self.clock)
        self.assertEqual((hints.get("kind", "key"), hints.get("kind", "nix")), ([1, None], None))
        self.assertEqual((self.beside(), before), (before, {"hints.db"}))
        self.clock.advance(6)
        self.assertIsNone(read_hints(self.path, self.clock).get("kind", "late"))

    def test_beside_the_service(self) -> None:
        """It is read while the service has it open, what was just written too."""
        self.clock.advance(HintsFile.DELAY)
        self.assertIn("hints.db-wal", self.beside())
        before = self.beside()
        self.assertEqual(read_hints(self.path, self.clock).get("kind", "key"), [1, None])
        self.assertEqual(self.beside(), before)
        self.successResultOf(self.file.stop())

    def test_cannot_be_read(self) -> None:
        """No file, and one that is no database."""
        self.successResultOf(self.file.stop())
        self.assertRaises(FileNotFoundError, read_hints, self.path.with_name("nix"), self.clock)
        self.path.write_bytes(b"this is not a database, whatever its name says" * 100)
        self.assertRaises(apsw.Error, read_hints, self.path, self.clock)
