"""When new mail is only stored: `[queue] mode` and `spool_above_load` (pure).

Exim's `-odq` and `queue_only_load`, `[queue]` in docs/configuration.md.  The load is asked for at most once a second, and
only where a limit is set.  While it is too high nobody may come to ask, so a look is wanted every `LOOK`.
Times are ms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mta.config.settings import Queue

__all__ = ["Mode"]

SAMPLE: Final = 1_000  # ms for which a load is believed
LOOK: Final = 5_000  # ms between two looks at a load that is too high: the kernel works it out so often


class Mode:
    """spools: new mail is only stored.  watches: that depends on the load, `look` must be called.

    load: the 1-minute load average; an OSError counts as no load, for mail that nobody delivers is the worse mistake.
    """

    def __init__(self, settings: Queue, load: Callable[[], float]) -> None:
        self._load = load
        self._sampled = 0
        self._high = False
        self.reconfigure(settings)

    def reconfigure(self, settings: Queue) -> None:
        """Other settings from now on."""
        self._limit = settings.spool_above_load
        self._always = settings.mode == "spool"
        self._sampled = 0
        self.watches = self._limit > 0 and not self._always
        self._high = self._high and self.watches

    @property
    def spools(self) -> bool:
        """See the class."""
        return self._always or self._high

    def look(self, now: int) -> bool:
        """What `spools` is now; asks for the load when the last answer is old, or from the future."""
        if self.watches and not 0 <= now - self._sampled < SAMPLE:
            self._sampled = now
            try:
                self._high = self._load() > self._limit
            except OSError:
                self._high = False
        return self.spools

    def next_time(self) -> int:
        """When to `look` although no mail comes; 0: there is no need."""
        return self._sampled + LOOK if self._high else 0
