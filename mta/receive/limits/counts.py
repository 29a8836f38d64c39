"""What every client and every login has used of its rates: the rows of the table that are counted beyond one connection.

`take` asks all rows of one thing (messages, say) and counts in all of them or in none.  A reload changes the rates and
keeps the counts.  Pure: the time is given (seconds of any one clock), the answer is the row that has no room, or None.
"""

from __future__ import annotations

from typing import Any

from mta.config.settings import Limits
from mta.rate import Rate, parse_rate
from mta.receive.limits.rates import Rates
from mta.receive.limits.table import RATED, Limit, What, Who

__all__ = ["Counts"]


class Counts:
    """The rates of all, one `Rates` for each row and each rate that it has.

    rates: for each thing the rows that count it; none for a thing that nobody limits, and then it need not be asked about.
    """

    __slots__ = ("rates",)

    def __init__(self, limits: Limits) -> None:
        self.rates: dict[What, list[tuple[Limit, Rates]]] = {}
        self.obey(limits)

    def __len__(self) -> int:
        """How many counts are remembered."""
        return sum(len(rates) for rows in self.rates.values() for _, rates in rows)

    def obey(self, limits: Limits) -> None:
        """These rates from now on.  What was counted goes on to count where the row has still as many of them."""
        old = {row: [rates for known, rates in self.rates.get(row.what, ()) if known is row] for row in RATED}
        self.rates = {what: [] for what in What}
        for row in RATED:
            for index, rate in enumerate(_rates(getattr(limits, row.key))):
                rates = old[row][index] if index < len(old[row]) else Rates(rate)
                rates.rate = rate
                self.rates[row.what].append((row, rates))

    def over(self, what: What, who: Who, now: float, number: int = 1) -> Limit | None:
        """The first row that has no room for so many more."""
        for row, rates in self.rates[what]:
            key = b"" if row.exempt and who.exempt else who.key(row.scope)
            if key and row.reply is not None and not rates.has_room(key, now, number):
                return row
        return None

    def count(self, what: What, who: Who, now: float, number: int = 1) -> None:
        """So many, room or not; fewer than none are given back."""
        for row, rates in self.rates[what]:
            key = b"" if row.exempt and who.exempt else who.key(row.scope)
            if key:
                rates.count(key, now, number)

    def take(self, what: What, who: Who, now: float, number: int = 1) -> Limit | None:
        """Count so many in, or say which row has no room for them; then none is counted."""
        over = self.over(what, who, now, number)
        if over is None:
            self.count(what, who, now, number)
        return over

    def owed(self, what: What, who: Who, now: float) -> int:
        """The most that any row has counted and time has not made up for yet."""
        most = 0.0
        for row, rates in self.rates[what]:
            key = b"" if row.exempt and who.exempt else who.key(row.scope)
            if key:
                most = max(most, rates.owed(key, now))
        return round(most)


def _rates(given: Any) -> list[Rate]:
    """Of a setting: so many a minute, or rates as the operator writes them; 0 and "" are no limit."""
    if isinstance(given, int):
        return [Rate(given, 60)] if given else []
    return [parse_rate(text) for text in given if text]
