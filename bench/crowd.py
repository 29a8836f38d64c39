"""Honest mail beside a crowd of strangers: idle connections, a slow drip, many TLS handshakes at once.

    python -m bench.crowd [--idle 10000] [--drip 2000] [--handshakes 200] [--messages 5000]

The strangers come from addresses of their own (127.1.0.0/16) and are under all limits but the number of connections of one
client; honest mail comes from 127.0.0.1, 20 sessions by smtp-source, and goes to smtp-sink.  Idle: each has read the answer
to EHLO.  Drip: each sends one octet of a body every second.  Handshakes: all begin STARTTLS in the same moment; what others
wait meanwhile is measured by a NOOP every 5 ms on a connection that was there before.
"""

from __future__ import annotations

import argparse
import selectors
import socket
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from bench.contest import Contestant, Traffic, measure
from bench.processes import settled
from bench.report import Report, commit, percentile
from bench.servers.ours import DELIVERED
from mta.testing.pki import Authority
from tests.peers.peers import smtp_sink
from tests.peers.server import MtaProcess, relay_to

SETTINGS = """
[access]
relay_from = ["127.0.0.1/32"]

[limits]
connections = 20000
tls_sessions_per_minute = 0

[[route]]
match = "local"
deliver = "maildir:mail"
"""
EACH = 90  # connections of one stranger; connections_per_client lets him have 100
PACE = 1.0  # seconds between two octets of a drip
NOOPS = 0.005  # seconds between two probes


def stranger(number: int, port: int) -> socket.socket:
    """A connection from an address of the crowd."""
    host, _ = divmod(number, EACH)
    return socket.create_connection(("127.0.0.1", port), timeout=60, source_address=(f"127.1.{host // 250}.{host % 250 + 1}", 0))


def say(client: socket.socket, line: bytes, end: bytes) -> None:
    """Send a line, and read until the answer has ended."""
    client.sendall(line)
    heard = b""
    while end not in heard:
        if not (piece := client.recv(4096)):
            raise ConnectionError(f"closed behind {line!r}: {heard!r}")
        heard += piece


def greeted(number: int, port: int) -> socket.socket:
    """A stranger who has heard the greeting and the answer to EHLO."""
    client = stranger(number, port)
    say(client, b"", b"\r\n")
    say(client, b"EHLO crowd.test\r\n", b"\r\n250 ")
    return client


