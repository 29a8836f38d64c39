"""What several queues have to say, as one: pages, summaries and what is remembered of destinations (pure).

The queues are those of the workers, or their files while none runs.  Every recipient is in one of them; a destination may be in
each.  Pages are merged in the order of ids: what lies behind the end of any of them waits for the next page, so nothing is shown
twice or left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from mta.control.queue_facts import Facts
from mta.queue.ids import parse_id

__all__ = ["Page", "merged_dest", "merged_page", "merged_report", "merged_summary"]

Page = tuple[list[Facts], int]  # rows, and `after` of the next page; 0: that was all
_COUNTS: Final = ("total", "waiting", "due", "held", "taken")


def merged_page(pages: Sequence[Page], limit: int) -> Page:
    """At most `limit` rows of pages that all begin behind the same id.  What is in two files (a cut adoption) is one row."""
    end = min((after for _, after in pages if after), default=0)
    found = {parse_id(row["recipient"]): row for rows, _ in pages for row in rows}
    ids = sorted(id for id in found if not end or id <= end)
    shown = ids[:limit]
    return [found[id] for id in shown], shown[-1] if len(shown) < len(ids) else end


def merged_dest(known: Sequence[Facts]) -> Facts:
    """What is remembered of one destination: the worst of it."""
    firsts = [each["first_fail"] for each in known if each["first_fail"] is not None]
    return {
        "dest": known[0]["dest"],
        "suspended": any(each["suspended"] for each in known),
        "blocked_until": max(each["blocked_until"] for each in known),
        "why": next((each["why"] for each in known if each["why"] is not None), None),
        "fails": max(each["fails"] for each in known),
        "first_fail": min(firsts, default=None),
    }


def merged_summary(summaries: Sequence[Facts], limit: int) -> Facts:
    """The largest destinations.  Each summary is of the largest of one queue: what is small everywhere may be missing."""
    of: dict[str, list[Facts]] = {}
    for summary in summaries:
        for each in summary["destinations"]:
            of.setdefault(each["dest"], []).append(each)
    largest = sorted((_destination(parts) for parts in of.values()), key=lambda each: (-each["total"], each["dest"]))
    named = {each["dest"] for each in largest[:limit]}
    suspended = {name for summary in summaries for name in summary["suspended"]}
    suspended |= {each["dest"] for each in largest if each["suspended"]}
    return {"destinations": largest[:limit], "suspended": sorted(suspended - named)}


def _destination(parts: Sequence[Facts]) -> Facts:
    return {
        **merged_dest(parts),
        **{key: sum(part[key] for part in parts) for key in _COUNTS},
        "oldest": min(part["oldest"] for part in parts),
        "ages": [sum(column) for column in zip(*(part["ages"] for part in parts), strict=True)],
    }


def merged_report(reports: Sequence[Facts]) -> dict[str, Any]:
    """What copies of several queues have done, as one copy (`control/backup.py`)."""
    numbers = ("messages", "recipients", "files", "refused_count")
    return {
        **{key: sum(report[key] for report in reports) for key in numbers},
        "refused": [pair for report in reports for pair in report["refused"]],
    }
