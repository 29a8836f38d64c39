"""A loopback of its own: the benchmarks run in namespaces that have nothing else (Linux, as root).

Nothing that runs here can be reached from outside or reach anybody; ports 25 and 53 and all of 127.0.0.0/8 are free.  When the
first process ends, however it ends, so do all servers that it has started.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct
import sys
from collections.abc import Sequence

__all__ = ["enter"]

INSIDE = "MTA_BENCH_INSIDE"
NAMESPACES = ("--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
SIOCSIFADDR, SIOCSIFFLAGS, IFF_UP_RUNNING = 0x8916, 0x8914, 0x41  # linux/sockios.h
OTHER = "192.0.2.1"  # some resolvers look for IPv4 addresses only where there is one beside 127.0.0.1 (AI_ADDRCONFIG)


def enter(module: str, arguments: Sequence[str]) -> None:
    """Begin this program anew in such namespaces; returns when it is there.  OSError without the rights to do so."""
    if os.environ.pop(INSIDE, "") != "yes" or os.getpid() != 1:
        command = ["unshare", *NAMESPACES, sys.executable, "-m", module, *arguments]
        os.execvpe(command[0], command, {**os.environ, INSIDE: "yes"})
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # nobody's default action ends the first process of a namespace
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP_RUNNING))
        fcntl.ioctl(any_socket, SIOCSIFADDR, struct.pack("16sH2x4s8x", b"lo:1", socket.AF_INET, socket.inet_aton(OTHER)))
