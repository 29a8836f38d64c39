"""T01: `mta tls-probe --handover` against the four real servers: what each would be to our deliveries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.peers.case import PeerTestCase
from tests.peers.more_servers import start_opensmtpd, start_sendmail
from tests.peers.peers import require, start_exim, start_postfix

CONFIG = 'hostname = "probe.test"\ndata_dir = "data"\n'


class ProbeTests(PeerTestCase):
    """The command as an operator types it."""

    def probe(self, port: int, *options: str) -> tuple[int, str]:
        """Exit status and what it printed."""
        config = self.folder / "mta.toml"
        config.write_text(CONFIG)
        command = [sys.executable, "-m", "mta", "tls-probe", "-C", str(config), *options, f"[127.0.0.1]:{port}"]
        root = Path(__file__).resolve().parents[2]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60)
        self.assertNotIn("Traceback", done.stderr)
        return done.returncode, done.stdout

    def check_suggestion(self, port: int, wanted: str, *options: str) -> None:
        status, text = self.probe(port, "-l", "encrypt", "--handover", *options)
        self.assertEqual(0, status, text)
        self.assertIn("TLSv1.3", text)
        self.assertIn(wanted, text)

    def test_postfix(self) -> None:
        """T01: may be kept; closes when TLS is taken down."""
        require("postfix")
        self.check_suggestion(self.kept(start_postfix(self.sub("hop"), tls=self.certificate())).port, "keep yes, clear no")

    def test_exim(self) -> None:
        """T01: may be kept, and goes on in clear text."""
        require("exim")
        self.check_suggestion(self.kept(start_exim(self.sub("hop"), tls=self.certificate())).port, "keep yes, clear yes")

    def test_sendmail(self) -> None:
        """T01: may be kept; closes when TLS is taken down."""
        require("sendmail")
        self.check_suggestion(self.kept(start_sendmail(self.sub("hop"), self.certificate())).port, "keep yes, clear no")

    def test_opensmtpd(self) -> None:
        """T01: its handshake fails: no level above may, said in words."""
        require("opensmtpd")
        port = self.kept(start_opensmtpd(self.sub("hop"), self.certificate())).port
        status, text = self.probe(port, "-l", "encrypt")
        self.assertEqual(1, status, text)
        self.assertIn("handshake", text.lower())
