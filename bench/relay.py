"""mta and Postfix side by side, in clear text: smtp-source, one of them, smtp-sink.

    python -m bench.relay [--messages 5000] [--rounds 5] [--sessions 20] [--size 4096] [--reconnect] [--directory D]

As root, after `make peers`; how it is measured is said in `bench.contest`.  Each session sends its share of the mail over
one connection (smtp-source -d), unless --reconnect.  Both are durable (fsync before 250, queues in the same directory), log
every delivery to a file, speak no TLS here and may open 20 connections to the next hop.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.contest import DELIVERED, SENT, TUNED, Contestant, arguments, contest, folders, show
from tests.peers.peers import smtp_sink, start_postfix
from tests.peers.server import MtaProcess, relay_to


@contextmanager
def contestants(directory: Path) -> Iterator[tuple[Contestant, Contestant]]:
    """Both servers and the next hop, running; all gone at the end."""
    with folders(directory) as (stack, folder):
        sink = smtp_sink(folder("sink"))
        stack.callback(sink.stop)
        postfix = start_postfix(folder("postfix"), relay_to=sink.port, processes=200, extra=TUNED)
        stack.callback(postfix.stop)
        mta = MtaProcess(folder("mta"), relay_to(sink.port, tls="none"))
        stack.callback(mta.kill9)
        mta.start()
        yield (
            Contestant("mta", mta.port, mta.pid, mta.directory / "events.log", DELIVERED),
            Contestant("Postfix", postfix.port, postfix.pid, postfix.directory / "maillog", SENT),
        )


def main(given: list[str]) -> int:
    """Run the benchmark; exit status 0 when all mail arrived."""
    show(contest(contestants, arguments("bench.relay", __doc__, given)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
