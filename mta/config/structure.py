"""From TOML's tables to the settings' classes: every mistake of structure at once, nothing coerced.

cattrs walks the classes of `settings.py`; its hooks here are strict, and what it collects becomes one `Finding` for each
unknown key, missing key and wrong value.  Where a value is wrong its default stands in, so that the rest of the file can
still be looked at: settings with findings are for the checks only, nobody runs on them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import attrs
from cattrs import Converter
from cattrs.errors import BaseValidationError, ForbiddenExtraKeysError
from cattrs.gen import make_dict_structure_fn, override

from mta.config import value
from mta.config.mistake import Finding, KeyPath, Wanted, did_you_mean, shown
from mta.config.receiving import AccessRule, Dnsbl, RecipientTable
from mta.config.schema import holder_of, is_array, keys_of, row_class, tables
from mta.config.settings import (
    DestinationEntry,
    HostListEntry,
    Listen,
    Network,
    RouteAuth,
    RouteEntry,
    Seconds,
    Settings,
    SiteEntry,
    Size,
    Sni,
    TlsPolicyEntry,
)
from mta.config.units import Client

__all__ = ["STAND_INS", "structure"]

Hook = Callable[[Any, Any], Any]

# What stands in for a key that must be given and is missing or wrong, while the rest is checked: every such key is here.
STAND_INS: dict[type, dict[str, Any]] = {
    Settings: {"hostname": "stand-in.invalid", "data_dir": "."},
    Listen: {"endpoint": "tcp:0"},
    RouteEntry: {"match": "stand-in.invalid"},
    RouteAuth: {"user": "stand-in", "password_file": "."},
    Sni: {"names": "stand-in.invalid", "certificate": ".", "key": "."},
    HostListEntry: {"name": "stand-in", "hosts": "stand-in.invalid"},
    TlsPolicyEntry: {"match": "stand-in.invalid"},
    DestinationEntry: {"match": "stand-in.invalid"},
    SiteEntry: {"mx": "stand-in.invalid"},
    AccessRule: {"name": "stand-in", "action": "reject"},
    Dnsbl: {"zone": "stand-in.invalid"},
    RecipientTable: {"domains": [], "file": "."},
}
_DATES = {TlsPolicyEntry: ("until",)}  # texts that may be given as TOML's own dates too


def structure(data: dict[str, Any], directory: Path) -> tuple[Settings, list[Finding]]:
    """The settings in a parsed file whose relative paths start at `directory`, and all that is wrong with it."""
    converter = _converter(directory)
    findings: list[Finding] = []
    data = copy.deepcopy(data)
    while True:  # every round takes out what it found, so there are few
        try:
            return converter.structure(data, Settings), findings
        except BaseValidationError as error:
            found = list(_findings(error, ()))
        findings += found
        for finding in found:
            _take_out(data, finding.path)


def _take_out(data: dict[str, Any], path: KeyPath) -> None:
    """Remove the key that is wrong; one that must be there gets its stand-in."""
    while isinstance(path[-1], int):
        path = path[:-1]  # a wrong element takes its array along
    holder: Any = data
    for step in path[:-1]:
        holder = holder.get(step, {}) if isinstance(holder, dict) else holder[step]
    holder.pop(path[-1], None)
    stand_ins = STAND_INS.get(holder_of(path), {})
    if path[-1] in stand_ins:
        holder[path[-1]] = stand_ins[str(path[-1])]


# ---- what cattrs collected, as findings


def _findings(error: BaseException, path: KeyPath) -> Iterator[Finding]:
    """Walk the tree of errors; the notes of cattrs say which attribute or element each one belongs to."""
    if isinstance(error, BaseValidationError):
        for inner in error.exceptions:
            yield from _findings(inner, path + _step(inner))
    elif isinstance(error, ForbiddenExtraKeysError):
        for name in sorted(error.extra_fields):
            yield Finding((*path, name), _unknown((*path, name)))
    elif isinstance(error, KeyError):
        yield Finding(path, "missing; it must be given")
    elif isinstance(error, Wanted):
        yield Finding(path, str(error))
    else:
        raise error


def _step(error: BaseException) -> KeyPath:
    for note in getattr(error, "__notes__", ()):
        step = getattr(note, "name", getattr(note, "index", None))
        if step is not None:
            return (step,)
    return ()


def _unknown(path: KeyPath) -> str:
    """A key that is nowhere; the right one may be near, or the key in the wrong table."""
    name = str(path[-1])
    if near := did_you_mean(name, (known for known, _ in keys_of(holder_of(path)))):
        return f"unknown key{near}"
    if len(path) > 1 and name in dict(keys_of(Settings)):
        return f"unknown key here; {name!r} belongs at the top of the file, above the first [table]"
    homes = [f"{table}.{name}" for table, cls in tables().items() if name in dict(keys_of(cls))]
    return f"unknown key; did you mean {homes[0]!r}?" if homes else "unknown key"


# ---- the strict hooks


def _converter(directory: Path) -> Converter:
    converter = Converter(forbid_extra_keys=True)
    readers: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
        (int, value.read_whole),
        (float, value.read_number),
        (bool, value.read_boolean),
        (str, value.read_text),
        (Seconds, value.read_duration),
        (Size, value.read_size),
        (Network, value.read_network),
        (Client, value.read_client),
        (Path, lambda given: value.read_path(given, directory)),
    )
    for kind, reader in readers:
        converter.register_structure_hook(kind, _reading(reader))
    converter.register_structure_hook_factory(is_array, _array_hook)
    converter.register_structure_hook_factory(attrs.has, _table_hook)
    return converter


def _reading(reader: Callable[[Any], Any]) -> Hook:
    return lambda given, _: reader(given)


def _array_hook(hint: Any, converter: Converter) -> Hook:
    """An array of tables, or of values; one string is taken for an array of it."""
    element: Any = get_args(hint)[0]
    kind: Any = list[element]
    elements: Hook = converter.get_structure_hook(kind)

    def array(given: Any, _: Any) -> Any:
        if isinstance(given, str) and row_class(element) is None:
            given = [given]
        if not isinstance(given, list):
            what = "an array of tables, [[...]] for each," if row_class(element) else "an array"
            raise Wanted(f"{what} is wanted, not {'one table' if isinstance(given, dict) else shown(given)}")
        return tuple(elements(given, kind))

    return array


def _table_hook(cls: Any, converter: Converter) -> Hook:
    """A table, without keys that nobody knows."""
    dates: dict[str, Any] = {key: override(struct_hook=_reading(value.read_date)) for key in _DATES.get(cls, ())}
    fills: list[Hook] = []  # made when it is wanted: code is written and compiled for it, and few tables are in a file

    def table(given: Any, _: Any) -> Any:
        if not isinstance(given, dict):
            raise Wanted(f"a table is wanted, not {shown(given)}")
        if not fills:
            fills.append(make_dict_structure_fn(cls, converter, _cattrs_forbid_extra_keys=True, **dates))
        return fills[0](given, cls)

    return table
