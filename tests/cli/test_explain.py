"""`mta explain` through the command line: what it prints where, and its status."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from twisted.internet import reactor
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mta.cli import explain as command
from mta.cli.explain import lines
from mta.cli.main import main
from mta.testing.dns import DnsServer

HOST: dict[str, Any] = {
    "host": "mx.example.test",
    "address": "192.0.2.1",
    "port": 25,
    "preference": 10,
    "mx_secure": True,
    "address_secure": False,
    "tlsa": {"records": ["3 1 1 abcd"], "base_domain": "mx.example.test", "error": ""},
    "level": "dane",
    "origin": "dane",
    "names": ["mx.example.test", "example.test"],
    "sni": "mx.example.test",
    "evidence": "tlsa:12",
    "may_go_clear": False,
    "refusal": "",
    "handover": {"verdict": "keep", "why": "hosts_pass_tls"},
    "memory": {"strike": None, "failed": None, "tries_tls": True, "keep_suspended": False},
}
FACTS: dict[str, Any] = {
    "address": "user@example.test",
    "outcome": "deliver",
    "why": "",
    "route": {"name": "_mx", "agent": "smtp", "next_hop": "example.test", "tls": ""},
    "mx": {"answer": "NOERROR", "reason": "", "secure": True, "hosts": [{"preference": 10, "host": "mx.example.test"}]},
    "dane": {"validates": True, "off": ""},
    "mta_sts": {"used": True, "policy": None, "failure": ""},
    "hosts": [HOST],
}


class LinesTests(SynchronousTestCase):
    """The text for people."""

    def said(self, **changed: Any) -> dict[str, str]:
        return dict(lines({**FACTS, **changed}, 1000.0))

    def of_host(self, **changed: Any) -> dict[str, str]:
        return self.said(hosts=[{**HOST, **changed}])

    def test_whole(self) -> None:
        """One line for each fact, in the order in which the service finds them out."""
        self.assertEqual(
            list(lines(FACTS, 0.0)),
            [
                ("address", "user@example.test"),
                ("route", "_mx: smtp to example.test"),
                ("MX", "10 mx.example.test; DNSSEC: secure"),
                ("MTA-STS", "no policy"),
                ("DANE", "the resolver validates"),
                ("host 1", "10 mx.example.test[192.0.2.1]:25; MX DNSSEC: secure, address DNSSEC: not secure"),
                ("  TLSA", "3 1 1 abcd at mx.example.test"),
                ("  TLS owed", "dane (demanded by: dane), for mx.example.test or example.test; never in clear"),
                ("  evidence", "tlsa:12"),
                ("  hand-over", "keep (hosts_pass_tls)"),
                ("deliver", ""),
            ],
        )

    def test_hosts(self) -> None:
        """What may be different for a host."""
        nobody = {"records": [], "base_domain": "", "error": "SERVFAIL"}
        self.assertEqual(self.of_host(tlsa=nobody)["  TLSA"], "nobody knows: SERVFAIL")
        self.assertEqual(self.of_host(tlsa={**nobody, "error": ""})["  TLSA"], "none that is secure")
        self.assertNotIn("  TLSA", self.of_host(tlsa=None))
        refused = self.of_host(refusal="451 4.7.5 no", handover=None)
        self.assertEqual(refused["  refused"], "451 4.7.5 no")
        self.assertNotIn("  hand-over", refused)
        self.assertIn("always in clear", self.of_host(level="none", may_go_clear=True)["  TLS owed"])
        self.assertIn("clear text after failed", self.of_host(level="may", may_go_clear=True)["  TLS owed"])
        memory = {"strike": 900.0, "failed": 990.0, "tries_tls": False, "keep_suspended": False}
        self.assertEqual(self.of_host(memory=memory)["  memory"], "TLS failed 100 s ago; the next delivery goes in clear")
        self.assertIn("tried first", self.of_host(memory={**memory, "tries_tls": True})["  memory"])
        self.assertIn("three times", self.of_host(memory={**HOST["memory"], "keep_suspended": True})["  memory"])

    def test_policies(self) -> None:
        """MTA-STS and DANE in words."""
        policy = {"id": "7", "mode": "testing", "mx": ["a.test", "*.b.test"], "max_age": 60}
        said = self.said(mta_sts={"used": False, "policy": policy, "failure": "x: y"}, dane={"validates": False, "off": "why"})
        self.assertEqual(
            said["MTA-STS"],
            "testing, id 7, mx a.test *.b.test, max_age 60 s; last fetch: x: y; not used: [tls_client] mta_sts is false",
        )
        self.assertEqual(said["DANE"], "off: why")

    def test_less(self) -> None:
        """A refusal, a mailbox, no MX record, a memory that cannot be read."""
        self.assertEqual(
            list(lines({"address": "x", "outcome": "bounce", "why": "550 no", "route": None}, 0.0)),
            [("address", "x"), ("bounce", "550 no")],
        )
        self.assertEqual(self.said(mailbox="/a/b")["mailbox"], "/a/b")
        nothing = {"answer": "NOERROR", "reason": "", "secure": False, "hosts": []}
        self.assertEqual(self.said(mx=nothing)["MX"], "NOERROR, no MX record; DNSSEC: not secure")
        self.assertIn("No such file", self.said(memory_unread="No such file")["memory"])


class CommandTests(SynchronousTestCase):
    """What needs no DNS."""

    def test_mistakes(self) -> None:
        """A configuration that cannot be read: one line on standard error, status 1; no address: status 2."""
        result = CliRunner().invoke(main, ["explain", "-C", "/nix/mta.toml", "x@y.test"])
        self.assertEqual((1, ""), (result.exit_code, result.stdout))
        self.assertEqual("/nix/mta.toml: cannot be read: No such file or directory\n", result.stderr)
        self.assertEqual(2, CliRunner().invoke(main, ["explain"]).exit_code)

    def test_what_strangers_wrote(self) -> None:
        """Control characters of DNS and policies do not reach the terminal."""
        evil = {**FACTS, "outcome": "defer", "why": "451 \x1b[2Jcleared\r\n\x07", "memory_unread": ""}
        self.patch(command, "_explained", lambda address, settings: evil)
        self.patch(command, "load", lambda config, overrides: None)
        result = CliRunner().invoke(main, ["explain", "x@y.test"])
        self.assertEqual(1, result.exit_code)
        self.assertTrue(result.stdout.endswith("\ndefer        451 ?[2Jcleared???\n"), result.stdout)


class ProcessTests(TestCase):
    """As an operator runs it: a process of its own, and a name server."""

    timeout = 60

    def setUp(self) -> None:
        records = {"example.test": {"MX": [(10, "mx.example.test")]}, "mx.example.test": {"A": ["127.0.0.1"]}}
        self.dns = DnsServer(reactor, records)
        self.dns.start()
        self.addCleanup(self.dns.stop)
        directory = Path(self.mktemp()).resolve()
        directory.mkdir()
        self.file = directory / "mta.toml"
        self.file.write_text(
            f'hostname = "mx.here.test"\ndata_dir = "{directory}/data"\n[dns]\nservers = ["{self.dns.address}"]\n', "utf-8"
        )

    async def run_it(self, *arguments: str) -> tuple[str, str, int]:
        command = ["-W", "error", "-m", "mta", "explain", "-C", str(self.file), *arguments]
        out, err, status = await getProcessOutputAndValue(sys.executable, command, env=dict(os.environ))
        return out.decode(), err.decode(), status

    async def test_text_and_json(self) -> None:
        """Text is not folded; --json has the same facts; status 0, and nothing is written."""
        out, err, status = await self.run_it("user@example.test")
        self.assertEqual((err, status), ("", 0))
        self.assertIn("  TLS owed   may (demanded by: default), for mx.example.test; clear text after failed handshakes\n", out)
        self.assertIn("memory       what the service remembers cannot be read: No such file or directory\n", out)
        out, err, status = await self.run_it("--json", "user@example.test")
        self.assertEqual((err, status), ("", 0))
        self.assertEqual(json.loads(out)["hosts"][0]["address"], "127.0.0.1")
        self.assertEqual(list(self.file.parent.iterdir()), [self.file])

    async def test_no_way(self) -> None:
        """Mail that would bounce is status 1."""
        out, err, status = await self.run_it("user@nowhere.test")
        self.assertEqual((err, status), ("", 1))
        self.assertIn("\nbounce   550 5.1.2 the domain nowhere.test does not exist\n", out)
