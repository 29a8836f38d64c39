"""OpenSMTPD: no limits on a client's mails.  Accept only: its relay is paused (`smtpctl pause mta`).

Debian's build fails every TLS handshake (its issue 1171), so it takes no part where there is TLS.
"""

from __future__ import annotations

import re
import subprocess

from bench.servers.place import Place, Running, peer
from tests.peers.peers import HERE, PREFIX, Server, require
from tests.ports import free_port

__all__ = ["start"]

DELIVERED = re.compile(rb" mta delivery .* to=<\S*user\S* .* delay=(\S+) result=\"Ok\"")
TUNED = """\
queue ttl 1h
smtp limit max-mails 1000000
smtp limit max-rcpt 1000
smtp max-message-size "100M"
mta max-deferred 20000
"""


def start(name: str, place: Place) -> Running:
    """As `place` wants it."""
    require("opensmtpd")
    port = free_port()
    place.folder.chmod(0o755)
    (etc := place.folder / "etc").mkdir()
    relay = "relay" if place.rig.by_mx else f'relay host "smtp://127.0.0.1:{place.hop}"'
    text = (
        f'{TUNED}listen on 127.0.0.1 port {port} hostname peer.test\naction "out" {relay}\nmatch from any for any action "out"\n'
    )
    (etc / "smtpd.conf").write_text(text)
    (etc / "smtpd.conf").chmod(0o600)
    server = Server(["bash", str(HERE / "opensmtpd.sh"), str(place.folder)], place.folder, port)
    accepts = place.rig.duty == "accept"
    if accepts:
        server.run("smtpctl", "pause", "mta")
    return peer(
        server, name, server.output, DELIVERED, version(), "; ".join(TUNED.splitlines()), "smtpctl pause mta" if accepts else ""
    )


def version() -> str:
    """6.8.0p2, as it says itself."""
    shown = subprocess.run([str(PREFIX / "opensmtpd/usr/sbin/smtpd"), "-h"], capture_output=True, text=True, timeout=60)
    found = re.search(r"version: \S+ (\S+)", shown.stdout + shown.stderr)
    return found[1] if found else "unknown"
