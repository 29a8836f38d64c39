"""What one large message costs: the peak of our server's memory while it receives, stores and relays it.

    python -m bench.large [--megabytes 50]

Needs `make peers` (smtp-sink is the next hop).  A small message goes first, so that nothing is loaded for the large one.
"""

from __future__ import annotations

import argparse
import smtplib
import sys
import tempfile
import time
from pathlib import Path

from bench.processes import forget_peak, memory
from tests.peers.peers import smtp_sink
from tests.peers.server import MtaProcess, relay_to

LINE = b"x" * 76 + b"\r\n"
HEAD = b"From: <from@a.test>\r\nSubject: large\r\n\r\n"


def send(port: int, size: int) -> float:
    """One message of that many bytes; gives the seconds until its 250."""
    with smtplib.SMTP("127.0.0.1", port, local_hostname="large.test", timeout=600) as client:
        began = time.monotonic()
        client.sendmail("from@a.test", ["user@sink.test"], HEAD + LINE * (size // len(LINE)))
        return time.monotonic() - began


def main(arguments: list[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser("bench.large", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=50)
    options = parser.parse_args(arguments)
    size = options.megabytes << 20
    with tempfile.TemporaryDirectory(prefix="mta-bench-", dir="/var/tmp", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        for part in ("sink", "mta"):
            Path(name, part).mkdir()
        sink = smtp_sink(Path(name, "sink"))
        mta = MtaProcess(Path(name, "mta"), f"[limits]\nmessage_size = {size + (1 << 20)}\n\n{relay_to(sink.port)}")
        try:
            mta.start()
            send(mta.port, 1 << 18)
            mta.wait_for_event("delivered", 1)
            forget_peak(mta.pid)
            before, began = memory(mta.pid, "VmHWM"), time.monotonic()
            accepted = send(mta.port, size)
            mta.wait_for_event("delivered", 2, timeout=600)
            relayed, peak = time.monotonic() - began, memory(mta.pid, "VmHWM")
        finally:
            mta.kill9()
            sink.stop()
    print(f"{before / 1024:.1f} MiB before, peak {peak / 1024:.1f} MiB while a message of {options.megabytes} MiB passed")
    print(f"{(peak - before) / 1024:.1f} MiB more")
    print(f"accepted after {accepted:.2f} s, relayed after {relayed:.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
