"""Logins that a real Dovecot judges, over its auth socket: in one step, step by step, by token, and what follows when it goes."""

from __future__ import annotations

import json
import os
import signal
import smtplib
import ssl
import subprocess
import tempfile
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from hmac import digest
from pathlib import Path

from twisted.cred.credentials import UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.trial.unittest import TestCase

from mta.receive.auth.dovecot import MAX_MESSAGE, PASSED_ON, Dovecot, Unreachable
from mta.receive.auth.peer import Peer
from mta.smtp.bearer import BEARER
from mta.smtp.credentials import Held, JudgedCredentials, Login, PassedOn, Terms, cram_digest
from mta.smtp.sasl import SERVER_FIRST
from mta.smtp.scram import SCRAM, give_scram
from tests.peers.case import LOCAL, PeerTestCase
from tests.peers.peers import require, wait_for
from tests.ports import free_port
from tests.receive.auth.dovecot_case import Token

CONFIGURATION = """\
base_dir = {folder}/run
state_dir = {folder}/run
log_path = {folder}/dovecot.log
instance_name = mta-test
protocols =
ssl = no
auth_mechanisms = plain login cram-md5 scram-sha-256 oauthbearer xoauth2
auth_debug = yes
auth_failure_delay = 0
auth_username_chars =
stats_writer_socket_path =
passdb {{
  driver = oauth2
  mechanisms = oauthbearer xoauth2
  args = {folder}/oauth2.conf
}}
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

TOKENS = """\
introspection_mode = local
local_validation_key_dict = fs:posix:prefix={folder}/keys/
username_attribute = sub
"""
SECRET = b"a secret of the one who gives tokens"


def token(user: str, secret: bytes = SECRET, more: str = "") -> bytes:
    """A token for this user (RFC 7519), good for an hour.  more: a claim that makes it long."""
    now = int(time.time())
    claims = {"sub": user, "iat": now - 10, "nbf": now - 10, "exp": now + 3600, "more": more}
    parts = [_part(json.dumps(each).encode()) for each in ({"alg": "HS256", "typ": "JWT"}, claims)]
    return b".".join((*parts, _part(digest(secret, b".".join(parts), "sha256"))))


def _part(octets: bytes) -> bytes:
    return urlsafe_b64encode(octets).rstrip(b"=")


class RunningDovecot:
    """Dovecot's master and its auth process in a folder; no port is opened."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "run/auth-client"
        (folder / "users").write_text("tim:tanstaaf\njörg:ge-heim\naway:tanstaaf::::::nologin\n", "utf-8")
        (folder / "oauth2.conf").write_text(TOKENS.format(folder=folder))
        keys = folder / "keys/default/HS256"
        keys.mkdir(parents=True)
        (keys / "default").write_bytes(b64encode(SECRET))
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
        wrong = [self.given("tim", "wrong"), self.given("nobody", "tanstaaf"), self.given("away", "tanstaaf")]
        for given in wrong:
            with self.assertRaises(UnauthorizedLogin):
                await self.dovecot.requestAvatarId(given)
        names = await gatherResults([self.dovecot.requestAvatarId(self.given("tim", "tanstaaf")) for _ in range(200)])
        self.assertEqual(names, [b"tim"] * 200)

    async def test_offered(self) -> None:
        """No channel binding: it came with version 1.3 of the protocol, of which this one says 1.2."""
        await self.dovecot.requestAvatarId(self.given("tim", "tanstaaf"))
        assert self.dovecot._wire is not None
        offered = self.dovecot._wire.mechanisms
        self.assertLessEqual({"PLAIN", *PASSED_ON, *BEARER}, offered)
        self.assertEqual([name for name in offered if name.endswith("-PLUS")], [])
        [where] = {path for path in map(Path, ("/usr/lib/dovecot/auth", "/usr/libexec/dovecot/auth")) if path.exists()}
        self.assertNotIn(b"SCRAM-SHA-256-PLUS", where.read_bytes())

    async def held(self, mechanism: str, *responses: Callable[[bytes], bytes]) -> tuple[list[bytes], JudgedCredentials]:
        """An exchange of this mechanism: the challenges, and its end.  responses: to the challenge of before."""
        exchange, peer, challenges = Held(), Peer("192.0.2.1", True), []
        step = b""
        if mechanism in SERVER_FIRST:
            step = await self.dovecot.step(PassedOn(mechanism, None, exchange), peer)
            challenges.append(step)
        for response in responses:
            step = await self.dovecot.step(PassedOn(mechanism, response(step), exchange), peer)
            challenges.append(step)
        exchange.end()
        return challenges[:-1], challenges[-1]

    async def test_cram_md5(self) -> None:
        """Its own challenge, another one each time; right and wrong."""
        seen = set()
        for password, error in (("tanstaaf", ""), ("wrong", "wrong user or password"), ("tanstaaf", "")):
            [challenge], end = await self.held(
                "CRAM-MD5", lambda given, password=password: b"tim " + cram_digest(password, given)
            )
            self.assertEqual(end, JudgedCredentials("CRAM-MD5", "", "tim", error))
            self.assertRegex(challenge, rb"^<.+@.+>$")
            seen.add(challenge)
        self.assertEqual(len(seen), 3)

    async def test_hostile(self) -> None:
        """A name that is no text, and a login too long for its lines, are wrong; who is on the connection too does not notice."""
        self.assertEqual(await self.dovecot.requestAvatarId(self.given("tim", "tanstaaf")), b"tim")
        wire = self.dovecot._wire
        with self.assertRaises(UnauthorizedLogin):
            await self.dovecot.requestAvatarId(self.given("u" * 9000, "p" * 9000))
        with self.assertRaises(UnauthorizedLogin):
            await self.dovecot.requestAvatarId(self.given("u" * (MAX_MESSAGE - 4), "p"))
        _, end = await self.held("CRAM-MD5", lambda given: b"\xff " + b"0" * 32)
        self.assertEqual(end.error, "wrong user or password")
        self.assertIs(self.dovecot._wire, wire)
        assert wire is not None
        self.assertFalse(wire.lost)

    async def test_tokens(self) -> None:
        """By both mechanisms: a good token is its user's, a bad one nobody's, nor is a good one of somebody else."""
        for mechanism in BEARER:
            for shown, user in ((token("tim"), b"tim"), (token("tim", b"another secret"), b""), (token("ann"), b"")):
                asked = self.dovecot.requestAvatarId(Token(mechanism, b"tim", shown))
                if user:
                    self.assertEqual(await asked, user)
                else:
                    with self.assertRaises(UnauthorizedLogin):
                        await asked

    async def test_cancel(self) -> None:
        """An exchange that ends on our side: Dovecot hears it, forgets it, and all else goes on."""
        exchange, client = Held(), give_scram(SCRAM, Login("tim", "tanstaaf"), Terms(b"client"))
        await self.dovecot.step(PassedOn(SCRAM, next(client), exchange), Peer("192.0.2.1"))
        exchange.end()
        self.assertEqual(await self.dovecot.requestAvatarId(self.given("tim", "tanstaaf")), b"tim")
        log = self.real.folder / "dovecot.log"
        wait_for(lambda: "client in: CANCEL\t1\n" in log.read_text("utf-8", "replace"), "the line of it")
        self.assertNotIn("BUG", log.read_text("utf-8", "replace"))

    async def test_retired(self) -> None:
        """The connection of former settings goes by itself, with the last exchange on it."""
        exchange, client = Held(), give_scram(SCRAM, Login("tim", "tanstaaf"), Terms(b"client"))
        await self.dovecot.step(PassedOn(SCRAM, next(client), exchange), Peer("192.0.2.1"))
        wire = self.dovecot._wire
        assert wire is not None
        self.dovecot.retire()
        self.assertFalse(wire.gone.called)
        exchange.end()
        await wire.gone
        self.assertTrue(wire.lost)

    async def scram(self, user: str, password: str) -> JudgedCredentials:
        """Our own SCRAM client through it."""
        exchange, client = Held(), give_scram(SCRAM, Login(user, password), Terms(b"client"))
        step = await self.dovecot.step(PassedOn(SCRAM, next(client), exchange), Peer("192.0.2.1"))
        while isinstance(step, bytes):
            step = await self.dovecot.step(PassedOn(SCRAM, client.send(step), exchange), Peer("192.0.2.1"))
        return step

    async def test_scram(self) -> None:
        """A whole exchange, its server's proof believed by our client; with the wrong password it ends without."""
        for user, password in (("tim", "tanstaaf"), ("jörg", "ge-heim")):
            self.assertEqual(await self.scram(user, password), JudgedCredentials(SCRAM, "", user))
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
        """smtplib logs in inside TLS, by password, by proof and by token; wrong is 535, and without Dovecot it is 454."""
        require("dovecot")
        dovecot, port = running(self, self.sub("dovecot")), free_port()
        offered = ("PLAIN", "LOGIN", "CRAM-MD5", "OAUTHBEARER")
        listen = (
            f'[[listen]]\nendpoint = "tcp:{port}:interface=127.0.0.1"\nauth_tls = {json.dumps([*offered, "SCRAM-SHA-256"])}\n'
        )
        mta = self.mta(f'[auth]\ndovecot = "{dovecot.socket}"\n\n{listen}', self.certificate())
        self.assertEqual([self.code(port, name, "tanstaaf", SECRET) for name in offered], [235] * 4)
        self.assertEqual([self.code(port, name, "wrong", b"wrong") for name in offered], [535] * 4)
        dovecot.stop()
        self.assertEqual(self.code(port, "PLAIN", "tanstaaf"), 454)
        said = [(line.fields["mechanism"], line.fields["result"]) for line in mta.wait_for_event("auth", 9)]
        results = (*["ok"] * 4, *["refused"] * 4, "failed")
        self.assertEqual(said, list(zip((*offered, *offered, "PLAIN"), results, strict=True)))

    def test_tokens_of_curl(self) -> None:
        """A real client shows its tokens, short and as long as they get, and gives up when it hears why they are worth nothing."""
        require("dovecot", "curl")
        dovecot, ports = running(self, self.sub("dovecot")), {name: free_port() for name in BEARER}
        listen = "".join(
            f'[[listen]]\nendpoint = "tcp:{port}:interface=127.0.0.1"\nsubmission = true\nauth_tls = "{name}"\n'
            for name, port in ports.items()
        )
        mta = self.mta(f'[auth]\ndovecot = "{dovecot.socket}"\n\n{listen}{LOCAL}', self.certificate())
        (self.folder / "ca.pem").write_bytes(self.authority.certificate_pem)
        for port in ports.values():
            sent = [self.curl(port, shown) for shown in (token("tim"), token("tim", more="x" * 3000), token("tim", b"?"))]
            self.assertEqual(sent, [True, True, False])
        wait_for(lambda: len(self.stored(mta)) == 4, "the mail")
        said = [(line.fields["mechanism"], line.fields["result"]) for line in mta.wait_for_event("auth", 6)]
        self.assertEqual(said, [(name, result) for name in BEARER for result in ("ok", "ok", "refused")])

    def curl(self, port: int, shown: bytes) -> bool:
        """Was a message sent?"""
        command = ["curl", "-sS", "--max-time", "60", "--ssl-reqd", "--cacert", str(self.folder / "ca.pem")]
        command += ["--user", "tim", "--oauth2-bearer", shown.decode()]
        command += ["--mail-from", "tim@local.test", "--mail-rcpt", "user@local.test", "--upload-file", "-"]
        command += ["--url", f"smtp://localhost:{port}/client.test"]
        done = subprocess.run(command, input=b"Subject: x\r\n\r\nx\r\n", capture_output=True, timeout=90, check=False)
        return done.returncode == 0

    def code(self, port: int, mechanism: str, password: str, secret: bytes = SECRET) -> int:
        """What a login is answered with.  secret: of the one who has given a token."""
        with smtplib.SMTP("localhost", port, local_hostname="client.test", timeout=60) as client:
            client.starttls(context=ssl.create_default_context(cadata=self.authority.certificate_pem.decode()))
            client.ehlo()
            client.user, client.password = "tim", password

            def auth_oauthbearer(challenge: bytes | None = None) -> str:
                return "\1" if challenge else f"n,a=tim,\1auth=Bearer {token('tim', secret).decode()}\1\1"

            client.auth_oauthbearer = auth_oauthbearer  # type: ignore[attr-defined]
            try:
                return client.auth(mechanism, getattr(client, "auth_" + mechanism.lower().replace("-", "_")))[0]
            except smtplib.SMTPAuthenticationError as error:
                return error.smtp_code
