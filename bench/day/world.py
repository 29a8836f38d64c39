"""The world of a day: destinations with their moods, and the mail that comes for them, all made from one seed (pure).

A site answers an attempt from what it is, what the time is and what it has seen before; no dice are thrown then, so that
two queues which try the same mail at the same moment are told the same.  A few sites get most of the mail, as it is in
life.  Part of the mail comes as campaigns of one sender within minutes.  Times are seconds from the begin of the day.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from enum import Enum
from itertools import accumulate
from random import Random

import attrs

__all__ = ["Answer", "Mail", "Mood", "Site", "Word", "World"]

DAY = 86_400.0
GREY = 300.0  # seconds until a sender and recipient that were not known before are
MINUTE = 60.0
PER_MINUTE = 3  # messages that a rate limiting site takes
TIMEOUT = 30.0  # seconds until a connection that nobody answers is given up: of us and of Postfix
SENDERS = 200
USERS = 20  # of a site
CAMPAIGNS = 10
CAMPAIGN_SHARE = 0.2  # of all mail
UNKNOWN_USERS = 0.005


class Mood(Enum):
    """What a site is like."""

    LIVE = "live"
    DEAD = "dead"  # nobody answers, ever
    OUTAGE = "outage"  # nobody answers for some hours of the day
    SLOW = "slow"
    GREYLISTING = "greylisting"
    LIMITING = "rate limiting"


SHARES = {Mood.LIVE: 86, Mood.DEAD: 4, Mood.OUTAGE: 2, Mood.SLOW: 3, Mood.GREYLISTING: 4, Mood.LIMITING: 1}  # percent


class Word(Enum):
    """What a site answers."""

    TAKEN = "250"
    LATER = "450"
    BUSY = "421"
    REFUSED = "550"
    NOBODY = "no connection"


@attrs.frozen(slots=True)
class Answer:
    """What came of an attempt, after so many seconds."""

    word: Word
    seconds: float


@attrs.frozen(slots=True)
class Mail:
    """One message for one recipient.  pace: how much slower than usual its transaction is."""

    number: int
    at: float
    site: int
    sender: int
    user: int
    pace: float
    refused: bool  # there is no such user


@attrs.define(slots=True)
class Site:
    """A destination and what it remembers."""

    mood: Mood
    seconds: float  # of a transaction
    down: float = 0.0  # an outage: from when
    up: float = 0.0  # and until when
    _known: dict[tuple[int, int], float] = attrs.Factory(dict)
    _taken: deque[float] = attrs.Factory(deque)

    def is_down(self, now: float) -> bool:
        """Nobody answers."""
        return self.mood is Mood.DEAD or self.down <= now < self.up

    def attempt(self, mail: Mail, now: float) -> Answer:
        """Somebody tries to deliver that, now."""
        if self.is_down(now):
            return Answer(Word.NOBODY, TIMEOUT)
        if mail.refused:
            return Answer(Word.REFUSED, self.seconds * mail.pace)
        if self.mood is Mood.GREYLISTING and now < self._known.setdefault((mail.sender, mail.user), now + GREY):
            return Answer(Word.LATER, self.seconds * mail.pace)
        if self.mood is Mood.LIMITING and not self._has_room(now):
            return Answer(Word.BUSY, self.seconds)
        return Answer(Word.TAKEN, self.seconds * mail.pace)

    def _has_room(self, now: float) -> bool:
        while self._taken and self._taken[0] <= now - MINUTE:
            self._taken.popleft()
        if len(self._taken) >= PER_MINUTE:
            return False
        self._taken.append(now)
        return True


class World:
    """sites, and mail in the order in which it comes.  The same seed makes the same world."""

    def __init__(self, seed: int, messages: int, destinations: int) -> None:
        random = Random(seed)
        self.sites = [_site(random) for _ in range(destinations)]
        popular = list(accumulate(1 / (rank + 10) for rank in range(destinations)))
        starts = [(random.uniform(0, DAY * 0.9), random.randrange(SENDERS)) for _ in range(CAMPAIGNS)]
        drawn = []
        for _ in range(messages):
            at, sender = random.uniform(0, DAY), random.randrange(SENDERS)
            if random.random() < CAMPAIGN_SHARE:
                begin, sender = random.choice(starts)
                at = begin + random.uniform(0, 600)
            site = bisect_left(popular, random.uniform(0, popular[-1]))
            drawn.append((at, site, sender, random.randrange(USERS), random.uniform(0.5, 1.5), random.random() < UNKNOWN_USERS))
        self.mail = [Mail(number, *values) for number, values in enumerate(sorted(drawn))]


def _site(random: Random) -> Site:
    (mood,) = random.choices(list(SHARES), list(SHARES.values()))
    seconds = random.uniform(20, 60) if mood is Mood.SLOW else random.uniform(0.2, 2)
    site = Site(mood, seconds)
    if mood is Mood.OUTAGE:
        site.down = random.uniform(0, DAY * 0.8)
        site.up = site.down + random.uniform(1, 6) * 3600
    return site
