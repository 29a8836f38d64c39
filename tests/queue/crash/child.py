"""The process that is killed: a whole server on the real reactor, made anew from its folder at every start.

Run as a program it imports everything once and then forks a server for each line `{"folder": ..., "point": ...}` on its
standard input, one at a time: a start costs the fork, not the imports.  A server says `listening PID PORT BUILD` or
`failed WHY` on standard output; when it has ended, `ended STATUS` follows.  It dies with whoever holds the other end of
standard input.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from threading import Thread
from typing import Any

from twisted.python.failure import Failure

from mta.compiled import is_compiled
from mta.config.loader import load
from mta.process import SWITCH_INTERVAL
from mta.queue import retry
from mta.queue.sqlite import poison
from mta.service import Mta, make_mta
from tests.queue.crash.points import arm, die

KILLS = 1 << 30
GATHER = 100  # ms instead of 2 s: a failed recipient waits for its siblings, a test waits for its report


def main() -> None:
    """A server for each line, until the input ends."""
    while line := sys.stdin.readline():
        server = os.fork()
        if not server:
            serve(**json.loads(line))
        _, status = os.waitpid(server, 0)
        say(f"ended {os.waitstatus_to_exitcode(status)}")


def serve(folder: str, point: str) -> None:
    """The server of the configuration in a folder, armed to die at a point.  Does not return."""
    from twisted.internet import reactor  # made here: two processes must not share one

    Thread(target=die_with_the_test, daemon=True).start()
    os.chdir(folder)
    sys.setswitchinterval(SWITCH_INTERVAL)
    retry.GATHER = GATHER
    if not point.startswith("48"):
        poison.STRIKES = KILLS  # which are not the mail's fault
    arm(point)
    mta = make_mta(load(Path("mta.toml"), []), reactor=reactor)
    mta.ready.addCallbacks(listening, failed, callbackArgs=(mta,))
    mta.failed.addCallback(failed)
    reactor.callWhenRunning(mta.startService)
    reactor.run(installSignalHandlers=False)
    os._exit(1)


def listening(_: None, mta: Mta) -> None:
    """It accepts mail."""
    build = "compiled" if is_compiled() else "plain"
    say(f"listening {os.getpid()} {mta.receive.ports[0].getHost().port} {build}")


def failed(reason: Any) -> None:
    """It cannot go on."""
    say(f"failed {json.dumps(reason.getTraceback() if isinstance(reason, Failure) else repr(reason))}")
    os._exit(1)


def say(line: str) -> None:
    """In one write, so that lines of two processes do not mix."""
    os.write(sys.stdout.fileno(), line.encode() + b"\n")


def die_with_the_test() -> None:
    """Nothing more is said while a server runs: what can be read is the end."""
    os.read(sys.stdin.fileno(), 1)
    die()


if __name__ == "__main__":
    main()
