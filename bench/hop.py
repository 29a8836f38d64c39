"""The next hop of a rig: smtp-sink where it will do, else mta.testing.sink; and the DNS where mail goes by MX.

Destination N is the domain dN.far.test, its MX host has the address 127.1.x.y of its own, and the hop listens on all of them, on
port 25.  Unbound answers for these names out of its configuration.
"""

from __future__ import annotations

import json
import smtplib
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs

from bench.scenario import Rig
from mta.testing.pki import Issued
from tests.peers.peers import PREFIX, Server, require, smtp_sink
from tests.ports import free_port

__all__ = ["Hop", "address", "running"]

UNBOUND = """\
server:
    interface: 127.0.0.1@53
    do-ip6: no
    do-daemonize: no
    username: ""
    chroot: ""
    directory: "{directory}"
    pidfile: ""
    use-syslog: no
    do-not-query-localhost: no
    module-config: "iterator"
    num-threads: 1
    access-control: 127.0.0.0/8 allow
    local-zone: "test." static
    include: "{directory}/names"
remote-control:
    control-enable: no
"""


@attrs.frozen
class Hop:
    """port: on 127.0.0.1, or on every address when mail goes by MX.  own: it is mta.testing.sink, and counts."""

    port: int
    own: bool

    def counts(self) -> dict[str, Any]:
        """Since the last `begin`; empty of one that does not count."""
        return json.loads(self._ask("XSTATS")) if self.own else {}

    def begin(self) -> None:
        """Count anew."""
        if self.own:
            self._ask("XRESET")

    def _ask(self, command: str) -> bytes:
        with smtplib.SMTP("127.0.0.1", self.port, timeout=60) as client:
            return client.docmd(command)[1]


def address(destination: int) -> str:
    """Of its MX host: 127.1.0.1 is the first."""
    return f"127.1.{destination // 250}.{destination % 250 + 1}"


@contextmanager
def running(rig: Rig, destinations: int, directory: Path, issued: Issued) -> Iterator[Hop]:
    """Up for that many destinations, and gone at the end."""
    with ExitStack() as stack:
        port = 25 if rig.by_mx else free_port()
        if rig.by_mx:
            stack.callback(_dns(directory, destinations).stop)
        stack.callback(_sink(rig, port, directory, issued).stop)
        yield Hop(port, rig.own)


def _sink(rig: Rig, port: int, directory: Path, issued: Issued) -> Server:
    (folder := directory / "sink").mkdir()
    every = "0.0.0.0" if rig.by_mx else "127.0.0.1"
    if not rig.own:
        return smtp_sink(folder, "-m", "5000", port=port, address=every)
    command = [sys.executable, "-m", "mta.testing.sink", "--address", every, "--port", str(port)]
    command += ["--soft", str(rig.faults.soft), "--hard", str(rig.faults.hard)]
    command += [word for host in sorted(rig.faults.hang) for word in ("--hang", host)]
    if rig.tls:
        certificate, key = issued.write(folder)
        command += ["--certificate", str(certificate), "--key", str(key)]
    return Server(["env", f"PYTHONPATH={Path(__file__).parent.parent}", *command], folder, port)


def _dns(directory: Path, destinations: int) -> Server:
    require("unbound")
    (folder := directory / "dns").mkdir()
    lines = ['local-data: "far.test. 300 IN MX 10 mx.far.test."', 'local-data: "mx.far.test. 300 IN A 127.2.0.1"']
    for number in range(destinations):
        name = f"d{number}.far.test."
        lines.append(f'local-data: "{name} 300 IN MX 10 mx.{name}"')
        lines.append(f'local-data: "mx.{name} 300 IN A {address(number)}"')
    (folder / "names").write_text("\n".join(lines) + "\n")
    (folder / "unbound.conf").write_text(UNBOUND.format(directory=folder))
    return Server([str(PREFIX / "unbound/usr/sbin/unbound"), "-d", "-c", str(folder / "unbound.conf")], folder, 53)
