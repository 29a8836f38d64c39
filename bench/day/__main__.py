"""A day in the life of a queue, in seconds: the real queue service beside Postfix's rules, with the same mail.

    python -m bench.day [--messages 100000] [--destinations 5000] [--seed 1] [--lifetime 5] [--out DIR]

24 simulated hours of mail to destinations of which some are dead, down for hours, slow, greylisting or rate limiting, and
then as long as it takes until each message is delivered or its sender told.  Prints for both: attempts for each message,
time to deliver, connections to dead hosts.  The same seed gives the same figures on every machine.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from bench.day.diary import Diary, End
from bench.day.ours import Ours
from bench.day.postfix import Postfix
from bench.day.world import Mood, World
from bench.report import Chart, Report, commit

FIGURES = ("", "mta", "Postfix's rules")


def lived(world_of: tuple[int, int, int], lifetime: float) -> tuple[Diary, Diary, float]:
    """The day of both, each in a fresh world; and how many seconds ours took."""
    began = time.monotonic()
    ours = Ours(World(*world_of), world_of[0], lifetime).run()
    seconds = time.monotonic() - began
    postfix = Postfix(World(*world_of), lifetime).run()
    for diary in (ours, postfix):
        diary.close()
    return ours, postfix, seconds


def report(ours: Diary, postfix: Diary, settings: dict[str, object]) -> Report:
    """Both side by side."""
    both = (ours, postfix)
    found = Report("day", "A day in the life of a queue: time to deliver, p99", settings, FIGURES)
    found.rows += [
        ["messages delivered", *(diary.count(End.DELIVERED) for diary in both)],
        ["messages bounced", *(diary.count(End.BOUNCED) for diary in both)],
        ["attempts per message", *(diary.tries() for diary in both)],
        *[[f"  to {mood.value} sites", *(diary.tries(mood) for diary in both)] for mood in Mood],
        ["connections to dead hosts", *(diary.in_vain for diary in both)],
        ["rows or files written again", *(diary.updates for diary in both)],
    ]
    waits = {mood.value: (mood,) for mood in Mood if mood is not Mood.DEAD}
    for name, moods in {"": (), **waits}.items():
        for percent in (50, 99):
            what = f"  p{percent} s{', ' if name else ''}{name}" if name else f"time to deliver p{percent} s"
            found.rows.append([what, *(diary.wait(percent, *moods) for diary in both)])
    series = {name: [diary.wait(99, *moods) for moods in waits.values()] for name, diary in zip(FIGURES[1:], both, strict=True)}
    found.chart = Chart("seconds (log)", list(waits), series, log=True)
    return found


def main(arguments: list[str]) -> int:
    """Live it and print."""
    parser = argparse.ArgumentParser("bench.day", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--destinations", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lifetime", type=float, default=5, help="days that mail is tried (5)")
    parser.add_argument("--out", type=Path, help="folder for day.json and day.png")
    options = parser.parse_args(arguments)
    settings: dict[str, object] = {name: value for name, value in vars(options).items() if name != "out"}
    world_of = (options.seed, options.messages, options.destinations)
    ours, postfix, seconds = lived(world_of, options.lifetime * 86_400)
    found = report(ours, postfix, settings | {"commit": commit()})
    found.notes.append(f"ours took {seconds:.0f} s of real time")
    found.show()
    if options.out is not None:
        found.save(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
