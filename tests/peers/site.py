"""One of our servers for all tests of mail clients: ports as 25, 587 and 465 are, every mechanism, a Maildir for each name.

It is started by the first test that asks for it, and ends with the process.  Nobody is trusted for his address: whoever has
not logged in sends to our own recipients only.  A recipient exists when its mailbox has been made.
"""

from __future__ import annotations

import atexit
import functools
import re
import ssl
import tempfile
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from mta.testing.pki import Authority
from tests.peers.peers import wait_for
from tests.peers.server import MtaProcess
from tests.ports import free_port

__all__ = ["ACCOUNT", "ADDRESS", "MECHANISMS", "PASSWORD", "Site", "site"]

ACCOUNT = "ann"
ADDRESS = "ann@local.test"  # the one that the account owns
PASSWORD = 'correct horse: 9% "off"'
MECHANISMS = ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN", "CRAM-MD5", "EXTERNAL")

SETTINGS = """\
client_cert = "ask"
client_ca = ["{folder}/ca.pem"]

[auth]
passwords = "{folder}/passwords"
certificates = "{folder}/certificates"
senders = "bound"

[access]
relay_from = []

[limits]
auth_failure_rate = []
login_failure_rate = []
login_messages = []
login_recipients = []
tls_sessions_per_minute = 0

[[listen]]
endpoint = "tcp:{submission}:interface=127.0.0.1"
submission = true
auth_tls = [{mechanisms}]

[[listen]]
endpoint = "tcp:{implicit}:interface=127.0.0.1"
tls = "implicit"
submission = true
auth_tls = [{mechanisms}]

[[route]]
match = "local"
deliver = "maildir:mail/{{user}}"

"""  # what stands before the first table belongs to [tls]
_OURS = re.compile(rb"Return-Path: .*\nDelivered-To: .*\n(Received: .*\n(?:[ \t].*\n)*)")


@attrs.frozen(slots=True)
class Mailbox:
    """A Maildir of the site's."""

    path: Path

    @property
    def address(self) -> str:
        """Whom to send to."""
        return f"{self.path.name}@local.test"

    def wait(self) -> tuple[str, bytes]:
        """The one message in it, once it is there: our Received line, unfolded, and with CRLF all that stands below it."""
        wait_for(lambda: any((self.path / "new").iterdir()), f"mail for {self.address}")
        [path] = (self.path / "new").iterdir()
        data = path.read_bytes()
        ours = _OURS.match(data)
        assert ours is not None, data[:400]
        return " ".join(ours[1].decode().split()), data[ours.end() :].replace(b"\n", b"\r\n")


@attrs.frozen(slots=True)
class Site:
    """The server, and what its clients must know."""

    folder: Path
    authority: Authority
    mta: MtaProcess
    submission: int  # port: STARTTLS and a login
    implicit: int  # port: TLS from the first byte, and a login

    @property
    def ca(self) -> Path:
        """Whom to trust (PEM)."""
        return self.folder / "ca.pem"

    @property
    def certificate(self) -> tuple[Path, Path]:
        """A client certificate by which one logs in, and its key."""
        return self.folder / "client/cert.pem", self.folder / "client/key.pem"

    def context(self) -> ssl.SSLContext:
        """For clients in Python."""
        return ssl.create_default_context(cafile=str(self.ca))

    def mailbox(self, name: str) -> Mailbox:
        """A new one, empty."""
        path = self.mta.directory / "mail" / name
        for folder in ("tmp", "new", "cur"):
            (path / folder).mkdir(parents=True)
        return Mailbox(path)


@functools.cache
def site() -> Site:
    """The one of this process."""
    temporary = tempfile.TemporaryDirectory(prefix="mta-peers-", ignore_cleanup_errors=True)
    folder = Path(temporary.name)
    folder.chmod(0o755)  # the peers' own accounts must get in
    for name in ("mta", "server", "client"):
        (folder / name).mkdir()
    authority = Authority.create()
    (folder / "ca.pem").write_bytes(authority.certificate_pem)
    client = authority.issue("client.test")
    client.write(folder / "client")
    fingerprint = x509.load_pem_x509_certificate(client.certificate_pem).fingerprint(hashes.SHA256()).hex()
    for name, line in (("passwords", f"{ACCOUNT}:{PASSWORD}"), ("certificates", f"{fingerprint} {ACCOUNT}")):
        (folder / name).write_text(f"{line}\n")
        (folder / name).chmod(0o600)
    submission, implicit = free_port(), free_port()
    settings = SETTINGS.format(
        folder=folder, submission=submission, implicit=implicit, mechanisms=", ".join(f'"{name}"' for name in MECHANISMS)
    )
    mta = MtaProcess(folder / "mta", settings, authority.issue("localhost", "127.0.0.1").write(folder / "server"))
    atexit.register(temporary.cleanup)
    atexit.register(mta.kill9)  # before the folder goes
    mta.start()
    return Site(folder, authority, mta, submission, implicit)
