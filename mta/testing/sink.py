"""A next hop that takes mail and throws it away: with TLS, with faults, and with the delay of every message.

    python -m mta.testing.sink --port 2525 [--address 0.0.0.0] [--certificate F --key F] [--soft 5 --hard 5] [--hang 127.1.0.0]

It speaks what a sender-SMTP needs (RFC 5321, 2920, 3207) and stores nothing: what comes is counted.  Faults are the same in every
run: of the recipients whose local part ends in a number, those below `soft` of each hundred are put off (451), as many as
`hard` above them refused (550); who connects to an address of `hang` is accepted and never hears a word.
A message with the header X-Sent (seconds of CLOCK_MONOTONIC, from mta.testing.load on this machine) is timed from there to
the end of its data.  XSTATS answers 250 with all counts as JSON, XRESET begins anew.  What is not understood is answered 500.
For peers that lie by a script there is `mta.testing.peers`; this one is for much mail.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
from OpenSSL import SSL
from twisted.internet.interfaces import IAddress, IHandshakeListener, IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from mta.testing.delays import Delays

__all__ = ["Faults", "Sink", "Tls"]

_END: Final = b"\r\n.\r\n"
_HEAD: Final = 16_384  # octets of a message in which X-Sent is looked for
_SENT: Final = re.compile(rb"(?i)\r\nX-Sent: ([0-9.]+)\r\n")
_NUMBER: Final = re.compile(rb"(\d+)@")
_EXTENSIONS: Final = (b"sink.test", b"PIPELINING", b"SIZE 1000000000", b"8BITMIME", b"SMTPUTF8", b"ENHANCEDSTATUSCODES")
_LONGEST: Final = 4096  # octets of a command line


@attrs.frozen(slots=True)
class Faults:
    """soft, hard: of a hundred recipients.  hang: our addresses at which nobody answers."""

    soft: int = 0
    hard: int = 0
    hang: frozenset[str] = frozenset()

    def reply(self, number: int) -> bytes:
        """To RCPT of that recipient."""
        place = number % 100
        if place < self.soft:
            return b"451 4.3.2 later\r\n"
        if place < self.soft + self.hard:
            return b"550 5.1.1 nobody here\r\n"
        return b"250 2.1.5 ok\r\n"

    def takes(self, number: int) -> bool:
        """Is that recipient accepted?"""
        return number % 100 >= self.soft + self.hard


class Sink(ServerFactory):
    """The factory, and what has come over all its connections.  clock: seconds, the same as the sender's."""

    noisy = False

    def __init__(self, tls: Tls | None = None, faults: Faults | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.tls = tls
        self.faults = faults or Faults()
        self.clock = clock
        offered = (*_EXTENSIONS, b"STARTTLS") if tls else _EXTENSIONS
        self.hello, self.hello_in_tls = _reply(offered), _reply(_EXTENSIONS)
        self.begin()

    def begin(self) -> None:
        """Count from nothing."""
        self.connections = self.handshakes = self.messages = self.recipients = self.octets = 0
        self.delays = Delays()

    def buildProtocol(self, addr: IAddress | None) -> _Peer:
        """Called for each connection."""
        self.connections += 1
        return _Peer(self)

    def counts(self) -> dict[str, Any]:
        """What XSTATS tells: counts, and the delays' percentiles in seconds."""
        names = ("connections", "handshakes", "messages", "recipients", "octets")
        return {**{name: getattr(self, name) for name in names}, "delays": self.delays.summary()}


@implementer(IHandshakeListener)
class _Peer(Protocol):
    """One connection."""

    transport: Any

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._data = b""
        self._recipients = 0
        self._in_body = self._in_tls = self._hangs = self._leaves = False
        self._head = b""

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self._hangs = self.transport.getHost().host in self._sink.faults.hang
        if not self._hangs:
            self.transport.write(b"220 sink.test ESMTP\r\n")

    def handshakeCompleted(self) -> None:
        """TLS is up."""
        self._sink.handshakes += 1

    def dataReceived(self, data: bytes) -> None:
        if self._hangs:
            return
        self._data += data
        replies: list[bytes] = []
        while self._take_body(replies) if self._in_body else self._take_command(replies):
            pass
        if replies:
            self.transport.write(b"".join(replies))
        if self._leaves:
            self.transport.loseConnection()

    def _take_command(self, replies: list[bytes]) -> bool:
        """True when there may be more to do."""
        line, crlf, rest = self._data.partition(b"\r\n")
        if not crlf:
            if len(line) > _LONGEST:
                self.transport.abortConnection()
            return False
        self._data = rest
        verb = line.partition(b" ")[0].upper()
        if verb == b"STARTTLS" and self._sink.tls and not self._in_tls:
            self._start_tls()
            return False
        if verb == b"DATA" and self._recipients:
            self._in_body, self._data, self._head = True, b"\r\n" + rest, b""  # a body may be the dot alone
            replies.append(b"354 go on\r\n")
        else:
            replies.append(self._reply(verb, line))
        self._leaves = verb == b"QUIT"
        return not self._leaves

    def _reply(self, verb: bytes, line: bytes) -> bytes:
        match verb:
            case b"RCPT":
                return self._rcpt(line)
            case b"MAIL" | b"RSET":
                self._recipients = 0
                return b"250 2.0.0 ok\r\n"
            case b"EHLO" | b"HELO":
                return self._sink.hello_in_tls if self._in_tls else self._sink.hello
            case b"DATA":
                return b"554 5.5.1 no valid recipients\r\n"
            case b"NOOP":
                return b"250 2.0.0 ok\r\n"
            case b"QUIT":
                return b"221 2.0.0 bye\r\n"
            case b"XSTATS":
                return b"250 %s\r\n" % json.dumps(self._sink.counts()).encode()
            case b"XRESET":
                self._sink.begin()
                return b"250 2.0.0 ok\r\n"
        return b"500 5.5.2 what?\r\n"

    def _rcpt(self, line: bytes) -> bytes:
        faults = self._sink.faults
        number = _NUMBER.search(line) if faults.soft or faults.hard else None
        reply = faults.reply(int(number[1])) if number else b"250 2.1.5 ok\r\n"
        self._recipients += reply.startswith(b"250")
        return reply

    def _take_body(self, replies: list[bytes]) -> bool:
        """The last four octets stay until the next come: the end may lie across."""
        data, sink = self._data, self._sink
        end = data.find(_END)
        body = data[: len(data) - 4 if end < 0 else end] if len(data) > 4 or end >= 0 else b""
        sink.octets += len(body)  # the CRLF in front of a body stands for the one before its dot
        if len(self._head) < _HEAD:
            self._head += body[:_HEAD]
        if end < 0:
            self._data = data[len(body) :]
            return False
        self._data, self._in_body = data[end + len(_END) :], False
        sink.messages += 1
        sink.recipients += self._recipients
        if sent := _SENT.search(self._head + b"\r\n"):
            sink.delays.add(sink.clock() - float(sent[1]))
        replies.append(b"250 2.0.0 taken\r\n")
        return True

    def _start_tls(self) -> None:
        self._data, self._in_tls, self._recipients = b"", True, 0  # what came with STARTTLS in clear is nothing
        self.transport.write(b"220 2.0.0 go\r\n")
        self.transport.startTLS(self._sink.tls)


@implementer(IOpenSSLServerConnectionCreator)
class Tls:
    """The server's side of TLS, from PEM files; sessions may be resumed by tickets, as OpenSSL does unasked."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._context = SSL.Context(SSL.TLS_SERVER_METHOD)
        self._context.use_certificate_chain_file(str(certificate))
        self._context.use_privatekey_file(str(key))

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Called by `startTLS`."""
        return SSL.Connection(self._context, None)


def _reply(lines: Sequence[bytes]) -> bytes:
    """250 in as many lines."""
    return b"".join(b"250-%s\r\n" % line for line in lines[:-1]) + b"250 %s\r\n" % lines[-1]


def main(arguments: list[str]) -> None:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser(
        "mta.testing.sink", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--certificate", type=Path, help="PEM file, leaf first: STARTTLS is offered")
    parser.add_argument("--key", type=Path, help="PEM file")
    parser.add_argument("--soft", type=int, default=0, help="of a hundred recipients, put off with 451")
    parser.add_argument("--hard", type=int, default=0, help="of a hundred recipients, refused with 550")
    parser.add_argument("--hang", action="append", default=[], help="own address at which nobody answers; may be repeated")
    options = parser.parse_args(arguments)
    from twisted.internet import reactor

    tls = Tls(options.certificate, options.key) if options.certificate else None
    sink = Sink(tls, Faults(options.soft, options.hard, frozenset(options.hang)))
    reactor.listenTCP(options.port, sink, backlog=1000, interface=options.address)
    reactor.run()


if __name__ == "__main__":
    main(sys.argv[1:])
