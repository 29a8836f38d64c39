"""The rules of Postfix's queue, as its documentation and source give them, on simulated time (pure).

qmgr(8), SCHEDULER_README, qmgr_active.c: new mail is active at once, at most 20,000 messages are.  What is deferred waits
for as long as the message is old, at least 300 and at most 4,000 seconds, and is looked for every 300 seconds.  The number of
deliveries at once to a destination follows its answers (`mta.queue.scheduler.window` has these rules).  A destination whose
whole cohort could not be reached is dead for 300 seconds: then all its active mail is deferred without an attempt, and what
becomes active too.  After five days a message that must be deferred bounces.  Destinations take turns; the preemption of
big jobs does not come into play with one recipient a message.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush

from bench.day.diary import Diary, End
from bench.day.world import Mail, Word, World
from mta.queue.scheduler.window import Window

__all__ = ["Postfix"]

MINIMAL_BACKOFF, MAXIMAL_BACKOFF, QUEUE_RUN = 300.0, 4000.0, 300.0
LIFETIME = 5 * 86_400.0
ACTIVE = 20_000
PROCESSES = 100  # default_process_limit
INITIAL, LIMIT = 5, 20  # deliveries at once to a destination


class Destination:
    """The active mail of one."""

    __slots__ = ("busy", "dead_until", "listed", "todo", "window")

    def __init__(self) -> None:
        self.todo: deque[Mail] = deque()
        self.busy = 0
        self.dead_until = 0.0
        self.listed = False
        self.window = Window(INITIAL, LIMIT)


class Postfix:
    """`run` lives through the day and all that follows from it."""

    def __init__(self, world: World, lifetime: float = LIFETIME) -> None:
        self._world = world
        self._lifetime = lifetime
        self.diary = Diary(world)
        self._destinations = [Destination() for _ in world.sites]
        self._ring: deque[Destination] = deque()
        self._incoming: deque[Mail] = deque()
        self._deferred: list[tuple[float, int]] = []  # from when it may be tried, its number
        self._running: list[tuple[float, int, Word]] = []  # when it ends, its number, how
        self._active = 0

    def run(self) -> Diary:
        """Fill in the diary."""
        scan, arrived, mail = QUEUE_RUN, 0, self._world.mail
        while len(self.diary.ends) < len(mail):
            arrival = mail[arrived].at if arrived < len(mail) else float("inf")
            ended = self._running[0][0] if self._running else float("inf")
            now = min(arrival, ended, scan)
            if now == ended:
                _, number, word = heappop(self._running)
                self._finished(mail[number], word, now)
            elif now == arrival:
                self._incoming.append(mail[arrived])
                arrived += 1
            else:
                scan += QUEUE_RUN
                while self._deferred and self._deferred[0][0] <= now:
                    self._incoming.append(mail[heappop(self._deferred)[1]])
            self._fill(now)
            self._start(now)
        return self.diary

    def _fill(self, now: float) -> None:
        while self._incoming and self._active < ACTIVE:
            mail = self._incoming.popleft()
            self._active += 1
            destination = self._destinations[mail.site]
            if destination.dead_until > now:
                self._defer(mail, now)
                continue
            destination.todo.append(mail)
            self._list(destination)

    def _list(self, destination: Destination) -> None:
        if destination.todo and not destination.listed:
            destination.listed = True
            self._ring.append(destination)

    def _start(self, now: float) -> None:
        ring = self._ring
        while ring and len(self._running) < PROCESSES:
            destination = ring.popleft()
            destination.listed = False
            if not destination.todo or destination.busy >= destination.window.size:
                continue  # whoever ends lists it again
            mail = destination.todo.popleft()
            destination.busy += 1
            self.diary.attempt(mail, now)
            answer = self._world.sites[mail.site].attempt(mail, now)
            heappush(self._running, (now + answer.seconds, mail.number, answer.word))
            self._list(destination)

    def _finished(self, mail: Mail, word: Word, now: float) -> None:
        destination = self._destinations[mail.site]
        destination.busy -= 1
        if word is Word.NOBODY:
            self._failed(destination, now)
        else:
            destination.window.succeeded(destination.busy + 1)
        if word is Word.TAKEN or word is Word.REFUSED:
            self._end(mail, End.DELIVERED if word is Word.TAKEN else End.BOUNCED, now)
        else:
            self._defer(mail, now)
        self._list(destination)

    def _failed(self, destination: Destination, now: float) -> None:
        if destination.dead_until > now or not destination.window.failed():
            return
        destination.dead_until = now + MINIMAL_BACKOFF
        destination.window.restart()
        for mail in destination.todo:
            self._defer(mail, now)
        destination.todo.clear()

    def _defer(self, mail: Mail, now: float) -> None:
        age = now - mail.at
        if age > self._lifetime:
            self._end(mail, End.BOUNCED, now)
            return
        self._active -= 1
        self.diary.updates += 1
        heappush(self._deferred, (now + min(max(age, MINIMAL_BACKOFF), MAXIMAL_BACKOFF), mail.number))

    def _end(self, mail: Mail, end: End, now: float) -> None:
        self._active -= 1
        self.diary.end(mail.number, end, now)
