"""What idle connections cost: memory of our server with N of them, over none.

    python -m bench.idle [--connections 1000] [--tls]

Each connection has read the greeting and the answer to EHLO (with --tls: after STARTTLS), then says nothing.
"""

from __future__ import annotations

import argparse
import resource
import smtplib
import ssl
import sys
import tempfile
import time
from pathlib import Path

from bench.processes import memory
from mta.testing.pki import Authority
from tests.peers.server import MtaProcess

LIMITS = '[access]\nrelay_from = ["127.0.0.0/8"]\n\n[[route]]\nmatch = "local"\ndeliver = "maildir:mail"\n'


def connect(port: int, tls: bool) -> smtplib.SMTP:
    """One connection, past its EHLO."""
    client = smtplib.SMTP("127.0.0.1", port, local_hostname="idle.test", timeout=60)
    if tls:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        client.starttls(context=context)
    client.ehlo()
    return client


def settled(pid: int) -> int:
    """Resident memory in KiB, once it has stopped changing."""
    before = -1
    while before != (now := memory(pid, "VmRSS")):
        before = now
        time.sleep(0.5)
    return now


def main(arguments: list[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser("bench.idle", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--tls", action="store_true", help="after STARTTLS")
    options = parser.parse_args(arguments)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(options.connections + 200, hard), hard))
    with tempfile.TemporaryDirectory(prefix="mta-bench-") as name:
        pair = Authority.create().issue("localhost").write(Path(name)) if options.tls else None
        (directory := Path(name, "mta")).mkdir()
        mta = MtaProcess(directory, LIMITS, pair)
        mta.start()
        try:
            connect(mta.port, options.tls).quit()  # what the first connection loads is not a cost of the others
            before = settled(mta.pid)
            clients = [connect(mta.port, options.tls) for _ in range(options.connections)]
            after = settled(mta.pid)
            for client in clients:
                client.close()
        finally:
            mta.kill9()
    print(f"{before / 1024:.1f} MiB with none, {after / 1024:.1f} MiB with {options.connections}")
    print(f"{(after - before) / 1024:.1f} MiB more: {(after - before) / options.connections:.1f} KiB for each connection")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
