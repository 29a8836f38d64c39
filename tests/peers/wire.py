"""What each connection has seen on its way, in the peers' own words: how often EHLO, STARTTLS, AUTH, MAIL.

Postfix sums every connection up when it ends, Exim notes commands in its log (configurations.py), Sendmail writes the whole
dialogue down.  Connections on which nothing was said, like that of who only looks whether the port answers, are left out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from tests.peers.peers import Server

__all__ = ["exim_wire", "postfix_wire", "sendmail_wire"]

_POSTFIX = re.compile(r" disconnect from \S+ (.*)")
_EXIM = re.compile(r" noted (\w+) (\d+)$", re.MULTILINE)
_SENDMAIL = re.compile(r"^(\d+) <<< (EHLO|HELO|STARTTLS|AUTH|MAIL|RCPT|DATA|RSET|QUIT)\b", re.MULTILINE)


def postfix_wire(server: Server) -> list[Counter[str]]:
    """Of the connections that have ended."""
    text = (server.directory / "maillog").read_text()
    seen = []
    for summary in _POSTFIX.findall(text):
        counts = dict(pair.split("=") for pair in summary.split())
        if "ehlo" in counts:
            seen.append(Counter({word: int(count.split("/")[-1]) for word, count in counts.items()}))
    return seen


def exim_wire(server: Server) -> list[Counter[str]]:
    """Of all connections, by the client's port."""
    text = (server.directory / "log/mainlog").read_text(errors="replace")
    return _by_connection((port, "ehlo" if word == "helo" else word) for word, port in _EXIM.findall(text) if word != "connect")


def sendmail_wire(server: Server) -> list[Counter[str]]:
    """Of all connections, by the process that had them."""
    text = (server.directory / "wire").read_text(errors="replace")
    return _by_connection((process, word.lower()) for process, word in _SENDMAIL.findall(text))


def _by_connection(words: Iterable[tuple[str, str]]) -> list[Counter[str]]:
    connections: dict[str, Counter[str]] = {}
    for connection, word in words:
        connections.setdefault(connection, Counter())[word] += 1
    return [seen for seen in connections.values() if "ehlo" in seen]
