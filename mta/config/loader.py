"""mta.toml -> `Settings`, or every mistake at once.

TOML 1.0 by tomllib; structure, then meaning, then the files it names; each mistake gets its line.  `--set key=value`
pairs are laid over the file before anything is judged.  Relative paths start at the directory of the file.  Nothing is
created, bound or changed, so a running service can try a new file and keep the old settings when it fails.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from mta.config.check import check
from mta.config.files import check_files
from mta.config.locate import Lines
from mta.config.mistake import ConfigError, Finding, Mistake, key_text
from mta.config.override import OVERRIDE, Overrides
from mta.config.settings import RouteEntry, Settings
from mta.config.structure import structure
from mta.config.value import absolute

__all__ = ["load", "parse"]

_PLACE = re.compile(r" \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)$")


def load(path: Path, overrides: Sequence[str] = ()) -> Settings:
    """Read a configuration file.  Raises ConfigError with all mistakes, sorted by line."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError([Mistake(str(path), 0, "", f"cannot be read: {error.strerror}")]) from error
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError([Mistake(str(path), line, "", "not TOML: the text is not UTF-8")]) from error
    return parse(text, path, overrides)


def parse(text: str, path: Path, overrides: Sequence[str] = ()) -> Settings:
    """Read the text of a configuration file; `path` is where it stands.  Raises ConfigError."""
    try:
        return _parse(text.replace("\r\n", "\n"), path, overrides)
    except RecursionError:  # of tomllib, or of those who read what it has made
        raise ConfigError([Mistake(str(path), 0, "", "not TOML: nested too deeply")]) from None


def _parse(text: str, path: Path, overrides: Sequence[str]) -> Settings:
    try:
        data: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([_syntax_mistake(str(path), text, str(error))]) from error
    except ValueError as error:  # more digits than `int` reads
        raise ConfigError([Mistake(str(path), 0, "", "not TOML: a number is too long")]) from error
    over = Overrides(overrides)
    over.lay_on(data)
    directory = path.parent.resolve()
    settings, findings = structure(data, directory)
    settings = _complete(settings, directory)
    wrong = [finding.path for finding in findings]
    for finding in (*check(settings), *check_files(settings)):
        if not any(finding.touches(path) for path in wrong):  # what rests on a mistake is no second one
            findings.append(finding)
    mistakes = [*_placed(findings, str(path), Lines(text), over), *over.mistakes]
    if mistakes:
        raise ConfigError(sorted(mistakes, key=lambda mistake: (mistake.file == OVERRIDE, mistake.line, mistake.key)))
    return settings


def _syntax_mistake(file: str, text: str, complaint: str) -> Mistake:
    """tomllib stops at the first fault and says where in its text."""
    place = _PLACE.search(complaint)
    what = complaint[: place.start()] if place else complaint
    if place and place["line"]:
        return Mistake(file, int(place["line"]), "", f"not TOML: {what} (column {place['column']})")
    return Mistake(file, text.rstrip("\n").count("\n") + 1, "", f"not TOML: {what} (at the end)")


def _complete(settings: Settings, directory: Path) -> Settings:
    """Fill in what the file may leave open: names of routes, absolute paths within strings."""
    routes = tuple(_complete_route(route, number, directory) for number, route in enumerate(settings.route, 1))
    log = settings.log
    if log.file not in ("-", ""):
        log = attrs.evolve(log, file=absolute(log.file, directory))
    return attrs.evolve(settings, route=routes, log=log)


def _complete_route(route: RouteEntry, number: int, directory: Path) -> RouteEntry:
    kind, colon, place = (route.deliver or "").partition(":")
    deliver = f"{kind}:{absolute(place, directory)}" if colon and place else route.deliver
    return attrs.evolve(route, name=route.name or f"route{number}", deliver=deliver)


def _placed(findings: list[Finding], file: str, lines: Lines, over: Overrides) -> list[Mistake]:
    """Findings with their place: an option of the command line, or a line of the file."""
    mistakes = []
    for finding in findings:
        paths = (finding.path, *finding.about)
        option = next(filter(None, map(over.number_of, paths)), 0)
        given = next(filter(lines.has, paths), finding.path)
        place = (OVERRIDE, option) if option else (file, lines.of(given))
        mistakes.append(Mistake(*place, key_text(finding.path), finding.text))
    return mistakes
