"""Reserves TCP ports of the platform, so that Linux does not give them to outgoing connections. Imports only the
standard library, because `make up` runs without installed packages.
"""

import contextlib
from collections.abc import Iterable
from itertools import count, groupby
from pathlib import Path

SYSCTL = Path("/proc/sys/net/ipv4")
RANGE, RESERVED = "ip_local_port_range", "ip_local_reserved_ports"


def exposed(ports: Iterable[int], sysctl: Path = SYSCTL) -> list[int]:
    """Returns those of `ports` that Linux may give to outgoing connections: they are in its range for these and not
    reserved. Returns an empty list if that cannot be read, as on other systems.
    """
    try:
        first, last = map(int, (sysctl / RANGE).read_text().split())
        reserved = _numbers((sysctl / RESERVED).read_text())
    except (OSError, ValueError):
        return []
    return [port for port in ports if first <= port <= last and port not in reserved]


def reserve(ports: Iterable[int], sysctl: Path = SYSCTL) -> list[int]:
    """Reserves those of `ports` that Linux may give to outgoing connections, until the machine's next boot. It needs
    root, and keeps the reservations of others. Returns the ports that could not be reserved.
    """
    if missing := exposed(ports, sysctl):
        with contextlib.suppress(OSError):
            path = sysctl / RESERVED
            path.write_text(",".join(filter(None, (path.read_text().strip(), text_of(missing)))))
    return exposed(missing, sysctl)


def text_of(ports: Iterable[int]) -> str:
    """Returns the ports in the kernel's notation: `20000-29999,50000`."""
    offset = count()
    groups = [list(group) for _, group in groupby(sorted(ports), key=lambda port: port - next(offset))]
    return ",".join(f"{group[0]}-{group[-1]}" if len(group) > 1 else str(group[0]) for group in groups)


def _numbers(text: str) -> set[int]:
    pairs = (part.partition("-") for part in text.strip().split(",") if part)
    return {port for first, _, last in pairs for port in range(int(first), int(last or first) + 1)}
