"""Relaying over TLS, with connections that are handed over and without: mta twice, Postfix twice, one next hop.

    python -m bench.tls [--messages 5000] [--rounds 5] [--sessions 20] [--size 4096] [--reconnect] [--directory D]

As root, after `make peers`; how it is measured is said in `bench.contest`.  smtp-source speaks in clear text to each server,
which relays at level "encrypt".  mta KEEP is our default; mta QUIT has hosts_nopass_tls = ["*"]; Postfix reuse has
smtp_tls_connection_reuse = yes (tlsproxy holds the sessions) and keeps connections for the next hop all the time; Postfix
makes a new connection for each message.  Both Postfix may resume TLS sessions.  The next hop, the same for all, is Postfix's
smtpd with TLS in front of smtp-sink: it stores nothing.  Handshakes are counted in its log, resumed ones too.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.contest import DELIVERED, SENT, TUNED, Contestant, arguments, contest, folders, show
from mta.testing.pki import Authority
from tests.peers.peers import Server, smtp_sink, start_postfix
from tests.peers.server import MtaProcess, relay_to

HANDSHAKE = b" TLS connection established from "
QUIT = '\n[handover]\nhosts_nopass_tls = ["*"]\n'
ENCRYPT = {
    **TUNED,
    "smtp_tls_security_level": "encrypt",
    "smtp_tls_session_cache_database": "btree:${data_directory}/smtp_scache",
}
REUSE = {"smtp_tls_connection_reuse": "yes", "smtp_connection_cache_destinations": "127.0.0.1"}


def next_hop(directory: Path, sink: Server) -> Server:
    """smtpd hands each command on to the sink as it comes (smtpd_proxy_filter): no queue, no disk."""
    pair = Authority.create().issue("localhost", "127.0.0.1").write(directory)
    proxy = {
        "smtpd_proxy_filter": f"127.0.0.1:{sink.port}",
        "smtpd_recipient_restrictions": "permit_mynetworks, reject",
        "virtual_mailbox_domains": "",
        "default_transport": "discard:",
    }
    return start_postfix(directory, tls=pair, processes=200, extra={**TUNED, **proxy})


@contextmanager
def contestants(directory: Path) -> Iterator[Sequence[Contestant]]:
    """All four and the next hop, running; all gone at the end."""
    with folders(directory) as (stack, folder):
        sink = smtp_sink(folder("sink"))
        stack.callback(sink.stop)
        hop = next_hop(folder("hop"), sink)
        stack.callback(hop.stop)
        found = []
        for name, more in (("mta KEEP", ""), ("mta QUIT", QUIT)):
            mta = MtaProcess(folder(name.replace(" ", "-")), relay_to(hop.port, tls="encrypt") + more)
            stack.callback(mta.kill9)
            mta.start()
            found.append(Contestant(name, mta.port, mta.pid, mta.directory / "events.log", DELIVERED))
        for name, extra in (("Postfix reuse", REUSE), ("Postfix", {"smtp_connection_cache_on_demand": "no"})):
            postfix = start_postfix(folder(name.replace(" ", "-")), relay_to=hop.port, processes=200, extra={**ENCRYPT, **extra})
            stack.callback(postfix.stop)
            found.append(Contestant(name, postfix.port, postfix.pid, postfix.directory / "maillog", SENT))
        yield found


def handshakes(directory: Path) -> int:
    """Those that the next hop has logged."""
    return (directory / "hop" / "maillog").read_bytes().count(HANDSHAKE)


def main(given: list[str]) -> int:
    """Run the benchmark; exit status 0 when all mail arrived."""
    show(contest(contestants, arguments("bench.tls", __doc__, given), handshakes))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
