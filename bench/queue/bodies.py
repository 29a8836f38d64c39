"""B9: many large messages on their way at once to a next hop that reads slowly.  What that takes of memory and of the log.

The next hop is a few lines of SMTP on threads: it reads each body at a fixed pace, so that all are under way together.
"""

from __future__ import annotations

import smtplib
import socketserver
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event, Thread

from bench.processes import forget_peak, memory
from bench.queue.plan import Plan
from bench.queue.server import wal
from bench.report import Chart, Report
from tests.peers.server import MtaProcess, relay_to

__all__ = ["b9"]

MIB = 1 << 20
PIECE = 65_536
SENDERS = 4
LINE = b"x" * 76 + b"\r\n"
HEAD = b"From: <from@a.test>\r\nSubject: large\r\n\r\n"


def send(port: int, size: int) -> float:
    """One message of that many bytes; gives the seconds until its 250."""
    with smtplib.SMTP("127.0.0.1", port, local_hostname="large.test", timeout=600) as client:
        began = time.monotonic()
        client.sendmail("from@a.test", ["user@sink.test"], HEAD + LINE * (size // len(LINE)))
        return time.monotonic() - began


class Reader(socketserver.StreamRequestHandler):
    """One connection of the slow next hop."""

    server: SlowSink

    def handle(self) -> None:
        """Commands are answered at once, a body is read slowly."""
        self.wfile.write(b"220 slow.test\r\n")
        while line := self.rfile.readline():
            verb = line[:4].upper()
            if verb == b"DATA":
                self.wfile.write(b"354 slowly\r\n")
                self._body()
            self.wfile.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
            if verb == b"QUIT":
                return

    def _body(self) -> None:
        with self.server.counted():
            last = b""
            while not last.endswith(b"\r\n.\r\n"):
                piece = self.rfile.read1(PIECE)
                if not piece:
                    return
                last = last[-4:] + piece
                self.server.stopping.wait(len(piece) / self.server.pace)


class SlowSink(socketserver.ThreadingTCPServer):
    """pace: bytes a second of each connection.  at_once: the most bodies that were under way together."""

    daemon_threads = True
    request_queue_size = 1_000

    def __init__(self, pace: int) -> None:
        super().__init__(("127.0.0.1", 0), Reader)
        self.pace = pace
        self.stopping = Event()
        self.at_once = self._now = 0
        Thread(target=self.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    @contextmanager
    def counted(self) -> Iterator[None]:
        """A body is under way."""
        self._now += 1
        self.at_once = max(self.at_once, self._now)
        try:
            yield
        finally:
            self._now -= 1

    def stop(self) -> None:
        """No more."""
        self.stopping.set()
        self.shutdown()
        self.server_close()


async def b9(plan: Plan) -> Report:
    """Bodies of 25 MB, a slow reader."""
    many, size = plan.size(100, 8), plan.size(25 * MIB, 2 * MIB)
    columns = ("messages", "MiB each", "at once, most", "before MiB", "peak MiB", "more MiB", "longest WAL MB", "s")
    report = plan.report("b9", "Large bodies to a slow reader", columns, pace=f"{size // 60 // 1024} KiB/s each")
    sink = SlowSink(size // 60)  # about a minute for each, while the rest arrives
    limits = f"[limits]\nmessage_size = {size + MIB}\n\n[concurrency]\nper_destination = 100\ninitial = 100\n\n"
    (folder := plan.folder() / "mta").mkdir()
    mta = MtaProcess(folder, limits + relay_to(sink.port, tls="none"))
    longest = 0
    try:
        mta.start()
        send(mta.port, 1000)
        mta.wait_for_event("delivered", 1)
        forget_peak(mta.pid)
        before, began = memory(mta.pid, "VmHWM"), time.monotonic()
        with ThreadPoolExecutor(SENDERS) as senders:
            sent = [senders.submit(send, mta.port, size) for _ in range(many)]
            while mta.count("delivered") < many + 1:
                longest = max(longest, wal(folder))
                failed = [sending for sending in sent if sending.done() and sending.exception()]
                if failed or time.monotonic() > began + 1800:
                    raise RuntimeError(f"{mta.count('delivered') - 1} of {many} delivered, {len(failed)} refused")
                time.sleep(0.1)
        took, peak = time.monotonic() - began, memory(mta.pid, "VmHWM")
    finally:
        mta.kill9()
        sink.stop()
    figures = (before / 1024, peak / 1024, (peak - before) / 1024, longest / 1e6, took)
    report.rows.append([many, size // MIB, sink.at_once, *figures])
    report.chart = Chart("MiB", ["before", "peak"], {"resident memory": list(figures[:2])})
    report.notes.append("wanted: less than 50 MiB more, and a log that does not grow with the bodies")
    return report
