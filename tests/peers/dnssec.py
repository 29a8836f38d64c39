"""A signed DNS of our own on loopback: nsd serves the zones, unbound validates them.

Zones are given as text.  "signed" ones get keys and signatures (ldns) and a trust anchor in unbound; "bogus" ones are signed
and then changed, so that unbound answers SERVFAIL; "insecure" ones are served as they are; "silent" ones are delegated to a
port where nobody answers, so that every question times out.  Nothing else in the world is asked.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import dns.message
import dns.query

from tests.peers.peers import PREFIX, Server, require, wait_for
from tests.ports import free_port

NSD = """\
server:
    ip-address: 127.0.0.1@{port}
    do-ip6: no
    username: ""
    chroot: ""
    zonesdir: "{directory}"
    database: ""
    pidfile: "{directory}/nsd.pid"
    xfrdfile: "{directory}/xfrd.state"
    zonelistfile: "{directory}/zone.list"
    logfile: "{directory}/nsd.log"
    server-count: 1
remote-control:
    control-enable: no
"""
UNBOUND = """\
server:
    interface: 127.0.0.1@{port}
    do-ip6: no
    do-daemonize: no
    username: ""
    chroot: ""
    directory: "{directory}"
    pidfile: ""
    use-syslog: no
    logfile: "{directory}/unbound.log"
    do-not-query-localhost: no
    module-config: "validator iterator"
    local-zone: "test." nodefault
    domain-insecure: "."
    infra-cache-max-rtt: 1000
    num-threads: 1
    val-log-level: 2
    log-queries: yes
remote-control:
    control-enable: no
"""
SOA = "$TTL 60\n@ IN SOA ns hostmaster 1 3600 600 86400 60\n@ IN NS ns\nns IN A 127.0.0.1\n"
KINDS = ("signed", "bogus", "insecure", "silent")


class Dns:
    """Both servers; `port` is unbound's, for [dns] servers."""

    def __init__(self, directory: Path, zones: Mapping[str, tuple[str, str]]) -> None:
        """zones: name without final dot -> (kind, records besides SOA and NS)."""
        require("nsd", "unbound", "ldns-signzone")
        self._directory = directory
        self._authority, self.port = free_port(), free_port()
        nsd, unbound = (
            [NSD.format(port=self._authority, directory=directory)],
            [UNBOUND.format(port=self.port, directory=directory)],
        )
        for name, (kind, records) in zones.items():
            server = free_port() if kind == "silent" else self._authority
            if kind in ("signed", "bogus"):
                file, anchor = self._signed(name, records, bogus=kind == "bogus")
                unbound.insert(1, f'server:\n    trust-anchor-file: "{anchor}"\n')
            else:
                file = self._plain(name, records)
            if kind != "silent":
                nsd.append(f'zone:\n    name: "{name}"\n    zonefile: "{file.name}"\n')
            unbound.append(f'stub-zone:\n    name: "{name}"\n    stub-addr: 127.0.0.1@{server}\n')
        (directory / "nsd.conf").write_text("".join(nsd))
        (directory / "unbound.conf").write_text("".join(unbound))
        self._servers: list[Server] = []
        try:
            self._servers.append(self._start("nsd", self._authority))
            self._servers.append(self._start("unbound", self.port))
        except BaseException:
            self.stop()
            raise

    def _start(self, name: str, port: int) -> Server:
        (folder := self._directory / name).mkdir()
        command = [str(PREFIX / name / "usr/sbin" / name), "-d", "-c", str(self._directory / f"{name}.conf")]
        server = Server(command, folder, port)
        wait_for(lambda: self._answers(port), f"{name} to answer")
        return server

    def _answers(self, port: int) -> bool:
        try:
            dns.query.udp(dns.message.make_query("nothing.test", "A"), "127.0.0.1", timeout=0.5, port=port)
        except (OSError, dns.exception.Timeout):
            return False
        return True

    def _plain(self, name: str, records: str) -> Path:
        file = self._directory / f"{name}.zone"
        file.write_text(f"$ORIGIN {name}.\n{SOA}{records}\n")
        return file

    def _signed(self, name: str, records: str, *, bogus: bool) -> tuple[Path, Path]:
        """The signed zone's file, and its key as an anchor."""
        file = self._plain(name, records)
        made = subprocess.run(
            ["ldns-keygen", "-a", "ECDSAP256SHA256", "-k", name], cwd=self._directory, check=True, capture_output=True, text=True
        )
        key = made.stdout.strip()
        subprocess.run(["ldns-signzone", "-n", file.name, key], cwd=self._directory, check=True, capture_output=True)
        signed = self._directory / f"{file.name}.signed"
        if bogus:  # every signature is another's: its last characters are changed
            signed.write_text(re.sub(r"(RRSIG\s.*?)(\S{4})(==)?$", r"\1AAAA\3", signed.read_text(), flags=re.M))
        return signed, self._directory / f"{key}.key"

    def asked(self) -> list[tuple[str, str]]:
        """The questions that unbound was asked so far: (name without its final dot, type)."""
        log = (self._directory / "unbound.log").read_text()
        return re.findall(r" info: 127\.0\.0\.1 (\S+)\. (\w+) IN$", log, re.MULTILINE)

    def stop(self) -> None:
        """End both.  May be called twice."""
        for server in self._servers:
            server.stop()
