"""Our server: the defaults of its manual, but for what a scenario is about."""

from __future__ import annotations

import re
from pathlib import Path

from bench.contest import Contestant
from bench.report import commit
from bench.servers.place import Place, Running
from mta.config.loader import load
from mta.config.mistake import ConfigError
from tests.peers.server import TWISTD, MtaProcess, relay_to

__all__ = ["TWISTD", "WORKERS", "can_have_workers", "start"]

DELIVERED = re.compile(rb" event=delivered .*? to=\S*user\S* .*? delay=([0-9.]+)")
WORKERS = "[service]\nworkers = 2\n"
SPOOL = '[queue]\nmode = "spool"\n'
NEW = '[handover]\nhosts_nopass_tls = ["*"]\n'  # a TLS session for each message
MX = """\
[dns]
servers = ["127.0.0.1:53"]
dnssec_probe = ""
dnssec_bogus_probe = ""

[tls_client]
level = "none"
mta_sts = false

[tlsrpt]
enabled = false
"""


def start(name: str, place: Place, *, workers: bool = False, keeps: bool = True, program: str = TWISTD) -> Running:
    """keeps: TLS sessions to the next hop, for further messages.  program: that runs twistd."""
    rig = place.rig
    lines = [
        WORKERS if workers else "",
        SPOOL if rig.duty == "accept" else "",
        "" if keeps else NEW,
        MX if rig.by_mx else relay_to(place.hop, tls="encrypt" if rig.tls else "none"),
    ]
    more = "\n".join(line for line in lines if line)
    mta = MtaProcess(place.folder, more, place.pair if rig.tls else None, program=program)
    mta.start()
    contestant = Contestant(name, mta.port, mta.pid, mta.directory / "events.log", DELIVERED)
    here = "; ".join(line for line in more.replace(str(place.hop), "PORT").splitlines() if line)
    return Running(contestant, mta.kill9, commit(), "none: the defaults", here)


def can_have_workers(folder: Path) -> bool:
    """Does this version have [service] workers?"""
    server = MtaProcess(folder, WORKERS)
    try:
        load(server.configure())
    except ConfigError:
        return False
    return True
