"""A mail server that does what a test wants of it, on any Twisted transport.

It speaks SMTP well enough for any client (RFC 5321, 2920, 3207) and, at the points a script names, answers otherwise,
falls silent, hangs up or talks nonsense.  Points: "greeting", the verb of a command ("EHLO", "STARTTLS", "MAIL", "RCPT",
"DATA", "BDAT", "AUTH", "RSET", "QUIT"), a verb with the address in it ("RCPT user@example.org"), "body" (the first bytes of
a body), "." (the end of data), "client hello" (TLS bytes where there is no TLS), "handshake" (TLS is up), "login" (the
verdict on credentials); "tls " in front of a point means: inside TLS.  The most specific one counts.
It counts connections, handshakes and QUITs, and keeps every command and every message it took, byte for byte.

    server = ScriptedServer({"RCPT": ["450 4.2.0 later"]}, certificate=authority.issue("localhost"))
    port = reactor.listenTCP(0, server, interface="127.0.0.1")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final, TypeAlias

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL
from twisted.internet.interfaces import IAddress, IHandshakeListener, IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from mta.smtp.credentials import (
    CramCredentials,
    Credentials,
    JudgedCredentials,
    PlainCredentials,
    ServerExchange,
    Terms,
    Undecodable,
    VerifierWanted,
    decode,
    encode,
)
from mta.smtp.sasl import SERVER
from mta.smtp.scram import PLUS, verifier_of
from mta.testing.pki import Issued
from mta.tls.binding import tls_exporter

__all__ = ["EXTENSIONS", "Act", "Clear", "Received", "ScriptedServer"]

EXTENSIONS: Final = ("PIPELINING", "SIZE 100000000", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")


class Act(Enum):
    """What a server may do instead of answering."""

    CLOSE = "close"  # in order
    ABORT = "abort"  # TCP reset
    STALL = "stall"  # say nothing, and read on
    PAUSE = "pause"  # say nothing, and read nothing until somebody resumes the transport


@attrs.frozen
class Clear:
    """Bytes written past the TLS layer, in clear."""

    data: bytes


Answer: TypeAlias = str | bytes | Act | Clear  # a reply without CRLF, raw bytes, or no reply
Script: TypeAlias = Mapping[str, "Answer | list[Answer | None] | tuple[Answer, ...]"]


@attrs.frozen
class Received:
    """A message that was answered with 250."""

    connection: int
    sender: str
    recipients: tuple[str, ...]
    body: bytes
    in_tls: bool
    user: str = ""  # who logged in


class ScriptedServer(ServerFactory):
    """The factory; what happened to all its connections is counted here.

    script: point -> what to do there: one answer for ever, a tuple of answers to give one after another at one time, or a
    list of answers for the first, second ... time (None: as usual), after which it is as usual.
    certificate: STARTTLS is offered with it, unless `extensions` says all there is to say.  prepare: what to make of the TLS
    context (versions, ciphers, asking for a certificate).  users: name -> password; with them AUTH is offered, with `mechanisms`
    inside TLS and `clear_mechanisms` in clear, and MAIL wants it (RFC 4954 6).
    """

    noisy = False

    def __init__(
        self,
        script: Script | None = None,
        *,
        certificate: Issued | None = None,
        extensions: tuple[str, ...] = EXTENSIONS,
        tls_extensions: tuple[str, ...] | None = None,
        offer_tls: bool = True,
        prepare: Callable[[SSL.Context], None] | None = None,
        users: Mapping[str, str] | None = None,
        mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN", "CRAM-MD5"),
        clear_mechanisms: tuple[str, ...] = (),
    ) -> None:
        self.script: dict[str, Any] = dict(script or {})
        offered = (*extensions, "STARTTLS") if certificate and offer_tls else extensions
        self.extensions = _with_auth(offered, clear_mechanisms if users else ())
        self.tls_extensions = _with_auth(extensions if tls_extensions is None else tls_extensions, mechanisms if users else ())
        self.tls = certificate and _Tls(certificate, prepare)
        self.users = users or {}
        self.open: set[_Peer] = set()
        self.connections = 0
        self.handshakes = 0
        self.quits = 0
        self.commands: list[str] = []  # "1 MAIL FROM:<a@b>", "1 tls MAIL ...": the connection's number first
        self.messages: list[Received] = []
        self.logins: list[str] = []  # "1 tls PLAIN user": those that were let in
        self.client_certificates: list[str] = []  # of each handshake, the subject of what was shown, "" for nothing

    def buildProtocol(self, addr: IAddress | None) -> _Peer:
        """Called for each connection."""
        self.connections += 1
        return _Peer(self, self.connections)

    def verbs(self, connection: int) -> list[str]:
        """The verbs of one connection in order, "tls " in front of those that came inside TLS."""
        lines = [line.partition(" ")[2] for line in self.commands if line.startswith(f"{connection} ")]
        return [" ".join(line.split()[: 2 if line.startswith("tls ") else 1]) for line in lines]

    def close_all(self) -> None:
        """Hang up on everybody."""
        for peer in list(self.open):
            peer.transport.abortConnection()

    def say(self, data: bytes) -> None:
        """Say something that nobody asked for, to everybody."""
        for peer in list(self.open):
            peer.transport.write(data)

    def answers(self, points: tuple[str, ...]) -> tuple[Answer, ...]:
        """What the script wants at the first of these points that it names; empty: as usual."""
        for point in points:
            wanted = self.script.get(point)
            if isinstance(wanted, list):
                wanted = wanted.pop(0) if wanted else None
            if wanted is not None:
                return wanted if isinstance(wanted, tuple) else (wanted,)
        return ()


@implementer(IHandshakeListener)
class _Peer(Protocol):
    """One connection of a scripted server."""

    transport: Any

    def __init__(self, server: ScriptedServer, number: int) -> None:
        self._server = server
        self._number = number
        self._in_tls = False
        self._buffer = b""
        self._body: bytearray | None = None
        self._chunks = b""
        self._chunk = 0  # octets of BDAT that have not come
        self._sender: str | None = None
        self._recipients: list[str] = []
        self._exchange: ServerExchange | None = None  # AUTH is under way
        self._user = ""

    def connectionMade(self) -> None:
        self._server.open.add(self)
        self.transport.setTcpNoDelay(True)
        self._answer(("greeting",), "220 scripted.example ESMTP")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._server.open.discard(self)

    def handshakeCompleted(self) -> None:
        """TLS is up."""
        self._in_tls = True
        self._server.handshakes += 1
        shown = self.transport.getHandle().get_peer_certificate(as_cryptography=True)
        self._server.client_certificates.append(shown.subject.rfc4514_string() if shown else "")
        self._answer(("handshake",), "")

    def dataReceived(self, data: bytes) -> None:
        self._buffer += data
        while self._buffer:
            if self._chunk:
                if not self._take_chunk():
                    return
                continue
            if self._body is not None:
                if not self._take_body():
                    return
                continue
            if self._buffer[0] == 0x16:  # TLS, where SMTP is due
                self._buffer = b""
                self._answer(["client hello"], "500 5.5.2 what?")
                return
            line, crlf, rest = self._buffer.partition(b"\r\n")
            if not crlf:
                return
            self._buffer = rest
            if self._exchange is not None:
                self._respond(self._exchange, line)
            else:
                self._command(line.decode("utf-8", "replace"))

    def _command(self, line: str) -> None:
        verb = line.split(" ")[0].upper()
        place = "tls " if self._in_tls else ""
        self._server.commands.append(f"{self._number} {place}{line}")
        address = line.partition("<")[2].rpartition(">")[0]
        points = [verb] if not address else [f"{verb} {address}", verb]
        getattr(self, f"_{verb.lower()}", self._other)(points, address)

    def _answer(self, points: list[str] | tuple[str, ...], usual: str) -> str:
        """Answer by the script, or as usual.  The first digits of a reply, "" for anything else."""
        if self._in_tls:
            points = [*(f"tls {point}" for point in points), *points]
        answers = self._server.answers(tuple(points)) or ((usual,) if usual else ())
        for answer in answers:
            if isinstance(answer, str):
                self.transport.write(answer.encode() + b"\r\n")
            elif isinstance(answer, bytes):
                self.transport.write(answer)
            elif isinstance(answer, Clear):
                self.transport.protocol.transport.write(answer.data)
            elif answer is Act.CLOSE:
                self.transport.loseConnection()
            elif answer is Act.ABORT:
                self.transport.abortConnection()
            elif answer is Act.PAUSE:
                self.transport.pauseProducing()
        first = answers[0] if answers else ""
        if isinstance(first, bytes):
            first = first.decode("latin-1")
        return first[:3] if isinstance(first, str) else ""

    def _ehlo(self, points: list[str], address: str) -> None:
        server = self._server
        self._user = ""
        lines = ["scripted.example", *(server.tls_extensions if self._in_tls else server.extensions)]
        self._reset()
        self._answer(points, "\r\n".join([*(f"250-{line}" for line in lines[:-1]), f"250 {lines[-1]}"]))

    def _starttls(self, points: list[str], address: str) -> None:
        code = self._answer(points, "220 2.0.0 go" if self._server.tls else "502 5.5.1 no TLS here")
        if code == "220" and self._server.tls:
            self._reset()
            self._buffer = b""
            self.transport.startTLS(self._server.tls)

    def _auth(self, points: list[str], address: str) -> None:
        """RFC 4954 4, as far as any client needs it."""
        _, mechanism, *initial = f"{self._server.commands[-1].partition('AUTH')[2]} ".split(" ")
        offered = self._server.tls_extensions if self._in_tls else self._server.extensions
        if mechanism not in next((line.split() for line in offered if line.startswith("AUTH ")), ()):
            self._answer(points, "504 5.5.4 not that one")
            return
        binding = tls_exporter(self.transport.getHandle()) if self._in_tls else b""
        terms = Terms(b"<1@scripted.example>", binding, any(PLUS in line.split() for line in offered))
        exchange = SERVER[mechanism](terms)
        challenge = next(exchange)
        assert isinstance(challenge, bytes)
        if initial[0]:
            self._respond(exchange, initial[0].encode())
        elif self._answer(points, f"334 {encode(challenge).decode()}") == "334":
            self._exchange = exchange

    def _respond(self, exchange: ServerExchange, line: bytes) -> None:
        self._exchange = None
        try:
            challenge = exchange.send(decode(line))
            if isinstance(challenge, VerifierWanted):
                challenge = exchange.send(verifier_of(self._server.users.get(challenge.user, ""), b"scripted salt"))
            assert isinstance(challenge, bytes)
        except StopIteration as done:
            self._judge(done.value)
        except Undecodable:
            self._answer(["login"], "501 5.5.2 what?")
        else:
            self._exchange = exchange
            self.transport.write(b"334 " + encode(challenge) + b"\r\n")

    def _judge(self, claimed: Credentials) -> None:
        password = self._server.users.get(claimed.user, "")
        good = isinstance(claimed, JudgedCredentials) and not claimed.error
        good = good or (isinstance(claimed, PlainCredentials) and claimed.password == password)
        good = good or (isinstance(claimed, CramCredentials) and claimed.is_proof_of(password))
        if self._answer(["login"], "235 2.7.0 welcome" if password and good else "535 5.7.8 no") == "235":
            self._user = claimed.user
            place = "tls " if self._in_tls else ""
            self._server.logins.append(f"{self._number} {place}{claimed.mechanism} {claimed.user}")

    def _mail(self, points: list[str], address: str) -> None:
        if self._server.users and not self._user:
            self._answer(points, "530 5.7.0 AUTH first")
        elif self._answer(points, "250 2.1.0 ok") == "250":
            self._sender, self._recipients = address, []

    def _rcpt(self, points: list[str], address: str) -> None:
        if self._answer(points, "503 5.5.1 MAIL first" if self._sender is None else "250 2.1.5 ok") == "250":
            self._recipients.append(address)

    def _data(self, points: list[str], address: str) -> None:
        if self._answer(points, "354 go on" if self._recipients else "554 5.5.1 no valid recipients") == "354":
            self._body = bytearray()

    def _take_body(self) -> bool:
        """True when the body is whole."""
        body = self._body
        assert body is not None
        if not body:
            self._answer(["body"], "")
        body += self._buffer
        self._buffer = b""
        end = 0 if body.startswith(b".\r\n") else body.find(b"\r\n.\r\n") + 2
        if end < 2 and not body.startswith(b".\r\n"):
            return False
        self._buffer, text = bytes(body[end + 3 :]), bytes(body[:end])
        self._body = None
        if text.startswith(b"."):
            text = text[1:]
        text = text.replace(b"\r\n.", b"\r\n")
        if self._answer(["."], "250 2.0.0 taken") == "250":
            taken = Received(self._number, self._sender or "", tuple(self._recipients), text, self._in_tls, self._user)
            self._server.messages.append(taken)
        self._reset()
        return True

    def _bdat(self, points: list[str], address: str) -> None:
        """RFC 3030 2: no 354, and an answer when the chunk has come."""
        self._chunk = int(self._server.commands[-1].partition("BDAT ")[2].split()[0])
        if not self._chunk:
            self._chunk_is_whole(b"")

    def _take_chunk(self) -> bool:
        """True when the chunk is whole."""
        if len(self._buffer) < self._chunk:
            return False
        data, self._buffer, self._chunk = self._buffer[: self._chunk], self._buffer[self._chunk :], 0
        self._chunk_is_whole(data)
        return True

    def _chunk_is_whole(self, data: bytes) -> None:
        self._chunks += data
        last = self._server.commands[-1].upper().endswith(" LAST")
        accepted = self._answer(["."] if last else ["BDAT"], "250 2.0.0 taken" if self._recipients else "503 5.5.1 no") == "250"
        if last and accepted:
            sender, recipients = self._sender or "", tuple(self._recipients)
            self._server.messages.append(Received(self._number, sender, recipients, self._chunks, self._in_tls, self._user))
        if last or not accepted:
            self._reset()

    def _rset(self, points: list[str], address: str) -> None:
        self._reset()
        self._answer(points, "250 2.0.0 ok")

    def _quit(self, points: list[str], address: str) -> None:
        self._server.quits += 1
        self._answer(points, "221 2.0.0 bye")
        self.transport.loseConnection()

    def _other(self, points: list[str], address: str) -> None:
        self._answer(points, "500 5.5.2 what?")

    def _reset(self) -> None:
        self._sender, self._recipients, self._chunks = None, [], b""


def _with_auth(extensions: tuple[str, ...], mechanisms: tuple[str, ...]) -> tuple[str, ...]:
    return (*extensions, f"AUTH {' '.join(mechanisms)}") if mechanisms else extensions


@implementer(IOpenSSLServerConnectionCreator)
class _Tls:
    """The server's side of TLS, with the chain of an issued certificate."""

    def __init__(self, issued: Issued, prepare: Callable[[SSL.Context], None] | None) -> None:
        leaf, *others = x509.load_pem_x509_certificates(issued.certificate_pem)
        key = load_pem_private_key(issued.key_pem, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
        self._context = SSL.Context(SSL.TLS_SERVER_METHOD)
        self._context.use_certificate(leaf)
        for certificate in others:
            self._context.add_extra_chain_cert(certificate)
        self._context.use_privatekey(key)
        if prepare is not None:
            prepare(self._context)

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Called by `startTLS`."""
        return SSL.Connection(self._context, None)
