"""How much slower a client is answered that has made so many errors: it grows, and it has an end.  Pure.

An honest client makes a few errors and notices nothing; one that tries out addresses or passwords waits longer for each.
"""

from __future__ import annotations

from typing import Final

__all__ = ["STEP", "slowness"]

STEP: Final = 0.5  # seconds that each further error adds


def slowness(errors: int, allowed: int, most: float) -> float:
    """Seconds to wait before the next answer.  allowed: errors that cost nothing; most: 0 for no tarpit."""
    return min(STEP * (errors - allowed), most) if errors > allowed else 0.0
