"""What the tests of the probe share: a resolver, settings that trust its authority, servers, and one that goes on in clear."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.trial.unittest import TestCase

from mta.config.settings import Dns, Handover, Relay, Settings, Tls, TlsClient
from mta.envelope import Target
from mta.testing.dns import FakeResolver
from mta.testing.peers import ScriptedServer
from mta.testing.pki import Authority
from mta.tls.client import ClientTls
from mta.tls.mtasts import Result, StsError
from mta.tls.policy import Demand, Level, Required

AUTHORITY = Authority.create()
ISSUED = AUTHORITY.issue("mx.example.test")
MX = "mx.example.test"


def no_policy(domain: str) -> Deferred[bytes]:
    """No web server has a policy of MTA-STS."""
    return fail(StsError(Result.FETCH, "no such host"))


class ProbeCase(TestCase):
    """A directory with the authority, and servers on the loopback that are gone at the end."""

    timeout = 20

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        (self.directory / "ca.pem").write_bytes(AUTHORITY.certificate_pem)
        self.told: list[str] = []
        self.port = 0

    def listen(self, server: ServerFactory) -> None:
        """Serve on a port of the loopback, which is the one of every MX host from now on."""
        port = reactor.listenTCP(0, server, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.port = port.getHost().port
        self.addCleanup(port.stopListening)
        if isinstance(server, ScriptedServer):
            self.addCleanup(server.close_all)

    def serve(self, script: Any = None, **how: Any) -> ScriptedServer:
        """A scripted server with the certificate of mx.example.test, unless `how` says otherwise."""
        server = ScriptedServer(script, **{"certificate": ISSUED, **how})
        self.listen(server)
        return server

    def settings(self, **changes: Any) -> Settings:
        """The probe's settings: DNS is believed, the authority trusted."""
        plain = Settings(
            hostname="probe.example",
            data_dir=self.directory,
            tls=Tls(),
            tls_client=TlsClient(trust=(self.directory / "ca.pem",)),
            dns=Dns(servers=("192.0.2.53",), trusted=True),
            relay=Relay(port=self.port),
            handover=Handover(shutdown_wait=0.2),  # type: ignore[arg-type]
        )
        return attrs.evolve(plain, **changes)

    def resolver(self, **changes: Any) -> FakeResolver:
        """example.test with one MX host on the loopback, all of it secure."""
        records = {
            "example.test": {"MX": [(10, MX)]},
            MX: {"A": ["127.0.0.1"]},
            "_smtp._tls.example.test": {"TXT": ["v=TLSRPTv1; rua=mailto:reports@example.test"]},
        }
        records.update(changes.pop("records", {}))
        return FakeResolver(records, **{"secure": True, **changes})

    def demand(self, level: Level = Level.MAY, **changes: Any) -> Demand:
        """What is owed to the host on the loopback."""
        required = Required(level, MX, "127.0.0.1", self.port, "example.test", (MX,), sni=MX)
        return Demand(Target(MX, "127.0.0.1", self.port), attrs.evolve(required, **changes))

    def tls(self) -> ClientTls:
        """What a client needs of TLS."""
        return ClientTls(self.settings().tls_client)


class Unwrapping(ServerFactory):
    """Goes on in clear after close_notify, as Exim does.

    answers: it says close_notify in its turn; late: after the client has begun to speak in clear; offers: STARTTLS is
    offered in clear again.
    """

    noisy = False

    def __init__(self, answers: bool = True, late: bool = False, offers: bool = True) -> None:
        self.answers, self.late, self.offers = answers, late, offers
        self.lines: list[str] = []
        leaf, *above = x509.load_pem_x509_certificates(ISSUED.certificate_pem)
        self.context = SSL.Context(SSL.TLS_SERVER_METHOD)
        self.context.use_certificate(leaf)
        self.context.use_privatekey(load_pem_private_key(ISSUED.key_pem, None))  # type: ignore[arg-type]
        for certificate in above:
            self.context.add_extra_chain_cert(certificate)

    def buildProtocol(self, addr: object) -> Protocol:
        return _Unwrapping(self)


class _Unwrapping(Protocol):
    transport: Any

    def __init__(self, server: Unwrapping) -> None:
        self.server = server
        self.tls: SSL.Connection | None = None
        self.was_tls = False
        self.owed = b""  # the late close_notify
        self.buffer = b""

    def connectionMade(self) -> None:
        self.transport.write(b"220 exim\r\n")

    def dataReceived(self, data: bytes) -> None:
        if self.tls is not None:
            data = self.decrypt(data)
        self.buffer += data
        while b"\r\n" in self.buffer:
            line, _, self.buffer = self.buffer.partition(b"\r\n")
            self.server.lines.append(("tls " if self.tls else "") + line.decode())
            self.command(line.split()[0])

    def decrypt(self, data: bytes) -> bytes:
        tls = self.tls
        assert tls is not None
        tls.bio_write(data)
        plain = b""
        try:
            while True:
                plain += tls.recv(65536)
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            tls.shutdown()
            self.owed = tls.bio_read(65536)
            self.tls, self.was_tls = None, True
            if self.server.answers and not self.server.late:
                self.transport.write(self.owed)
            return plain
        self.flush()
        return plain

    def flush(self) -> None:
        try:
            self.transport.write(self.tls.bio_read(65536))  # type: ignore[union-attr]
        except SSL.WantReadError:
            pass

    def say(self, data: bytes) -> None:
        if self.tls is not None:
            self.tls.send(data)
            self.flush()
            return
        if self.was_tls and self.server.late and self.owed:
            data, self.owed = self.owed + data, b""
        self.transport.write(data)

    def command(self, verb: bytes) -> None:
        if verb == b"EHLO":
            offer = self.tls is None and (self.server.offers or not self.was_tls)
            self.say(b"250-exim\r\n250 STARTTLS\r\n" if offer else b"250 exim\r\n")
        elif verb == b"STARTTLS":
            self.say(b"220 go\r\n")
            self.tls = SSL.Connection(self.server.context, None)
            self.tls.set_accept_state()
        elif verb == b"QUIT":
            self.say(b"221 bye\r\n")
            self.transport.loseConnection()
        else:
            self.say(b"250 ok\r\n")
