"""What the tests with real peers have in common: a folder that other accounts may enter, our server, the peers' ends."""

from __future__ import annotations

import smtplib
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mta.testing.pki import Authority
from tests.peers.peers import Server
from tests.peers.server import MtaProcess

LOCAL = '[[route]]\nmatch = "local"\ndeliver = "maildir:mail"\n\n'  # one Maildir for all of local.test


class PeerTestCase(SynchronousTestCase):
    """Everything that was started is stopped, whatever the test did."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="mta-peers-", ignore_cleanup_errors=True)
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.folder.chmod(0o755)  # the peers' own accounts must get in
        self.authority = Authority.create()

    def sub(self, name: str) -> Path:
        """A folder below the test's own."""
        path = self.folder / name
        path.mkdir()
        return path

    def certificate(self, *names: str) -> tuple[Path, Path]:
        """A certificate and its key, which the peers can read."""
        certificate, key = self.authority.issue(*(names or ("localhost", "127.0.0.1"))).write(self.sub("tls" + "".join(names)))
        key.chmod(0o644)
        return certificate, key

    def kept(self, server: Server) -> Server:
        """A peer that ends with the test."""
        self.addCleanup(server.stop)
        return server

    def mta(self, more: str = LOCAL, tls: tuple[Path, Path] | None = None) -> MtaProcess:
        """Our server, started; ends with the test."""
        mta = MtaProcess(self.sub("mta"), more, tls)
        self.addCleanup(mta.kill9)
        mta.start()
        return mta

    def stored(self, mta: MtaProcess) -> list[Path]:
        """What our own Maildir holds."""
        return list((mta.directory / "mail/new").glob("*"))


def send(port: int, data: bytes, *to: str, sender: str = "from@a.test") -> None:
    """One message by smtplib, as 8BITMIME."""
    with smtplib.SMTP("127.0.0.1", port, local_hostname="client.test", timeout=60) as client:
        client.ehlo()
        options = ["BODY=8BITMIME"] if client.has_extn("8bitmime") else []
        assert client.sendmail(sender, to or ("user@sink.test",), data, options) == {}
