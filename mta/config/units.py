"""What the values of the settings are measured in."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import NewType

__all__ = ["Client", "Network", "Seconds", "Size", "seconds"]

Seconds = NewType("Seconds", float)  # in the file: 90, "90s", "5m", "2h", "5d"
Size = NewType("Size", int)  # in the file: 1048576 or "1MiB"
Network = IPv4Network | IPv6Network
Client = IPv4Network | IPv6Network | str  # "+name" is a [[hostlist]] of addresses


def seconds(value: float) -> Seconds:
    """A default."""
    return Seconds(float(value))
