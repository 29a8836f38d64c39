"""What has been measured, on disk and in the manual: a result for each scenario, a table and a picture for each family.

A result is written when its scenario is done, so that a run that is broken off keeps what it had: FOLDER/bench/contest-NAME.json.
The manual (FOLDER/performance.md) has two marks for each family, and what stands between them is this module's; a family
without marks is put at the end, and so are the settings of the servers.  Tables are made of all results that the folder has,
of this run and of older ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from math import nan
from pathlib import Path
from typing import Any, Final

import attrs

from bench.figures import TITLES, Round, Verdict, judge, medians, spread
from bench.report import Cell, Chart, draw, lines_of, text
from bench.scenario import FAMILIES, SCENARIOS, Family, Scenario

__all__ = ["Result", "between", "chart", "notes", "published", "read", "save", "table"]

BEGIN, END = "<!-- bench:{} -->", "<!-- bench:{} end -->"
PAGE: Final = "# Performance\n"


@attrs.frozen
class Result:
    """Of one scenario.

    rounds: of each server.  about: sizes, machine, what a server was told for this.  servers: name and version, settings.
    """

    scenario: str
    rounds: Mapping[str, Sequence[Round]]
    about: Mapping[str, str]
    servers: Mapping[str, str]

    def verdicts(self, scenario: Scenario) -> list[Verdict]:
        """Of its goals."""
        found = medians(self.rounds)
        return [judge(goal, found) for goal in scenario.goals]


def save(result: Result, folder: Path) -> None:
    """As JSON."""
    (bench := folder / "bench").mkdir(parents=True, exist_ok=True)
    path = bench / f"contest-{result.scenario}.json"
    (whole := path.with_suffix(".new")).write_text(json.dumps(attrs.asdict(result), indent=1) + "\n")
    whole.replace(path)


def read(folder: Path) -> dict[str, Result]:
    """All results that are there, by the name of the scenario."""
    paths = ((scenario.name, folder / "bench" / f"contest-{scenario.name}.json") for scenario in SCENARIOS)
    return {name: Result(**json.loads(path.read_text())) for name, path in paths if path.exists()}


def table(family: Family, results: Mapping[str, Result]) -> list[str]:
    """In Markdown: a row for each server in each scenario, medians, and how far the rounds lie apart."""
    rows: list[list[Cell]] = []
    for scenario in _of(family, results):
        rounds = results[scenario.name].rounds
        for server, found in medians(rounds).items():
            low, high = spread(rounds[server], family.columns[0])
            cells: list[Cell] = [_cell(found, figure) for figure in family.columns]
            rows.append([scenario.label, server, cells[0], f"{text(low)} to {text(high)}", *cells[1:]])
    first, *others = (TITLES[figure] for figure in family.columns)
    return lines_of(["", "server", first, "least to most", *others], rows)


def chart(family: Family, results: Mapping[str, Result]) -> Chart:
    """Bars: a group for each scenario, one bar for each server."""
    scenarios = _of(family, results)
    found = [medians(results[scenario.name].rounds) for scenario in scenarios]
    servers = list(dict.fromkeys(server for one in found for server in one))
    series = {server: [one.get(server, {}).get(family.drawn, nan) for one in found] for server in servers}
    return Chart(TITLES[family.drawn], [scenario.label for scenario in scenarios], series, family.log)


def notes(family: Family, results: Mapping[str, Result]) -> list[str]:
    """The goals, and what the results were taken with."""
    scenarios = _of(family, results)
    lines = [
        f"- Goal, {scenario.label}: {verdict}." for scenario in scenarios for verdict in results[scenario.name].verdicts(scenario)
    ]
    return lines + _once(results[scenario.name].about for scenario in scenarios)


def published(folder: Path) -> None:
    """Tables into the manual, pictures beside it."""
    results, page = read(folder), folder / "performance.md"
    manual = page.read_text() if page.exists() else PAGE
    for family in FAMILIES.values():
        if not _of(family, results):
            continue
        name = f"contest-{family.name}.png"
        draw(family.title, chart(family, results), folder / "bench" / name)
        part = [*table(family, results), "", f"![{family.title}](bench/{name})", "", *notes(family, results)]
        manual = between(manual, family.name, family.title, part)
    settings = _once(result.servers for result in results.values())
    page.write_text(between(manual, "settings", "Settings of the servers", settings))


def between(manual: str, name: str, title: str, lines: Iterable[str]) -> str:
    """The manual with these lines between the marks of that name; under that title where there are no marks."""
    begin, end = BEGIN.format(name), END.format(name)
    part = "\n".join([begin, "", *lines, "", end])
    before, found, rest = manual.partition(begin)
    if not found:
        return f"{manual.rstrip()}\n\n## {title}\n\n{part}\n"
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"{begin} has no {end}")
    return before + part + after


def _of(family: Family, results: Mapping[str, Result]) -> list[Scenario]:
    """The scenarios of a family that have a result."""
    return [scenario for scenario in SCENARIOS if scenario.family == family.name and scenario.name in results]


def _once(told: Iterable[Mapping[str, str]]) -> list[str]:
    """Each fact once, in the order of its first mention; what is empty is left out."""
    facts = dict.fromkeys((key, value) for about in told for key, value in about.items() if value)
    keys = dict.fromkeys(key for key, _ in facts)
    return [f"- {key}: {value}" for wanted in keys for key, value in facts if key == wanted]


def _cell(found: Mapping[str, Any], figure: str) -> Cell:
    return float(found[figure]) if figure in found else ""
