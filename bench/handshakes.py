"""What a TLS handshake costs each side, full and resumed, with our own client and our own server in memory.

    python -m bench.handshakes [--handshakes 400]

CPU of this process from the new connection to what is known of it: for the client the judgement of the chain too, and the
session that is kept.  All kinds take turns, so that what else the machine does falls on each.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from OpenSSL import SSL

from bench.report import Report, commit
from mta.config.settings import Tls, TlsClient
from mta.testing.pki import Authority, KeyKind
from mta.tls.client import ClientTls
from mta.tls.context import ServerTls, facts
from mta.tls.policy import Achieved, Level, Parameters, Required, judge

HOST = "mx.example.org"
KINDS: tuple[KeyKind, ...] = ("ec", "rsa")
VERSIONS = ("TLSv1.2", "TLSv1.3")
FLIGHTS = 4
AT_A_TURN = 20


class Spent:
    """CPU seconds of one side."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def at(self, step: Callable[[], object]) -> object:
        """Do something; None while more bytes are wanted."""
        began = time.process_time()
        try:
            return step()
        except SSL.WantReadError:
            return None
        finally:
            self.seconds += time.process_time() - began


class Pair:
    """A client and a server that know one another, or never do.  key: under which the client keeps sessions."""

    def __init__(self, folder: Path, authority: Authority, kind: KeyKind, version: str, key: str | None) -> None:
        folder.mkdir()
        certificate, private = authority.issue(HOST, key=kind).write(folder)
        trusted = folder / "ca.pem"
        trusted.write_bytes(authority.certificate_pem)
        self.name = (version, kind, "full" if key is None else "resumed")
        self.client, self.server, self.count = Spent(), Spent(), -1  # the first is not counted
        self._ours = ClientTls(TlsClient(trust=(trusted,)))
        self._theirs = ServerTls.load(Tls(certificate, private))
        parameters = Parameters(max_version=version)
        self._required = Required(Level.VERIFY, HOST, "192.0.2.1", 25, "example.org", (HOST,), HOST, parameters=parameters)
        self._key = key
        self.connect()
        self.client, self.server = Spent(), Spent()

    def connect(self) -> None:
        """A connection up to the first answer inside TLS, and its end."""
        mine, yours = self.client.at, self.server.at
        creator = self._ours.creator(self._required, self._key)
        client = mine(creator.connection)
        server = yours(lambda: self._theirs.prepare().connection)
        assert isinstance(client, SSL.Connection) and isinstance(server, SSL.Connection)
        client.set_connect_state()
        for _ in range(FLIGHTS):
            for end, side, other, far in ((client, mine, server, yours), (server, yours, client, mine)):
                side(end.do_handshake)
                data = side(lambda end=end: end.bio_read(65536))  # type: ignore[misc]
                if isinstance(data, bytes):
                    far(lambda other=other, data=data: other.bio_write(data))  # type: ignore[misc]
        yours(lambda: facts(server))
        server.send(b"250 ok\r\n")
        client.bio_write(server.bio_read(65536))
        mine(lambda: client.recv(100))
        achieved = mine(lambda: creator.achieved(client))
        assert isinstance(achieved, Achieved) and not judge(self._required, achieved), self.name
        assert achieved.resumed == (self._key is not None and self.count >= 0), self.name
        mine(lambda: creator.keep(client, achieved))
        client.shutdown()
        self.count += 1


def pairs(folder: Path) -> Iterator[Pair]:
    """All kinds."""
    authority = Authority.create()
    for version in VERSIONS:
        for kind in KINDS:
            for key in (None, "key"):
                yield Pair(folder / f"{version}-{kind}-{key}", authority, kind, version, key)


def main(arguments: list[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        "bench.handshakes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--handshakes", type=int, default=400, help="of each kind")
    options = parser.parse_args(arguments)
    columns = ("version", "key", "handshake", "client us", "server us", "client/s", "server/s")
    settings = {"handshakes": options.handshakes, "openssl": SSL.SSLeay_version(SSL.SSLEAY_VERSION).decode(), "commit": commit()}
    report = Report("handshakes", "TLS handshakes in memory, CPU of each side", settings, columns)
    with tempfile.TemporaryDirectory(prefix="mta-bench-") as name:
        measured = list(pairs(Path(name)))
        for _ in range(max(options.handshakes // AT_A_TURN, 1)):
            for pair in measured:
                for _ in range(AT_A_TURN):
                    pair.connect()
    for pair in measured:
        client, server = (side.seconds / pair.count for side in (pair.client, pair.server))
        report.rows.append([*pair.name, round(client * 1e6), round(server * 1e6), round(1 / client), round(1 / server)])
    report.show()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
