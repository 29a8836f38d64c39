"""Logins that a real Dovecot judges, over its auth socket: PLAIN, LOGIN and a whole SCRAM, and what follows when it goes."""

from __future__ import annotations

import os
import signal
import smtplib
import ssl
import subprocess
import tempfile
from pathlib import Path

from twisted.cred.credentials import UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.trial.unittest import TestCase

from mta.receive.auth.dovecot import Dovecot, Unreachable
from mta.receive.auth.peer import Peer
from mta.smtp.credentials import Held, Login, PassedOn, ScramCredentials, Terms
from mta.smtp.scram import SCRAM, give_scram
from tests.peers.case import PeerTestCase
from tests.peers.peers import require, wait_for
from tests.ports import free_port

CONFIGURATION = """\
base_dir = {folder}/run
state_dir = {folder}/run
log_path = {folder}/dovecot.log
instance_name = mta-test
protocols =
ssl = no
auth_mechanisms = plain login scram-sha-256
auth_failure_delay = 0
auth_username_chars =
stats_writer_socket_path =
passdb {{
  driver = passwd-file
  args = scheme=PLAIN {folder}/users
}}
userdb {{
  driver = static
  args = uid=65534 gid=65534 home=/nonexistent
}}
service auth {{
  unix_listener auth-client {{
    mode = 0666
  }}
  unix_listener auth-userdb {{
    mode = 0
  }}
}}
"""


class RunningDovecot:
    """Dovecot's master and its auth process in a folder; no port is opened."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "run/auth-client"
        (folder / "users").write_text("tim:tanstaaf\njörg:ge-heim\n", "utf-8")
        (folder / "dovecot.conf").write_text(CONFIGURATION.format(folder=folder))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Until it takes connections."""
        command = ["dovecot", "-F", "-c", str(self.folder / "dovecot.conf")]
        self._process = subprocess.Popen(command, cwd="/", start_new_session=True)
        try:
            wait_for(self.socket.exists, "dovecot's socket")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """All of it.  May be called twice."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(10)
            finally:
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self.socket.unlink(missing_ok=True)


def running(case: PeerTestCase | TestCase, folder: Path) -> RunningDovecot:
    """One that ends with the test."""
    dovecot = RunningDovecot(folder)
    case.addCleanup(dovecot.stop)
    dovecot.start()
    return dovecot


class ClientTests(TestCase):
    """Our client of its protocol."""

    timeout = 60

    def setUp(self) -> None:
        require("dovecot")
        folder = tempfile.TemporaryDirectory(prefix="mta-peers-", ignore_cleanup_errors=True)
        self.addCleanup(folder.cleanup)
        Path(folder.name).chmod(0o755)  # Dovecot's own account must get in
        self.real = running(self, Path(folder.name))
        self.dovecot = Dovecot(str(self.real.socket), reactor)
        self.addCleanup(lambda: self.dovecot.stop())

    def given(self, user: str, password: str) -> UsernamePassword:
        """As our portal gives it."""
        given = UsernamePassword(user.encode(), password.encode())
        given.peer = Peer("192.0.2.1", True)
        return given

    async def test_plain(self) -> None:
        """Right, wrong, unknown; many at once on one connection."""
        for user, password in (("tim", "tanstaaf"), ("jörg", "ge-heim")):
            self.assertEqual(await self.dovecot.requestAvatarId(self.given(user, password)), user.encode())
        wrong = [self.given("tim", "wrong"), self.given("nobody", "tanstaaf")]
        for given in wrong:
            with self.assertRaises(UnauthorizedLogin):
                await self.dovecot.requestAvatarId(given)
        names = await gatherResults([self.dovecot.requestAvatarId(self.given("tim", "tanstaaf")) for _ in range(200)])
        self.assertEqual(names, [b"tim"] * 200)

    async def scram(self, user: str, password: str) -> ScramCredentials:
        """Our own SCRAM client through it."""
        exchange, client = Held(), give_scram(SCRAM, Login(user, password), Terms(b"client"))
        step = await self.dovecot.step(PassedOn(SCRAM, next(client), exchange), Peer("192.0.2.1"))
        while isinstance(step, bytes):
            step = await self.dovecot.step(PassedOn(SCRAM, client.send(step), exchange), Peer("192.0.2.1"))
        return step

    async def test_scram(self) -> None:
        """A whole exchange, its server's proof believed by our client; with the wrong password it ends without."""
        for user, password in (("tim", "tanstaaf"), ("jörg", "ge-heim")):
            self.assertEqual(await self.scram(user, password), ScramCredentials(SCRAM, "", user))
        self.assertEqual((await self.scram("tim", "wrong")).error, "wrong user or password")

    async def test_restart(self) -> None:
        """While it is away nobody can tell (454); when it is there again all is well."""
        self.assertEqual(await self.dovecot.requestAvatarId(self.given("tim", "tanstaaf")), b"tim")
        self.real.stop()
        with self.assertRaises(Unreachable):
            while True:  # the end of the old connection may not have been read yet
                await self.dovecot.requestAvatarId(self.given("tim", "tanstaaf"))
        self.real.start()
        self.assertEqual(await self.dovecot.requestAvatarId(self.given("tim", "tanstaaf")), b"tim")


class WholeTests(PeerTestCase):
    """Our whole server in front of it."""

    def test_submission(self) -> None:
        """smtplib logs in by PLAIN and LOGIN inside TLS; wrong is 535; without Dovecot 454."""
        require("dovecot")
        dovecot, port = running(self, self.sub("dovecot")), free_port()
        listen = f'[[listen]]\nendpoint = "tcp:{port}:interface=127.0.0.1"\nauth_tls = ["PLAIN", "LOGIN", "SCRAM-SHA-256"]\n'
        mta = self.mta(f'[auth]\ndovecot = "{dovecot.socket}"\n\n{listen}', self.certificate())
        self.assertEqual([self.code(port, name, "tanstaaf") for name in ("plain", "login")], [235, 235])
        self.assertEqual([self.code(port, name, "wrong") for name in ("plain", "login")], [535, 535])
        dovecot.stop()
        self.assertEqual(self.code(port, "plain", "tanstaaf"), 454)
        said = [(line.fields["mechanism"], line.fields["result"]) for line in mta.log("auth")]
        results = ("ok", "ok", "refused", "refused", "failed")
        self.assertEqual(said, list(zip(("PLAIN", "LOGIN", "PLAIN", "LOGIN", "PLAIN"), results, strict=True)))

    def code(self, port: int, mechanism: str, password: str) -> int:
        """What a login is answered with."""
        with smtplib.SMTP("localhost", port, local_hostname="client.test", timeout=60) as client:
            client.starttls(context=ssl.create_default_context(cadata=self.authority.certificate_pem.decode()))
            client.ehlo()
            client.user, client.password = "tim", password
            try:
                return client.auth(mechanism.upper(), getattr(client, f"auth_{mechanism}"))[0]
            except smtplib.SMTPAuthenticationError as error:
                return error.smtp_code
