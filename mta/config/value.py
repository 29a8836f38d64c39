"""How single values of mta.toml are read, and written: strictly, nothing is guessed.

TOML knows strings, numbers and booleans, and so do we: "25" is not 25, "no" is not false, 1 is not true.  Durations are
numbers of seconds or "90s" "5m" "2h" "5d"; sizes are bytes or "512KiB" "50MiB" "1GiB"; networks are "192.0.2.0/24" or
single addresses.  A value that is not what is wanted raises `Wanted` with the text for its author.
"""

from __future__ import annotations

import math
import os
import re
from datetime import date, datetime
from ipaddress import ip_interface, ip_network
from pathlib import Path

from mta.config.mistake import Wanted, shown
from mta.config.settings import Network, Seconds, Size
from mta.config.units import Client

__all__ = [
    "absolute",
    "duration_text",
    "read_boolean",
    "read_client",
    "read_date",
    "read_duration",
    "read_network",
    "read_number",
    "read_path",
    "read_size",
    "read_text",
    "read_whole",
    "size_text",
]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_MULTIPLES = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,6})?) ?([smhd])", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_SIZE = re.compile(r"(\d{1,12}) ?(KiB|MiB|GiB)", re.ASCII)

_LOOSE_SIZE = re.compile(r"(\d{1,12}) ?([kmg])(?:i?b)?", re.ASCII | re.IGNORECASE)


def read_whole(value: object) -> int:
    """A whole number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise Wanted(f"a whole number is wanted, not {shown(value)}")


def read_number(value: object) -> float:
    """A number, whole or not."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise Wanted(f"a number is wanted, not {shown(value)}")


def read_boolean(value: object) -> bool:
    """true or false."""
    if isinstance(value, bool):
        return value
    raise Wanted(f"true or false is wanted, not {shown(value)}")


def read_text(value: object) -> str:
    """A string without NUL."""
    if not isinstance(value, str):
        raise Wanted(f"a string is wanted, not {shown(value)}")
    if "\0" in value:
        raise Wanted("a string without NUL is wanted")
    return value


def read_date(value: object) -> str:
    """A day, 2027-01-01 as TOML's date or as a string, kept as text; "" for none."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str):
        if not value:
            return ""
        try:
            if _DATE.fullmatch(value):
                return date.fromisoformat(value).isoformat()
        except ValueError:
            pass  # the thirtieth of February
    raise Wanted(f"a date is wanted (2027-01-01), not {shown(value)}")


def read_duration(value: object) -> Seconds:
    """Seconds from a number or from "90s", "5m", "2h", "5d"; "0" too."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf:
        return Seconds(float(value))
    if isinstance(value, str):
        if match := _DURATION.fullmatch(value):
            return Seconds(float(match[1]) * _UNITS[match[2]])
        if value == "0":
            return Seconds(0.0)
        if re.fullmatch(r"\d{1,12}", value, re.ASCII):
            raise Wanted(f"a duration wants its unit: did you mean '{value}s'?")
    raise Wanted(f'a duration is wanted ("90s", "5m", "2h", "5d" or a number of seconds), not {shown(value)}')


def duration_text(seconds: float) -> str:
    """The shortest TOML for a duration, which `read_duration` reads as exactly the same."""
    for unit in "dhm":
        if seconds >= _UNITS[unit] and seconds % _UNITS[unit] == 0:
            return f'"{int(seconds) // _UNITS[unit]}{unit}"'
    return f'"{int(seconds)}s"' if seconds == int(seconds) else repr(float(seconds))


def read_size(value: object) -> Size:
    """Bytes from a whole number or from "512KiB", "50MiB", "1GiB"."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return Size(value)
    if isinstance(value, str):
        if match := _SIZE.fullmatch(value):
            return Size(int(match[1]) * _MULTIPLES[match[2]])
        if match := _LOOSE_SIZE.fullmatch(value):
            raise Wanted(f"a size is wanted, not {shown(value)}; did you mean '{match[1]}{match[2].upper()}iB'?")
    raise Wanted(f'a size is wanted ("50MiB" or a number of bytes), not {shown(value)}')


def size_text(size: int) -> str:
    """The shortest TOML for a size, which `read_size` reads as exactly the same."""
    for unit in ("GiB", "MiB", "KiB"):
        if size and size % _MULTIPLES[unit] == 0:
            return f'"{size // _MULTIPLES[unit]}{unit}"'
    return str(size)


def read_network(value: object) -> Network:
    """A network in CIDR form, or a single address."""
    if isinstance(value, str):
        try:
            return ip_network(value)
        except ValueError:
            pass
        try:
            meant = ip_interface(value).network
        except ValueError:
            pass
        else:
            raise Wanted(f"{shown(value)} has bits behind its prefix; did you mean '{meant}'?")
    raise Wanted(f'a network or an address is wanted ("192.0.2.0/24", "2001:db8::1"), not {shown(value)}')


def read_client(value: object) -> Client:
    """A network, or "+name": those of a [[hostlist]]."""
    if isinstance(value, str) and value.startswith("+"):
        return read_text(value)
    return read_network(value)


def read_path(value: object, directory: Path) -> Path:
    """A path, made absolute from the directory of the configuration file."""
    text = read_text(value)
    if not text:
        raise Wanted("a path is wanted, not ''")
    return Path(absolute(text, directory))


def absolute(text: str, directory: Path) -> str:
    """The path made absolute; only its text is looked at, so links that are swapped under it are followed later."""
    return os.path.normpath(directory / text)
