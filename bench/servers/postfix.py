"""Postfix, tuned as its TUNING_README says: no in_flow_delay, no client limits, processes for every session, no chroot.

Accept only: every message goes to the hold queue, which is the least it can do (qmgr never looks at it).
"""

from __future__ import annotations

import re
import subprocess

from bench.servers.place import PROCESSES, Place, Running, peer, said
from tests.peers.peers import ENVIRONMENT, POSTFIX, start_postfix

__all__ = ["TUNED", "start"]

TUNED = {
    "default_process_limit": "200",
    "in_flow_delay": "0",
    "smtpd_client_connection_count_limit": "0",
    "smtpd_client_connection_rate_limit": "0",
    "smtpd_client_message_rate_limit": "0",
    "default_destination_concurrency_limit": "20",
    "initial_destination_concurrency": "20",
    "qmgr_message_active_limit": "20000",
    "qmgr_message_recipient_limit": "20000",
    "delay_logging_resolution_limit": "3",
}
SENT = re.compile(rb" to=<\S*user\S*>, .*relay=\S+\[127\.\S* .*?delay=([0-9.]+),.* status=sent")  # to the next hop, no bounce
HOLD = {"smtpd_client_restrictions": "check_client_access static:HOLD"}
TLS = {"smtp_tls_security_level": "encrypt", "smtp_tls_session_cache_database": "btree:${data_directory}/smtp_scache"}
KEPT = {"smtp_tls_connection_reuse": "yes", "smtp_connection_cache_destinations": "127.0.0.1"}
MX = {
    "relayhost": "",
    "default_transport": "smtp",
    "virtual_mailbox_domains": "",
    "smtp_dns_support_level": "enabled",
    "smtp_host_lookup": "dns",
}


def start(name: str, place: Place, *, keeps: bool = False) -> Running:
    """keeps: connections to the next hop, with TLS too; else it makes a new one for each message where there is TLS."""
    rig = place.rig
    here = {
        **(HOLD if rig.duty == "accept" else {}),
        **(TLS if rig.tls else {}),
        **(KEPT if keeps else {}),
        **(MX if rig.by_mx else {}),
    }
    hop = None if rig.by_mx else place.hop
    server = start_postfix(
        place.folder, tls=place.pair if rig.tls else None, relay_to=hop, processes=PROCESSES, extra={**TUNED, **here}
    )
    always = said({"smtpd processes": str(PROCESSES), **TUNED})
    return peer(server, name, server.directory / "maillog", SENT, version(), always, said(here))


def version() -> str:
    """Postfix 3.7.11, as it says itself."""
    command = [str(POSTFIX / "usr/sbin/postconf"), "-c", str(POSTFIX / "usr/share/postfix"), "-dh", "mail_version"]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=60).stdout.strip()
