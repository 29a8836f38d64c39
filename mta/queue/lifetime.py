"""Mail that has outlived its destination's own lifetime (`[[destination]] lifetime`) before it was tried.

What is tried is given up by the attempt that fails (`retry.conclude`), and what is older than its message allows by the
engine's sweep.  This is the rest: a lifetime shorter than the message's, at a destination that is blocked, suspended or only
stored for, or where mail that is due gets no turn: a rate, a limit of the agent, all transactions hang.  What waits for its
turn in memory is given back first (`Stock.outlived`).  Done in bites: what is in flight is left alone, whatever is found.  What
was put off (RFC 4865) is as old as since its release, which only its message's own time knows: that one holds.
"""

from __future__ import annotations

from mta.envelope import BOUNCE
from mta.interfaces import IQueue
from mta.queue.filing import PUT_OFF
from mta.queue.retry import NEVER_TRIED
from mta.queue.scheduler.stock import Stock
from mta.queue.state import Move, Selector, State

__all__ = ["BITE", "expire"]

BITE = 500  # recipients


async def expire(queue: IQueue, scheduler: Stock, now: int) -> int:
    """File what is too old under BOUNCE.  How many."""
    count, mortals = 0, scheduler.mortals()
    if not mortals:
        return 0
    # why it is blocked; why an operator has suspended it is nothing for senders
    reasons = {state.name: state.blocked_why for state in await queue.destinations() if not state.suspended}
    for name, lifetime in mortals:
        why = reasons.get(name) or NEVER_TRIED
        old = Selector(dest=name, state=State.WAITING, before=now - int(lifetime * 1000))
        after = 0
        while rows := await queue.browse(old, after, BITE):
            moves = [Move(row.id, BOUNCE, row.last_reply or why) for row in rows if not row.flags & PUT_OFF]
            count += await queue.refile(moves, now) if moves else 0
            if len(rows) < BITE:
                break
            after = rows[-1].id
    return count
