"""A server that goes on in clear text when the client takes TLS down, as Exim does (no Twisted TLS: that closes TCP).

words: what it does at each point, in order: "close_notify" answered yes or no or late; what it says to EHLO and RSET in clear
text after TLS was taken down, and to the STARTTLS after that.
"""

from __future__ import annotations

from typing import Any

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from mta.testing.pki import Issued


@attrs.define
class Manners:
    """How it behaves; "" closes the connection instead of an answer."""

    answers_close: bool = True  # says close_notify back
    late: bool = False  # says it in front of its next reply in clear text
    speaks_first: bool = False  # says something in clear text that nobody asked for
    ehlo: bytes = b"250-peer\r\n250-PIPELINING\r\n250 STARTTLS\r\n"  # in clear text, after TLS
    rset: bytes = b"250 reset\r\n"
    starttls: bytes = b"220 go\r\n"
    handshake: bytes = b""  # in place of the second handshake
    spoils: int = 0  # how often it answers MAIL in clear text, inside TLS


class GoesOn(Factory):
    """Takes every message.  lines: what was said, "tls " in front where it was inside TLS."""

    noisy = False

    def __init__(self, issued: Issued, manners: Manners) -> None:
        leaf, *_ = x509.load_pem_x509_certificates(issued.certificate_pem)
        self.context = SSL.Context(SSL.TLS_SERVER_METHOD)
        self.context.use_certificate(leaf)
        self.context.use_privatekey(load_pem_private_key(issued.key_pem, None))
        self.manners = manners
        self.open: set[Peer] = set()
        self.connections = 0
        self.lines: list[str] = []
        self.messages = 0

    def buildProtocol(self, addr: Any) -> Peer:
        self.connections += 1
        return Peer(self)

    def close_all(self) -> None:
        for peer in list(self.open):
            peer.transport.abortConnection()


class Peer(Protocol):
    transport: Any

    def __init__(self, server: GoesOn) -> None:
        self.server = server
        self.tls: SSL.Connection | None = None
        self.ended = False  # TLS was up once and was taken down
        self.alert = b""
        self.in_body = False
        self.buffer = b""

    def connectionMade(self) -> None:
        self.server.open.add(self)
        self.say(b"220 peer ESMTP\r\n")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.server.open.discard(self)

    def say(self, data: bytes) -> None:
        if not data:
            self.transport.abortConnection()
        elif self.tls is None:
            self.transport.write(self.alert + data)
            self.alert = b""
        else:
            self.tls.send(data)
            self.flush()

    def flush(self) -> None:
        try:
            while True:
                self.transport.write(self.tls.bio_read(65536))
        except SSL.WantReadError:
            pass

    def dataReceived(self, data: bytes) -> None:
        if self.tls is None:
            self.plain(data)
            return
        self.tls.bio_write(data)
        try:
            self.tls.do_handshake()
            while True:
                self.flush()
                self.plain(self.tls.recv(65536))
        except SSL.WantReadError:
            self.flush()
        except SSL.ZeroReturnError:
            self.goes_clear()
        except SSL.Error:  # the client's alert
            self.transport.abortConnection()

    def goes_clear(self) -> None:
        manners = self.server.manners
        tls, self.tls, self.ended = self.tls, None, True
        if manners.answers_close or manners.late:
            tls.shutdown()
            alert = tls.bio_read(65536)
            if manners.late:
                self.alert = alert
            else:
                self.transport.write(alert)
        if manners.speaks_first:
            self.say(b"220 hello again\r\n")

    def plain(self, data: bytes) -> None:
        self.buffer += data
        while True:
            if self.in_body:
                _, end, rest = self.buffer.partition(b"\r\n.\r\n")
                if not end:
                    return
                self.in_body, self.buffer = False, rest
                self.server.messages += 1
                self.say(b"250 taken\r\n")
                continue
            line, end, rest = self.buffer.partition(b"\r\n")
            if not end:
                return
            self.buffer = rest
            self.server.lines.append(("tls " if self.tls else "") + line.decode().split()[0])
            self.command(line.split()[0])

    def command(self, verb: bytes) -> None:
        manners = self.server.manners
        if verb == b"MAIL" and manners.spoils:
            manners.spoils -= 1
            self.transport.write(b"554 Too many nonmail commands\r\n")
            return
        in_clear_again = self.ended and self.tls is None
        if verb == b"EHLO":
            usual = b"250-peer\r\n250 PIPELINING\r\n" if self.tls else b"250-peer\r\n250 STARTTLS\r\n"
            self.say(manners.ehlo if in_clear_again else usual)
        elif verb == b"RSET" and in_clear_again:
            self.say(manners.rset)
        elif verb == b"STARTTLS":
            self.say(manners.starttls if self.ended else b"220 go\r\n")
            if self.ended and (manners.handshake or not manners.starttls.startswith(b"220")):
                self.transport.write(manners.handshake)
                return
            self.tls = SSL.Connection(self.server.context, None)
            self.tls.set_accept_state()
        elif verb == b"DATA":
            self.in_body = True
            self.say(b"354 go on\r\n")
        else:
            self.say(b"250 ok\r\n")
            if verb == b"QUIT":
                self.transport.loseConnection()
