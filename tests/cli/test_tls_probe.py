"""`mta tls-probe`: what it prints, what its status is, and which command lines are wrong (T02, T03, T04)."""

from __future__ import annotations

import os
import sys
from typing import Any

from click.testing import CliRunner, Result
from twisted.internet import reactor
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SynchronousTestCase

from mta.cli.tls_probe import Request, run, tls_probe
from mta.relay.probe import prober
from mta.testing.dns import FakeResolver
from mta.testing.peers import Act
from mta.tls.policy import LEVELS
from tests.relay.probe.case import ProbeCase, no_policy


class RunTests(ProbeCase):
    """`run`, with DNS out of a dictionary and servers on the loopback."""

    async def probe(self, resolver: FakeResolver | None = None, next_hop: str = "example.test", **how: Any) -> int:
        """The status; what was printed is in `printed`."""
        lines: list[str] = []
        request = Request(next_hop, self.settings(), **how)
        status = await run(reactor, request, resolver or self.resolver(), no_policy, lines.append)
        self.printed = "\n".join(lines)
        return status

    async def test_t04_reached(self) -> None:
        """T04: 0 when a server gives what is owed; MX, certificate, levels and result are printed."""
        self.serve()
        self.assertEqual(await self.probe(given={"level": "verify"}), 0)
        for words in ("MX 10 mx.example.test", "TLS TLSv1.3", "CN=mx.example.test", "level secure", "result reached"):
            self.assertIn(words, self.printed)
        self.assertEqual(
            {line.split()[1] for line in self.printed.splitlines() if "  level " in line}, {*LEVELS} - {"fingerprint"}
        )

    async def test_t04_missed(self) -> None:
        """T04: 1 when no server does: STARTTLS refused for good, a name that is not there."""
        self.serve({"STARTTLS": "502 5.5.1 no"})
        self.assertEqual(await self.probe(given={"level": "encrypt"}), 1)
        self.assertIn("result not reached: STARTTLS was answered 502", self.printed)
        self.serve()
        self.assertEqual(await self.probe(given={"level": "verify", "names": ("other.example",)}), 1)

    async def test_t04_unknown(self) -> None:
        """T04: 75 when nobody knows: DNS that fails, a server that is not there; 1 for a domain that does not exist."""
        self.assertEqual(await self.probe(self.resolver(fail={"example.test/MX": "SERVFAIL"})), 75)
        self.assertIn("SERVFAIL", self.printed)
        self.assertEqual(await self.probe(next_hop="nothing.test"), 1)
        self.port = 1
        self.assertEqual(await self.probe(), 75)
        self.assertIn("cannot connect", self.printed)

    async def test_t04_one_is_enough(self) -> None:
        """T04: one good address among those that cannot be reached."""
        self.serve()
        records = {"mx.example.test": {"A": ["127.0.0.1", "127.0.0.9"]}}
        self.assertEqual(await self.probe(self.resolver(records=records)), 0)
        self.assertEqual(self.printed.count("  result "), 2)

    async def test_t03_silent_tlsa(self) -> None:
        """T03: a TLSA lookup that times out: 75, said so, and nobody is connected to."""
        server = self.serve()
        resolver = self.resolver(fail={f"_{self.port}._tcp.mx.example.test/TLSA": "TIMEOUT"})
        self.assertEqual(await self.probe(resolver, given={"level": "dane"}), 75)
        self.assertIn("lookup failed", self.printed)
        self.assertIn("TIMEOUT", self.printed)
        self.assertEqual(server.connections, 0)

    async def test_t02_no_common_cipher(self) -> None:
        """T02: ciphers that the server does not have: 1, with the alert."""
        self.serve()
        self.assertEqual(await self.probe(given={"ciphers": "AES128-SHA", "max": "TLSv1.2"}), 1)
        self.assertIn("handshake failure", self.printed)

    async def test_everything_asked_for(self) -> None:
        """Chain, second connection and hand-over together; a server that ends TLS at the second RSET."""
        server = self.serve({"tls RSET": [None, Act.CLOSE]})
        self.patch(prober, "IDLE", 0.05)
        self.assertEqual(await self.probe(chain=True, again=0.0, handover=True), 0)
        for words in (
            "certificate 1 CN=mta test CA",
            "again TLSv1.3",
            "hand-over failed: TLS closed by the server",
            "quit (hosts",
        ):
            self.assertIn(words, self.printed)
        self.assertEqual(server.connections, 4)
        self.assertEqual(server.messages, [])
        self.assertFalse([line for line in server.commands if "RCPT" in line or "DATA" in line])


class CommandLineTests(SynchronousTestCase):
    """T04: 2 for what cannot be meant, before anybody is asked anything."""

    def wrong(self, *arguments: str) -> str:
        result: Result = CliRunner().invoke(tls_probe, arguments)
        self.assertEqual(result.exit_code, 2, result.output)
        return " ".join(result.output.split())

    def test_t04_destination(self) -> None:
        """T04: no destination, a port without brackets, an address without them."""
        self.assertIn("Missing argument", self.wrong())
        self.assertIn("'[example.test]:25'", self.wrong("example.test:25"))
        self.assertIn("'[192.0.2.1]'", self.wrong("192.0.2.1"))

    def test_t04_level(self) -> None:
        """T04: a level that is none."""
        self.assertIn("verify", self.wrong("-l", "high", "example.test"))

    def test_t02_t04_options(self) -> None:
        """T02, T04: keys and values are judged as those of [[tls_policy]] in the file: RC4 is not a cipher any more."""
        for option, words in (
            ("ciphers=RC4-SHA", "-o ciphers: OpenSSL finds no cipher in 'RC4-SHA'"),
            ("cyphers=x", "did you mean 'ciphers'?"),
            ("min=SSLv3", "-o min:"),
            ("level=may", "-l gives the level"),
            ("match=x", "makes no sense here"),
            ("nonsense", "key=value"),
        ):
            self.assertIn(words, self.wrong("-o", option, "example.test"), option)

    def test_t04_configuration(self) -> None:
        """T04: a configuration that cannot be read, and one with a mistake, each with its line."""
        missing = self.mktemp()
        self.assertIn("cannot be read", self.wrong("-C", missing, "example.test"))
        with open(missing, "w") as file:
            file.write('hostname = "mx.example.test"\ndata_dir = "."\nlisten = 3\n')
        self.assertIn(f"{missing}:3: listen", self.wrong("-C", missing, "example.test"))


class ProcessTests(ProbeCase):
    """The whole command, in a process of its own."""

    async def test_t04_status(self) -> None:
        """T04: a host in brackets on the loopback, and the status of the process."""
        self.serve()
        config = self.directory / "mta.toml"
        config.write_text('hostname = "probe.example"\ndata_dir = "."\n[tls_client]\ntrust = ["ca.pem"]\n')
        for level, expected in (("encrypt", 0), ("verify", 1)):
            arguments = ["-m", "mta", "tls-probe", "-L", "debug", "-C", str(config), "-l", level, f"[127.0.0.1]:{self.port}"]
            out, errors, status = await getProcessOutputAndValue(sys.executable, arguments, env=os.environ, path=os.getcwd())
            self.assertEqual(status, expected, out + errors)
            self.assertIn(b"  result " + (b"reached" if expected == 0 else b"not reached"), out)
            self.assertIn(b"127.0.0.1[127.0.0.1] > [TLS] QUIT", errors)
            self.assertNotIn(b"Traceback", errors)
