"""kill -9 at random under load, with a number of workers that changes from start to start: what was answered arrives.

One worker, the supervisor alone (its workers end in order), or everybody at once, amid traffic and amid adoptions.
MTA_CRASH_ROUNDS=50 does more than the suite has time for; MTA_CRASH_SEED repeats a run's choices, not its moments.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from random import Random

from twisted.python import log

from mta.queue.sqlite.check import check
from mta.queue.sqlite.files import nodes_in, queue_file, spool_folder
from tests.peers.peers import wait_for
from tests.workers.crew import LOCAL, SPOOL, CrewCase, Traffic, is_alive

ROUNDS = int(os.environ.get("MTA_CRASH_ROUNDS", "3"))
SEED = int(os.environ.get("MTA_CRASH_SEED", "44"))
LIFE = (0.0, 1.5)  # seconds from the last worker's readiness to the kill
VICTIMS = ("all", "supervisor", "worker")


class KillTests(CrewCase):
    """See the module."""

    def test_answered_mail_arrives(self) -> None:
        """After each kill the files are whole; at the end all that was answered has been delivered, and nothing is left over."""
        random = Random(SEED)
        self.start(3, LOCAL + SPOOL)  # mail waits, so that there is something to adopt
        traffic = Traffic(self)
        self.addCleanup(traffic.end)
        kinds = random.sample(VICTIMS, 3) + random.choices(VICTIMS, k=max(ROUNDS - 3, 0))
        for kind in kinds[:ROUNDS]:
            traffic.flows(5)
            time.sleep(random.uniform(*LIFE))
            workers = list(self.workers().values())
            if kind == "worker" and workers:  # a server that is alone has none
                before = self.ready()
                os.kill(random.choice(workers), signal.SIGKILL)
                wait_for(lambda seen=before: self.ready() > seen, "the worker's return")  # type: ignore[misc]
                continue
            self.kill(kind == "all")
            self.start(random.choice((1, 2, 3)), LOCAL + random.choice((SPOOL, "")))
        traffic.flows(5)
        traffic.end()
        self.mta.stop()
        self.start(1, LOCAL)
        wait_for(lambda: nodes_in(self.folder / "data") == [0], "the last adoption")
        wait_for(lambda: set(traffic.answered) <= set(self.stored()), "all that was answered", 60)
        copies = Counter(self.stored())
        second = sum(count - 1 for count in copies.values())
        log.msg(f"{kinds[:ROUNDS]}: {len(traffic.answered)} answered, {len(copies)} stored, {second} second copies")

    def kill(self, all: bool) -> None:
        """The supervisor, or all; when nobody runs any more the files are looked at."""
        workers = list(self.workers().values())
        self.mta.kill9()
        for pid in workers if all else ():
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not any(is_alive(pid) for pid in workers), "the end of the workers")
        data = self.folder / "data"
        for node in nodes_in(data):
            found = check(queue_file(data, node), spool_folder(data, node))
            self.assertEqual([], [str(each) for each in found if each.grave])