@contextmanager
def dripping(clients: list[socket.socket]) -> Iterator[None]:
    """Each sends an octet of its body once in PACE, until the end."""
    over = threading.Event()

    def drip() -> None:
        share = max(len(clients) // 50, 1)
        while not over.is_set():
            for start in range(0, len(clients), share):
                for client in clients[start : start + share]:
                    client.send(b"x")
                over.wait(PACE * share / len(clients))

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    yield
    over.set()
    thread.join()


def in_data(number: int, port: int) -> socket.socket:
    """A stranger whose body is open."""
    client = greeted(number, port)
    say(client, b"MAIL FROM:<>\r\n", b"\r\n")
    say(client, b"RCPT TO:<postmaster@local.test>\r\n", b"\r\n")
    say(client, b"DATA\r\n", b"354 ")
    client.sendall(b"Subject: slow\r\n\r\n")
    client.setblocking(False)
    return client


def shaken(clients: list[socket.socket]) -> float:
    """All begin STARTTLS at once; the seconds until the last handshake is done."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    began = time.perf_counter()
    with selectors.DefaultSelector() as waiting:
        for client in clients:
            client.sendall(b"STARTTLS\r\n")
            waiting.register(client, selectors.EVENT_READ)
        left = len(clients)
        while left:
            for key, _ in waiting.select():
                ready = key.fileobj
                assert isinstance(ready, socket.socket)
                waiting.unregister(ready)
                if not isinstance(ready, ssl.SSLSocket):  # 220: its turn has come
                    say(ready, b"", b"220 ")
                    ready = context.wrap_socket(ready, do_handshake_on_connect=False, server_hostname="localhost")
                    ready.setblocking(False)
                wants = _step(ready)
                if wants:
                    waiting.register(ready, wants)
                else:
                    left -= 1
    return time.perf_counter() - began


def _step(tls: ssl.SSLSocket) -> int:
    """Go on with a handshake; what it waits for, 0 when it is done."""
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return selectors.EVENT_READ
    except ssl.SSLWantWriteError:
        return selectors.EVENT_WRITE
    return 0


@contextmanager
def probing(port: int) -> Iterator[list[float]]:
    """Seconds that each NOOP waited for its answer, while the block runs."""
    client, over, waits = greeted(0, port), threading.Event(), list[float]()

    def probe() -> None:
        while not over.wait(NOOPS):
            began = time.perf_counter()
            say(client, b"NOOP\r\n", b"\r\n")
            waits.append(time.perf_counter() - began)

    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    yield waits
    over.set()
    thread.join()
    client.close()


def crowds(
    options: argparse.Namespace, mta: MtaProcess, honest: Callable[[], tuple[float, float, float]], report: Report
) -> None:
    """Each crowd comes, and goes again."""
    report.rows.append(["nobody", 0, 0.0, *honest()])
    before = settled(mta.pid)
    idle = [greeted(number, mta.port) for number in range(options.idle)]
    more = (settled(mta.pid) - before) / max(len(idle), 1)
    report.rows.append(["idle", len(idle), more, *honest()])
    for client in idle:
        client.close()
    before = settled(mta.pid)
    slow = [in_data(number, mta.port) for number in range(options.drip)]
    more = (settled(mta.pid) - before) / max(len(slow), 1)
    with dripping(slow):
        report.rows.append(["slow drip", len(slow), more, *honest()])
    for client in slow:
        client.close()
    time.sleep(1)
    eager = [greeted(EACH + number, mta.port) for number in range(options.handshakes)]
    with probing(mta.port) as waits:
        seconds = shaken(eager)
    p50, p99 = (percentile(waits, percent) * 1000 for percent in (50, 99))
    waited = f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, at most {max(waits) * 1000:.0f} ms"
    report.notes.append(
        f"{len(eager)} handshakes at once: the last is done after {seconds:.2f} s; a NOOP beside them waits {waited}"
    )


def main(arguments: list[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser("bench.crowd", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--idle", type=int, default=10_000)
    parser.add_argument("--drip", type=int, default=2_000)
    parser.add_argument("--handshakes", type=int, default=200)
    parser.add_argument("--messages", type=int, default=5_000)
    parser.add_argument("--out", type=Path, help="folder for crowd.json")
    options = parser.parse_args(arguments)
    traffic = Traffic(options.messages, to="user@sink.test")
    columns = ("beside", "connections", "KiB each", "msg/s", "delay p50 ms", "delay p99 ms")
    settings = {"messages": options.messages, "commit": commit()}
    report = Report("crowd", "Relaying beside a crowd, 20 sessions, 4 KiB", settings, columns)
    with tempfile.TemporaryDirectory(prefix="mta-bench-", dir="/var/tmp", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        for part in ("sink", "mta"):
            Path(name, part).mkdir(mode=0o755)
        pair = Authority.create().issue("localhost").write(Path(name))
        sink = smtp_sink(Path(name, "sink"))
        mta = MtaProcess(Path(name, "mta"), relay_to(sink.port, match="sink.test", tls="none") + SETTINGS, pair)
        try:
            mta.start()
            server = Contestant("mta", mta.port, mta.pid, mta.directory / "events.log", DELIVERED)
            measure(server, attrs.evolve(traffic, messages=options.messages // 5))  # what the first mail loads

            def honest() -> tuple[float, float, float]:
                found = measure(server, traffic)
                return found["rate"], found["p50"], found["p99"]

            crowds(options, mta, honest, report)
        finally:
            mta.kill9()
            sink.stop()
    report.show()
    if options.out is not None:
        report.save(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
