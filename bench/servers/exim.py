"""Exim, set up as its manual says for much mail: a split spool, many connections and deliveries at once, no name lookups.

It delivers each message at once by a process of its own (queue_only is off); accept only: queue_only.  fsync is its default.
"""

from __future__ import annotations

import os
import pwd
import re
import subprocess
from pathlib import Path

from bench.servers.place import PROCESSES, Place, Running, peer
from tests.peers.peers import EXIM, HERE, Server, require
from tests.ports import free_port

__all__ = ["start"]

DELIVERED = re.compile(rb" [=-]> \S*user\S* .* QT=(\S+)")
TUNED = f"""\
split_spool_directory
deliver_drop_privilege
queue_run_max = 20
remote_max_parallel = 20
smtp_accept_max = {PROCESSES}
smtp_accept_queue = 0
smtp_accept_queue_per_connection = 0
smtp_accept_max_per_connection = 0
smtp_connect_backlog = 1000
smtp_load_reserve = 1000
deliver_queue_load_max = 1000
queue_only_load = 1000
recipients_max = 1000
rfc1413_query_timeout = 0s
host_lookup =
recipient_unqualified_hosts =
message_size_limit = 100M
log_selector = +millisec +queue_time +deliver_time
"""
CONFIGURATION = """\
primary_hostname = peer.test
daemon_smtp_ports = {port}
local_interfaces = 127.0.0.1
smtp_reserve_hosts = 127.0.0.1
never_users =
keep_environment =
add_environment = PATH=/usr/bin:/usr/sbin
log_file_path = {directory}/log/%slog
spool_directory = {directory}/spool
qualify_domain = peer.test
acl_smtp_rcpt = accept
acl_smtp_data = accept
{main}
begin routers
next_hop:
{router}
begin transports
smtp:
  driver = smtp
{transport}
begin retry
* * F,1h,5m
"""
TO_HOP = "  driver = manualroute\n  transport = smtp\n  route_list = * 127.0.0.1\n  self = send"
BY_MX = "  driver = dnslookup\n  transport = smtp\n  self = send"


def start(name: str, place: Place) -> Running:
    """As `place` wants it."""
    require("exim")
    rig, port = place.rig, free_port()
    main = "queue_only\n" if rig.duty == "accept" else ""
    transport = "" if rig.by_mx else f"  port = {place.hop}\n"
    if rig.tls:
        main += f"tls_advertise_hosts = *\ntls_certificate = {place.pair[0]}\ntls_privatekey = {place.pair[1]}\n"
        transport += "  hosts_require_tls = *\n  tls_verify_certificates =\n"
    else:
        main += "tls_advertise_hosts =\n"
        transport += "  hosts_avoid_tls = *\n"
    text = CONFIGURATION.format(
        directory=place.folder, port=port, main=TUNED + main, router=BY_MX if rig.by_mx else TO_HOP, transport=transport
    )
    _write(place.folder, text)
    server = Server(["bash", str(HERE / "exim.sh"), str(place.folder)], place.folder, port)
    here = f"{main}{transport}".replace(str(place.folder), "DIR").replace(str(place.hop), "PORT")
    return peer(server, name, place.folder / "log/mainlog", DELIVERED, version(), *map(_line, (TUNED, here)))


def _write(folder: Path, text: str) -> None:
    folder.chmod(0o755)
    (etc := folder / "etc/exim4").mkdir(parents=True)
    (etc / "exim4.conf").write_text(text)
    (etc / "exim4.conf").chmod(0o644)
    owner = pwd.getpwnam("Debian-exim")
    for name in ("log", "spool"):
        (folder / name).mkdir()
    (folder / "log/mainlog").touch()
    for name in ("log", "spool", "log/mainlog", "cert.pem", "key.pem"):
        os.chown(folder / name, owner.pw_uid, owner.pw_gid)


def _line(settings: str) -> str:
    return "; ".join(line.strip() for line in settings.splitlines())


def version() -> str:
    """4.96, as it says itself."""
    command = [str(EXIM / "usr/sbin/exim4"), "-C", "/dev/null", "-bV"]
    found = re.search(r"version (\S+)", subprocess.run(command, capture_output=True, text=True, timeout=60).stdout)
    return found[1] if found else "unknown"
