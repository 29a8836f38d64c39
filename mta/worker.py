"""What a worker's process runs: `python -m mta.worker N`, started by the supervisor (`mta/workers/`) and by nobody else.

Its errand (settings, number, sockets) comes through standard input, where commands follow.  It is a whole server that ends in
order on SIGTERM, and when its supervisor is gone: nobody would start it again, or hand its ports to the next, or kill it
when it does not end, so an alarm does.  What goes wrong it says on standard error, which the supervisor logs; a start that
fails has status 1, as everywhere.
Ctrl-C on a terminal reaches the whole group of processes; it is the supervisor's to act on it.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
from functools import partial
from typing import Any

from mta.workers.frame import FROM_WORKER, HEAD, TO_WORKER, Errand, value_of

__all__ = ["errand_from", "main", "serve"]

PATIENCE = 60  # seconds for the orderly stop of a worker that nobody watches; its supervisor would give it a little less


def main() -> None:
    """The whole life of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()  # until it serves: as in entry.py
    errand = errand_from(TO_WORKER)
    importlib.import_module(errand.reactor).install()
    serve(errand)


def errand_from(descriptor: int) -> Errand:
    """Wait for the first frame; what follows it stays in the pipe.  EOFError when the supervisor is gone."""
    length = int.from_bytes(_exactly(descriptor, HEAD), "big")
    errand = value_of(_exactly(descriptor, length))
    if not isinstance(errand, Errand):
        raise ValueError(f"no errand: {errand!r:.100}")
    return errand


def _exactly(descriptor: int, size: int) -> bytes:
    received = b""
    while len(received) < size:
        data = os.read(descriptor, size - len(received))
        if not data:
            raise EOFError("the supervisor is gone")
        received += data
    return received


def serve(errand: Errand) -> None:
    """Be the server of the errand, until it is stopped.  Twisted's reactor is installed by now, and only now may it be used."""
    from twisted.internet import reactor as installed
    from twisted.internet.stdio import StandardIO

    from mta.node import Node
    from mta.process import Process, raise_file_limit
    from mta.service import make_mta
    from mta.workers.channel import Channel
    from mta.workers.sockets import Inherited

    reactor: Any = installed
    _log_to_supervisor()
    node = Node(errand.number, errand.workers, Inherited(reactor, errand.sockets))

    def lost() -> None:
        signal.alarm(PATIENCE)  # which ends a process, whatever its reactor is doing
        if process.running:
            reactor.stop()

    def stop() -> object:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it may come from the supervisor and from who stops the whole group
        return process.stopService() if process.running else None

    channel = Channel(errand.settings, lost)
    make = partial(make_mta, errand.settings, reactor=reactor, node=node)
    process = Process(make, reactor, lambda: channel.settings, channel.door)
    pipes: Any = StandardIO
    pipes(channel, stdin=TO_WORKER, stdout=FROM_WORKER)
    raise_file_limit()
    reactor.callWhenRunning(process.startService)  # the ports are taken when it can serve: till then the others have them
    reactor.addSystemEventTrigger("before", "shutdown", stop)
    gc.freeze()
    gc.enable()
    reactor.run()


def _log_to_supervisor() -> None:
    """Trouble goes to standard error without the time: whoever reads it adds that."""
    from twisted.logger import (
        FileLogObserver,
        FilteringLogObserver,
        LogLevel,
        LogLevelFilterPredicate,
        eventAsText,
        globalLogBeginner,
    )

    observer = FileLogObserver(sys.stderr, lambda event: eventAsText(event, includeTimestamp=False) + "\n")
    wanted = LogLevelFilterPredicate(defaultLogLevel=LogLevel.warn)
    globalLogBeginner.beginLoggingTo([FilteringLogObserver(observer, [wanted])], redirectStandardIO=False)


if __name__ == "__main__":
    main()
